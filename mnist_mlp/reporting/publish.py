"""Material for a paper: `report --publish` writes tables, figures, methods, commands and hashes."""

import hashlib
import math
import re
import shlex
import statistics
from collections.abc import Iterator, Sequence
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

from mnist_mlp.compare.collect import EXCLUDED_KEYS, Row, Summary, distinguishing_keys, row_label, summarize
from mnist_mlp.compare.effects import robust_range, sort_levels
from mnist_mlp.compare.load import Job
from mnist_mlp.compare.statistics import Interval, interval_text
from mnist_mlp.compare.tables import choice_rows, mean_and_deviation, reading_note, runs_csv, seeds_text
from mnist_mlp.config import non_result_keys
from mnist_mlp.datasets import DATASETS
from mnist_mlp.errors import UserError
from mnist_mlp.plots.run import Figure, confusion
from mnist_mlp.plots.sweep import differences, learning_curves, pdf, svg
from mnist_mlp.reporting.data import PageContext, best_job, best_run_note, may_be_official
from mnist_mlp.reporting.elements import command, result_overrides
from mnist_mlp.runs.files import write_bytes, write_text
from mnist_mlp.runs.folder import RunFolder
from mnist_mlp.runs.result import percent
from mnist_mlp.runs.settings import joined

PACKAGE = Path(__file__).resolve().parents[1]
MARK = "table.tex"
"""Marks a folder as a publication, which may be overwritten."""
MAX_KEYS = 3
"""If more settings vary, they share one column."""
SPECIAL = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$", "<": r"$<$", ">": r"$>$", "★": r"$\star$",
}  # fmt: skip
TEMPLATES = Environment(
    loader=PackageLoader("mnist_mlp.reporting"), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
    keep_trailing_newline=True, block_start_string="<%", block_end_string="%>", variable_start_string="<<",
    variable_end_string=">>",
)  # fmt: skip
"""Delimiters are << and <%, because braces are common in LaTeX."""
CITATIONS = {
    "MNIST": "LeCun, Cortes and Burges, 1998", "Fashion-MNIST": "Xiao, Rasul and Vollgraf, 2017",
    "KMNIST": "Clanuwat et al., 2018", "EMNIST Digits": "Cohen et al., 2017", "EMNIST Balanced": "Cohen et al., 2017",
    "QMNIST": "Yadav and Bottou, 2019",
}  # fmt: skip
LINE_BREAK = re.compile(r"(?<=\S)\n(?=\S)")
"""A line break within a paragraph of a template."""


