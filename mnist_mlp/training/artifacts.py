"""The artifacts of a tested run: figures and files on disk, and the same in TensorBoard."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tensorboard.compat.proto.summary_pb2 import Summary
from torch.nn import Linear
from torch.utils.tensorboard import SummaryWriter

from mnist_mlp.data.mnist import Digits
from mnist_mlp.plots import run as plots
from mnist_mlp.plots.sample_grids import sample_grids
from mnist_mlp.runs.board import FIGURES
from mnist_mlp.runs.curves import Curves
from mnist_mlp.runs.files import write_bytes, write_text
from mnist_mlp.runs.folder import RunFolder
from mnist_mlp.runs.predictions import write_predictions
from mnist_mlp.runs.result import RunResult
from mnist_mlp.runs.tables import classification_report
from mnist_mlp.training.classifier import DigitClassifier
from mnist_mlp.training.hparams import write_hparams


def plot_run(
    result: RunResult, curves: Curves, images: NDArray[np.uint8], truth: NDArray[np.int64],
    predicted: NDArray[np.int64], probabilities: NDArray[np.float32], weights: NDArray[np.float32],
) -> Iterator[tuple[str, plots.Figure]]:  # fmt: skip
    """The figures of a run by name: its curves, then the test.

    curves: by column of metrics.csv; images (n, 28, 28), truth and predicted (n,), probabilities (n, 10), weights
    (units, 784).
    """
    yield "learning_curves", plots.learning_curves(curves, result.best_epoch)
    probabilities, weights = np.nan_to_num(probabilities), np.nan_to_num(weights)  # of a diverged run
    matrix = np.array(result.confusion_matrix)
    accuracy = f"test accuracy {100 * result.metric('test/accuracy'):.2f} %"
    yield "confusion_matrix", plots.confusion(matrix, f"Confusion matrix, {accuracy}")
    yield "f1_per_class", plots.class_bars(result.per_class["f1"], "F1 of each digit on test")
    yield "calibration", plots.calibration(truth, probabilities, "Calibration on test")
    yield "first_layer", plots.first_layer(weights, "Weights of the first layer")
    yield from sample_grids(images, truth, predicted, probabilities)


def write_classification_report(folder: RunFolder, result: RunResult) -> str:
    """classification_report.txt; its text."""
    text = classification_report(result.confusion_matrix)
    write_text(folder.report_file, text)
    return text


def write_figures(
    folder: RunFolder, writer: SummaryWriter, drawn: Iterator[tuple[str, plots.Figure]], epoch: int
) -> None:
    """Each figure as figures/<name>.png and as TensorBoard image visual_test/<name>."""
    folder.figures.mkdir(exist_ok=True)
    for name, figure in drawn:
        write_bytes(folder.figures / f"{name}.png", add_figure(writer, f"{FIGURES}/{name}", figure, epoch))


def add_figure(writer: SummaryWriter, tag: str, figure: plots.Figure, epoch: int) -> bytes:
    """Give TensorBoard a figure; the content of its PNG file, which is made once for both."""
    image = plots.pixels(figure)
    content = plots.png(image)
    height, width, _ = image.shape
    shown = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=content)
    events: Any = writer.file_writer
    events.add_summary(Summary(value=[Summary.Value(tag=tag, image=shown)]), epoch)
    return content


def write_texts(writer: SummaryWriter, config: Mapping[str, Any], report: str) -> None:
    """The resolved configuration and the classification report under TensorBoard's TEXT."""
    for tag, text in (("configuration", json.dumps(config, indent=2)), ("classification_report", report)):
        writer.add_text(tag, "\n".join(f"    {line}" for line in text.splitlines()))  # indented: code in Markdown


def write_artifacts(
    folder: RunFolder, writer: SummaryWriter, result: RunResult, digits: Digits, model: DigitClassifier,
    curves: Curves | None,
) -> None:  # fmt: skip
    """Write all files of a tested run but result.json. curves: by column of metrics.csv; None: no figures."""
    assert model.test_logits is not None
    truth, logits = digits.test_labels.numpy(), model.test_logits
    predicted, probabilities = logits.argmax(1).numpy(), logits.softmax(1).numpy()
    write_predictions(folder, truth, predicted, probabilities)
    report = write_classification_report(folder, result)
    write_texts(writer, result.config, report)
    write_hparams(writer, result)
    if curves is not None:
        first = next(layer for layer in model.mlp.layers if isinstance(layer, Linear))
        weights = first.weight.detach().float().cpu().numpy()
        drawn = plot_run(result, curves, digits.test_images.numpy(), truth, predicted, probabilities, weights)
        write_figures(folder, writer, drawn, result.epochs)
