"""The sections that show all runs at once."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from mnist_mlp.analysis.collect import Job, Row, Summary, row_label, told_apart_by, varying_keys
from mnist_mlp.analysis.diagnosis import diagnosis
from mnist_mlp.analysis.effects import amount, grid, main_effect, measured
from mnist_mlp.analysis.summary import OVER_IMAGES, OVER_SEEDS, reading_note, shown_cells
from mnist_mlp.plots import sweep as plots
from mnist_mlp.plots.sweep import Group, Spread, svg
from mnist_mlp.reporting.elements import Picture, Section, Table
from mnist_mlp.runs.curves import Curves, read_curves
from mnist_mlp.runs.folder import RunFolder
from mnist_mlp.runs.settings import short_names, value_text

QUANTITY = {"val_accuracy": "validation accuracy", "test_accuracy": "test accuracy"}
MOST_LEVELS, MOST_ROWS, MOST_PANELS = 12, 24, 9
MOST_LETTERS = 60
ENOUGH = 3
"""Fewer runs than this need no figures of effects: the table says the same."""


def overview(jobs: Sequence[Job], summary: Summary) -> Iterator[Section]:
    """Table, curves, effects, grid, digits, costs and diagnoses; sections without content are left out."""
    curves = {job.folder: read_curves(RunFolder(job.folder).metrics_file) for job in jobs}
    names, note = _legend(summary)
    groups = groups_of(summary, names, curves)
    factors = [key for key in summary.keys if len(main_effect(jobs, key, summary.ranked_by)) > 1]
    yield _table(summary)
    if any(curves.values()):
        yield _curves(groups, summary.over_seeds, note)
    enough = len(measured(jobs, summary.ranked_by)) >= ENOUGH
    if factors and enough:
        yield _effects(jobs, summary, factors)
    if len(factors) > 1 and enough and (section := _grid(jobs, summary, factors)):
        yield section
    if any(row.values["test_accuracy"] for row in summary.rows):
        yield _class_scores(summary, names, note)
    if len(measured(jobs, summary.ranked_by)) > 1:
        yield _costs(groups, summary)
    yield _diagnoses(jobs, summary, curves)


def groups_of(summary: Summary, names: Sequence[str], curves: dict[Path, Curves]) -> list[Group]:
    """The rows as figures take them. names: one for each row; curves: of each run, by its folder."""
    return [_group(name, summary, row, curves) for name, row in zip(names, summary.rows, strict=True)]


def _legend(summary: Summary) -> tuple[list[str], list[str]]:
    """A name for each row, short enough for a legend, and a note where that took dropping the keys."""
    names = [row_label(summary, row) for row in summary.rows]
    if max(map(len, names)) <= MOST_LETTERS:
        return names, []
    named = told_apart_by(summary)
    names = [", ".join(value_text(row.settings[key]) for key in named) for row in summary.rows]
    return names, [f"Groups are named by {', '.join(named.values())}, in this order."]


def _group(name: str, summary: Summary, row: Row, curves: dict[Path, Curves]) -> Group:
    done = [job for job, _ in measured(row.jobs, summary.ranked_by)]
    results = [job.result for job in done if job.result is not None]
    return Group(
        name,
        [curves[job.folder] for job in row.jobs if curves[job.folder]],
        [100 * number for _, number in measured(row.jobs, summary.ranked_by)],
        [result.timing["fit_seconds"] for result in results],
        [result.parameters for result in results],
    )


def _table(summary: Summary) -> Section:
    header, rows = shown_cells(summary)
    marks = [_mark(row) for row in summary.rows]
    order = [*header[: 1 + len(summary.keys)], *("n", "val acc %", "test acc %", OVER_SEEDS, OVER_IMAGES, "verdict")]
    order = [name for name in dict.fromkeys([*order, *header]) if name in header]
    if set(marks) <= {"best", ""}:
        order.remove("status")  # all have finished
    places = [header.index(name) for name in order]
    shown = [["★" if cells[place] == "*" else cells[place] for place in places] for cells in rows]
    text = {"", "status", "verdict", *short_names(summary.keys).values()}
    numeric = frozenset(place for place, name in enumerate(order) if name not in text)
    notes = [reading_note(summary).replace("*", "★", 1)] if len(rows) > 1 else []
    return Section("Comparison" if len(rows) > 1 else "Result", table=Table(order, shown, marks, numeric), notes=notes)


def _mark(row: Row) -> str:
    if any(job.status != "finished" for job in row.jobs):
        return "bad"
    return "best" if row.best else ""


def _curves(groups: Sequence[Group], over_seeds: bool, naming: Sequence[str]) -> Section:
    drawn = [group for group in groups if group.curves]
    hidden = plots.colours(len(drawn)).count(None)
    note = ["One line per run; runs of one colour differ in their seed alone."] if over_seeds else []
    if over_seeds and not plots.single_lines(drawn):
        note = ["Lines are means over seeds, bands reach from the lowest to the highest run in validation."]
    if hidden:
        note.append(f"Coloured are the best and the worst groups, best first; {hidden} in between are grey.")
    note += naming
    picture = Picture(svg(plots.learning_curves(drawn)), "Accuracy and loss of every run over the epochs")
    return Section("Training and validation", pictures=[picture], notes=note)


def _effects(jobs: Sequence[Job], summary: Summary, factors: Sequence[str]) -> Section:
    named, quantity = short_names(summary.keys), QUANTITY[summary.ranked_by]
    panels = [
        (
            named[key],
            [
                Spread(level.value, amount(level.value), [100 * number for number in level.numbers])
                for level in main_effect(jobs, key, summary.ranked_by)
            ],
        )
        for key in factors[:MOST_PANELS]
    ]
    notes = [
        "Only like with like: dots are runs that differ from another one in this factor alone (and the seed); the"
        " diamond is their mean, the bar one standard deviation."
    ]
    if len(factors) > MOST_PANELS:
        notes.append(f"The first {MOST_PANELS} of {len(factors)} factors.")
    numbers = [number for _, number in measured(jobs, summary.ranked_by)]
    if min(numbers) < plots.NOTHING_LEARNT / 100 <= max(numbers):
        notes.append(
            f"A triangle at the lower edge stands for runs below {plots.NOTHING_LEARNT:.0f} %; "
            "the means leave them out."
        )
    picture = Picture(svg(plots.main_effects(panels, quantity)), "Effect of each factor that varies")
    return Section("What each factor does", pictures=[picture], notes=notes)


def _grid(jobs: Sequence[Job], summary: Summary, factors: Sequence[str]) -> Section | None:
    named, quantity = short_names(summary.keys), QUANTITY[summary.ranked_by]
    found = grid(jobs, (factors[0], factors[1]), summary.ranked_by)
    known = sum(cell is not None for row in found.cells for cell in row)
    if max(len(found.rows), len(found.columns)) > MOST_LEVELS or 2 * known <= len(found.rows) * len(found.columns):
        return None
    cells = 100 * np.array(found.cells, dtype=float)
    names = (named[factors[0]], named[factors[1]])
    figure = plots.heat_map(cells, found.rows, found.columns, (*names, f"{quantity} (%)"), 2)
    at = ", ".join(f"{name} {found.at[key]}" for key, name in short_names(list(found.at)).items())
    over = "seeds" if found.at or len(factors) == 2 else "seeds and the same values of all other factors"
    title = f"{names[0]} and {names[1]}"
    notes = [f"Mean {quantity} in percent over {over}{f', at {at}' if at else ''}."]
    return Section(title, pictures=[Picture(svg(figure), f"{quantity} for each {title}")], notes=notes)


def _class_scores(summary: Summary, names: Sequence[str], naming: Sequence[str]) -> Section:
    rows = [row for row in summary.rows if row.values["test_accuracy"]]  # a row without a result ranks last
    shown = rows[:MOST_ROWS]
    scores = [[job.result.per_class["f1"] for job in row.jobs if job.result is not None] for row in shown]
    cells = np.array([np.array(runs, dtype=float).mean(0) for runs in scores])
    columns = [str(digit) for digit in range(cells.shape[1])]
    figure = plots.heat_map(
        cells, [name or "this run" for name in names[: len(shown)]], columns, ("", "digit", "F1 on test"), 3
    )
    notes = [*(["Mean over seeds."] if summary.over_seeds else []), *naming]
    if len(shown) < len(rows):
        notes.append(f"The best {len(shown)} of {len(rows)} groups.")
    return Section("F1 of each digit", pictures=[Picture(svg(figure), "F1 of each digit for each group")], notes=notes)


def _costs(groups: Sequence[Group], summary: Summary) -> Section:
    sizes = {number for group in groups for number in group.parameters}
    notes = ["One dot per run, in the colours of the curves above; the best group is a star."]
    if len(sizes) == 1:
        notes.append(f"All runs have {sizes.pop():,.0f} parameters.")
    figure = plots.costs([group for group in groups if group.accuracies], QUANTITY[summary.ranked_by])
    return Section(
        "What accuracy costs", pictures=[Picture(svg(figure), "Accuracy against time and size")], notes=notes
    )


def _diagnoses(jobs: Sequence[Job], summary: Summary, curves: dict[Path, Curves]) -> Section:
    keys = [key for key in varying_keys(jobs) if key != "seed"]
    named = short_names([*keys, *(["seed"] if summary.over_seeds else [])])
    ordered = [job for row in summary.rows for job in row.jobs]
    rows = [
        [
            job.folder.name,
            *(value_text(job.settings.get(key)) for key in named),
            diagnosis(job.status, job.reason, job.settings.get("trainer.max_epochs"), curves[job.folder]),
        ]
        for job in ordered
    ]
    marks = ["" if job.status == "finished" else "bad" for job in ordered]
    table = Table(["run folder", *named.values(), "diagnosis"], rows, marks)
    return Section("How each run went", table=table, notes=["By rule of thumb, from the curves alone."])
