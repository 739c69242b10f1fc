"""Locate runs and sweeps by path, by name, or as the latest."""

import os
import re
from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path

from mnist_mlp.compare.load import run_folders
from mnist_mlp.console import shown_path
from mnist_mlp.errors import UserError
from mnist_mlp.runs.folder import RunFolder

OUTPUTS, LATEST = Path("outputs"), "latest"


def locate_path(name: str | Path, outputs: Path = OUTPUTS) -> Path:
    """Locate an existing run, sweep or checkpoint.

    Args:
        name: A path, which has a separator or is a `Path`; else NAME of outputs/train/NAME, outputs/sweeps/NAME,
            outputs/NAME or ./NAME; or "latest", the run that finished last.
        outputs: Folder of runs and sweeps.

    Raises:
        UserError: Nothing has this name, or several runs, sweeps or files have.
    """
    path = Path(name)
    if str(name) == LATEST:
        return _latest(outputs)
    if not path.name == name != os.pardir and path.exists():
        return path
    named = (path, *(outputs / subfolder / path for subfolder in ("", "train", "sweeps")))
    existing = list({os.path.realpath(item): item for item in named if item.exists()}.values())
    if len(existing) > 1:  # a folder without runs does not hide a run
        existing = [item for item in existing if item.is_file() or any(run_folders(item))] or existing
    if len(existing) > 1:
        raise UserError(f"{name} is ambiguous: use one of the paths {', '.join(map(str, existing))}")
    if not existing:
        names = [item.name for subfolder in ("train", "sweeps") for item in (outputs / subfolder).glob("[!.]*")]
        close = get_close_matches(str(name), [*names, LATEST], n=1)
        hint = f"did you mean {close[0]}? " if close else ""
        raise UserError(f"no folder {name}, and no such name in {outputs}: {hint}use a path, a name, or latest")
    return existing[0]


def locate_folder(name: str | Path, outputs: Path = OUTPUTS) -> Path:
    """Locate a folder of runs like `locate_path`; "latest" in a sweep is the whole sweep. UserError for a file."""
    path = locate_path(name, outputs)
    if str(name) == LATEST and path.absolute().parents[1].name == "sweeps":
        return path.parent
    if not path.is_dir():
        raise UserError(f"{path} is not a folder: use run folders, folders that contain runs, names, or latest")
    return path


def short_name(folder: Path) -> str:
    """Return what `locate_folder` resolves to this folder: its name, "latest" if that is a time, or else its path."""
    name = LATEST if has_default_name(folder) else folder.name
    with suppress(UserError):
        if locate_folder(name).resolve() == folder.resolve():
            return name
    return shown_path(folder)


def has_default_name(folder: Path) -> bool:
    """Whether the folder's name is a time, since its command did not set `name`."""
    return re.fullmatch(r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d-\d{6}", folder.name) is not None


def _latest(outputs: Path) -> Path:
    finished = {}
    for run in map(RunFolder, run_folders(outputs)):
        if run.result_file.is_file() and run.best_checkpoint.is_file():
            # an evaluation rewrites result.json, but no predictions
            file = run.predictions_file if run.predictions_file.is_file() else run.result_file
            finished[run.path] = file.stat().st_mtime
    if not finished:
        raise UserError(f"latest: no finished run under {outputs}/: train one, or use a run folder or a checkpoint")
    return max(finished, key=finished.__getitem__)
