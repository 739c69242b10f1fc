"""The comparison as a table for a terminal: what does not fit its width is left out by rule; the files have it all."""

import re
import statistics
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mnist_mlp.compare.collect import VALUES, Job, JobReader, Row, Summary, display_names, row_label, summarize
from mnist_mlp.compare.comparison import PairedComparison
from mnist_mlp.compare.statistics import Interval
from mnist_mlp.console import cells, columns, mark, shortened
from mnist_mlp.runs.files import to_csv, write_text
from mnist_mlp.runs.settings import short_names, short_values, value_text

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
    if any(one.is_inconclusive for one in compared):
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


def comparison_cells(found: PairedComparison | None) -> list[float | int | None]:
    """The columns of COMPARISON between n and verdict."""
    if found is None:
        return [None] * (len(COMPARISON) - 2)
    images = (found.images.low, found.images.high) if found.images else (None, None)
    single, family = found.decisive.p_value, found.comparisons
    return [
        found.decisive.mean, found.seeds.low, found.seeds.high, *images, single, found.p_value, family,
        found.detectable_difference,
    ]  # fmt: skip


FIRST = ("row", "best_row", "run", "display_name", "status", "reason", "fingerprint")
RUN_FIGURES = ("parameters", "epochs", "best_epoch")
SHOWN = {
    "val acc %": ("val/accuracy", 100, 2), "test acc %": ("test/accuracy", 100, 2), "F1": ("test/f1_macro", 1, 4),
    "loss": ("test/loss", 1, 4),
}  # fmt: skip
"""Columns for readers: metric, factor, digits."""


def runs_csv(summary: Summary, base: Path | None = None) -> str:
    """Every run once, the rows of the comparison in their order: place, folder, settings that vary, figures, the rest.

    row: place of its setting in the comparison, from 1; run: its folder, seen from `base` where it lies below it. Times
    are in seconds, accuracies in parts of one; what a run does not have is empty.
    """
    results = [job.result for job in summary.jobs if job.result is not None]
    metrics = dict.fromkeys(name for result in results for name in result.metrics)
    times = dict.fromkeys(name for result in results for name in result.timing)
    places = dict.fromkeys(name for result in results for name in result.environment)
    first, names = varied(summary), display_names(summary)
    rest = [key for key in dict.fromkeys(key for job in summary.jobs for key in job.settings) if key not in first]

    def line(place: int, best: bool, job: Job) -> list[Any]:
        start = [place, best, _relative(job.folder, base), names[job.folder], job.status, job.reason, job.fingerprint]
        measured: list[Any] = [None] * (len(metrics) + len(RUN_FIGURES) + len(times) + len(places))
        if (result := job.result) is not None:
            measured = [*map(result.metrics.get, metrics), result.parameters, result.epochs, result.best_epoch]
            measured += [*map(result.timing.get, times), *map(result.environment.get, places)]
        settings = (map(value_text, map(job.settings.get, keys)) for keys in (first, rest))
        return [*start, *next(settings), *measured, *next(settings)]

    header = [*FIRST, *first, *metrics, *RUN_FIGURES, *times, *places, *rest]
    return to_csv(header, [line(place, best, job) for place, best, job in _placed(summary)])


def shown_runs(summary: Summary) -> tuple[list[str], list[list[str]]]:
    """The table for readers: header and rows of text, "-" for what a run does not have; the folder's name is last."""
    keys = varied(summary)
    named = short_names(keys)
    shown = {key: short_values(job.settings.get(key) for job in summary.jobs) for key in keys}
    header = ["row", *named.values(), *SHOWN, "parameters", "best epoch", "fit s", "status", "run"]
    rows = []
    for place, _, job in _placed(summary):
        cells = [str(place), *(shown[key][value_text(job.settings.get(key))] for key in keys)]
        rows.append([*cells, *_figures(job), job.status, job.folder.name])
    return header, rows


def varied(summary: Summary) -> list[str]:
    """The settings in which runs differ, and the seed where it varies."""
    return [*summary.keys, *(["seed"] if summary.over_seeds else [])]


def _placed(summary: Summary) -> Iterator[tuple[int, bool, Job]]:
    for place, row in enumerate(summary.rows, 1):
        for job in row.jobs:
            yield place, row.best, job


def _figures(job: Job) -> list[str]:
    result = job.result
    if result is None:
        return ["-"] * (len(SHOWN) + 3)
    metrics = [(result.metrics.get(name), scale, digits) for name, scale, digits in SHOWN.values()]
    texts = ["-" if number is None else f"{scale * number:.{digits}f}" for number, scale, digits in metrics]
    epochs, seconds = f"{result.best_epoch} of {result.epochs}", f"{result.timing['fit_seconds']:.1f}"
    return [*texts, f"{result.parameters:,}", epochs, seconds]


