"""Comparison tables for files and terminals, and the planning of sample sizes."""

import re
import statistics
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mnist_mlp.compare.collect import VALUES, Row, Summary, display_names, row_label, summarize
from mnist_mlp.compare.consistency import choices
from mnist_mlp.compare.effects import confounded
from mnist_mlp.compare.load import Job, find_jobs
from mnist_mlp.compare.statistics import PairedComparison, Plan, Variance, interval_text, plan
from mnist_mlp.console import cells, columns, ellipsis, shortened
from mnist_mlp.errors import UserError
from mnist_mlp.runs.files import JSON, to_csv, write_text
from mnist_mlp.runs.settings import short_names, value_text

OVER_SEEDS, OVER_IMAGES = "vs best (seeds)", "vs best (seeds, images)"
RUN_COLUMNS = ("row", "best_row", "run", "display_name", "status", "reason", "fingerprint")
RESULT_COLUMNS = ("parameters", "epochs", "best_epoch")
VERDICT = "verdict"
DROP_ORDER = ("parameters", "loss", "F1", VERDICT, OVER_SEEDS, "fit s", OVER_IMAGES, "n", "status")
"""Columns that a terminal drops, in this order, until the table fits; the verdict is abbreviated at its turn. Settings
and accuracies stay."""
NEVER_SHORTENED = ("val acc %", "test acc %", OVER_SEEDS, OVER_IMAGES)
MIN_TEXT_WIDTH = 6  # terminal cells to which texts are shortened at most if the remaining columns do not fit
MAX_ROWS = 40
VALIDATION_KEYS = ("data.val_size", "data.split_seed")
MAX_REASONS = 5
FINISHED = re.compile(r"(, )?(\d+ )?\bfinished\b(, )?")
VERDICT_DETAILS = re.compile(":.*")


def write_summary(sweep: Path) -> Summary | None:
    """Rewrite the tables of a sweep from its run folders; None without runs."""
    if jobs := find_jobs([sweep]):
        write_tables(sweep, summary := summarize(jobs))
        return summary
    return None


def write_tables(sweep: Path, summary: Summary) -> list[Path]:
    """Write summary.csv, summary.md and runs.csv into the sweep's folder, each atomically; return their paths."""
    texts = {"summary.csv": _csv(summary), "summary.md": as_markdown(summary), "runs.csv": runs_csv(summary, sweep)}
    for name, text in texts.items():
        write_text(sweep / name, text)
    return [sweep / name for name in texts]


def _csv(summary: Summary) -> str:
    """summary.csv: a line per row."""
    texts = [[value_text(row.settings[key]) for key in summary.keys] for row in summary.rows]
    rows = summary_rows(summary)
    return to_csv([*summary.keys, *rows[0]], [[*text, *row.values()] for text, row in zip(texts, rows, strict=True)])


def summary_rows(summary: Summary) -> list[JSON]:
    """The columns of summary.csv after the settings, by name; accuracies and differences are fractions."""
    lines = []
    for row in summary.rows:
        line: JSON = {column: row.mean(column) for column in VALUES}
        if summary.over_seeds:
            line |= {f"{column}_std": row.deviation(column) for column in VALUES}
            line |= {"n": len(row.values["test_accuracy"]), **tested(row.comparison), "verdict": row.verdict}
        lines.append({**line, "best": row.best, "status": row.status, "reason": row.reasons})
    return lines


def tested(paired: PairedComparison | None) -> JSON:
    """The columns of a comparison in summary.csv."""
    return {
        "pairs": paired and paired.decisive.n,
        "difference": paired and paired.decisive.mean,
        "seeds_low": paired and paired.seeds.low,
        "seeds_high": paired and paired.seeds.high,
        "images_low": paired and paired.images and paired.images.low,
        "images_high": paired and paired.images and paired.images.high,
        "p_value": paired and paired.decisive.p_value,
        "p_corrected": paired and paired.p_value,
        "p_anytime": paired and paired.anytime_p_value,
        "comparisons": paired and paired.comparisons,
        "resolvable": paired and paired.detectable_difference,
        "outcome": paired and paired.outcome,
    }


