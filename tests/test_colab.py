"""The notebook's first cell installs the package in Colab; a stand-in for Colab, and no network."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

CHECKOUT = Path(__file__).resolve().parents[1]
COLAB = """
import sys
import types

from IPython.core.interactiveshell import InteractiveShell

sys.meta_path[:] = [finder for finder in sys.meta_path if "editable" not in repr(finder).lower()]
sys.path[:] = ["site", *(path for path in sys.path if path != {checkout!r})]
sys.modules["google"] = types.ModuleType("google")
sys.modules["google.colab"] = colab = types.ModuleType("google.colab")
colab.files = types.SimpleNamespace(upload=lambda: {{"mnist_mlp.zip": b""}})
shell = InteractiveShell.instance()
shell.run_cell({cell!r}).raise_error()
import mnist_mlp

print(mnist_mlp.__file__, mnist_mlp.compose(["optim=rmsprop"]).optim.name)
"""


@pytest.mark.integration
def test_the_notebook_installs_an_archive_of_the_repository_in_colab(tmp_path: Path) -> None:
    checkout = tmp_path / "checkout"
    for name in ("mnist_mlp", "conf"):
        shutil.copytree(CHECKOUT / name, checkout / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(CHECKOUT / name, checkout)
    shutil.make_archive(str(tmp_path / "mnist_mlp"), "zip", checkout)
    (tmp_path / "site").mkdir()
    notebook = nbformat.read(CHECKOUT / "examples/first_sweep.ipynb", as_version=4)
    cell = next(cell.source for cell in notebook.cells if "google.colab" in cell.source and cell.cell_type == "code")
    # the dependencies are those of this environment
    pip = {"PIP_TARGET": "site", "PIP_NO_DEPS": "1", "PIP_NO_INDEX": "1", "PIP_NO_BUILD_ISOLATION": "0"}
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    environment |= {"IPYTHONDIR": str(tmp_path / "ipython"), **pip}
    script = COLAB.format(checkout=str(CHECKOUT), cell=cell)
    command = [sys.executable, "-c", script]
    process = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert process.returncode == 0, process.stdout + process.stderr
    path, optimizer = process.stdout.split()[-2:]
    assert (tmp_path / path).is_relative_to(tmp_path / "site")
    assert optimizer == "rmsprop"
