"""The tables of all runs: the comparison, every run, what did not finish, and how the runs of each setting went."""

from collections.abc import Callable, Sequence

from mnist_mlp.compare.collect import Job, Summary
from mnist_mlp.compare.diagnosis import verdicts
from mnist_mlp.compare.tables import OVER_IMAGES, OVER_SEEDS, reading_note, shown_cells
from mnist_mlp.reporting.data import MANY_KEYS, Compared
from mnist_mlp.reporting.elements import Cell, Section, Table, command
from mnist_mlp.runs.files import JSON
from mnist_mlp.runs.result import RunResult, decimal, percent
from mnist_mlp.runs.settings import short_names, value_text

FIGURES: dict[str, Callable[[RunResult], str]] = {
    "test acc %": lambda result: percent(result.metric("test/accuracy")).removesuffix(" %"),
    "val acc %": lambda result: percent(result.metric("val/accuracy")).removesuffix(" %"),
    "F1": lambda result: decimal(result.metric("test/f1_macro")),
    "loss": lambda result: decimal(result.metric("test/loss")),
    "best epoch": lambda result: f"{result.best_epoch} of {result.epochs}",
    "parameters": lambda result: f"{result.parameters:,}",
    "fit s": lambda result: f"{result.timing['fit_seconds']:.1f}",
}
Columns = dict[str, list[str | Cell]]


def comparison(compared: Compared) -> Section:
    """A row per group of seeds, best first; a row per run if seeds do not vary."""
    rows = compared.summary.rows
    table = _groups_table(compared) if compared.summary.over_seeds else _runs_table(compared)
    notes = [reading_note(compared.summary).replace("*", "★", 1)] if len(rows) > 1 else []
    return Section("Comparison" if len(rows) > 1 else "Result", table=table, notes=notes)


def every_run(compared: Compared) -> Section | None:
    """A row per run with its accuracy; None if the comparison has that already."""
    if not compared.summary.over_seeds:
        return None
    return Section("Every run", table=_runs_table(compared), notes=["Accuracies of single runs, best groups first."])


def not_finished(compared: Compared) -> Section | None:
    """Every run without a result, with its reason in full."""
    jobs = [(run, job) for run, job in enumerate(compared.jobs) if job.result is None]
    if not jobs:
        return None
    rows: list[list[str | Cell]] = [
        [compared.run_names[run], job.status, job.reason or "-", Cell(command(job), code=True)] for run, job in jobs
    ]
    table = Table(
        ["run", "status", "reason", "command"], rows, ["bad" if job.reason else "" for _, job in jobs],
        runs=[[run] for run, _ in jobs], caption="Runs without a result", prose=True,
    )  # fmt: skip
    return Section("What did not finish", table=table)


def diagnoses(compared: Compared) -> Section:
    """One diagnosis for each row of the comparison, and the runs that went otherwise."""
    found = verdicts(compared.summary, compared.curves)
    columns = 3 if any(one.exceptions for one in found) else 2
    rows = [
        [name or "all runs", one.verdict, " ".join(one.exceptions)][:columns]
        for name, one in zip(compared.group_names, found, strict=True)
    ]
    table = Table(
        ["setting", "verdict", "exceptions"][:columns], rows, [_mark(one.row.jobs) for one in found],
        runs=compared.run_ids, tools=len(rows) > 1, caption="How the runs of each setting went", prose=True,
    )  # fmt: skip
    notes = ["By rule of thumb, from the curves alone; of several runs, from their mean curves."]
    return Section("How the runs went", table=table, notes=notes)


def _mark(jobs: Sequence[Job], best: bool = False) -> str:
    broken = any(job.status not in ("finished", "running") for job in jobs)
    return "bad" if broken else "best" if best else ""