def runs_csv(summary: Summary, base: Path | None = None) -> str:
    """runs.csv: a line per run in row order, with settings, metrics, times in seconds and environment.

    Column `row` is the rank of the run's setting, from 1; `run` is its folder, relative to `base` if below it.
    Accuracies are fractions; missing values are empty.
    """
    results = [job.result for job in summary.jobs if job.result is not None]
    metrics = dict.fromkeys(name for result in results for name in result.metrics)
    timing = dict.fromkeys(name for result in results for name in result.timing)
    environment = dict.fromkeys(name for result in results for name in result.environment)
    varying, names = [*summary.keys, *(["seed"] if summary.over_seeds else [])], display_names(summary)
    fixed = [key for key in dict.fromkeys(key for job in summary.jobs for key in job.settings) if key not in varying]

    def line(index: int, best: bool, job: Job) -> list[Any]:
        is_below = base is not None and job.folder.is_relative_to(base)
        folder = job.folder.relative_to(base).as_posix() if base is not None and is_below else str(job.folder)
        values: list[Any] = [None] * (len(metrics) + len(RESULT_COLUMNS) + len(timing) + len(environment))
        if (result := job.result) is not None:
            values = [*map(result.metrics.get, metrics), result.parameters, result.epochs, result.best_epoch]
            values += [*map(result.timing.get, timing), *map(result.environment.get, environment)]
        identity = [index, best, folder, names[job.folder], job.status, job.reason, job.fingerprint]
        return [*identity, *map(job.text, varying), *values, *map(job.text, fixed)]

    header = [*RUN_COLUMNS, *varying, *metrics, *RESULT_COLUMNS, *timing, *environment, *fixed]
    return to_csv(header, [line(index, row.best, job) for index, row in enumerate(summary.rows, 1) for job in row.jobs])


def shown_cells(summary: Summary) -> tuple[list[str], list[list[str]]]:
    """Header and cells of the formatted table; a star marks the best row."""
    header = ["", *short_names(summary.keys).values(), *(["n"] if summary.over_seeds else [])]
    header += ["val acc %", "test acc %", "F1", "loss", "parameters", "fit s", "status"]
    header += [OVER_SEEDS, OVER_IMAGES, "verdict"] if summary.over_seeds else []
    rows = []
    for row in summary.rows:
        line = ["*" if row.best else "", *(summary.shown_value(row, key) for key in summary.keys)]
        n = len(row.values["test_accuracy"])
        line += [seeds_text(row)] if summary.over_seeds else []
        for name in ("val_accuracy", "test_accuracy", "test_f1_macro", "test_loss"):
            values = row.values[name]
            text = mean_and_deviation(values) if "accuracy" in name else mean_and_deviation(values, 1, 4)
            line.append(f"{text} (n = {len(values)})" if 0 < len(values) < n else text)
        parameters, seconds = row.mean("parameters"), row.mean("fit_seconds")
        line += ["-" if parameters is None else f"{parameters:,.0f}", "-" if seconds is None else f"{seconds:.1f}"]
        line.append(f"{row.status}: {row.reasons}" if row.reasons else row.status)
        if summary.over_seeds:
            paired = row.comparison
            line += [interval_text(paired.seeds), interval_text(paired.images)] if paired else ["-", "-"]
            line.append(row.verdict or "best" * row.best)
        rows.append(line)
    return header, rows


def seeds_text(row: Row) -> str:
    """Number of seeds with a result: "3 of 5" if others have none, "5 (2 paired)" if the best has only two of them."""
    n, started = len(row.values["test_accuracy"]), len({job.seed for job in row.jobs})
    pairs = row.comparison.decisive.n if row.comparison else n
    return (str(n) if n in (0, started) else f"{n} of {started}") + (f" ({pairs} paired)" if pairs != n else "")


def mean_and_deviation(numbers: Sequence[float], scale: float = 100.0, digits: int = 2) -> str:
    """Format "mean ± sample standard deviation" of scaled numbers; only the mean of one, a dash for none."""
    if not numbers:
        return "-"
    mean = f"{scale * statistics.fmean(numbers):.{digits}f}"
    return mean if len(numbers) < 2 else f"{mean} ± {scale * statistics.stdev(numbers):.{digits}f}"


def as_markdown(summary: Summary) -> str:
    """The formatted table in Markdown, followed by the reading note."""
    header, rows = shown_cells(summary)
    lines = [header, ["---"] * len(header), *rows]
    table = "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
    return "\n\n".join([table, *choice_rows(summary), reading_note(summary)]) + "\n"


def reading_note(summary: Summary, intervals: bool = True) -> str:
    """Explain the ranking, the verdicts, and the intervals if shown; then any warnings about the runs."""
    if not any(row.best for row in summary.rows):
        return " ".join(["No run has finished.", *summary.notes])
    pairs = [" and ".join(short_names([key, *others]).values()) for key, others in confounded(summary.jobs).items()]
    together = [f"{pair} vary together: their effects cannot be separated." for pair in pairs]
    return " ".join([*_method(summary, intervals), *cross_fitted_notes(summary), *summary.notes, *together])


