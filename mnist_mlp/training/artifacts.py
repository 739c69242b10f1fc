"""The artifacts of a tested run, on disk and in TensorBoard: predictions, report, figures, hyperparameters."""

import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2

from mnist_mlp.data.mnist import Digits
from mnist_mlp.plots import run as plots
from mnist_mlp.plots.run import Array
from mnist_mlp.runs.files import write_bytes, write_text
from mnist_mlp.runs.folder import RunFolder
from mnist_mlp.runs.predictions import Curves, write_predictions
from mnist_mlp.runs.result import FIGURES, FINAL, RunResult, classification_report, occurring_classes, percent
from mnist_mlp.runs.settings import flatten, settings
from mnist_mlp.training.classifier import DigitClassifier

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

HPARAMS = (
    "seed", "data.normalization", "data.subset", "data.batch_size", "model.hidden_layers", "model.hidden_units",
    "model.activation", "model.dropout", "model.batch_norm", "optim.name", "optim.lr", "optim.momentum",
    "optim.weight_decay", "optim.schedule", "trainer.max_epochs",
)  # fmt: skip
"""Columns of every run, in addition to `data.source`, `parameters` and overridden settings."""
GROUP_KEYS = {
    "optim": ("optim.name",),
    "model": ("model.hidden_layers", "model.hidden_units"),
    "augment": ("augment.elastic", "augment.elastic_sigma"),
}
"""Keys that distinguish the presets of a config group."""
METRICS = ("val/accuracy", "test/accuracy", "test/f1_macro", "test/loss")
TYPES = {"bool": api_pb2.DATA_TYPE_BOOL, "number": api_pb2.DATA_TYPE_FLOAT64, "string": api_pb2.DATA_TYPE_STRING}


def first_keys(result: RunResult, swept: Sequence[str] = ()) -> list[str]:
    """List the keys that the sweep varies, or those of the overrides; only keys that affect the result."""
    keys = swept or [override.lstrip("+~").partition("=")[0] for override in result.overrides]
    known = settings(result.config)
    return [key for name in keys for key in GROUP_KEYS.get(name, (name,)) if key in known]


def write_hparams(writer: "SummaryWriter", result: RunResult, swept: Sequence[str] = ()) -> None:
    """Log settings and final metrics for TensorBoard's HPARAMS; the `swept` keys of a sweep come first."""
    config, first = flatten(result.config), set(first_keys(result, swept))
    row = {key: config[key] for key in (*HPARAMS, *first_keys(result))}
    row |= {"data.source": result.data["source"], "parameters": result.parameters}
    session, columns = plugin_data_pb2.SessionStartInfo(), []
    for key, value in row.items():
        if isinstance(value, list):
            value = "-".join(map(str, value))
        elif value is None:
            value = "null"
        value_type = "bool" if isinstance(value, bool) else "number" if isinstance(value, (int, float)) else "string"
        setattr(session.hparams[key], f"{value_type}_value", value)
        columns.append(api_pb2.HParamInfo(name=key, type=TYPES[value_type], differs=key in first))
    metrics = {name: result.metric(name) for name in METRICS if name in result.metrics}
    metrics["fit_seconds"] = result.timing["fit_seconds"]
    metric_infos = []
    for name, value in metrics.items():
        tag = f"{FINAL}/{name.replace('/', '_')}"
        metric_infos.append(api_pb2.MetricInfo(name=api_pb2.MetricName(tag=tag), display_name=name.replace("_", " ")))
        writer.add_scalar(tag, value, result.epochs)
    experiment = api_pb2.Experiment(hparam_infos=columns, metric_infos=metric_infos)
    end = plugin_data_pb2.SessionEndInfo(status=api_pb2.STATUS_SUCCESS)
    contents: dict[str, dict[str, Any]] = {
        metadata.EXPERIMENT_TAG: {"experiment": experiment},
        metadata.SESSION_START_INFO_TAG: {"session_start_info": session},
        metadata.SESSION_END_INFO_TAG: {"session_end_info": end},
    }
    for tag, content in contents.items():
        data = metadata.create_summary_metadata(plugin_data_pb2.HParamsPluginData(**content))
        writer._get_file_writer().add_summary(Summary(value=[Summary.Value(tag=tag, metadata=data)]))


def _draw_figures(
    result: RunResult, curves: Curves, images: Array, truth: Array, predicted: Array, probabilities: Array
) -> Iterator[tuple[str, plots.Figure]]:
    """Draw the figures of a run one at a time; yield each with the name of its file and TensorBoard tag."""
    probabilities = np.nan_to_num(probabilities)  # those of a diverged run are NaN
    title = f"Confusion matrix, test accuracy {percent(result.metric('test/accuracy'))}"
    yield "learning_curves", plots.learning_curves(curves, result.best_epoch)
    classes, labels = result.classes, occurring_classes(result.confusion_matrix)
    yield "confusion_matrix", plots.confusion(np.array(result.confusion_matrix), title, classes=classes)
    yield "f1_per_class", plots.class_bars(result.per_class["f1"], "test", labels, classes)
    error = result.metrics.get("test/calibration_error")
    yield "calibration", plots.calibration(truth, probabilities, "Calibration on test", classes, error)
    yield "digits", plots.digit_grids(images, truth, predicted, probabilities, classes)


def add_figure(writer: "SummaryWriter", tag: str, figure: plots.Figure, epoch: int) -> bytes:
    """Log a figure to TensorBoard and clear it; return the PNG, which is encoded only once."""
    content = plots.png(figure)
    width, height = figure.canvas.get_width_height()
    image = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=content)
    writer._get_file_writer().add_summary(Summary(value=[Summary.Value(tag=tag, image=image)]), epoch)
    figure.clear()  # its reference cycles would trigger a full garbage collection: 0.3 s with torch's objects
    return content


def write_artifacts(
    folder: RunFolder, writer: "SummaryWriter", result: RunResult, digits: Digits, model: DigitClassifier,
    curves: Curves | None, swept: Sequence[str] = (),
) -> None:  # fmt: skip
    """Write all files of a tested run except result.json.

    Each figure becomes figures/<name>.png and TensorBoard's image visual_test/<name>. model: after its test, with
    `test_logits`; curves: columns of metrics.csv by name, None for no figures; swept: keys that the sweep varies.
    """
    assert model.test_logits is not None
    truth, logits = digits.test_labels.numpy(), model.test_logits
    predicted, probabilities = logits.argmax(1).numpy(), logits.softmax(1).numpy()
    write_predictions(folder, truth, predicted, probabilities)
    report = classification_report(result.confusion_matrix, result.classes)
    write_text(folder.report_file, report)
    for tag, text in (("configuration", json.dumps(result.config, indent=2)), ("classification_report", report)):
        writer.add_text(tag, "\n".join(f"    {line}" for line in text.splitlines()))  # indented: code in Markdown
    write_hparams(writer, result, swept)
    if curves is not None:
        folder.figures.mkdir(exist_ok=True)
        figures = _draw_figures(result, curves, digits.test_images.numpy(), truth, predicted, probabilities)
        for name, figure in figures:
            write_bytes(folder.figures / f"{name}.png", add_figure(writer, f"{FIGURES}/{name}", figure, result.epochs))