def _groups_table(compared: Compared) -> Table:
    summary = compared.summary
    header, cells = shown_cells(summary)
    named = {name: key for key, name in short_names(summary.keys).items()}
    answer = ["test acc %", "verdict"]
    order = [*answer, *named, "n"] if len(summary.keys) > MANY_KEYS else [*named, "n", *answer]
    order += ["val acc %", OVER_IMAGES, OVER_SEEDS, *header]
    pairs = zip(compared.group_names, summary.rows, strict=True)
    columns: Columns = {"setting": [f"{'★ ' if row.best else ''}{name or 'all runs'}" for name, row in pairs]}
    for name in dict.fromkeys(name for name in order if name in header and name):
        texts = [line[header.index(name)] for line in cells]
        if key := named.get(name):
            columns[name] = [_setting(summary, row.settings, key) for row in summary.rows]
        elif name in ("status", "verdict"):  # reasons have a table of their own
            columns[name] = [row.status for row in summary.rows] if name == "status" else list(texts)
        else:  # a figure is broken nowhere but between a difference and its interval
            columns[name] = [text.replace(" ± ", "\u00a0±\u00a0").replace(", ", ",\u00a0") for text in texts]
    marks = [_mark(row.jobs, row.best) for row in summary.rows]
    caption = "Groups of runs that differ in their seed alone"
    return _table(columns, marks, compared.run_ids, {"verdict"}, named, caption)


def _runs_table(compared: Compared) -> Table:
    """A row per run: its settings that vary, its figures, its folder and its command."""
    summary, jobs = compared.summary, compared.jobs
    best = [row.best and not summary.over_seeds for row in summary.rows for _ in row.jobs]
    keys = [*summary.keys, *(["seed"] if summary.over_seeds else [])]
    named = {name: key for key, name in short_names(keys).items()}
    names = [f"{'★ ' if is_best else ''}{name}" for is_best, name in zip(best, compared.run_names, strict=True)]
    runs: Columns = {"run": [Cell(name, full=job.folder.name) for name, job in zip(names, jobs, strict=True)]}
    settings: Columns = {name: [_setting(summary, job.settings, key) for job in jobs] for name, key in named.items()}
    results = [job.result for job in jobs]
    figures: Columns = {
        name: ["-" if result is None else text(result) for result in results] for name, text in FIGURES.items()
    }
    answer: Columns = {name: figures.pop(name) for name in ("test acc %", "val acc %")}
    answer["status"] = [job.status for job in jobs]
    links: Columns = {
        "folder": [Cell(compared.path(job.folder), link=compared.link(job.folder)) for job in jobs],
        "command": [Cell(command(job), code=True) for job in jobs],
    }
    columns = runs | (answer | settings if len(summary.keys) > MANY_KEYS else settings | answer) | figures | links
    marks = ["best" if is_best else "" for is_best in best]
    marks = [mark if job.status == "finished" else "bad" for mark, job in zip(marks, jobs, strict=True)]
    return _table(columns, marks, [[run] for run in range(len(jobs))], {"folder", "command"}, named, "Runs")


def _setting(summary: Summary, settings: JSON, key: str) -> str | Cell:
    value = settings.get(key)
    full = value_text(value)
    text = summary.shown_values.get(key, {}).get(full, full)
    order = float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None
    return text if text == full else Cell(text, full, order=order)


def _table(
    columns: Columns, marks: Sequence[str], runs: Sequence[Sequence[int]], words: set[str], hints: dict[str, str],
    caption: str,
) -> Table:  # fmt: skip
    """The table without empty columns; what is the same in all rows is hidden until asked for.

    words: columns that hold text, besides names, statuses and settings; hints: keys of the settings, by name.
    """
    texts = {name: {str(cell) for cell in cells} for name, cells in columns.items()}
    names = [name for name in columns if name in ("run", "setting") or not texts[name] <= {"", "-"}]
    single = len(marks) == 1
    hideable = {"parameters", "n", "status", *hints}
    hidden = [index for index, name in enumerate(names) if name in hideable and not single and len(texts[name]) == 1]
    words = words | {"run", "setting", "status", *hints}
    return Table(
        names, list(zip(*(columns[name] for name in names), strict=True)), marks,
        frozenset(index for index, name in enumerate(names) if name not in words),
        [hints.get(name, "") for name in names], runs, tools=not single,
        hidden=frozenset(hidden), caption=caption,
    )  # fmt: skip
