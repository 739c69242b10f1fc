"""The folder that `report --publish` writes."""

import hashlib
import itertools
import shlex
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np

from mnist_mlp.compare.collect import Job, Row, summarize
from mnist_mlp.compare.effects import robust_range
from mnist_mlp.compare.statistics import Interval
from mnist_mlp.compare.tables import runs_csv
from mnist_mlp.errors import UserError
from mnist_mlp.plots.run import Figure, confusion
from mnist_mlp.plots.sweep import differences, learning_curves, pdf, svg
from mnist_mlp.reporting.elements import decisive
from mnist_mlp.reporting.publish_text import PREVIEW, Study, as_latex, as_markdown, methods
from mnist_mlp.reporting.sections_charts import groups_of
from mnist_mlp.runs.files import write_bytes, write_text
from mnist_mlp.runs.folder import RunFolder
from mnist_mlp.runs.predictions import read_curves
from mnist_mlp.runs.result import percent


def figures(study: Study) -> Iterator[tuple[str, Figure]]:
    """By name: learning curves, differences to the best, confusion matrix of the best run."""
    curves = {job.folder: read_curves(RunFolder(job.folder).metrics_file) for job in study.summary.jobs}
    groups = groups_of(study.summary, [study.label(row) for row in study.summary.rows], curves)
    if drawn := [group for group in groups if group.curves]:
        yield "learning_curves", learning_curves(drawn)
    if compared := [row for row in study.summary.rows if row.comparison is not None]:
        yield "differences", _differences(study, compared)
    result = study.best_result
    title = f"Best run, test accuracy {percent(result.metric('test/accuracy'))}"
    yield "confusion_matrix", confusion(np.array(result.confusion_matrix), title)


def _differences(study: Study, rows: Sequence[Row]) -> Figure:
    found = [row.comparison for row in rows if row.comparison is not None]
    accuracies = [row.mean("test_accuracy") or 0.0 for row in rows]
    within = robust_range(accuracies) or (0.0, 1.0)
    lowest = min(one.decisive.mean for one, mean in zip(found, accuracies, strict=True) if mean >= within[0])
    return differences(
        [study.label(row) for row in rows],
        [100 * one.decisive.mean for one in found],
        [_reach(one.seeds) for one in found],
        [_reach(one.images) for one in found],
        100 * lowest,
    )


def _reach(interval: Interval | None) -> tuple[float, float] | None:
    if interval is None or interval.low is None or interval.high is None:
        return None
    return 100 * interval.low, 100 * interval.high


PACKAGE = Path(__file__).resolve().parents[2]


def script(study: Study) -> str:
    """A shell script: one sweep where the runs are a full grid, else a command for each run."""
    given = [decisive(job.result.overrides) for job in study.jobs if job.result is not None]
    lines = [
        "#!/bin/sh", "# Repeats the runs of this publication with mnist_mlp and compares them again.",
        f"# They were made from commit {study.environment('commit')}, with PyTorch {study.environment('torch')}.",
        "set -e",
    ]  # fmt: skip
    if grid := _grid(given):
        words = ["python", "-m", "mnist_mlp.train", "-m", *grid, "name=reproduced"]
        again = "python -m mnist_mlp.report outputs/sweeps/reproduced --publish paper"
        return "\n".join([*lines, " ".join(map(shlex.quote, words)), again, ""])
    names = [f"reproduced_{number}" for number in range(1, len(given) + 1)]
    for name, overrides in zip(names, given, strict=True):
        words = ["python", "-m", "mnist_mlp.train", *overrides.values(), f"name={name}"]
        lines.append(" ".join(map(shlex.quote, words)))
    folders = " ".join(f"outputs/train/{name}" for name in names)
    return "\n".join([*lines, f"python -m mnist_mlp.report {folders} --publish paper", ""])


def _grid(given: Sequence[dict[str, str]]) -> list[str]:
    """The overrides of one sweep with these jobs; empty where they are no full grid."""
    if len(given) < 2 or len({tuple(sorted(one)) for one in given}) > 1:
        return []
    values = {key: list(dict.fromkeys(one[key].partition("=")[2] for one in given)) for key in given[0]}
    cells = set(itertools.product(*values.values()))
    own = {tuple(one[key].partition("=")[2] for key in values) for one in given}
    if len(own) != len(given) or own != cells:
        return []
    return [f"{given[0][key].partition('=')[0]}={','.join(levels)}" for key, levels in values.items()]


def hashes(study: Study) -> str:
    """Lines of sha256sum: the official files, this package as it is now, and the results of every run."""
    lines = [
        f"# package mnist_mlp {version('mnist_mlp')}; runs were made from commit {study.environment('commit')}",
        "# sha256sum -c hashes.sha256, with paths as seen from where the report was made",
    ]
    roots = dict.fromkeys(Path(str(job.settings.get("data.root"))) for job in study.jobs)
    files = [file for root in roots for file in sorted((root / "MNIST" / "raw").glob("*ubyte*"))]
    files += sorted(PACKAGE.rglob("*.py"))
    for job in study.jobs:
        folder = RunFolder(job.folder)
        files += [folder.result_file, folder.predictions_file, folder.best_checkpoint]
    return "\n".join([*lines, *_sums(files), ""])


def _sums(files: Sequence[Path]) -> Iterator[str]:
    for file in files:
        try:
            yield f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {_as_seen(file)}"
        except OSError:
            continue


def _as_seen(file: Path) -> Path:
    """Relative to the working directory, where the file is below it."""
    here = Path.cwd()
    return file.relative_to(here) if file.is_relative_to(here) else file


MARK = "table.tex"
"""A folder with it holds a publication."""


def publish(jobs: Sequence[Job], folder: Path) -> list[Path]:
    """Write tables, figures, texts, commands and hashes of these runs to `folder`; the files.

    An earlier publication there is written over. UserError where the folder holds something else, or no run finished.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--publish {folder} is a file: give a folder")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / MARK).is_file():
        raise UserError(f"--publish {folder} holds something else than a publication: give a new folder")
    study = Study.of(summarize(jobs))
    texts = {
        MARK: as_latex(study), "preview.tex": PREVIEW, "table.md": as_markdown(study), "methods.md": methods(study),
        "reproduce.sh": script(study), "runs.csv": runs_csv(study.summary), "hashes.sha256": hashes(study),
    }  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        write_text(folder / name, text)
    written = [folder / name for name in texts]
    for name, figure in figures(study):
        for suffix, content in ((".pdf", pdf(figure)), (".svg", svg(figure))):
            written.append(folder / f"{name}{suffix}")
            write_bytes(written[-1], content)
    (folder / "reproduce.sh").chmod(0o755)
    return written