def _relative(folder: Path, base: Path | None) -> str:
    return folder.relative_to(base).as_posix() if base is not None and folder.is_relative_to(base) else str(folder)


BRIEF = "verdict"
STEPS = ("parameters", "loss", "F1", BRIEF, OVER_SEEDS, "fit s", OVER_IMAGES, "n", "status")
"""Columns that go, one after the other, until the rest fits; the verdict becomes brief instead. What varies and the
accuracies stay."""
CONSOLE_FIGURES = ("val acc %", "test acc %", OVER_SEEDS, OVER_IMAGES)
MIN_TEXT_WIDTH = 6
"""Cells down to which a text is shortened, where what must stay does not fit."""
MAX_ROWS = 40
MAX_REASONS = 5
FINISHED = re.compile(r"(, )?(\d+ )?\bfinished\b(, )?")
FURTHER_WORDS = re.compile(r" \(.*\)| (from|than) the best")


@dataclass
class _Column:
    name: str
    texts: list[str]

    @property
    def width(self) -> int:
        return max(map(cells, (self.name, *self.texts)))

    def line(self, place: int | None) -> str:
        text = self.name if place is None else self.texts[place]
        return text + " " * (self.width - cells(text))


def as_text(summary: Summary, width: int | None = None) -> str:
    """Table, reasons of failures and how to read it, in lines shorter than `width`, by default the terminal's."""
    room = (columns() if width is None else width) - 1
    shown, left_out = _fitting(summary, room)
    count = min(len(summary.rows), MAX_ROWS)
    lines = ["  ".join(column.line(place) for column in shown).rstrip() for place in (None, *range(count))]
    if count < len(summary.rows):
        lines.append(f"... and {len(summary.rows) - count} more rows, in summary.csv")
    lines += [part for line in _reasons(summary) for part in _filled(line, room)]
    return "\n".join([*lines, *_filled(_note(summary, shown, left_out), room)])


def _fitting(summary: Summary, room: int) -> tuple[list[_Column], list[str]]:
    """The columns to show, and the names of those that were left out for want of room."""
    header, rows = shown_cells(summary)
    rows = rows[:MAX_ROWS]
    table = [_Column(name, [row[place] for row in rows]) for place, name in enumerate(header)]
    for column in table:
        if column.name == "status":
            # reasons are below the table, and that runs are finished goes without saying
            column.texts = [FINISHED.sub("", row.status) for row in summary.rows[:MAX_ROWS]]
    shown = [column for column in table if column.name == "" or not set(column.texts) <= {"", "-"}]
    left_out = []
    for name in STEPS:
        found = next((column for column in shown if column.name == name), None)
        if found is None or _width(shown) <= room:
            continue
        if name == BRIEF:
            found.texts = [FURTHER_WORDS.sub("", text) for text in found.texts]
        else:
            shown.remove(found)
            left_out.append(name)
    left = mark()
    while _width(shown) > room:
        widest = max((one for one in shown if one.name not in CONSOLE_FIGURES), key=lambda one: one.width)
        smaller = widest.width - 1
        if smaller < MIN_TEXT_WIDTH:
            break
        widest.name = shortened(widest.name, smaller, left)
        widest.texts = [shortened(text, smaller, left) for text in widest.texts]
    return shown, left_out


def _width(shown: Sequence[_Column]) -> int:
    return sum(column.width for column in shown) + 2 * (len(shown) - 1)


def _reasons(summary: Summary) -> Iterator[str]:
    """Why runs failed or cannot be read: each reason once, with the first row that has it."""
    found: dict[str, list[str]] = {}
    for row in summary.rows:
        if row.reasons:
            found.setdefault(row.reasons, []).append(row_label(summary, row) or row.status)
    for reason, rows in list(found.items())[:MAX_REASONS]:
        more = f" and {len(rows) - 1} more" if len(rows) > 1 else ""
        yield f"{rows[0]}{more}: {textwrap.shorten(reason, 300, placeholder=' ...')}"
    if len(found) > MAX_REASONS:
        yield f"... and {len(found) - MAX_REASONS} more reasons, in summary.csv"


def _note(summary: Summary, shown: Sequence[_Column], left_out: Sequence[str]) -> str:
    names = {column.name for column in shown}
    intervals = not {OVER_SEEDS, OVER_IMAGES}.isdisjoint(names)
    note = reading_note(summary, intervals)
    return f"{note} Left out here, but in summary.csv: {', '.join(left_out)}." if left_out else note


def _filled(text: str, room: int) -> list[str]:
    return textwrap.wrap(text, max(20, room), break_on_hyphens=False, subsequent_indent="  ")
