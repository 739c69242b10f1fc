"""Page sections with tables: the comparison, all runs, runs without a result, and the diagnosis of each setting."""

from collections.abc import Callable, Sequence

from mnist_mlp.compare.collect import Summary
from mnist_mlp.compare.diagnosis import verdicts
from mnist_mlp.compare.load import Job
from mnist_mlp.compare.tables import OVER_IMAGES, OVER_SEEDS, reading_note, shown_cells
from mnist_mlp.reporting.data import MANY_KEYS, PageContext
from mnist_mlp.reporting.elements import Cell, Section, Table, command
from mnist_mlp.runs.files import JSON
from mnist_mlp.runs.folder import RunFolder
from mnist_mlp.runs.result import RunResult, decimal, percent
from mnist_mlp.runs.settings import short_names, value_text

METRICS: dict[str, Callable[[RunResult], str]] = {
    "test acc %": lambda result: percent(result.metric("test/accuracy")).removesuffix(" %"),
    "val acc %": lambda result: percent(result.metric("val/accuracy")).removesuffix(" %"),
    "F1": lambda result: decimal(result.metric("test/f1_macro")),
    "loss": lambda result: decimal(result.metric("test/loss")),
    "best epoch": lambda result: f"{result.best_epoch} of {result.epochs}",
    "parameters": lambda result: f"{result.parameters:,}",
    "fit s": lambda result: f"{result.timing['fit_seconds']:.1f}",
}
Columns = dict[str, list[str | Cell]]


def comparison(context: PageContext) -> Section:
    """One row per group of seeds, best first; one row per run if seeds do not vary."""
    rows = context.summary.rows
    table = _groups_table(context) if context.summary.over_seeds else _runs_table(context)
    notes = [reading_note(context.summary).replace("*", "★", 1)] if len(rows) > 1 else []
    return Section(f"Table of {'settings' if context.summary.over_seeds else 'runs'}", table=table, notes=notes)


def all_runs(context: PageContext) -> Section | None:
    """One row per run; None if the comparison already has one row per run."""
    if not context.summary.over_seeds:
        return None
    return Section("All runs", table=_runs_table(context), notes=["One row per run, best groups first."])


def without_result(context: PageContext) -> Section | None:
    """Runs without a result, with the full reason."""
    jobs = [(run, job) for run, job in enumerate(context.jobs) if job.result is None]
    if not jobs:
        return None
    rows: list[list[str | Cell]] = [
        [context.run_names[run], job.status, job.reason or "-", Cell(command(job), code=True)] for run, job in jobs
    ]
    table = Table(
        ["run", "status", "reason", "command"], rows, ["bad" if job.reason else "" for _, job in jobs],
        runs=[[run] for run, _ in jobs], caption="Runs without a result", prose=True,
    )  # fmt: skip
    return Section("Runs without a result", table=table)


def diagnoses(context: PageContext) -> Section:
    """The diagnosis of each row of the comparison, and the runs that deviate from it."""
    judged = verdicts(context.summary, context.curves)
    columns = 3 if any(verdict.exceptions for verdict in judged) else 2
    rows = [
        [name or "all runs", verdict.verdict, " ".join(verdict.exceptions)][:columns]
        for name, verdict in zip(context.group_names, judged, strict=True)
    ]
    table = Table(
        ["setting", "diagnosis", "exceptions"][:columns], rows, [_mark(verdict.row.jobs) for verdict in judged],
        runs=context.run_ids, tools=len(rows) > 1, caption="Diagnosis of each setting", prose=True,
    )  # fmt: skip
    notes = ["Rules of thumb applied to the learning curves; for several seeds, to their mean."]
    return Section("Diagnosis", table=table, notes=notes)


def _mark(jobs: Sequence[Job], best: bool = False) -> str:
    broken = any(job.status not in ("finished", "running") for job in jobs)
    return "bad" if broken else "best" if best else ""


