"""The comparison as a table: summary.csv and summary.md."""

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mnist_mlp.analysis.collect import VALUES, Job, JobReader, Row, Summary, summarize
from mnist_mlp.analysis.comparison import Comparison
from mnist_mlp.analysis.interval import Interval
from mnist_mlp.analysis.run_table import runs_csv
from mnist_mlp.runs.files import to_csv, write_text
from mnist_mlp.runs.settings import short_names, value_text

OVER_SEEDS, OVER_IMAGES = "to best (seeds)", "to best (seeds, images)"


def write_summary(sweep: Path, reader: JobReader | None = None) -> Summary | None:
    """Rewrite the tables from the run folders; None where there are none yet.

    reader: one that has read most of the runs before, for a sweep that writes its tables again and again.
    """
    jobs = (reader or JobReader()).find([sweep])
    if not jobs:
        return None
    summary = summarize(jobs)
    write_tables(sweep, summary)
    return summary


def write_tables(sweep: Path, summary: Summary) -> list[Path]:
    """Write summary.csv, summary.md and runs.csv, each atomically, into the sweep's folder; the files."""
    texts = {"summary.csv": _csv(summary), "summary.md": as_markdown(summary), "runs.csv": runs_csv(summary, sweep)}
    for name, text in texts.items():
        write_text(sweep / name, text)
    return [sweep / name for name in texts]


def shown_cells(summary: Summary) -> tuple[list[str], list[list[str]]]:
    """The table for readers: header and rows of text, the best row marked with a star."""
    named = short_names(summary.keys)
    header = ["", *(named[key] for key in summary.keys), "n"] if summary.over_seeds else ["", *named.values()]
    header += ["val acc %", "test acc %", "F1", "loss", "parameters", "fit s", "status"]
    if summary.over_seeds:
        header += [OVER_SEEDS, OVER_IMAGES, "verdict"]
    rows = []
    for row in summary.rows:
        cells = ["*" if row.best else "", *(summary.shown_value(row, key) for key in summary.keys)]
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
            found = row.comparison
            cells += [interval_text(found.seeds if found else None), interval_text(found.images if found else None)]
            cells.append("best" if row.best else row.verdict)
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


def reading_note(summary: Summary, intervals: bool = True) -> str:
    """How the rows were ranked, what the intervals mean where they are shown, and what is odd about the runs."""
    if summary.ranked_by == "val_accuracy":
        notes = ["* best by validation accuracy."]
    else:
        notes = ["* best by test accuracy, as runs have no validation images."]
        if len(summary.rows) > 1:
            notes.append("So the best is chosen on what it is judged by, and its own figure is flattered by that.")
    if summary.over_seeds:
        notes.append("Over seeds: mean ± standard deviation.")
        notes += _on_intervals(summary, intervals)
    return " ".join([*notes, *summary.notes])


def how_chosen(summary: Summary, job: Job) -> str:
    """How this run of the best row came to be the one that is shown, and why its figure is not that of the row."""
    row = next((row for row in summary.rows if row.best), None)
    if row is None or job.result is None or len(summary.jobs) < 2:
        return ""
    by, metric = {"val_accuracy": ("validation", "val"), "test_accuracy": ("test", "test")}[summary.ranked_by]
    own, runs = job.result.metric(f"{metric}/accuracy"), len(row.values["test_accuracy"])
    if runs < 2:
        return f"Chosen by {by} accuracy, {100 * own:.2f} %, the highest of all settings."
    return (
        f"Chosen in two steps: the setting with the highest mean {by} accuracy, and of its {runs} runs the one with the"
        f" highest, {100 * own:.2f} %. Its test accuracy, {100 * job.result.metric('test/accuracy'):.2f} %, is that of"
        f" one run; the setting's is {mean_and_deviation(row.values['test_accuracy'])} %."
    )


def _on_intervals(summary: Summary, shown: bool) -> list[str]:
    compared = [row.comparison for row in summary.rows if row.comparison is not None]
    if not compared:
        return []
    by_images = sum(one.images is not None for one in compared)
    family = max(one.comparisons for one in compared)
    if not shown:
        chance = "seeds and test images" if by_images else "seeds"
        corrected = f", corrected (Holm) for {family} comparisons" if family > 1 else ""
        return [f"The verdict compares with the best, over {chance}{corrected}; summary.md has the intervals."]
    used = "the first" if not by_images else "the second" + (" where there is one" if by_images < len(compared) else "")
    notes = [
        "Differences to the best are in points of test accuracy, paired by seed, with single 95 % intervals:"
        f" '{OVER_SEEDS}' holds for other seeds on these very test images, '{OVER_IMAGES}' for other seeds and other"
        f" images like these. The verdict uses {used}."
    ]
    if family > 1:
        notes.append(
            f"It is corrected (Holm) for {family} comparisons, all pairs, since any setting could have come out best;"
            " so an interval without zero is not yet a claim."
        )
    if any(one.undecided for one in compared):
        notes.append("In brackets: the smallest difference that this comparison resolves with power 0.8.")
    return notes


def mean_and_deviation(numbers: Sequence[float], scale: float = 100.0, digits: int = 2) -> str:
    """ "mean ± sample standard deviation" of scaled numbers; the mean alone of one, a dash for none."""
    if not numbers:
        return "-"
    mean = f"{scale * statistics.fmean(numbers):.{digits}f}"
    return mean if len(numbers) < 2 else f"{mean} ± {scale * statistics.stdev(numbers):.{digits}f}"


COMPARISON = (
    "n", "difference", "seeds_low", "seeds_high", "images_low", "images_high", "p_value", "p_corrected", "comparisons",
    "resolvable", "verdict",
)  # fmt: skip
"""Columns of summary.csv on the comparison with the best; differences in parts of one."""


def _csv(summary: Summary) -> str:
    spread = [f"{column}_std" for column in VALUES] if summary.over_seeds else []
    comparison = COMPARISON if summary.over_seeds else ()
    header = [*summary.keys, *VALUES, *spread, *comparison, "best", "status", "reason"]
    return to_csv(header, [_csv_row(summary, row) for row in summary.rows])


def _csv_row(summary: Summary, row: Row) -> list[Any]:
    cells: list[Any] = [value_text(row.settings[key]) for key in summary.keys]
    cells += [row.mean(column) for column in VALUES]
    if summary.over_seeds:
        cells += [*(row.deviation(column) for column in VALUES), len(row.values["test_accuracy"])]
        cells += [*comparison_cells(row.comparison), row.verdict]
    return [*cells, row.best, row.status, row.reasons]


def comparison_cells(found: Comparison | None) -> list[float | int | None]:
    """The columns of COMPARISON between n and verdict."""
    if found is None:
        return [None] * (len(COMPARISON) - 2)
    images = (found.images.low, found.images.high) if found.images else (None, None)
    single, family = found.decisive.p_value, found.comparisons
    return [
        found.decisive.mean, found.seeds.low, found.seeds.high, *images, single, found.p_value, family,
        found.resolvable,
    ]  # fmt: skip
