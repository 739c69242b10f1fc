"""Figures, texts and TensorBoard events of a run, read back from its files."""

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from power_cut import fit_until_power_cut
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.hparams import plugin_data_pb2

from mnist_mlp.config import Config, DataConfig, ModelConfig, OptimConfig, TrainerConfig
from mnist_mlp.training.artifacts import first_keys
from mnist_mlp.training.fit import fit

FIGURES = {"learning_curves", "confusion_matrix", "f1_per_class", "calibration", "digits"}


def tiny(root: Path, **trainer: Any) -> Config:
    return Config(
        data=DataConfig(root=str(root), val_size=60, batch_size=16),
        model=ModelConfig(hidden_layers=1, hidden_units=[12]),
        optim=OptimConfig(lr=0.05),
        trainer=TrainerConfig(max_epochs=4, progress=False, **trainer),
    )


@pytest.fixture
def run(idx_root: Path, tmp_path: Path) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path / "run"
    return folder, fit(tiny(idx_root, test_curve=True), folder)


def events(folder: Path) -> EventAccumulator:
    accumulator = EventAccumulator(str(folder / "tensorboard"), size_guidance={"images": 0, "tensors": 0, "scalars": 0})
    accumulator.Reload()
    return accumulator


def test_scalars_have_a_point_per_epoch_and_match_result_json(run: tuple[Path, dict[str, Any]]) -> None:
    folder, result = run
    board = events(folder)
    per_epoch = {f"{split}/{name}" for split in ("train", "val", "test") for name in ("loss", "accuracy")}
    per_epoch |= {"train/lr", "wall_time/epoch_seconds", "wall_time/images_per_second", "val/f1_macro"}
    per_epoch |= {f"val_f1_per_class/{digit}" for digit in range(10)}
    for tag in per_epoch:
        assert [point.step for point in board.Scalars(tag)] == [1, 2, 3, 4], tag
    groups = sorted({tag.partition("/")[0] for plugin in ("scalars", "images") for tag in board.Tags()[plugin]})
    assert groups[:3] == ["test", "train", "val"], "accuracy and loss are shown first"
    best = board.Scalars("val/accuracy")[result.best_epoch - 1].value
    assert best == pytest.approx(result.metrics["val/accuracy"])


def test_a_job_of_a_sweep_draws_its_test_only(idx_root: Path, tmp_path: Path) -> None:
    fit(tiny(idx_root), tmp_path, job_label="[1/1] job")
    board = events(tmp_path)
    assert set(board.Tags()["images"]) == {f"visual_test/{name}" for name in FIGURES}
    assert [point.step for point in board.Scalars("val/accuracy")] == [1, 2, 3, 4]


def test_the_test_curve_ends_with_the_test_result_of_the_last_epoch(idx_root: Path, tmp_path: Path) -> None:
    config = tiny(idx_root, test_curve=True)
    result = fit(replace(config, data=replace(config.data, val_size=0)), tmp_path)
    board = events(tmp_path)
    for name in ("accuracy", "loss"):
        assert board.Scalars(f"test/{name}")[-1].value == pytest.approx(result.metrics[f"test/{name}"], abs=1e-7)


def test_images_texts_and_layout_are_in_tensorboard(run: tuple[Path, dict[str, Any]]) -> None:
    folder, _ = run
    board = events(folder)
    assert {f"visual_test/{name}" for name in FIGURES} | {"val/confusion_matrix"} == set(board.Tags()["images"])
    assert [image.step for image in board.Images("val/confusion_matrix")] == [1, 4]
    (logged,) = board.Images("visual_test/confusion_matrix")
    assert logged.encoded_image_string == (folder / "figures" / "confusion_matrix.png").read_bytes()
    with Image.open(folder / "figures" / "confusion_matrix.png") as image:
        assert (logged.width, logged.height) == image.size
    tensors = board.Tags()["tensors"]
    text = board.Tensors("classification_report/text_summary")[0].tensor_proto.string_val[0].decode()
    assert "macro avg" in text
    assert "configuration/text_summary" in tensors
    assert "custom_scalars__config__" in tensors
    layout = layout_pb2.Layout.FromString(board.Tensors("custom_scalars__config__")[0].tensor_proto.string_val[0])
    assert {
        category.title: {chart.title: list(chart.multiline.tag) for chart in category.chart}
        for category in layout.category
    } == {
        "validation": {name: [f"val/{name}"] for name in ("accuracy", "loss")},
        "training against validation": {
            name: [f"{split}/{name}" for split in ("train", "val", "test")] for name in ("accuracy", "loss")
        },
    }


def test_hparams_contain_settings_and_final_metrics_in_one_row(run: tuple[Path, dict[str, Any]]) -> None:
    folder, result = run
    data: dict[str, plugin_data_pb2.HParamsPluginData] = {}
    for tag, content in events(folder).summary_metadata.items():
        if content.plugin_data.plugin_name == "hparams":
            data[tag] = plugin_data_pb2.HParamsPluginData.FromString(content.plugin_data.content)
    row = data["_hparams_/session_start_info"].session_start_info.hparams
    assert row["model.hidden_units"].string_value == "12"
    assert row["optim.lr"].number_value == 0.05
    assert row["parameters"].number_value == result.parameters
    assert row["data.source"].string_value == "mnist"
    assert row["model.batch_norm"].WhichOneof("kind") == "bool_value"
    experiment = data["_hparams_/experiment"].experiment
    expected = ["val/accuracy", "test/accuracy", "test/f1_macro", "test/loss"]
    tags = {info.display_name: info.name.tag for info in experiment.metric_infos}
    assert list(tags) == ["val/accuracy", "test/accuracy", "test/f1 macro", "test/loss", "fit seconds"]
    assert set(row) == {info.name for info in experiment.hparam_infos}
    for name in expected:
        points = events(folder).Scalars(tags[name.replace("_", " ")])
        assert [point.value for point in points] == [pytest.approx(result.metrics[name])]
    assert {path.parent for path in (folder / "tensorboard").rglob("events*")} == {folder / "tensorboard"}  # one run


