"""A result as text: the closing table and the classification report. Imports no torch."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from mnist_mlp.console import shown_path
from mnist_mlp.runs.folder import RunFolder
from mnist_mlp.runs.result import RunResult


def closing_table(result: RunResult, folder: Path) -> str:
    """The test of the chosen checkpoint, the digit that it finds hardest, the times, and where the files are."""
    metrics, timing, data = result.metrics, result.timing, result.data
    compiling = f"; {timing['compile_seconds']:.1f} s to compile" if timing.get("compile_seconds") else ""
    rows = [
        (
            "test accuracy",
            f"{percent(metrics['test/accuracy'])}, macro F1 {decimal(metrics['test/f1_macro'])}, "
            f"loss {decimal(metrics['test/loss'])}",
        ),
        ("worst digit", worst_digit(result)),
        (
            "tested",
            f"{data['test']:,} images ({data['source']}), checkpoint of epoch {result.best_epoch} of {result.epochs}",
        ),
        ("fit time", f"{timing['fit_seconds']:.1f} s, {timing['epoch_seconds']:.2f} s to train an epoch{compiling}"),
        ("run folder", shown_path(folder)),
    ]
    lines = [f"  {name:<14} {value}" for name, value in rows]
    if result.status == "diverged":
        lines.insert(0, f"DIVERGED in epoch {result.epochs}: the loss is not finite; try a lower optim.lr.")
    return "\n".join(lines)


def worst_digit(result: RunResult) -> str:
    """The digit with the lowest F1 on test, and with which other it is confused most often, in whichever direction."""
    f1, matrix = [value or 0.0 for value in result.per_class["f1"]], result.confusion_matrix
    digit = min(range(len(f1)), key=lambda one: f1[one])
    others = [other for other in range(len(f1)) if other != digit]
    missed = max(others, key=lambda other: matrix[digit][other])
    mistaken = max(others, key=lambda other: matrix[other][digit])
    said = f"{digit}, F1 {f1[digit]:.3f}"
    if matrix[digit][missed]:
        return f"{said}, most often taken for {missed}"
    return f"{said}, for which {mistaken} is taken most often" if matrix[mistaken][digit] else "none, all are right"


def next_steps(folder: Path, python: str) -> str:
    """What can be done with a finished run: its page, its curves, and a page to draw on, in three lines.

    python: how to call the interpreter. The page itself if it exists, else the command that writes it.
    """
    run = shlex.quote(shown_path(folder))
    page = RunFolder(folder).page_file
    rows = [
        ("page", shown_path(page) if page.is_file() else f"{python} -m mnist_mlp.report {run}"),
        ("TensorBoard", f"{python} -m mnist_mlp.tensorboard {run}"),
        ("draw digits", f"{python} -m mnist_mlp.export {run} --format html"),
    ]
    return "\n".join(f"  {name:<14} {command}" for name, command in rows)


def percent(value: float | None) -> str:
    """A fraction in percent with two decimals; a dash where it is not finite."""
    return "-" if value is None or value != value else f"{100 * value:.2f} %"


def decimal(value: float | None) -> str:
    """Four decimals; a dash where it is not finite."""
    return "-" if value is None or value != value else f"{value:.4f}"


def classification_report(confusion_matrix: Sequence[Sequence[int]]) -> str:
    """Precision, recall, F1 and support of each digit and on average, laid out as scikit-learn does.

    confusion_matrix: 10 x 10, rows truth. A ratio without a denominator counts as 0.
    """
    size = len(confusion_matrix)
    hits = [confusion_matrix[digit][digit] for digit in range(size)]
    support = [sum(row) for row in confusion_matrix]
    predicted = [sum(row[digit] for row in confusion_matrix) for digit in range(size)]
    rows = []
    for digit in range(size):
        precision, recall = _ratio(hits[digit], predicted[digit]), _ratio(hits[digit], support[digit])
        rows.append((precision, recall, _ratio(2 * hits[digit], predicted[digit] + support[digit])))
    total = sum(support)
    macro = [sum(row[column] for row in rows) / size for column in range(3)]
    weighted = [
        _ratio(sum(row[column] * n for row, n in zip(rows, support, strict=True)), total) for column in range(3)
    ]
    lines = [f"{'':>12}  {'precision':>9} {'recall':>9} {'f1-score':>9} {'support':>9}", ""]
    lines += [_report_row(str(digit), rows[digit], support[digit]) for digit in range(size)]
    lines += ["", f"{'accuracy':>12}  {'':>9} {'':>9} {_ratio(sum(hits), total):>9.4f} {total:>9}"]
    lines += [_report_row("macro avg", macro, total), _report_row("weighted avg", weighted, total)]
    return "\n".join(lines) + "\n"


def _report_row(name: str, values: Sequence[float], support: int) -> str:
    return f"{name:>12}  {' '.join(f'{value:>9.4f}' for value in values)} {support:>9}"


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else 0.0