def _method(summary: Summary, intervals: bool) -> Iterator[str]:
    """How settings are ranked and tested, and what limits that; docs/statistics.md has the rest."""
    each = " on each dataset" * (len(summary.by_dataset) > 1)
    over_seeds = "; ± standard deviation over seeds" * summary.over_seeds
    if summary.ranked_by == "val_accuracy":
        yield f"* best by validation accuracy{each}{over_seeds}."
        if varying := [key for key in VALIDATION_KEYS if key in summary.keys]:
            yield f"Validation images differ between settings ({', '.join(varying)}), and with them the ranking."
    else:
        missing = "as some or all runs have no validation images"
        biased = ", which biases its test accuracy upwards" * (len(summary.rows) > 1)
        yield f"* best by test accuracy{each}, {missing}{biased}{over_seeds}."
    settings = [pair for row in summary.rows if (pair := row.comparison) and pair.outcome]
    shown = choices(summary)
    effects = [pair for choice in shown for pair in choice.differences.values() if pair]
    clauses = []

    def adjusted(pairs: Sequence[PairedComparison], what: str) -> str:
        count = max(pair.comparisons for pair in pairs)
        return f", Holm-adjusted for {'up to ' * bool(each)}{count} pairs of {what}{each}" * (count > 1)

    if settings:
        with_images = sum(pair.images is not None for pair in settings)
        sampled = "seeds and test images" if with_images else "seeds, on these test images"
        sampled = "seeds, and test images if predicted" if 0 < with_images < len(settings) else sampled
        clauses.append(f"Verdicts: vs the best over {sampled}{adjusted(settings, 'settings')}")
    if len({choice.key for choice in shown}) > 1:
        word = "effects" if clauses else "Effects"
        clauses.append(f"{word}: mean over the other settings{adjusted(effects, 'values')}")
    if clauses:
        yield f"{'; '.join(clauses)}{'; intervals are unadjusted' * (intervals or bool(effects))}."
    if any(pair.is_significant and not pair.holds_at_any_look for pair in (*settings, *effects)):
        yield "Better and worse assume a number of seeds fixed in advance."


def cross_fitted_notes(summary: Summary) -> Iterator[str]:
    """Yield the test accuracy of the best setting on each dataset without selection bias, where it is known."""
    for title, part in summary.by_dataset.items():
        if (fitted := part.cross_fitted) is not None:
            best = f"Best{f' on {title}' * bool(title)}"
            yield f"{best} without selection bias, cross-fitted over seeds: test accuracy {100 * fitted:.2f} %."


def as_text(summary: Summary, width: int | None = None) -> str:
    """Table, reasons for failures and reading note, in lines shorter than `width` (default: the terminal's)."""
    available = (columns() if width is None else width) - 1
    shown, left_out = _fitting(summary, available)
    padded = [[text + " " * (_width(column) - cells(text)) for text in column] for column in shown]
    lines = ["  ".join(line).rstrip() for line in zip(*padded, strict=True)]
    if (more := len(summary.rows) + 1 - len(lines)) > 0:
        lines.append(f"... and {more} more rows, in summary.csv")
    note = reading_note(summary, intervals=any(column[0] in (OVER_SEEDS, OVER_IMAGES) for column in shown))
    if left_out:
        note += f" Columns omitted here, but in summary.csv: {', '.join(left_out)}."
    for paragraph in (*_failure_lines(summary), *choice_rows(summary), note):
        lines += textwrap.wrap(paragraph, max(20, available), break_on_hyphens=False, subsequent_indent="  ")
    return "\n".join(lines)


