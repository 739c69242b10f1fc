"""reproduce.sh and hashes.sha256: how to make the runs again, and what data, code and results they were."""

import hashlib
import itertools
import shlex
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path

from mnist_mlp.reporting.commands import decisive
from mnist_mlp.reporting.publication.study import Study
from mnist_mlp.runs.folder import RunFolder

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