def publish(jobs: Sequence[Job], folder: Path) -> list[Path]:
    """Write tables, figures, methods, commands and hashes of these runs, replacing an earlier publication.

    Returns:
        The written files.

    Raises:
        UserError: The folder has other content, or no run has finished.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--publish {folder} is a file: pass a folder")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / MARK).is_file():
        raise UserError(f"--publish {folder} contains files of something else: pass a new or empty folder")
    study = Study(summarize(jobs))
    texts = {
        MARK: as_latex(study), "preview.tex": _render("preview.tex"), "table.md": as_markdown(study),
        "methods.md": methods(study), "reproduce.sh": script(study), "runs.csv": runs_csv(study.summary),
        "hashes.sha256": hashes(study),
    }  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        write_text(folder / name, text)
    (folder / "reproduce.sh").chmod(0o755)
    written = [folder / name for name in texts]
    for name, figure in figures(study):
        for suffix, content in ((".pdf", pdf(figure)), (".svg", svg(figure))):
            written.append(folder / f"{name}{suffix}")
            write_bytes(written[-1], content)
    return written


class Study:
    """The finished runs of a comparison and their results. best: the run that the page shows in detail."""

    def __init__(self, summary: Summary) -> None:
        best = best_job(summary)
        if best is None:
            raise UserError("no run has finished: nothing to publish")
        self.summary, self.best = summary, best
        self.jobs = [job for job in summary.jobs if job.result is not None]
        self.results = [job.result for job in summary.jobs if job.result is not None]
        self.labels = [row_label(summary, row) or "the setting" for row in summary.rows]
        self.settings = [pair for pair in zip(self.labels, summary.rows, strict=True) if pair[1].is_setting]
        self.compared = [(label, row, row.comparison) for label, row in self.settings if row.comparison is not None]
        self.family = max((comparison.comparisons for *_, comparison in self.compared), default=0)
        self.parts = {title: part for title, part in summary.by_dataset.items() if part.rows[0].best}
        limit, each = ("up to ", " on each dataset") if len(summary.by_dataset) > 1 else ("", "")
        self.comparisons = f"{limit}{self.family} comparisons{each}"

    def setting(self, key: str) -> str:
        """The value of a setting, or all its values if it varies: "0.01, 0.02 or 0.04"."""
        return joined(sort_levels({job.text(key) for job in self.jobs}), "or")

    @property
    def digests(self) -> str:
        """The digest of the data as the runs recorded it, "unknown" in runs of older versions, or all its values."""
        return joined((str(result.data.get("digest") or "unknown") for result in self.results), "or")

    def environment(self, key: str) -> str:
        """The value of a key in `environment` of result.json, or all its values."""
        return joined((str(result.environment.get(key) or "unknown") for result in self.results), "or")

    def images(self, split: str) -> str:
        """The number of images of a split, or all its values."""
        return joined((f"{result.data[split]:,}" for result in self.results), "or")


def _render(name: str, **values: object) -> str:
    return TEMPLATES.get_template(name).render(values)


def figures(study: Study) -> Iterator[tuple[str, Figure]]:
    """Yield the figures by name: learning curves, differences vs best, confusion matrix of the best run."""
    curves = PageContext(study.summary).group_curves
    if groups := [group for group in zip(study.labels, curves, strict=True) if group[1]]:
        yield "learning_curves", learning_curves(groups)

    def percent_bounds(interval: Interval | None) -> tuple[float, float] | None:
        if interval is None or interval.low is None or interval.high is None:
            return None
        return 100 * interval.low, 100 * interval.high

    if study.compared:
        names, rows, comparisons = zip(*study.compared, strict=True)
        accuracies = [row.mean("test_accuracy") or 0.0 for row in rows]
        gaps = [100 * comparison.decisive.mean for comparison in comparisons]
        low, _ = robust_range(accuracies, len(study.best.classes)) or (0.0, 1.0)
        lowest = min(gap for gap, accuracy in zip(gaps, accuracies, strict=True) if accuracy >= low)
        over_seeds = [percent_bounds(comparison.seeds) for comparison in comparisons]
        over_images = [percent_bounds(comparison.images) for comparison in comparisons]
        yield "differences", differences(names, gaps, over_seeds, over_images, lowest)
    for name, part in study.parts.items():
        best = best_job(part)
        assert best is not None
        assert best.result is not None
        accuracy = percent(best.result.metric("test/accuracy"))
        title = best_run_note(part).rstrip(".") or f"Best run: test accuracy {accuracy}"
        yield f"confusion_matrix{f'_{name}' * bool(name)}", confusion(np.array(best.result.confusion_matrix), title)


def script(study: Study) -> str:
    """A shell script that reproduces the runs: one sweep for a full grid, else one command per run."""
    runs = [result_overrides(result.overrides) for result in study.results]
    if grid := _grid(runs):
        commands, folders = [["-m", *grid, "name=reproduced"]], ["outputs/sweeps/reproduced"]
    else:
        lines = [shlex.split(line)[3:] for line in map(command, study.jobs) if line]  # without custom networks
        commands = [[*line, f"name=reproduced_{n}"] for n, line in enumerate(lines, 1)]
        folders = [f"outputs/train/reproduced_{n}" for n in range(1, len(lines) + 1)]
    return _render("reproduce.sh", study=study, commands=map(shlex.join, commands), folders=folders)


def _grid(runs: Sequence[dict[str, str]]) -> list[str]:
    """The overrides of one sweep over these runs; empty unless they form a full grid."""
    levels = {key: list(dict.fromkeys(run.get(key, "") for run in runs)) for key in runs[0]}
    unique, cells = {tuple(map(run.get, levels)) for run in runs}, math.prod(map(len, levels.values()))
    if any(run.keys() != levels.keys() for run in runs) or not 1 < len(runs) == len(unique) == cells:
        return []
    names = [texts[0].partition("=")[0] for texts in levels.values()]
    values = [",".join(text.partition("=")[2] for text in texts) for texts in levels.values()]
    return [f"{name}={choices}" for name, choices in zip(names, values, strict=True)]


def hashes(study: Study) -> str:
    """Checksums in sha256sum format: dataset files, the current package, and the results of every run."""
    lines = [
        f"# package mnist_mlp {version('mnist_mlp')}; runs from commit {study.environment('commit')}",
        "# check with: sha256sum -c hashes.sha256, in the directory in which the report was generated",
    ]
    folders = dict.fromkeys(
        Path(job.text("data.root"), DATASETS[job.text("data.name")].folder, "raw")
        for job in study.jobs if job.text("data.source") not in ("sample", "arrays")
    )  # fmt: skip
    files = [file for folder in folders for file in sorted(folder.glob("*-idx*"))]
    files += sorted(PACKAGE.rglob("*.py"))
    for folder in (RunFolder(job.folder) for job in study.jobs):
        files += [folder.result_file, folder.predictions_file, folder.best_checkpoint]
    directory = Path.cwd()
    for file in files:
        shown = file.relative_to(directory) if file.is_relative_to(directory) else file
        with suppress(OSError):
            lines.append(f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {shown}")
    return "\n".join([*lines, ""])


def table(study: Study) -> tuple[list[str], list[list[str]]]:
    """Header and rows of the comparison; one column per varying setting, or one for all if there are many."""
    summary = study.summary
    named = distinguishing_keys(summary)
    settings = named if 0 < len(named) <= MAX_KEYS else {"": "setting"}
    validation = ["validation %"] if any(row.values["val_accuracy"] for row in summary.rows) else []
    header = [*settings.values(), "n", *validation, "test %", "seeds", "seeds and images", "verdict"]
    rows = []
    for label, row in study.settings:
        comparison = row.comparison
        rows.append([
            *(summary.shown_value(row, key) if key else label for key in settings),
            seeds_text(row),
            *(mean_and_deviation(row.values["val_accuracy"]) for _ in validation),
            mean_and_deviation(row.values["test_accuracy"]),
            *([interval_text(comparison.seeds), interval_text(comparison.images)] if comparison else ["-", "-"]),
            row.verdict or "best" if row.best else _verdict(row),
        ])  # fmt: skip
    return header, rows


def _verdict(row: Row) -> str:
    comparison = row.comparison
    if comparison is None or comparison.p_value is None:
        return "not tested" if row.values["test_accuracy"] else "-"
    if comparison.is_significant:
        return f"{'worse' if comparison.decisive.mean < 0 else 'better'} ({_p_text(comparison.p_value)})"
    gap = comparison.detectable_difference
    return "not distinguishable" + (f" ({100 * gap:.2f})" if gap is not None and gap < 1 else "")


def _p_text(value: float) -> str:
    return "p < 0.0001" if value < 1e-4 else f"p = {value:.4f}"


def caption(study: Study) -> str:
    """The caption of the table: what it shows and how to read it."""
    paired = any("paired" in seeds_text(row) for row in study.summary.rows)
    return LINE_BREAK.sub(" ", _render("caption.txt", study=study, paired=paired)).rstrip()


def escape(text: str) -> str:
    """Escape text for LaTeX: minus signs before numbers, "?" for characters that plain LaTeX may lack."""
    signs = "".join(SPECIAL.get(character, character if character.isascii() else "?") for character in text)
    return re.sub(r"(?<![\w.-])-(?=\d)", "$-$", signs)


def as_latex(study: Study) -> str:
    """The comparison as a booktabs table; comments name the run folders behind each row."""
    header, rows = table(study)
    settings = header.index("n")
    before = header.index("seeds")
    first = "p{3.6cm}" if header[0] == "setting" and max(map(len, study.labels)) >= 24 else "l" * settings
    shown = []
    for (_, row), cells in zip(study.settings, rows, strict=True):
        style = "\\textbf{{{}}}" if row.best else "{}"
        shown.append((row.jobs, " & ".join(style.format(escape(cell)) for cell in cells)))
    return _render(
        "table.tex", caption=escape(caption(study)), columns=f"{first}{'r' * (before - settings + 2)}l",
        before=before, header=" & ".join(map(escape, header)), rows=shown,
    )  # fmt: skip


def as_markdown(study: Study) -> str:
    """The comparison as a Markdown table with the run folders behind each row."""
    header, rows = table(study)
    header[-3:-1] = ["difference over seeds", "difference over seeds and images"]
    folders = [", ".join(job.folder.name for job in row.jobs) for _, row in study.settings]
    lines = [[*header, "runs"], ["---"] * (len(header) + 1)]
    lines += [[*cells, names] for cells, names in zip(rows, folders, strict=True)]
    text = "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
    return f"{text}\n\n{caption(study)}\n\n{reading_note(study.summary).replace('* best', 'Best', 1)}\n"


def methods(study: Study) -> str:
    """The methods section in Markdown, with the actual values of the runs."""
    results = study.results
    seeds = sorted({job.seed for job in study.jobs})
    consecutive = len(seeds) > 2 and seeds == list(range(seeds[0], seeds[-1] + 1))
    named = distinguishing_keys(study.summary)
    ignored = non_result_keys() | {"data.name", "data.source", "data.digest", "data.val_size"}
    groups: dict[str, list[str]] = {}
    for key in study.best.settings:
        group, _, name = key.partition(".")
        if name and group != "reference" and key not in ignored and not EXCLUDED_KEYS.fullmatch(key):
            groups.setdefault(group, []).append(f"{name} {study.setting(key)}")
    sizes = sorted({result.parameters for result in results})
    seconds = [result.timing["fit_seconds"] for result in results]
    datasets = dict.fromkeys(DATASETS[job.text("data.name")] for job in study.jobs)
    titles = [dataset.title for dataset in datasets]
    others = joined((DATASETS[job.text("data.name")].title for job in study.jobs if not may_be_official(job)), "or")
    text = _render(
        "methods.md", study=study, groups=groups, seconds=seconds, median=statistics.median(seconds),
        watched=any(job.settings.get("trainer.test_curve") is True for job in study.jobs),
        varying=", ".join(f"{name} ({study.setting(key)})" for key, name in named.items() if key != "reference.id"),
        sizes=" to ".join(f"{size:,}" for size in dict.fromkeys((sizes[0], sizes[-1]))),
        seeds=f"{seeds[0]} to {seeds[-1]}" if consecutive else ", ".join(map(str, seeds)),
        crossed=any(comparison.images is not None for *_, comparison in study.compared),
        sources=joined(f"{title} ({CITATIONS[title]})" if title in CITATIONS else title for title in titles),
        others=others, official=DATASETS["mnist"].digest,
        official_split="official " if all(dataset.digest for dataset in datasets) else "",
        mean_and_deviation=mean_and_deviation, interval_text=interval_text, p_text=_p_text,
        choices=list(choice_rows(study.summary)), label_of=row_label,
    )  # fmt: skip
    return LINE_BREAK.sub(" ", text)
