"""The comparison as text: for files, for a terminal of any width, and how many seeds it takes to see a difference."""

import re
import statistics
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mnist_mlp.compare.collect import VALUES, Job, Summary, display_names, find_jobs, row_label, summarize
from mnist_mlp.compare.statistics import Interval, PairedComparison, Plan, Variance, plan
from mnist_mlp.console import cells, columns, mark, shortened
from mnist_mlp.errors import UserError
from mnist_mlp.runs.files import JSON, to_csv, write_text
from mnist_mlp.runs.settings import short_names, value_text

OVER_SEEDS, OVER_IMAGES = "to best (seeds)", "to best (seeds, images)"
FIRST = ("row", "best_row", "run", "display_name", "status", "reason", "fingerprint")
RUN_FIGURES = ("parameters", "epochs", "best_epoch")
BRIEF = "verdict"
STEPS = ("parameters", "loss", "F1", BRIEF, OVER_SEEDS, "fit s", OVER_IMAGES, "n", "status")
"""Columns that go, one after the other, until the others fit a terminal; the verdict becomes brief instead. What varies
and the accuracies stay."""
CONSOLE_FIGURES = ("val acc %", "test acc %", OVER_SEEDS, OVER_IMAGES)
MIN_TEXT_WIDTH = 6  # cells down to which a text is shortened if what must stay does not fit
MAX_ROWS = 40
MAX_REASONS = 5
FINISHED = re.compile(r"(, )?(\d+ )?\bfinished\b(, )?")
FURTHER_WORDS = re.compile(r" \(.*\)| (from|than) the best")


def write_summary(sweep: Path) -> Summary | None:
    """Rewrite the tables of a sweep from its run folders; None if there are none yet."""
    if jobs := find_jobs([sweep]):
        write_tables(sweep, summary := summarize(jobs))
        return summary
    return None


def write_tables(sweep: Path, summary: Summary) -> list[Path]:
    """Write summary.csv, summary.md and runs.csv, each atomically, into the sweep's folder; return the files."""
    texts = {"summary.csv": _csv(summary), "summary.md": as_markdown(summary), "runs.csv": runs_csv(summary, sweep)}
    for name, text in texts.items():
        write_text(sweep / name, text)
    return [sweep / name for name in texts]


def _csv(summary: Summary) -> str:
    """A line per row; differences to the best are fractions of one."""
    lines = []
    for row in summary.rows:
        line: JSON = {key: value_text(row.settings[key]) for key in summary.keys}
        line |= {column: row.mean(column) for column in VALUES}
        if summary.over_seeds:
            one = row.comparison
            line |= {f"{column}_std": row.deviation(column) for column in VALUES}
            line |= {
                "n": len(row.values["test_accuracy"]),
                "difference": one and one.decisive.mean,
                "seeds_low": one and one.seeds.low,
                "seeds_high": one and one.seeds.high,
                "images_low": one and one.images and one.images.low,
                "images_high": one and one.images and one.images.high,
                "p_value": one and one.decisive.p_value,
                "p_corrected": one and one.p_value,
                "comparisons": one and one.comparisons,
                "resolvable": one and one.detectable_difference,
                "verdict": row.verdict,
            }
        lines.append({**line, "best": row.best, "status": row.status, "reason": row.reasons})
    return to_csv(list(lines[0]), [list(line.values()) for line in lines])


def runs_csv(summary: Summary, base: Path | None = None) -> str:
    """Every run once, the rows of the comparison in their order, with its settings, metrics, times and environment.

    row: the index of its setting in the comparison, from 1; run: its folder, relative to `base` if it is below it.
    Times are in seconds, accuracies fractions of one; what a run does not have is empty.
    """
    results = [job.result for job in summary.jobs if job.result is not None]
    metrics = dict.fromkeys(name for result in results for name in result.metrics)
    times = dict.fromkeys(name for result in results for name in result.timing)
    environment = dict.fromkeys(name for result in results for name in result.environment)
    first, names = [*summary.keys, *(["seed"] if summary.over_seeds else [])], display_names(summary)
    others = [key for key in dict.fromkeys(key for job in summary.jobs for key in job.settings) if key not in first]

    def line(index: int, best: bool, job: Job) -> list[Any]:
        below = base is not None and job.folder.is_relative_to(base)
        folder = job.folder.relative_to(base).as_posix() if base is not None and below else str(job.folder)
        measured: list[Any] = [None] * (len(metrics) + len(RUN_FIGURES) + len(times) + len(environment))
        if (result := job.result) is not None:
            measured = [*map(result.metrics.get, metrics), result.parameters, result.epochs, result.best_epoch]
            measured += [*map(result.timing.get, times), *map(result.environment.get, environment)]
        start = [index, best, folder, names[job.folder], job.status, job.reason, job.fingerprint]
        return [*start, *map(job.text, first), *measured, *map(job.text, others)]

    header = [*FIRST, *first, *metrics, *RUN_FIGURES, *times, *environment, *others]
    return to_csv(header, [line(index, row.best, job) for index, row in enumerate(summary.rows, 1) for job in row.jobs])


