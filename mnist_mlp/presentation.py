"""What a tested run shows: its figures and files on disk, and the same in TensorBoard."""

import io
import json
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch.nn import Linear
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from mnist_mlp import figures
from mnist_mlp.classifier import DigitClassifier
from mnist_mlp.digits import Digits
from mnist_mlp.galleries import galleries
from mnist_mlp.runs import JSON, RunFolder, flat, write_bytes, write_text
from mnist_mlp.tables import classification_report

HPARAMS = (
    "seed", "data.normalization", "data.subset", "data.batch_size", "model.hidden_layers", "model.hidden_units",
    "model.activation", "model.dropout", "model.batch_norm", "optim.name", "optim.lr", "optim.momentum",
    "optim.weight_decay", "optim.schedule", "trainer.max_epochs",
)  # fmt: skip
"""Columns of the HPARAMS tab, beside `data.source` and `parameters`."""
FINAL = ("val/accuracy", "test/accuracy", "test/f1_macro", "test/loss")


def test_figures(
    result: JSON, images: NDArray[np.uint8], truth: NDArray[np.int64], probabilities: NDArray[np.float32],
    weights: NDArray[np.float32],
) -> Iterator[tuple[str, figures.Figure]]:  # fmt: skip
    """Figures of the test by name. images (n, 28, 28), truth (n,), probabilities (n, 10), weights (units, 784)."""
    probabilities, weights = np.nan_to_num(probabilities), np.nan_to_num(weights)  # of a diverged run
    matrix = np.array(result["confusion_matrix"])
    accuracy = f"test accuracy {100 * result['metrics']['test/accuracy']:.2f} %"
    yield "confusion_matrix", figures.confusion(matrix, f"Confusion matrix, {accuracy}")
    yield "confusion_matrix_normalized", figures.confusion(matrix, f"Confusion matrix in percent, {accuracy}", True)
    yield "f1_per_class", figures.class_bars(result["per_class"]["f1"], "F1 of each digit on test")
    yield "calibration", figures.calibration(truth, probabilities, "Calibration on test")
    yield "first_layer", figures.first_layer(weights, "Weights of the first layer")
    yield from galleries(images, truth, probabilities)


def write_predictions(folder: RunFolder, truth: NDArray[np.int64], probabilities: NDArray[np.float32]) -> None:
    """predictions.npz: index, truth, prediction (n,) and probabilities (n, 10) of the test images in file order."""
    content = io.BytesIO()
    np.savez_compressed(
        content,
        index=np.arange(len(truth)),
        truth=truth.astype(np.uint8),
        prediction=probabilities.argmax(1).astype(np.uint8),
        probabilities=probabilities.astype(np.float32),
    )
    write_bytes(folder.predictions_file, content.getvalue())


def write_report(folder: RunFolder, result: JSON) -> str:
    """classification_report.txt; its text."""
    text = classification_report(result["confusion_matrix"])
    write_text(folder.report_file, text)
    return text


def write_figures(
    folder: RunFolder, writer: SummaryWriter, drawn: Iterator[tuple[str, figures.Figure]], epoch: int
) -> None:
    """Each figure as figures/<name>.png and as TensorBoard image test/<name>."""
    folder.figures.mkdir(exist_ok=True)
    for name, figure in drawn:
        image = figures.pixels(figure)
        write_bytes(folder.figures / f"{name}.png", figures.png(image))
        writer.add_image(f"test/{name}", image, epoch, dataformats="HWC")


def write_texts(writer: SummaryWriter, config: Mapping[str, Any], report: str) -> None:
    """The resolved configuration and the classification report under TensorBoard's TEXT."""
    for tag, text in (("configuration", json.dumps(config, indent=2)), ("classification_report", report)):
        writer.add_text(tag, "\n".join(f"    {line}" for line in text.splitlines()))  # indented: code in Markdown


def write_hparams(writer: SummaryWriter, result: JSON) -> None:
    """This run's row in the HPARAMS tab: settings (numbers, booleans, texts) and final metrics.

    In the run's own event file; SummaryWriter.add_hparams would make a second run of it.
    """
    config = flat(result["config"])
    row: dict[str, Any] = {"data.source": result["data"]["source"], "parameters": result["parameters"]}
    for key in HPARAMS:
        value = config[key]
        row[key] = "-".join(map(str, value)) if isinstance(value, list) else value
    metrics = {
        f"final/{name.replace('/', '_')}": result["metrics"][name] for name in FINAL if name in result["metrics"]
    }
    metrics["final/fit_seconds"] = result["timing"]["fit_seconds"]
    for name, value in metrics.items():
        writer.add_scalar(name, value, result["epochs"])
    for summary in hparams(row, metrics):
        writer._get_file_writer().add_summary(summary)


def present(
    folder: RunFolder, writer: SummaryWriter, result: JSON, digits: Digits, model: DigitClassifier, draw: bool
) -> None:
    """Write everything above for a tested run."""
    truth = digits.test_labels.numpy()
    probabilities = model.probabilities(digits.test_images).numpy()
    write_predictions(folder, truth, probabilities)
    report = write_report(folder, result)
    write_texts(writer, result["config"], report)
    write_hparams(writer, result)
    if draw:
        first = next(layer for layer in model.mlp.layers if isinstance(layer, Linear))
        weights = first.weight.detach().float().cpu().numpy()
        drawn = test_figures(result, digits.test_images.numpy(), truth, probabilities, weights)
        write_figures(folder, writer, drawn, result["epochs"])
