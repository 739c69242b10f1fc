"""TensorBoard over chosen runs under short names: a folder of links to their event folders, and an address to begin at.

TensorBoard names a run by its path below --logdir, and every event folder is called tensorboard. It follows links: in a
folder of links each run has the name that it has on the page. The links are nowhere below outputs/, or else `--logdir
outputs` would show each run twice.
"""

import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

from mnist_mlp.analysis.collect import Job, Summary, display_names, row_label, summarize
from mnist_mlp.reporting.means import FOLDER as MEANS
from mnist_mlp.reporting.means import folder_names
from mnist_mlp.runs.folder import RunFolder

TICKED = 40
"""Of more runs TensorBoard ticks none at first, and so shows empty charts."""
SAME_COLOUR = "regex:(.+), seed"
"""Runs whose names agree before the seed share a colour: runColorGroup in TensorBoard's address."""
UNFIT = re.compile(r'[/\\:*?"<>|\x00-\x1f]+')
LONGEST = 150


def board_runs(jobs: Sequence[Job], most: int | None = TICKED) -> dict[str, Path]:
    """Event folders by name: the means over seeds of each sweep, then its runs, best first, at most so many in all.

    Runs are named by what varies in their folder; where there are several folders, the folder's name comes first. Jobs
    that never wrote any events are left out.
    """
    folders: dict[Path, list[Job]] = {}
    for job in jobs:
        folders.setdefault(job.folder.parent, []).append(job)
    means: dict[str, Path] = {}
    runs: dict[str, Path] = {}
    for parent, members in folders.items():
        start = f"{parent.name}/" if len(folders) > 1 and len(members) > 1 else ""
        if len(members) == 1 or parent.name == "train":  # single runs have little in common and keep their names
            named = {job.folder: job.folder.name for job in members}
        else:
            summary = summarize(members)
            named = display_names(summary)
            means |= {f"{start}{_fit(name)}": path for name, path in _means(parent, summary)}
        found = {name: RunFolder(folder) for folder, name in named.items() if RunFolder(folder).event_files()}
        runs |= {f"{start}{_fit(name)}": folder.tensorboard for name, folder in found.items()}
    chosen = {**means, **runs}
    return chosen if most is None else dict(list(chosen.items())[:most])


def _means(sweep: Path, summary: Summary) -> Iterator[tuple[str, Path]]:
    for folder, row in folder_names(summary).items():
        if any((sweep / MEANS / folder).glob("events.out.tfevents.*")):
            yield ", ".join(filter(None, (row_label(summary, row), "seed=mean"))), sweep / MEANS / folder


def _fit(name: str) -> str:
    return UNFIT.sub("_", name)[:LONGEST]


def link_runs(runs: Mapping[str, Path], target: Path) -> None:
    """Make `target` hold a link of that name to each of these folders, and no other. OSError where links may not be.

    What is right already stays, so that a TensorBoard that is looking on sees nothing but the changes.
    """
    wanted = {target / name: path.resolve() for name, path in runs.items()}
    for link in [path for path in target.rglob("*") if path.is_symlink()]:
        if wanted.get(link) != link.resolve():
            link.unlink()
    for link, path in wanted.items():
        if not link.is_symlink():
            if link.is_dir():  # of a sweep that had another name for a folder of runs
                shutil.rmtree(link)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(path, target_is_directory=True)


def first_look(address: str) -> str:
    """Where to begin: curves unsmoothed, the seeds of a setting in one colour."""
    return f"{address.rstrip('/')}/?smoothing=0&runColorGroup={quote(SAME_COLOUR, safe=':(),')}"


def overlay(address: str) -> str:
    """The custom-scalars tab, unsmoothed: training beside validation, and means with their spread."""
    return f"{address.rstrip('/')}/#custom_scalars&_smoothingWeight=0"
