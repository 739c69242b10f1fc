"""Real sweeps with each of Hydra's other launchers, and a search."""

import csv
import json
from pathlib import Path

import pytest
from sweeps_in_process import Sweep, sweeper


@pytest.fixture
def sweep(idx_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sweep:
    return sweeper(idx_root, tmp_path, monkeypatch)


def metrics(name: str) -> dict[str, dict[str, float]]:
    results = Path("outputs/sweeps", name).glob("*/result.json")
    return {path.parent.name: json.loads(path.read_text())["metrics"] for path in results}


@pytest.mark.integration
@pytest.mark.parametrize(
    ("plugin", "launcher"),
    [
        ("hydra_joblib_launcher", ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]),
        ("hydra_submitit_launcher", ["hydra/launcher=submitit_local"]),
    ],
)
def test_another_launcher_gives_the_metrics_of_a_serial_sweep_and_isolates_failures(
    sweep: Sweep, capfd: pytest.CaptureFixture[str], plugin: str, launcher: list[str]
) -> None:
    pytest.importorskip(f"hydra_plugins.{plugin}")
    assert sweep("seed=0,1", "data.val_size=60,300", "trainer.threads=1", "name=serial") == 1
    capfd.readouterr()
    assert sweep("seed=0,1", "data.val_size=60,300", "trainer.threads=1", "name=launcher", *launcher) == 1
    assert capfd.readouterr().err.startswith("error: 2 failed")
    assert metrics("launcher") == metrics("serial")
    assert len(metrics("launcher")) == 2
    with Path("outputs/sweeps/launcher/summary.csv").open() as file:
        assert [row["status"] for row in csv.DictReader(file)] == ["2 finished", "2 failed"]


@pytest.mark.integration
def test_a_search_maximizes_validation_accuracy_and_can_be_continued(sweep: Sweep) -> None:
    optuna = pytest.importorskip("optuna")
    space = [
        "model.hidden_layers=int(interval(1,2))",
        "model.hidden_units=choice([4],[8])",
        "optim.lr=interval(0.01,0.1)",
    ]
    for calls in (1, 2):
        assert sweep("search=optuna", "hydra.sweeper.n_trials=2", "name=search", *space) == 0
        study = optuna.load_study(study_name="search", storage="sqlite:///outputs/sweeps/search/study.db")
        trials = study.get_trials()
        assert len(trials) == 2 * calls
        assert {trial.value for trial in trials} == {job["val/accuracy"] for job in metrics("search").values()}
    assert study.direction == optuna.study.StudyDirection.MAXIMIZE
    assert len({json.dumps(trial.params, sort_keys=True) for trial in trials}) == 4


@pytest.mark.integration
def test_halving_gives_the_accuracies_of_uninterrupted_runs(sweep: Sweep) -> None:
    pytest.importorskip("optuna")
    space = [
        "optim.name=sgd",
        "optim.lr=interval(0.01,0.1)",
        "model.dropout=choice(0.0,0.2)",
        "hydra.sweeper.n_trials=3",
    ]
    assert sweep("search=halving", "name=halving", "trainer.max_epochs=3", *space) == 0
    files = Path("outputs/sweeps/halving").glob("*/metrics.csv")
    curves = {path.parent: path.read_text().splitlines() for path in files}
    assert sorted(len(curve) - 1 for curve in curves.values()) == [1, 1, 3]
    (resumed,) = (folder for folder, curve in curves.items() if len(curve) == 4)
    config = json.loads((resumed / "run.json").read_text())["config"]
    settings = [f"optim.lr={config['optim']['lr']}", f"model.dropout={config['model']['dropout']}"]
    assert sweep("trainer.max_epochs=3", "seed=0,1", "optim.schedule=constant", "name=whole", *settings) == 0
    (whole,) = Path("outputs/sweeps/whole").glob("*seed-0*")
    results = [json.loads((folder / "result.json").read_text()) for folder in (resumed, whole)]
    assert results[0]["metrics"] == results[1]["metrics"]
    assert results[0]["confusion_matrix"] == results[1]["confusion_matrix"]
