"""The Python API as used without Hydra."""

import io
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sweeps_in_process import TINY, quick_page, sweeper

import mnist_mlp
from mnist_mlp.runs.folder import RunFolder

SMALL: dict[str, Any] = {
    "model.hidden_layers": 1,
    "model.hidden_units": 8,
    "data.val_size": 60,
    "data.batch_size": 32,
    "optim.lr": 0.05,
    "trainer.max_epochs": 2,
    "trainer.figures": False,
}
"""The same settings as TINY, for Python."""


@pytest.fixture
def small(idx_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.chdir(tmp_path)
    return {"data.root": idx_root, **SMALL}


def result_of(path: str | Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(Path(path, "result.json").read_text())
    return content


@pytest.mark.integration
def test_importing_the_package_imports_no_torch_and_every_name_is_available() -> None:
    code = """
import sys, mnist_mlp
mnist_mlp.Config, mnist_mlp.UserError, mnist_mlp.OptimConfig
assert not {"torch", "hydra", "matplotlib", "pytorch_lightning"} & set(sys.modules)
from mnist_mlp import fit, Config
assert "sklearn" not in sys.modules
assert all(getattr(mnist_mlp, name) is not None for name in mnist_mlp.__all__)
names = {}
exec("from mnist_mlp import *", names)
assert sorted(mnist_mlp.__all__) == dir(mnist_mlp) == sorted(names.keys() - {"__builtins__"})
"""
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(AttributeError, match="has no attribute 'fitt'"):
        _ = mnist_mlp.fitt


def test_fit_replaces_characters_that_the_console_cannot_encode(
    small: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mnist_mlp.reporting.page.write_page", quick_page)
    console = io.TextIOWrapper(io.BytesIO(), encoding="cp1252")
    monkeypatch.setattr(sys, "stdout", console)
    for epochs in (1, 2):
        mnist_mlp.fit(small, "学習", **{"trainer.max_epochs": epochs})
    console.seek(0)
    assert "Resuming from ??/checkpoints/last.ckpt" in console.read().replace(os.sep, "/")
    assert console.errors == "strict"


def test_fit_has_the_run_folder_results_and_resuming_of_the_command(
    small: dict[str, Any], idx_root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = mnist_mlp.fit(small, "api", seed=3)
    from mnist_mlp.train import main

    monkeypatch.setattr(sys, "argv", ["train", f"data.root={idx_root}", *TINY, "seed=3", "name=command"])
    main()
    result = result_of("outputs/train/command")
    assert {key: result[key] for key in ("metrics", "fingerprint", "confusion_matrix")} == {
        key: result_of("api")[key] for key in ("metrics", "fingerprint", "confusion_matrix")
    }
    api_files, command_files = (
        {str(path.relative_to(folder)) for path in Path(folder).rglob("*") if "events" not in path.name}
        for folder in ("api", "outputs/train/command")
    )
    assert command_files - api_files == {".hydra/hydra.yaml"}
    assert api_files <= command_files
    assert {f"data.root={idx_root}", "seed=3", "trainer.figures=false"} <= set(run.result.overrides)
    modified = Path("api/checkpoints/last.ckpt").stat().st_mtime_ns
    assert mnist_mlp.fit(run.config, "api").result == run.result
    assert Path("api/checkpoints/last.ckpt").stat().st_mtime_ns == modified


def test_overrides_take_precedence_over_a_config(small: dict[str, Any]) -> None:
    first = mnist_mlp.load_run(mnist_mlp.fit(small, "a").path)
    config = replace(first.config, seed=1)
    run = mnist_mlp.fit(config, Path("b"), **{"optim.lr": 0.02})
    assert (run.config.seed, run.config.optim.lr, run.config.model) == (1, 0.02, first.config.model)
    assert {"seed=1", "optim.lr=0.02", "model.hidden_units=[8]"} <= set(run.result.overrides)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: mnist_mlp.fit(epochs=5), r"unknown key epochs: did you mean trainer\.max_epochs\?"),
        (lambda: mnist_mlp.fit({"optim.lr": "0.1"}), r"optim\.lr='0\.1' has the wrong type: expected float > 0"),
        (lambda: mnist_mlp.fit({"optim.lr": -1}), r"optim\.lr=-1\.0 is out of range"),
        (
            lambda: mnist_mlp.fit({"optim.schedule": "cos"}),
            r"optim\.schedule='cos' is not .*did you mean cosine",
        ),
        (lambda: mnist_mlp.fit({"experiment": "nope"}), r"experiment=nope .*better, debug"),
        (lambda: mnist_mlp.fit(mnist_mlp.Config(), optim="adam"), "optim: presets .* with a Config: use settings"),
        (lambda: mnist_mlp.fit("outputs/run"), r"config='outputs/run' has the wrong type: use a Config"),
        (lambda: mnist_mlp.fit(resume="some/run"), "resume=some/run is for the command line"),
        (lambda: mnist_mlp.sweep({"model.hidden_units": [64, 128]}), r"use \[\[64, 128\]\] .* or \[\[64\], \[128\]\]"),
        (lambda: mnist_mlp.sweep({"seed": []}), r"seed=\[\] is empty"),
        (lambda: mnist_mlp.sweep({"optim.lr": [0.1, -1]}), r"optim\.lr=-1\.0 is out of range"),
        (lambda: mnist_mlp.sweep({"name": ["a", "b"]}), "name does not affect results"),
        (
            lambda: mnist_mlp.sweep({"data.source": "arrays", "seed": [0, 1]}),
            r"data\.source=arrays .* mnist_mlp\.sweep",
        ),
        (lambda: mnist_mlp.load_run("nowhere"), "no folder nowhere"),
        (lambda: mnist_mlp.load_sweep("nowhere"), "no folder nowhere"),
    ],
)
def test_a_mistake_is_a_one_line_value_error_and_creates_no_files(
    call: Any, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=message) as error:
        call()
    assert isinstance(error.value, mnist_mlp.UserError)
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_a_loaded_run_has_its_metrics_curves_predictions_and_model(small: dict[str, Any]) -> None:
    run = mnist_mlp.fit(small, "run")
    loaded = mnist_mlp.load_run("run")
    assert loaded.metrics == run.metrics == result_of("run")["metrics"]
    assert list(loaded.curves["epoch"]) == [1, 2]
    assert loaded.confusion_matrix.shape == (10, 10)
    assert loaded.predictions is not None
    accuracy = np.mean(loaded.predictions.truth == loaded.predictions.predicted)
    assert accuracy == pytest.approx(loaded.metrics["test/accuracy"])
    from mnist_mlp.data.mnist import load_digits

    images = load_digits("mnist", str(small["data.root"])).test_images
    predicted = loaded.model().predict(images.numpy() / 255)
    assert predicted.tolist() == loaded.predictions.predicted.tolist()
    page = loaded._repr_html_()
    assert f"{100 * accuracy:.2f} %" in page
    assert page.count('<img src="data:image/png;base64,') == 1
    assert f"{100 * accuracy:.2f} %" in repr(loaded)
    RunFolder(Path("run")).best_checkpoint.unlink()
    with pytest.raises(ValueError, match=r"best\.ckpt is missing: train this run again"):
        loaded.model()


@pytest.mark.integration
def test_sweep_trains_the_jobs_of_the_command(
    small: dict[str, Any], idx_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = sweeper(idx_root, tmp_path, monkeypatch)
    assert call("optim.lr=0.005,0.05", "seed=range(2)", "name=command") == 0
    shared = {key: value for key, value in small.items() if key != "optim.lr"}
    sweep = mnist_mlp.sweep({**shared, "optim.lr": [0.005, 0.05], "seed": range(2)}, "api")
    jobs = [
        {path.parent.name for path in Path(folder).glob("*/result.json")}
        for folder in ("api", "outputs/sweeps/command")
    ]
    assert len(jobs[0]) == 4
    assert jobs[0] == jobs[1]
    for name in jobs[0]:
        api, command = result_of(f"api/{name}"), result_of(f"outputs/sweeps/command/{name}")
        assert (api["metrics"], api["fingerprint"]) == (command["metrics"], command["fingerprint"])
    headers = [Path(folder, "summary.csv").read_text().splitlines()[0] for folder in ("api", "outputs/sweeps/command")]
    assert headers[0] == headers[1]
    _check_sweep(sweep)


def _check_sweep(sweep: mnist_mlp.Sweep) -> None:
    table = sweep.table()
    assert sorted(table.columns[:2]) == ["optim.lr", "seed"]
    assert table.groupby("optim.lr").test_accuracy.mean().idxmax() == 0.05
    best = sweep.best()
    assert best.config.optim.lr == 0.05
    comparison = sweep.compare({"optim.lr": 0.05}, {"optim.lr": 0.005})
    means = table.groupby("optim.lr").test_accuracy.mean()
    assert comparison.difference == pytest.approx(means[0.05] - means[0.005])
    assert comparison.n == 2
    assert f"{100 * comparison.difference:+.2f} points" in repr(comparison)
    names = [run.path.name for run in sweep.runs]
    assert sweep.compare(names[0], names[-1]).p_value is not None
    with pytest.raises(ValueError, match=r"optim\.lr=7 matches no finished run of api; .* optim\.lr"):
        sweep.compare({"optim.lr": 7}, names[0])
    page = sweep._repr_html_()
    assert page.count('<img src="data:image/png;base64,') == 1
    assert "0.005" in page
    assert "4 jobs" in repr(sweep)


def test_a_table_without_pandas_is_a_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from made_up_runs import write_run

    write_run(tmp_path / "a", wrong=(1,), optim__lr=0.1)
    write_run(tmp_path / "b", wrong=(1, 2), optim__lr=0.2)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    rows = mnist_mlp.load_sweep(tmp_path).table()
    assert [(row["optim.lr"], row["test_accuracy"]) for row in rows] == [(0.1, 0.99), (0.2, 0.98)]


@pytest.mark.integration
def test_presets_are_available_in_a_process_without_a_command() -> None:
    code = """
from mnist_mlp.api.training import configuration
for preset in ("better", "record_ensemble"):
    print(configuration(None, {"experiment": preset, "trainer.max_epochs": 3}).optim.name)
"""
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (process.stdout, process.stderr) == ("adamw\nadamw\n", "")