def test_hparams_mark_swept_settings_as_differing(idx_root: Path, tmp_path: Path) -> None:
    overrides = ["name=run", "trainer.max_epochs=1", "optim=adam", "optim.label_smoothing=0.1", "seed=0"]
    config = replace(tiny(idx_root, figures=False), optim=OptimConfig(lr=0.05, label_smoothing=0.1))
    config = replace(config, trainer=replace(config.trainer, max_epochs=1))
    result = fit(config, tmp_path, overrides, swept=["name", "optim", "seed"])
    content = events(tmp_path).summary_metadata["_hparams_/experiment"].plugin_data.content
    columns = plugin_data_pb2.HParamsPluginData.FromString(content).experiment.hparam_infos
    assert {info.name for info in columns if info.differs} == {"optim.name", "seed"}
    assert {"optim.label_smoothing", "optim.lr"} <= {info.name for info in columns}
    assert "name" not in {info.name for info in columns}
    assert first_keys(result) == ["trainer.max_epochs", "optim.name", "optim.label_smoothing", "seed"]


def test_figures_are_readable_png_files(run: tuple[Path, dict[str, Any]]) -> None:
    folder, _ = run
    files = list((folder / "figures").glob("*"))
    assert {path.stem for path in files} == FIGURES
    for path in files:
        with Image.open(path) as image:
            assert image.format == "PNG"
            assert len(set(image.convert("L").tobytes())) > 10, f"{path.name} is blank"


def test_predictions_agree_with_confusion_matrix_and_probabilities(run: tuple[Path, dict[str, Any]]) -> None:
    folder, result = run
    with np.load(folder / "predictions.npz") as saved:
        matrix = np.zeros((10, 10), int)
        np.add.at(matrix, (saved["truth"], saved["prediction"]), 1)
        assert matrix.tolist() == result.confusion_matrix
        assert (saved["probabilities"].argmax(1) == saved["prediction"]).all()
        np.testing.assert_allclose(saved["probabilities"].sum(1), 1, atol=1e-5)
        assert saved["index"].tolist() == list(range(100))
        loss = -np.log(saved["probabilities"].astype(float)[range(100), saved["truth"]]).mean()
    assert loss == pytest.approx(result.metrics["test/loss"], rel=1e-4)


def test_in_bfloat16_predictions_matrix_and_test_curve_use_the_same_logits(idx_root: Path, tmp_path: Path) -> None:
    config = tiny(idx_root, precision="bf16-mixed", figures=False, test_curve=True)
    config = replace(config, data=replace(config.data, val_size=0), optim=OptimConfig(lr=0.002))
    result = fit(replace(config, trainer=replace(config.trainer, max_epochs=1)), tmp_path)
    with np.load(tmp_path / "predictions.npz") as saved:
        truth, predicted, probabilities = saved["truth"], saved["prediction"], saved["probabilities"].astype(float)
    matrix = np.zeros((10, 10), int)
    np.add.at(matrix, (truth, predicted), 1)
    assert matrix.tolist() == result.confusion_matrix
    loss = -np.log(probabilities[range(100), truth]).mean()
    assert loss == pytest.approx(result.metrics["test/loss"], rel=1e-6)  # in float32 it would differ by 1e-4
    board = events(tmp_path)
    assert board.Scalars("test/loss")[-1].value == pytest.approx(result.metrics["test/loss"], rel=1e-6)


def test_without_figures_scalars_are_still_logged(idx_root: Path, tmp_path: Path) -> None:
    fit(tiny(idx_root, figures=False), tmp_path)
    assert not (tmp_path / "figures").exists()
    board = events(tmp_path)
    assert board.Tags()["images"] == []
    assert len(board.Scalars("val/accuracy")) == 4
    assert (tmp_path / "classification_report.txt").read_text().count("\n") == 16


@pytest.mark.integration
def test_a_resumed_run_has_each_epoch_once_in_tensorboard(
    idx_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit_until_power_cut(tiny(idx_root), tmp_path, monkeypatch)
    time.sleep(1)  # event files are read in the order of their names, which have a resolution of one second
    fit(tiny(idx_root), tmp_path)
    assert [point.step for point in events(tmp_path).Scalars("val/accuracy")] == [1, 2, 3, 4]


def test_the_test_curve_is_finite_if_a_probability_underflows(idx_root: Path, tmp_path: Path) -> None:
    config = tiny(idx_root, test_curve=True, figures=False)
    result = fit(replace(config, optim=OptimConfig(lr=30.0), data=replace(config.data, val_size=0)), tmp_path)
    loss = events(tmp_path).Scalars("test/loss")[-1].value
    assert result.metrics["test/loss"] > 10
    assert loss == pytest.approx(result.metrics["test/loss"], rel=1e-6)
