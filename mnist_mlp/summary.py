"""The table of a sweep as text: summary.csv, summary.md, and aligned for the console. Imports no torch."""

import csv
import io
from pathlib import Path
from typing import Any

from mnist_mlp.compare import Interval
from mnist_mlp.runs import write_text
from mnist_mlp.sweeps import VALUES, Row, Summary, find_jobs, labels, summarize, value_text


def write_summary(sweep: Path) -> Summary | None:
    """Rewrite summary.csv and summary.md, atomically, from the run folders; None where there are none yet."""
    jobs = find_jobs([sweep])
    if not jobs:
        return None
    summary = summarize(jobs)
    write_text(sweep / "summary.csv", _as_csv(summary))
    write_text(sweep / "summary.md", as_markdown(summary))
    return summary


def shown_cells(summary: Summary) -> tuple[list[str], list[list[str]]]:
    """The table as people read it: header and rows of text, the best row marked with a star."""
    named = labels(summary.keys)
    header = ["", *(named[key] for key in summary.keys), "n"] if summary.over_seeds else ["", *named.values()]
    header += ["val acc %", "test acc %", "F1", "loss", "parameters", "fit s", "status"]
    if summary.over_seeds:
        header += ["to best (95 %)", "verdict"]
    rows = []
    for row in summary.rows:
        cells = ["*" if row.best else "", *(value_text(row.settings[key]) for key in summary.keys)]
        cells += [str(len(row.values["test_accuracy"]))] if summary.over_seeds else []
        cells += [_spread(row, "val_accuracy", 100, 2), _spread(row, "test_accuracy", 100, 2)]
        cells += [_spread(row, "test_f1_macro", 1, 4), _spread(row, "test_loss", 1, 4)]
        parameters, seconds = row.mean("parameters"), row.mean("fit_seconds")
        cells += ["-" if parameters is None else f"{parameters:,.0f}", "-" if seconds is None else f"{seconds:.1f}"]
        cells.append(f"{row.status}: {row.reasons}" if row.reasons else row.status)
        if summary.over_seeds:
            cells += [interval_text(row.difference), "best" if row.best else row.verdict]
        rows.append(cells)
    return header, rows


def interval_text(difference: Interval | None) -> str:
    """A difference of accuracies in points, with its interval."""
    if difference is None:
        return "-"
    mean = f"{100 * difference.mean:+.2f}"
    if difference.low is None or difference.high is None:
        return mean
    return f"{mean} [{100 * difference.low:+.2f}, {100 * difference.high:+.2f}]"


def as_markdown(summary: Summary) -> str:
    """The shown table in Markdown, with a line on how to read it."""
    header, rows = shown_cells(summary)
    lines = [header, ["---"] * len(header), *rows]
    table = "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
    return f"{table}\n\n{reading_note(summary)}\n"


def as_text(summary: Summary) -> str:
    """The shown table, aligned for the console."""
    header, rows = shown_cells(summary)
    widths = [max(len(line[column]) for line in (header, *rows)) for column in range(len(header))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in (header, *rows)
    ]
    return "\n".join([*lines, reading_note(summary)])


def reading_note(summary: Summary) -> str:
    """How the rows were ranked, and what the interval is."""
    on_validation = summary.ranked_by == "val_accuracy"
    note = (
        f"* best by {'validation accuracy' if on_validation else 'test accuracy, as runs have no validation images'}."
    )
    if summary.over_seeds:
        note += (
            " Over seeds: mean ± standard deviation; 'to best' is the difference in test accuracy, in points,"
            " paired by seed, with its 95 % interval."
        )
    return note


def _spread(row: Row, column: str, scale: float, digits: int) -> str:
    mean, deviation = row.mean(column), row.deviation(column)
    if mean is None:
        return "-"
    text = f"{scale * mean:.{digits}f}"
    return text if deviation is None else f"{text} ± {scale * deviation:.{digits}f}"


def _as_csv(summary: Summary) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    spread = [f"{column}_std" for column in VALUES] if summary.over_seeds else []
    comparison = ["n", "difference", "difference_low", "difference_high", "verdict"] if summary.over_seeds else []
    writer.writerow([*summary.keys, *VALUES, *spread, *comparison, "best", "status", "reason"])
    for row in summary.rows:
        cells: list[Any] = [value_text(row.settings[key]) for key in summary.keys]
        cells += [row.mean(column) for column in VALUES]
        if summary.over_seeds:
            cells += [row.deviation(column) for column in VALUES]
            gap = row.difference
            cells += [len(row.values["test_accuracy"])]
            cells += [gap.mean, gap.low, gap.high] if gap else [None] * 3
            cells.append(row.verdict)
        writer.writerow(["" if cell is None else cell for cell in [*cells, row.best, row.status, row.reasons]])
    return text.getvalue()