def _fitting(summary: Summary, available: int) -> tuple[list[list[str]], list[str]]:
    """The columns that fit, each starting with its header, and the headers of those that do not."""
    header, rows = shown_cells(summary)
    parts = summary.by_dataset.values()
    visible = {id(row) for part in parts for row in part.rows[: MAX_ROWS // len(parts)]}
    pairs = [(row, line) for row, line in zip(summary.rows, rows, strict=True) if id(row) in visible]
    # reasons follow the table, and finished is the default status
    status = ["status", *(FINISHED.sub("", row.status) for row, _ in pairs)]
    lines = [header, *(line for _, line in pairs)]
    table = [status if column[0] == "status" else list(column) for column in zip(*lines, strict=True)]
    shown = [column for column in table if column[0] == "" or not set(column[1:]) <= {"", "-"}]
    left_out = []
    for name in DROP_ORDER:
        for column in [column for column in shown if column[0] == name and _total(shown) > available]:
            if name == VERDICT:
                column[1:] = [VERDICT_DETAILS.sub("", text) for text in column[1:]]
            else:
                shown.remove(column)
                left_out.append(name)
    while _total(shown) > available:
        widest = max((column for column in shown if column[0] not in NEVER_SHORTENED), key=_width)
        smaller = _width(widest) - 1
        if smaller < MIN_TEXT_WIDTH:
            break
        widest[:] = [shortened(text, smaller, ellipsis()) for text in widest]
    return shown, left_out


def _width(column: Sequence[str]) -> int:
    return max(map(cells, column))


def _total(shown: Sequence[Sequence[str]]) -> int:
    return sum(map(_width, shown)) + 2 * (len(shown) - 1)


def _failure_lines(summary: Summary) -> Iterator[str]:
    """Lines on why runs failed or cannot be read; each reason once, with the first affected row."""
    names: dict[str, list[str]] = {}
    for row in summary.rows:
        if row.reasons:
            names.setdefault(row.reasons, []).append((row.is_setting and row_label(summary, row)) or row.status)
    for reason, (first, *further) in list(names.items())[:MAX_REASONS]:
        more = f" and {len(further)} more" if further else ""
        yield f"{first}{more}: {textwrap.shorten(reason, 300, placeholder=' ...')}"
    if len(names) > MAX_REASONS:
        yield f"... and {len(names) - MAX_REASONS} more reasons, in summary.csv"


def choice_rows(summary: Summary) -> Iterator[str]:
    """Yield the effect of each factor in a line: the best setting's value instead of each other value."""
    return (choice.text for choice in choices(summary))


def plan_lines(summary: Summary, points: float) -> Iterator[str]:
    """Report how many seeds each setting needs to detect a difference in percentage points of test accuracy.

    Raises:
        UserError: The difference is out of range, or no setting shares two seeds with the best.
    """
    if not 0 < points < 100:
        raise UserError(f"--plan {points:g} is out of range: expected points of accuracy, above 0, below 100")
    if len(parts := summary.by_dataset) > 1:
        for title, part in parts.items():
            yield f"{title}:"
            yield from plan_lines(part, points)
        return
    known = [(row, pair) for row in summary.rows if (pair := row.comparison) and pair.decisive.error is not None]
    if not known:
        raise UserError("--plan needs two settings with the same two seeds or more, none at chance level")
    family = known[0][1].comparisons
    adjusted = f", Holm-adjusted for {family} comparisons" if family > 1 else ""
    yield f"To detect a difference of {points:g} points to the best with power 0.8 at the 5 % level{adjusted}:"
    plans = [(paired, plan(points / 100, paired.variance, paired.decisive.images, family)) for _, paired in known]
    for (row, paired), (_, required) in zip(known, plans, strict=True):
        detectable = paired.detectable_difference or 1.0
        state = f"{100 * detectable:.2f} points" if detectable < 1 else "nothing"
        state = "already significant" if paired.is_significant else f"{paired.decisive.n} seeds now detect {state}"
        spread = f"standard deviation of the difference over seeds {100 * paired.spread:.2f} points"
        limit = f"limited by images to {100 * required.limit:.2f} points"
        seeds = f"{required.seeds} seeds" if required.seeds else limit
        yield f"  {row_label(summary, row)}: {seeds} ({state}; {spread})"
    if others := [row_label(summary, row) for row in summary.rows[1:] if all(row is not plan for plan, _ in known)]:
        yield f"  no plan without an interval: {'; '.join(others)}"
    inconclusive = [pair for pair in plans if not pair[0].is_significant] or plans
    if limited := [pair for pair in inconclusive if pair[1].seeds is None]:
        yield _limit_line(*max(limited, key=lambda pair: pair[1].limit), points, family)
    else:
        yield f"Use {max(required.seeds or 0 for _, required in inconclusive)} seeds per setting."
    if (fewest := min(paired.decisive.n for _, paired in known)) < 10:
        yield f"With {fewest} seeds the standard deviations are rough estimates; plan again with more."


def _limit_line(paired: PairedComparison, required: Plan, points: float, family: int) -> str:
    images, variance = paired.decisive.images, paired.variance
    if not images or required.limit < points / 100:
        return f"Detecting {points:g} points takes more than 10,000 seeds per setting."
    fixed = Variance(variance.seed + variance.residual / images, 0.0, 0.0, variance.degrees)
    seeds = plan(points / 100, fixed, 0, family).seeds if paired.spread else None
    text = (
        f"Images, not seeds, are the limit: with any number of seeds, {images:,} test images detect no less than "
        f"{100 * required.limit:.2f} points; {points:g} points need at least {required.images:,} images."
    )
    return text if seeds is None else f"{text} For these images only, {seeds} seeds per setting suffice."
