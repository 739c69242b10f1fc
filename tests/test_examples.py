"""The script and the notebook in examples/ run unchanged."""

import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

SWEEP = 'sweep = mnist_mlp.sweep({**QUICK, "optim.lr": [0.005, 0.02], "seed": range(3)}, "outputs/sweeps/notebook")'
EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


@pytest.mark.integration
def test_the_script_runs(tmp_path: Path) -> None:
    process = subprocess.run(
        [sys.executable, str(EXAMPLES / "first_run.py")], cwd=tmp_path, capture_output=True, text=True
    )
    assert (process.returncode, process.stderr) == (0, "")
    assert "The first test image is classified as a 0" in process.stdout
    assert (tmp_path / "outputs/train/first_run/result.json").is_file()


@pytest.mark.integration
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_the_notebook_displays_runs_and_sweeps_as_html(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUPYTER_PLATFORM_DIRS", "1")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    notebook = nbformat.read(EXAMPLES / "first_sweep.ipynb", as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells), "clear its outputs before committing"
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    if copy := os.environ.get("MNIST_MLP_NOTEBOOK"):  # where to save the executed notebook, to inspect it
        nbformat.write(notebook, copy)
    cells = {
        cell.source.split("\n")[-1]: cell.outputs
        for cell in notebook.cells
        if cell.cell_type == "code" and cell.outputs
    }
    shown = [output for output in cells["run"] if output.output_type in ("display_data", "execute_result")]
    progress, run = (output.data["text/html"] for output in shown)
    assert "5 epochs in" in progress
    assert run.count("<img") == 1
    assert "1/5" not in str(cells["run"]), "progress is displayed twice"
    assert "image/png" in cells["run.plot()"][0].data
    (view,) = (output for output in cells[SWEEP] if output.output_type == "display_data")
    assert "6 of 6 done" in view.data["text/html"]
    assert "[1/6]" not in str(cells[SWEEP]), "jobs are listed below the view"
    assert "<img" in cells["sweep"][0].data["text/html"]
    assert "did you mean trainer.max_epochs?" in str(cells["    print(error)"])
