"""The section on how the runs went: a verdict for each setting, with its exceptions."""

from collections.abc import Sequence

from mnist_mlp.compare.collect import Job, Row, Summary
from mnist_mlp.compare.diagnosis import verdicts
from mnist_mlp.compare.tables import OVER_IMAGES, OVER_SEEDS, reading_note, shown_cells
from mnist_mlp.reporting.data import MANY_KEYS, Compared
from mnist_mlp.reporting.elements import Cell, Section, Table, command
from mnist_mlp.runs.settings import short_names, value_text

NOTHING = {"", "-"}
DONE = ("finished", "diverged")


def comparison(compared: Compared) -> Section:
    """A row per group of seeds, best first; a row per run where seeds do not vary."""
    rows = compared.summary.rows
    table = _groups(compared) if compared.summary.over_seeds else runs_table(compared)
    notes = [reading_note(compared.summary).replace("*", "★", 1)] if len(rows) > 1 else []
    return Section("Comparison" if len(rows) > 1 else "Result", table=table, notes=notes)


def every_run(compared: Compared) -> Section | None:
    """A row per run with its accuracy; None where the comparison has that already."""
    if not compared.summary.over_seeds:
        return None
    return Section("Every run", table=runs_table(compared), notes=["Accuracies of single runs, best groups first."])


def not_finished(compared: Compared) -> Section | None:
    """Every run without a result, with its reason in full."""
    jobs = [(place, job) for place, job in enumerate(compared.jobs) if job.status not in DONE]
    if not jobs:
        return None
    rows: list[list[str | Cell]] = [
        [compared.run_names[place], job.status, job.reason or "-", Cell(command(job), code=True)] for place, job in jobs
    ]
    table = Table(
        ["run", "status", "reason", "command"], rows, ["bad" if job.reason else "" for _, job in jobs],
        runs=[[place] for place, _ in jobs], caption="Runs without a result",
        prose=True,
    )  # fmt: skip
    return Section("What did not finish", table=table)


def _groups(compared: Compared) -> Table:
    summary = compared.summary
    header, cells = shown_cells(summary)
    named = short_names(summary.keys)
    answer = ["test acc %", "verdict"]
    first_columns = [*answer, *named.values(), "n"] if _many(summary) else [*named.values(), "n", *answer]
    order = [*first_columns, "val acc %", OVER_IMAGES, OVER_SEEDS]
    order = [name for name in dict.fromkeys([*order, *header]) if name in header and name]
    exact = {name: [value_text(row.settings[key]) for row in summary.rows] for key, name in named.items()}
    short = {name: [summary.shown_value(row, key) for row in summary.rows] for key, name in named.items()}
    columns: dict[str, list[str | Cell]] = {}
    for name in order:
        if name in named.values():
            columns[name] = [
                Cell(text, full) if text != full else text for text, full in zip(short[name], exact[name], strict=True)
            ]
        elif name == "status":
            columns[name] = [row.status for row in summary.rows]
        else:
            columns[name] = [_unbroken(line[header.index(name)], name) for line in cells]
    first: list[str | Cell] = [
        f"{'★ ' if row.best else ''}{name or 'all runs'}"
        for name, row in zip(compared.group_names, summary.rows, strict=True)
    ]
    text = {"setting", "verdict", "status", *named.values()}
    return _table(
        {"setting": first, **columns}, [_mark(row) for row in summary.rows], compared.run_ids, text,
        {name: key for key, name in named.items()}, "Groups of runs that differ in their seed alone",
    )  # fmt: skip


def runs_table(compared: Compared) -> Table:
    """A row per run: its settings that vary, its figures, its folder and its command."""
    summary, jobs = compared.summary, compared.jobs
    best = {id(job) for row in summary.rows for job in row.jobs if row.best and not summary.over_seeds}
    keys = [*summary.keys, *(["seed"] if summary.over_seeds else [])]
    named = short_names(keys)
    columns: dict[str, list[str | Cell]] = {
        "run": [
            Cell(f"{'★ ' if id(job) in best else ''}{name}", full=job.folder.name)
            for name, job in zip(compared.run_names, jobs, strict=True)
        ]
    }
    figures = _figures(jobs)
    settings = {name: [_setting(compared, job, key) for job in jobs] for key, name in named.items()}
    answer = {name: figures.pop(name) for name in ("test acc %", "val acc %", "status")}
    columns |= answer | settings if _many(summary) else settings | answer
    columns |= figures
    columns["folder"] = [Cell(compared.path(job.folder), link=compared.link(job.folder)) for job in jobs]
    columns["command"] = [Cell(command(job), code=True) for job in jobs]
    text = {"run", "status", "folder", "command", *named.values()}
    marks = ["" if job.status == "finished" else "bad" for job in jobs]
    marks = ["best" if id(job) in best and not mark else mark for job, mark in zip(jobs, marks, strict=True)]
    hints = {name: key for key, name in named.items()}
    return _table(columns, marks, [[place] for place in range(len(jobs))], text, hints, "Runs")