def _groups_table(context: PageContext) -> Table:
    summary = context.summary
    header, cells = shown_cells(summary)
    named = {name: key for key, name in short_names(summary.keys).items()}
    outcome = ["test acc %", "verdict"]
    order = [*outcome, *named, "n"] if len(summary.keys) > MANY_KEYS else [*named, "n", *outcome]
    order += ["val acc %", OVER_IMAGES, OVER_SEEDS, *header]
    pairs = zip(context.group_names, summary.rows, strict=True)
    columns: Columns = {"setting": [f"{'★ ' if row.best else ''}{name or 'all runs'}" for name, row in pairs]}
    for name in dict.fromkeys(name for name in order if name in header and name):
        texts = [line[header.index(name)] for line in cells]
        if key := named.get(name):
            columns[name] = [_setting(summary, row.settings, key) for row in summary.rows]
        elif name in ("status", "verdict"):  # reasons have their own table
            columns[name] = [row.status for row in summary.rows] if name == "status" else list(texts)
        else:  # a line may break only between a difference and its interval
            columns[name] = [text.replace(" ± ", "\u00a0±\u00a0").replace(", ", ",\u00a0") for text in texts]
    marks = [_mark(row.jobs, row.best) for row in summary.rows]
    caption = "Groups of runs that differ only in the seed"
    return _table(columns, marks, context.run_ids, {"verdict"}, named, caption)


def _runs_table(context: PageContext) -> Table:
    """One row per run: varying settings, metrics, folder and command."""
    summary, jobs = context.summary, context.jobs
    best = [row.best and not summary.over_seeds for row in summary.rows for _ in row.jobs]
    keys = [*summary.keys, *(["seed"] if summary.over_seeds else [])]
    named = {name: key for key, name in short_names(keys).items()}
    names = [f"{'★ ' if is_best else ''}{name}" for is_best, name in zip(best, context.run_names, strict=True)]
    runs: Columns = {"run": [Cell(name, full=job.folder.name) for name, job in zip(names, jobs, strict=True)]}
    settings: Columns = {name: [_setting(summary, job.settings, key) for job in jobs] for name, key in named.items()}
    results = [job.result for job in jobs]
    metrics: Columns = {
        name: ["-" if result is None else text(result) for result in results] for name, text in METRICS.items()
    }
    outcome: Columns = {name: metrics.pop(name) for name in ("test acc %", "val acc %")}
    outcome["status"] = [job.status for job in jobs]
    notes = [RunFolder(job.folder).note() for job in jobs]
    links: Columns = {
        "note": list(notes) if len(set(notes)) > 1 else [],  # the header shows a common one
        "folder": [Cell(context.path(job.folder), link=context.link(job.folder)) for job in jobs],
        "command": [Cell(command(job), code=True) for job in jobs],
    }
    columns = runs | (outcome | settings if len(summary.keys) > MANY_KEYS else settings | outcome) | metrics | links
    marks = ["best" if is_best else "" for is_best in best]
    marks = [mark if job.status == "finished" else "bad" for mark, job in zip(marks, jobs, strict=True)]
    return _table(columns, marks, [[run] for run in range(len(jobs))], {"note", "folder", "command"}, named, "Runs")


def _setting(summary: Summary, settings: JSON, key: str) -> str | Cell:
    value = settings.get(key)
    full = value_text(value)
    text = summary.shown_values.get(key, {}).get(full, full)
    order = float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None
    return text if text == full else Cell(text, full, order=order)


def _contains(name: str | Cell, setting: str | Cell) -> bool:
    return str(setting) in str(name)


def _table(
    columns: Columns, marks: Sequence[str], runs: Sequence[Sequence[int]], words: set[str], hints: dict[str, str],
    caption: str,
) -> Table:  # fmt: skip
    """The table without empty columns; constant columns, and settings that the names state, are hidden at first.

    words: text columns other than names, statuses and settings; hints: configuration key by column name.
    """
    texts = {name: {str(cell) for cell in cells} for name, cells in columns.items()}
    names = [name for name in columns if name in ("run", "setting") or not texts[name] <= {"", "-"}]
    is_single = len(marks) == 1
    hideable = {"parameters", "n", "status", *hints}
    named = [name for name in hints if all(map(_contains, columns[names[0]], columns[name]))]
    hidden = [
        index for index, name in enumerate(names)
        if not is_single and (name in named or (name in hideable and len(texts[name]) == 1))
    ]  # fmt: skip
    words = words | {"run", "setting", "status", *hints}
    return Table(
        names, list(zip(*(columns[name] for name in names), strict=True)), marks,
        frozenset(index for index, name in enumerate(names) if name not in words),
        [hints.get(name, "") for name in names], runs, tools=not is_single,
        hidden=frozenset(hidden), caption=caption,
    )  # fmt: skip
