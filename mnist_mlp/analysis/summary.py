"""The comparison as a table: summary.csv, summary.md, and aligned text for the console."""

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mnist_mlp.analysis.collect import VALUES, Row, Summary, find_jobs, summarize
from mnist_mlp.analysis.statistics import Interval
from mnist_mlp.runs.files import to_csv, write_text
from mnist_mlp.runs.settings import short_names, value_text


def write_summary(sweep: Path) -> Summary | None:
    """Rewrite summary.csv and summary.md, atomically, from the run folders; None where there are none yet."""
    jobs = find_jobs([sweep])
    if not jobs:
        return None
    summary = summarize(jobs)
    write_text(sweep / "summary.csv", _csv(summary))
    write_text(sweep / "summary.md", as_markdown(summary))
    return summary


def shown_cells(summary: Summary) -> tuple[list[str], list[list[str]]]:
    """The table for readers: header and rows of text, the best row marked with a star."""
    named = short_names(summary.keys)
    header = ["", *(named[key] for key in summary.keys), "n"] if summary.over_seeds else ["", *named.values()]
    header += ["val acc %", "test acc %", "F1", "loss", "parameters", "fit s", "status"]
    if summary.over_seeds:
        header += ["to best (95 %)", "verdict"]
    rows = []
    for row in summary.rows:
        cells = ["*" if row.best else "", *(value_text(row.settings[key]) for key in summary.keys)]
        cells += [str(len(row.values["test_accuracy"]))] if summary.over_seeds else []
        cells += [
            mean_and_deviation(row.values["val_accuracy"], 100, 2),
            mean_and_deviation(row.values["test_accuracy"], 100, 2),
        ]
        cells += [
            mean_and_deviation(row.values["test_f1_macro"], 1, 4),
            mean_and_deviation(row.values["test_loss"], 1, 4),
        ]
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
    """How the rows were ranked, and what the interval means."""
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


def mean_and_deviation(numbers: Sequence[float], scale: float = 100.0, digits: int = 2) -> str:
    """ "mean ± sample standard deviation" of scaled numbers; the mean alone of one, a dash for none."""
    if not numbers:
        return "-"
    mean = f"{scale * statistics.fmean(numbers):.{digits}f}"
    return mean if len(numbers) < 2 else f"{mean} ± {scale * statistics.stdev(numbers):.{digits}f}"


def _csv(summary: Summary) -> str:
    spread = [f"{column}_std" for column in VALUES] if summary.over_seeds else []
    comparison = ["n", "difference", "difference_low", "difference_high", "verdict"] if summary.over_seeds else []
    header = [*summary.keys, *VALUES, *spread, *comparison, "best", "status", "reason"]
    return to_csv(header, [_csv_row(summary, row) for row in summary.rows])


def _csv_row(summary: Summary, row: Row) -> list[Any]:
    cells: list[Any] = [value_text(row.settings[key]) for key in summary.keys]
    cells += [row.mean(column) for column in VALUES]
    if summary.over_seeds:
        gap = row.difference
        cells += [*(row.deviation(column) for column in VALUES), len(row.values["test_accuracy"])]
        cells += [*((gap.mean, gap.low, gap.high) if gap else (None,) * 3), row.verdict]
    return [*cells, row.best, row.status, row.reasons]
