"""`train -m` and `mnist_mlp.sweep` are equivalent: same folders, files and numbers; each reuses the other's jobs."""

import json
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest
from hydra.core.global_hydra import GlobalHydra
from sweeps_in_process import Sweep, sweeper
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import plugin_data_pb2

import mnist_mlp
from mnist_mlp.cli.compose import job_name
from mnist_mlp.train import main

FIXED: dict[str, Any] = {
    "model.hidden_layers": 1, "model.hidden_units": 8, "data.val_size": 60, "data.batch_size": 32,
    "trainer.max_epochs": 1, "trainer.figures": False,
}  # fmt: skip


@pytest.fixture
def sweep(idx_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sweep:
    return sweeper(idx_root, tmp_path, monkeypatch)


def stamps(folder: str) -> dict[str, int]:
    return {path.parent.parent.name: path.stat().st_mtime_ns for path in Path(folder).glob("*/checkpoints/last.ckpt")}


@pytest.mark.parametrize(
    ("spellings", "name"),
    [
        (["trainer.compile=True", "trainer.compile=true"], "compile-true"),
        (["optim.weight_decay=1e-05", "optim.weight_decay=0.00001"], "weight_decay-1e-05"),
        (["optim.lr=0.01", "optim.lr=1e-2", "optim.lr=.01"], "lr-0.01"),
        (["optim.lr=1", "optim.lr=1.0"], "lr-1.0"),
        (["data.subset=0.5", "data.subset=half", "data.subset='half'", "data.subset=5e-1"], "subset-half"),
        (["data.subset=full", "data.subset=1.0", "data.subset=1"], "subset-full"),
        (["model.hidden_units=[256]", "model.hidden_units=256"], "hidden_units-256"),
        (["model.hidden_units=[256,128]", "model.hidden_units=[256, 128]"], "hidden_units-256-128"),
        (["optim.name=adam", "++optim.name=adam"], "optim.name-adam"),
    ],
)
def test_all_spellings_of_a_value_give_the_same_name(spellings: list[str], name: str) -> None:
    assert {job_name([spelling]) for spelling in spellings} == {name}


@pytest.mark.parametrize("subset", ["0.5", "half"])
def test_all_spellings_of_a_fraction_give_the_same_fingerprint(subset: str) -> None:
    from mnist_mlp.config import Config
    from mnist_mlp.options import from_dict, to_dict
    from mnist_mlp.runs.settings import changes, describe

    config = to_dict(from_dict(Config, {"data": {"subset": subset}}))
    assert describe(config, []) == describe(to_dict(mnist_mlp.Config()) | {"data": {**config["data"]}}, [])
    earlier = {**config, "data": {**config["data"], "subset": "0.50"}}
    assert config["data"]["subset"] == "half"
    assert changes({"config": earlier}, {"config": config}) == []


@pytest.mark.integration
def test_sweep_and_the_command_reuse_each_others_jobs_with_any_spelling(
    sweep: Sweep, idx_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fixed = ("hydra/launcher=side_by_side", "model.hidden_units=8", "trainer.max_epochs=1")
    command = ("optim.lr=1e-2,5e-2", "data.subset=0.5,1.0", "trainer.figures=False", "optim.weight_decay=0.00001")
    assert sweep(*command, *fixed, "name=one") == 0
    before = stamps("outputs/sweeps/one")
    assert len(before) == 4
    grid = {"data.root": idx_root, "optim.lr": [0.01, 0.05], "optim.weight_decay": 1e-5, "data.subset": [0.5, "full"]}
    capsys.readouterr()
    mnist_mlp.sweep({**FIXED, **grid}, "outputs/sweeps/one")
    assert capsys.readouterr().out.count("reused") == 4
    assert stamps("outputs/sweeps/one") == before
    mnist_mlp.sweep({**FIXED, **grid, "data.subset": [0.25, "full"]}, "outputs/sweeps/one")
    larger = stamps("outputs/sweeps/one")
    assert len(larger) == 6
    capsys.readouterr()
    for launcher in ("side_by_side", "basic"):
        same = ("data.subset=2.5e-1,full", "trainer.figures=false", "optim.weight_decay=1e-5", "optim.lr=0.01,0.050")
        assert sweep(*same, *fixed[1:], f"hydra/launcher={launcher}", "name=one") == 0
        assert capsys.readouterr().out.count("reused") == 4
        assert stamps("outputs/sweeps/one") == larger


def hparams(job: Path) -> list[tuple[str, bool]]:
    """HParams columns, and whether TensorBoard shows them first."""
    events = EventAccumulator(str(job / "tensorboard")).Reload()
    content = events.summary_metadata["_hparams_/experiment"].plugin_data.content
    columns = plugin_data_pb2.HParamsPluginData.FromString(content).experiment.hparam_infos
    return sorted((column.name, column.differs) for column in columns)


@pytest.mark.integration
def test_a_job_has_the_same_files_with_every_launcher(sweep: Sweep, idx_root: Path) -> None:
    command = ("optim.lr=0.01,0.05", "optim.label_smoothing=0.1", "trainer.max_epochs=1")
    grid = {"data.root": idx_root, "optim.lr": [0.01, 0.05], "optim.label_smoothing": 0.1}
    assert sweep(*command, "hydra/launcher=side_by_side", "name=parallel") == 0
    assert sweep(*command, "hydra/launcher=basic", "name=serial") == 0
    mnist_mlp.sweep({**FIXED, **grid}, "outputs/sweeps/python")
    names = {path.parent.name for path in Path("outputs/sweeps/parallel").glob("*/result.json")}
    assert len(names) == 2
    for name in names:
        jobs = [Path("outputs/sweeps", sweep_name, name) for sweep_name in ("parallel", "serial", "python")]
        results = [json.loads((job / "result.json").read_text()) for job in jobs]
        assert results[0]["metrics"] == results[1]["metrics"] == results[2]["metrics"]
        assert hparams(jobs[0]) == hparams(jobs[1]) == hparams(jobs[2])
        assert [column for column, first in hparams(jobs[0]) if first] == ["optim.lr"]
        assert all((job / ".hydra/config.yaml").is_file() for job in jobs)
        assert [(job / ".hydra/hydra.yaml").is_file() for job in jobs] == [True, True, False]


CALLBACK = """
from pathlib import Path
from hydra.experimental.callback import Callback

class Recorder(Callback):
    def on_job_start(self, config, **kwargs):
        Path(config.hydra.runtime.output_dir).mkdir(parents=True, exist_ok=True)

    def on_job_end(self, config, job_return, **kwargs):
        line = f"{config.hydra.job.num} {config.seed} {job_return.return_value!r} {job_return.cfg.seed}\\n"
        Path(config.hydra.sweep.dir, f"recorded-{config.hydra.job.num}").write_text(line)
"""


@pytest.mark.integration
@pytest.mark.parametrize("launcher", ["side_by_side", "basic", "joblib"])
def test_hydras_callbacks_get_the_objective_under_every_launcher(
    sweep: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, launcher: str
) -> None:
    if launcher == "joblib":
        pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    (tmp_path / "recorder.py").write_text(CALLBACK)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{':'.join(sys.path)}")
    call = (
        "+hydra.callbacks.mine._target_=recorder.Recorder", "data.val_size=60,300",
        f"hydra/launcher={launcher}", "name=calls",
    )  # fmt: skip
    for _ in range(2):  # the second call reuses the first job
        assert sweep(*call) == 1
        recorded = [path.read_text() for path in sorted(Path("outputs/sweeps/calls").glob("recorded-*"))]
        (result,) = Path("outputs/sweeps/calls").glob("*/result.json")
        objective = json.loads(result.read_text())["metrics"]["val/accuracy"]
        assert recorded == [f"0 0 {objective!r} 0\n", "1 0 None 0\n"]
        for path in Path("outputs/sweeps/calls").glob("recorded-*"):
            path.unlink()


@pytest.mark.parametrize("launcher", ["single", pytest.param("side_by_side", marks=pytest.mark.integration), "basic"])
def test_hydras_own_logs_are_accepted_in_a_run_folder(
    sweep: Sweep, idx_root: Path, monkeypatch: pytest.MonkeyPatch, launcher: str, capsys: pytest.CaptureFixture[str]
) -> None:
    logging = ("hydra/job_logging=default", "hydra/hydra_logging=default", "hydra.output_subdir=.hydra", "name=logged")
    if launcher == "single":
        fixed = [f"{key}={str(value).lower()}" for key, value in FIXED.items()]
        monkeypatch.setattr(sys, "argv", ["train", f"data.root={idx_root}", *fixed, *logging])
        GlobalHydra.instance().clear()
        main()
        folder = Path("outputs/train/logged")
        assert (folder / "train.log").is_file()
    else:
        assert sweep(*logging, "seed=0", f"hydra/launcher={launcher}") == 0
        (folder,) = (path.parent for path in Path("outputs/sweeps/logged").glob("*/run.json"))
    assert (folder / "result.json").is_file()
    assert {path.name for path in (folder / ".hydra").iterdir()} == {"config.yaml", "hydra.yaml", "overrides.yaml"}


@pytest.mark.parametrize("multirun", [False, pytest.param(True, marks=pytest.mark.integration)])
def test_the_recorded_command_of_a_run_includes_its_config_dir(
    sweep: Sweep, idx_root: Path, monkeypatch: pytest.MonkeyPatch, multirun: bool
) -> None:
    preset = Path("presets/experiment/mine.yaml")
    preset.parent.mkdir(parents=True)
    preset.write_text("# @package _global_\n# Mine.\noptim:\n  lr: 0.03\n")
    words = ["--config-dir", "presets", "experiment=mine", "name=mine", f"data.root={idx_root}"]
    words += [f"{key}={str(value).lower()}" for key, value in FIXED.items()]
    monkeypatch.setattr(sys, "argv", ["train", *(["-m"] if multirun else []), *words, "seed=0"])
    GlobalHydra.instance().clear()
    main()
    from mnist_mlp.compare.load import find_jobs
    from mnist_mlp.reporting.elements import command

    (job,) = find_jobs([Path("outputs")])
    assert job.result is not None
    assert job.result.config["optim"]["lr"] == 0.03
    assert command(job).startswith("python -m mnist_mlp.train --config-dir=presets experiment=mine ")
    assert "config-dir" not in job.folder.name
    fingerprint, repeated = job.result.fingerprint, shlex.split(command(job))[3:]
    monkeypatch.setattr(sys, "argv", ["train", *repeated, f"data.root={idx_root}", "name=again"])
    GlobalHydra.instance().clear()
    main()
    assert json.loads(Path("outputs/train/again/result.json").read_text())["fingerprint"] == fingerprint