def _many(summary: Summary) -> bool:
    """Whether there are so many settings that the answer comes before them: the names of the rows have told them."""
    return len(summary.keys) > MANY_KEYS


def _figures(jobs: Sequence[Job]) -> dict[str, list[str | Cell]]:
    results = [job.result for job in jobs]
    columns: dict[str, list[str | Cell]] = {}
    for name, key, scale, digits in (
        ("test acc %", "test/accuracy", 100, 2), ("val acc %", "val/accuracy", 100, 2), ("F1", "test/f1_macro", 1, 4),
        ("loss", "test/loss", 1, 4),
    ):  # fmt: skip
        values = [None if result is None else result.metrics.get(key) for result in results]
        columns[name] = ["-" if value is None else f"{scale * value:.{digits}f}" for value in values]
    columns["best epoch"] = ["-" if result is None else f"{result.best_epoch} of {result.epochs}" for result in results]
    columns["parameters"] = ["-" if result is None else f"{result.parameters:,}" for result in results]
    columns["status"] = [job.status for job in jobs]
    columns["fit s"] = ["-" if result is None else f"{result.timing['fit_seconds']:.1f}" for result in results]
    return columns


def _setting(compared: Compared, job: Job, key: str) -> str | Cell:
    value = job.settings.get(key)
    text, full = compared.shown_value(job, key), value_text(value)
    order = float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None
    return text if text == full else Cell(text, full, order=order)


def _unbroken(text: str, name: str) -> str:
    """A figure that is broken nowhere but between a difference and its interval."""
    return text if name == "verdict" else text.replace(" ± ", "\u00a0±\u00a0").replace(", ", ",\u00a0")


def _mark(row: Row) -> str:
    if any(job.status not in ("finished", "running") for job in row.jobs):
        return "bad"
    return "best" if row.best else ""


def _table(
    columns: dict[str, list[str | Cell]], marks: Sequence[str], runs: Sequence[Sequence[int]], text: set[str],
    hints: dict[str, str], caption: str,
) -> Table:  # fmt: skip
    """Without the columns that say nothing; what is the same in all rows is shown when asked for."""
    kept = {name: cells for name, cells in columns.items() if name in ("run", "setting") or _says(name, cells)}
    names = list(kept)
    alone = len(marks) == 1
    same = {"parameters", "n", "status", *hints}
    hidden = [
        place for place, name in enumerate(names)
        if not alone and name in same and len({str(cell) for cell in kept[name]}) == 1
    ]  # fmt: skip
    return Table(
        names, list(zip(*kept.values(), strict=True)), marks,
        frozenset(place for place, name in enumerate(names) if name not in text),
        [hints.get(name, "") for name in names], runs, tools=not alone, hidden=frozenset(hidden), caption=caption,
    )  # fmt: skip


def _says(name: str, cells: Sequence[str | Cell]) -> bool:
    return not {str(cell) for cell in cells} <= NOTHING


def diagnoses(compared: Compared) -> Section:
    """One diagnosis for each row of the comparison, and the runs that went otherwise."""
    found = verdicts(compared.summary, compared.curves)
    notes = ["By rule of thumb, from the curves alone; of several runs, from their mean curves."]
    if len(compared.jobs) == 1:
        return Section("How the run went", [found[0].verdict], notes=notes[:0])
    rows: list[list[str | Cell]] = [
        [name or "all runs", one.verdict, " ".join(one.exceptions)]
        for name, one in zip(compared.group_names, found, strict=True)
    ]
    header = ["setting", "verdict", "exceptions"]
    kept = 3 if any(one.exceptions for one in found) else 2
    marks = ["bad" if any(job.status not in ("finished", "running") for job in one.row.jobs) else "" for one in found]
    table = Table(
        header[:kept], [row[:kept] for row in rows], marks, runs=compared.run_ids, tools=len(rows) > 1,
        caption="How the runs of each setting went", prose=True,
    )  # fmt: skip
    return Section("How the runs went", table=table, notes=notes)