def shown_cells(summary: Summary) -> tuple[list[str], list[list[str]]]:
    """The table for readers: header and rows of text, the best row marked with a star."""
    header = ["", *short_names(summary.keys).values(), *(["n"] if summary.over_seeds else [])]
    header += ["val acc %", "test acc %", "F1", "loss", "parameters", "fit s", "status"]
    header += [OVER_SEEDS, OVER_IMAGES, "verdict"] if summary.over_seeds else []
    rows = []
    for row in summary.rows:
        line = ["*" if row.best else "", *(summary.shown_value(row, key) for key in summary.keys)]
        line += [str(len(row.values["test_accuracy"]))] if summary.over_seeds else []
        line += [mean_and_deviation(row.values[name]) for name in ("val_accuracy", "test_accuracy")]
        line += [mean_and_deviation(row.values[name], 1, 4) for name in ("test_f1_macro", "test_loss")]
        parameters, seconds = row.mean("parameters"), row.mean("fit_seconds")
        line += ["-" if parameters is None else f"{parameters:,.0f}", "-" if seconds is None else f"{seconds:.1f}"]
        line.append(f"{row.status}: {row.reasons}" if row.reasons else row.status)
        if summary.over_seeds:
            one = row.comparison
            line += [interval_text(one.seeds), interval_text(one.images)] if one else ["-", "-"]
            line.append("best" if row.best else row.verdict)
        rows.append(line)
    return header, rows


def interval_text(difference: Interval | None) -> str:
    """A difference of accuracies in points, with its interval."""
    if difference is None:
        return "-"
    mean = f"{100 * difference.mean:+.2f}"
    if difference.low is None or difference.high is None:
        return mean
    return f"{mean} [{100 * difference.low:+.2f}, {100 * difference.high:+.2f}]"


def mean_and_deviation(numbers: Sequence[float], scale: float = 100.0, digits: int = 2) -> str:
    """ "mean ± sample standard deviation" of scaled numbers; the mean alone of one, a dash for none."""
    if not numbers:
        return "-"
    mean = f"{scale * statistics.fmean(numbers):.{digits}f}"
    return mean if len(numbers) < 2 else f"{mean} ± {scale * statistics.stdev(numbers):.{digits}f}"


def as_markdown(summary: Summary) -> str:
    """The table for readers in Markdown, with a line on how to read it."""
    header, rows = shown_cells(summary)
    lines = [header, ["---"] * len(header), *rows]
    table = "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
    return f"{table}\n\n{reading_note(summary)}\n"


def reading_note(summary: Summary, intervals: bool = True) -> str:
    """How the rows were ranked, what the intervals mean if they are shown, and what is odd about the runs."""
    if summary.ranked_by == "val_accuracy":
        notes = ["* best by validation accuracy."]
    else:
        notes = ["* best by test accuracy, as runs have no validation images."]
        if len(summary.rows) > 1:
            notes.append("So the best is chosen on what it is judged by, and its own figure is flattered by that.")
    if summary.over_seeds:
        notes.append("Over seeds: mean ± standard deviation.")
    compared = [row.comparison for row in summary.rows if row.comparison is not None]
    by_images = sum(one.images is not None for one in compared)
    family = max((one.comparisons for one in compared), default=1)
    if compared and not intervals:
        chance = "seeds and test images" if by_images else "seeds"
        corrected = f", corrected (Holm) for {family} comparisons" if family > 1 else ""
        notes.append(f"The verdict compares with the best, over {chance}{corrected}; summary.md has the intervals.")
    elif compared:
        used = "the second" if by_images else "the first"
        used += " where there is one" if 0 < by_images < len(compared) else ""
        notes.append(
            "Differences to the best are in points of test accuracy, paired by seed, with single 95 % intervals:"
            f" '{OVER_SEEDS}' holds for other seeds on these very test images, '{OVER_IMAGES}' for other seeds and"
            f" other images like these. The verdict uses {used}."
        )
        if family > 1:
            notes.append(
                f"It is corrected (Holm) for {family} comparisons, all pairs, since any setting could have come out"
                " best; so an interval without zero is not yet a claim."
            )
        if any(one.is_inconclusive for one in compared):
            notes.append("In brackets: the smallest difference that this comparison resolves with power 0.8.")
    return " ".join([*notes, *summary.notes])


def as_text(summary: Summary, width: int | None = None) -> str:
    """Table, reasons of failures and how to read it, in lines shorter than `width`, by default the terminal's."""
    room = (columns() if width is None else width) - 1
    shown, left_out = _fitting(summary, room)
    padded = [[text + " " * (_width(column) - cells(text)) for text in column] for column in shown]
    lines = ["  ".join(line).rstrip() for line in zip(*padded, strict=True)]
    if len(summary.rows) > MAX_ROWS:
        lines.append(f"... and {len(summary.rows) - MAX_ROWS} more rows, in summary.csv")
    note = reading_note(summary, intervals=any(column[0] in (OVER_SEEDS, OVER_IMAGES) for column in shown))
    if left_out:
        note += f" Left out here, but in summary.csv: {', '.join(left_out)}."
    for paragraph in (*_reasons(summary), note):
        lines += textwrap.wrap(paragraph, max(20, room), break_on_hyphens=False, subsequent_indent="  ")
    return "\n".join(lines)


