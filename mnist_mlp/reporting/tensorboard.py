"""TensorBoard for selected runs: mean runs over seeds, and a folder of symbolic links with short names.

TensorBoard names a run by its path below --logdir, and every event folder is named tensorboard. Since it follows
symbolic links, links give each run the name that it has on the page. The links must not be below outputs/, or
`--logdir outputs` would show each run twice.
"""

import hashlib
import json
import math
import re
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from mnist_mlp.compare.collect import Row, Summary, display_names, row_label, summarize
from mnist_mlp.compare.load import Job
from mnist_mlp.console import ignore_tensorboard_thread_errors
from mnist_mlp.runs.files import UnreadableFileError, read_object, write_json
from mnist_mlp.runs.folder import RunFolder
from mnist_mlp.runs.predictions import band, read_curves, shared_epochs
from mnist_mlp.runs.result import tag_of
from mnist_mlp.startup import without_tensorflow

MEANS_FOLDER = "means"
"""Folder inside the sweep's folder with one TensorBoard run per group."""
MARK = "means.json"
MAX_TICKED = 40
"""With more runs, TensorBoard selects none at first and shows empty charts."""
INVALID_CHARACTERS = re.compile(r'[/\\:*?"<>|\x00-\x1f]+')
MAX_NAME = 150
Band = Sequence[tuple[float, float | None]]
"""Mean and sample standard deviation per epoch; None for the deviation of a single run."""


def write_means(sweep: Path, summary: Summary) -> list[Path]:
    """Write a mean run, up to where its first run ends, for each group with two seeds or more; return their folders."""
    target, written = sweep / MEANS_FOLDER, []
    named = folder_names(summary)
    for old in target.iterdir() if target.is_dir() else ():
        if old.name not in named:
            _remove_written(old)
    for name, row in named.items():
        finished = [RunFolder(job.folder) for job in row.jobs if job.status == "finished"]
        curves = list(filter(None, (read_curves(folder.metrics_file) for folder in finished)))
        if len(curves) < 2:
            _remove_written(target / name)
            continue
        columns = dict.fromkeys(column for run in curves for column in run if "/" in column or column == "lr")
        groups = {tag_of(column): [run[column] for run in curves if column in run] for column in columns}
        bands = {tag: band(values)[: shared_epochs(values)] for tag, values in groups.items()}
        _write_events(target / name, bands, len(curves))
        written.append(target / name)
    return written


def folder_names(summary: Summary) -> dict[str, Row]:
    """The groups by folder name; empty unless runs are grouped over seeds."""
    named: dict[str, Row] = {}
    for row in summary.rows if summary.over_seeds else ():
        label = row_label(summary, row).replace("=", "-")
        name = re.sub(r"[^\w.+-]+", "_", label, flags=re.ASCII)[:MAX_NAME] or "all"
        named[name if name not in named else f"{name}_{len(named)}"] = row
    return named


def _remove_written(folder: Path) -> None:
    """Remove only the files that `_write_events` wrote."""
    if (folder / MARK).is_file():
        for path in (*folder.glob("events.out.tfevents.*"), folder / MARK):
            path.unlink()
        if not any(folder.iterdir()):
            folder.rmdir()


def _write_events(folder: Path, bands: Mapping[str, Band], seeds: int) -> None:
    """Write one event file and a marker with a digest of its content, unless the digest is unchanged."""
    mark = folder / MARK
    digest = hashlib.sha256(json.dumps([bands, seeds], sort_keys=True).encode()).hexdigest()
    with suppress(UnreadableFileError):
        if (read_object(mark) or {}).get("digest") == digest and any(folder.glob("events.out.tfevents.*")):
            return
    _remove_written(folder)
    with without_tensorflow():
        from torch.utils.tensorboard import SummaryWriter  # deferred: torch

    # a tag prefix that sorts after the curves, as TensorBoard also shows each edge as a separate chart
    edges = {tag: (f"variation/{tag} mean - std", f"variation/{tag} mean + std") for tag in bands}
    tags = sorted(bands, key=lambda tag: not tag.endswith(("/accuracy", "/loss")))
    charts = {tag: ["Margin", [tag, *edges[tag]]] for tag in tags if tag != tag_of("lr")}  # a line and a band
    folder.mkdir(parents=True, exist_ok=True)
    write_json(mark, {"digest": ""})  # before the events: an interrupted write is redone, not appended to
    # purge_step discards what a running TensorBoard has read from an earlier file
    with ignore_tensorboard_thread_errors(folder), SummaryWriter(folder, purge_step=1) as writer:
        writer.add_custom_scalars({"mean ± standard deviation over seeds": charts})
        for tag, band in bands.items():
            for epoch, (mean, spread) in enumerate(band, 1):
                values = {tag: mean} if math.isfinite(mean) else {}
                if spread is not None:
                    values |= dict(zip(edges[tag], (mean - spread, mean + spread), strict=True))
                for name, value in values.items():
                    writer.add_scalar(name, value, epoch)
    write_json(mark, {"digest": digest, "seeds": seeds})


def board_runs(jobs: Sequence[Job], max_runs: int | None = MAX_TICKED) -> dict[str, Path]:
    """Event folders by name: means over seeds first, then runs, best first; at most `max_runs` in total.

    Runs are named by the settings that vary in their folder, prefixed by the folder's name if there are several
    folders. Jobs without event files are excluded.
    """
    folders: dict[Path, list[Job]] = {}
    for job in jobs:
        folders.setdefault(job.folder.parent, []).append(job)
    means: dict[str, Path] = {}
    runs: dict[str, Path] = {}
    for parent, members in folders.items():
        start = f"{parent.name}/" if len(folders) > 1 and len(members) > 1 else ""
        if len(members) == 1 or parent.name == "train":  # unrelated single runs keep their names
            named = {job.folder: job.folder.name for job in members}
        else:
            summary = summarize(members)
            named = display_names(summary)
            for folder, row in folder_names(summary).items():
                if any((path := parent / MEANS_FOLDER / folder).glob("events.out.tfevents.*")):
                    means[start + _file_name(", ".join(filter(None, (row_label(summary, row), "seed=mean"))))] = path
        run_folders = {name: RunFolder(folder) for folder, name in named.items()}
        with_events = {name: folder for name, folder in run_folders.items() if folder.event_files()}
        runs |= {start + _file_name(name): folder.tensorboard for name, folder in with_events.items()}
    chosen = {**means, **runs}
    return chosen if max_runs is None else dict(list(chosen.items())[:max_runs])


def _file_name(name: str) -> str:
    return INVALID_CHARACTERS.sub("_", name)[:MAX_NAME]


def link_runs(runs: Mapping[str, Path], target: Path) -> None:
    """Synchronize the symbolic links in `target` with `runs`, keeping links that are already correct."""
    wanted = {target / name: path.resolve() for name, path in runs.items()}
    for link in [path for path in target.rglob("*") if path.is_symlink()]:
        if wanted.get(link) != link.resolve():
            link.unlink()
    for link, path in wanted.items():
        if not link.is_symlink():
            if link.is_dir():  # a folder of links to runs that have been renamed
                shutil.rmtree(link)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(path, target_is_directory=True)
