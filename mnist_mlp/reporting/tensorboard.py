"""TensorBoard over chosen runs: mean runs over seeds, and a folder of links with short names.

TensorBoard names a run by its path below --logdir, and every event folder is called tensorboard. It follows links: in a
folder of links each run has the name that it has on the page. The links are never below outputs/: `--logdir outputs`
would show each run twice.
"""

import hashlib
import json
import math
import re
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from mnist_mlp.compare.collect import Job, Row, Summary, display_names, row_label, summarize
from mnist_mlp.console import ignore_tensorboard_thread_errors
from mnist_mlp.errors import UserError
from mnist_mlp.runs.files import UnreadableFileError, read_object, write_json
from mnist_mlp.runs.folder import RunFolder
from mnist_mlp.runs.predictions import band, read_curves
from mnist_mlp.runs.result import tag_of

MEANS_FOLDER = "means"
"""In the sweep's folder; a TensorBoard run for each group is in it."""
MARK = "means.json"
MAX_TICKED = 40
"""Of more runs TensorBoard ticks none at first, and so shows empty charts."""
UNFIT = re.compile(r'[/\\:*?"<>|\x00-\x1f]+')
MAX_NAME = 150
Band = Sequence[tuple[float, float | None]]
"""Mean and sample standard deviation per epoch; None for the deviation of a single run."""


def write_means(sweep: Path, summary: Summary) -> list[Path]:
    """Write the runs of groups with two seeds or more; those of the same curves that are there already stay."""
    target, written = sweep / MEANS_FOLDER, []
    named = folder_names(summary)
    for old in target.iterdir() if target.is_dir() else ():
        if old.name not in named:
            _clear(old)
    for name, row in named.items():
        finished = [RunFolder(job.folder) for job in row.jobs if job.status == "finished"]
        curves = list(filter(None, (read_curves(folder.metrics_file) for folder in finished)))
        if len(curves) < 2:
            _clear(target / name)
            continue
        columns = dict.fromkeys(column for one in curves for column in one if "/" in column or column == "lr")
        bands = {tag_of(column): band(one[column] for one in curves if column in one) for column in columns}
        _write(target / name, bands, len(curves))
        written.append(target / name)
    return written


def folder_names(summary: Summary) -> dict[str, Row]:
    """The groups by the names of their folders; none if nothing is grouped over seeds."""
    named: dict[str, Row] = {}
    for row in summary.rows if summary.over_seeds else ():
        name = re.sub(r"[^\w.+-]+", "_", row_label(summary, row).replace("=", "-")) or "all"
        named[name if name not in named else f"{name}_{len(named)}"] = row
    return named


def _clear(folder: Path) -> None:
    """Remove what `_write` wrote, and nothing else."""
    if (folder / MARK).is_file():
        for path in (*folder.glob("events.out.tfevents.*"), folder / MARK):
            path.unlink()
        if not any(folder.iterdir()):
            folder.rmdir()


def _write(folder: Path, bands: Mapping[str, Band], seeds: int) -> None:
    """Write one event file, and a mark of what is in it: the same is never written twice."""
    mark = folder / MARK
    digest = hashlib.sha256(json.dumps([bands, seeds], sort_keys=True).encode()).hexdigest()
    with suppress(UnreadableFileError):
        if (read_object(mark) or {}).get("digest") == digest and any(folder.glob("events.out.tfevents.*")):
            return
    _clear(folder)
    from torch.utils.tensorboard import SummaryWriter  # deferred: torch

    # behind the curves, since TensorBoard shows each edge as a chart of its own, too
    edges = {tag: (f"variation/{tag} mean - std", f"variation/{tag} mean + std") for tag in bands}
    tags = sorted(bands, key=lambda tag: not tag.endswith(("/accuracy", "/loss")))
    charts = {tag: ["Margin", [tag, *edges[tag]]] for tag in tags if tag != tag_of("lr")}  # a line and a band
    folder.mkdir(parents=True, exist_ok=True)
    write_json(mark, {"digest": ""})  # before the events: what is cut off here is written afresh, not doubled
    # what a TensorBoard that is running has read of an earlier file is struck out from step 1 on
    with ignore_tensorboard_thread_errors(), SummaryWriter(folder, purge_step=1) as writer:
        writer.add_custom_scalars({"mean ± standard deviation over seeds": charts})
        for tag, band in bands.items():
            for epoch, (mean, spread) in enumerate(band, 1):
                values = {tag: mean} if math.isfinite(mean) else {}
                if spread is not None:
                    values |= dict(zip(edges[tag], (mean - spread, mean + spread), strict=True))
                for name, value in values.items():
                    writer.add_scalar(name, value, epoch)
    write_json(mark, {"digest": digest, "seeds": seeds})


def board_runs(jobs: Sequence[Job], most: int | None = MAX_TICKED) -> dict[str, Path]:
    """Event folders by name: the means over seeds of each sweep, then its runs, best first, at most so many in all.

    Runs are named by what varies in their folder; if there are several folders, the folder's name comes first. Jobs
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
            for folder, row in folder_names(summary).items():
                if any((path := parent / MEANS_FOLDER / folder).glob("events.out.tfevents.*")):
                    means[start + _fit(", ".join(filter(None, (row_label(summary, row), "seed=mean"))))] = path
        found = {name: RunFolder(folder) for folder, name in named.items()}
        runs |= {start + _fit(name): folder.tensorboard for name, folder in found.items() if folder.event_files()}
    chosen = {**means, **runs}
    return chosen if most is None else dict(list(chosen.items())[:most])


def _fit(name: str) -> str:
    return UNFIT.sub("_", name)[:MAX_NAME]


def link_runs(runs: Mapping[str, Path], target: Path) -> None:
    """Make `target` hold a link of that name to each of these folders, and no other.

    Links that are right already stay: a TensorBoard that is looking on sees nothing but the changes.

    Raises:
        UserError: The file system has no links.
    """
    wanted = {target / name: path.resolve() for name, path in runs.items()}
    for link in [path for path in target.rglob("*") if path.is_symlink()]:
        if wanted.get(link) != link.resolve():
            link.unlink()
    try:
        for link, path in wanted.items():
            if not link.is_symlink():
                if link.is_dir():  # of a sweep that had another name for a folder of runs
                    shutil.rmtree(link)
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(path, target_is_directory=True)
    except OSError as error:
        raise UserError(
            f"links cannot be made here ({error.strerror}): python -m tensorboard.main --logdir FOLDER shows the same "
            "runs under longer names"
        ) from error