def _fitting(summary: Summary, room: int) -> tuple[list[list[str]], list[str]]:
    """The columns to show, each with its header first, and the headers of those that do not fit."""
    header, rows = shown_cells(summary)
    # reasons are below the table, and that runs are finished goes without saying
    status = ["status", *(FINISHED.sub("", row.status) for row in summary.rows[:MAX_ROWS])]
    whole = [status if column[0] == "status" else list(column) for column in zip(header, *rows[:MAX_ROWS], strict=True)]
    shown = [column for column in whole if column[0] == "" or not set(column[1:]) <= {"", "-"}]
    left_out = []
    for name in STEPS:
        for column in [column for column in shown if column[0] == name and _total(shown) > room]:
            if name == BRIEF:
                column[1:] = [FURTHER_WORDS.sub("", text) for text in column[1:]]
            else:
                shown.remove(column)
                left_out.append(name)
    while _total(shown) > room:
        widest = max((column for column in shown if column[0] not in CONSOLE_FIGURES), key=_width)
        smaller = _width(widest) - 1
        if smaller < MIN_TEXT_WIDTH:
            break
        widest[:] = [shortened(text, smaller, mark()) for text in widest]
    return shown, left_out


def _width(column: Sequence[str]) -> int:
    return max(map(cells, column))


def _total(shown: Sequence[Sequence[str]]) -> int:
    return sum(map(_width, shown)) + 2 * (len(shown) - 1)


def _reasons(summary: Summary) -> Iterator[str]:
    """Why runs failed or cannot be read: each reason once, with the first row that has it."""
    names: dict[str, list[str]] = {}
    for row in summary.rows:
        if row.reasons:
            names.setdefault(row.reasons, []).append(row_label(summary, row) or row.status)
    for reason, (first, *others) in list(names.items())[:MAX_REASONS]:
        more = f" and {len(others)} more" if others else ""
        yield f"{first}{more}: {textwrap.shorten(reason, 300, placeholder=' ...')}"
    if len(names) > MAX_REASONS:
        yield f"... and {len(names) - MAX_REASONS} more reasons, in summary.csv"


def planned(summary: Summary, points: float) -> Iterator[str]:
    """Lines on how many seeds each setting needs for a difference in points of test accuracy to be detected.

    Raises:
        UserError: the difference is out of range, or no two settings share two seeds with a spread.
    """
    if not 0 < points < 100:
        raise UserError(
            f"--plan {points:g} is out of range: give a difference in points of accuracy, above 0, below 100"
        )
    known = [(row, one) for row in summary.rows if (one := row.comparison) and one.decisive.error is not None]
    if not known:
        raise UserError("nothing to plan by: it takes two settings that were run with the same two seeds or more")
    family = known[0][1].comparisons
    many = f", corrected for {family} comparisons" if family > 1 else ""
    yield f"To find a difference of {points:g} points to the best with power 0.8 at the 5 % level{many}:"
    plans = [(one, plan(points / 100, one.variance, one.decisive.images, family)) for _, one in known]
    for (row, one), (_, needed) in zip(known, plans, strict=True):
        gap = one.detectable_difference or 1.0
        state = f"now {one.decisive.n}, which resolve " + (f"{100 * gap:.2f} points" if gap < 1 else "nothing")
        state = "already told apart" if one.is_significant else state
        spread = f"standard deviation of the difference over seeds {100 * one.spread:.2f} points"
        seeds = f"{needed.seeds} seeds" if needed.seeds else f"images are the limit, at {100 * needed.limit:.2f} points"
        yield f"  {row_label(summary, row)}: {seeds} ({state}; {spread})"
    undecided = [pair for pair in plans if not pair[0].is_significant] or plans
    if limited := [pair for pair in undecided if pair[1].seeds is None]:
        one, needed = max(limited, key=lambda pair: pair[1].limit)
        yield _limit(one, needed, points, family)
    else:
        yield f"Take {max(needed.seeds or 0 for _, needed in undecided)} seeds per setting."
    fewest = min(one.decisive.n for _, one in known)
    if fewest < 10:
        yield f"The spread comes from {fewest} seeds, so it is only roughly known: plan again when there are more."


def _limit(one: PairedComparison, needed: Plan, points: float, family: int) -> str:
    images, variance = one.decisive.images, one.variance
    if not images or needed.limit < points / 100:
        return f"More than 10,000 seeds per setting: a difference of {points:g} points is out of reach."
    here = plan(points / 100, Variance(variance.seed + variance.rest / images, 0.0, 0.0), 0, family).seeds
    text = (
        f"Images, not seeds, are the limit: with any number of seeds, {images:,} test images resolve no less than "
        f"{100 * needed.limit:.2f} points; {points:g} points take at least {needed.images:,} images."
    )
    return text if here is None else f"{text} On these very images alone, {here} seeds per setting would do."
