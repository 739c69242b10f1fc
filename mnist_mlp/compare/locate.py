"""Locate runs and sweeps by path, by name, or as the latest."""

import os
import re
from contextlib import suppress
from pathlib import Path

from mnist_mlp.compare.load import run_folders
from mnist_mlp.console import shown_path
from mnist_mlp.errors import UserError
from mnist_mlp.runs.folder import RunFolder

OUTPUTS = Path("outputs")
LATEST = "latest"
MAX_LISTED = 6


def locate_path(name: str | Path, outputs: Path = OUTPUTS) -> Path:
    """Locate a run, a sweep or a checkpoint.

    Args:
        name: A path, which has a separator or is a `Path`; else a name: NAME of outputs/train/NAME, of
            outputs/sweeps/NAME or in outputs/ or the current folder; or "latest", the run that finished last.
        outputs: Folder of runs and sweeps.

    Returns:
        An existing file or folder.

    Raises:
        UserError: Nothing has this name, or several runs, sweeps or files have.
    """
    if str(name) == LATEST:
        return _latest(outputs)
    path = Path(name)
    if (isinstance(name, Path) or path.name != name or name == os.pardir) and path.exists():
        return path
    named = (path, *(outputs / subfolder / path for subfolder in ("", "train", "sweeps")))
    existing = {os.path.realpath(candidate): candidate for candidate in reversed(named) if candidate.exists()}
    if len(existing) > 1:  # a folder without runs does not hide a run
        with_runs = {real: item for real, item in existing.items() if item.is_file() or any(run_folders(item))}
        existing = with_runs or existing
    if len(existing) > 1:
        raise UserError(f"{name} is ambiguous: use one of the paths {', '.join(map(str, sorted(existing.values())))}")
    for candidate in existing.values():
        return candidate
    count, names = list_runs(outputs)
    known = f" (available: {names})" if count else ""
    raise UserError(f"no run or sweep {str(name)!r}{known}: use a path, a name under {outputs}/, or latest")


def locate_folder(name: str | Path, outputs: Path = OUTPUTS) -> Path:
    """Locate a folder of runs like `locate_path`; "latest" in a sweep is the whole sweep. UserError for a file."""
    path = locate_path(name, outputs)
    if str(name) == LATEST and path.absolute().parents[1].name == "sweeps":
        path = path.parent
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


def list_runs(folder: Path) -> tuple[int, str]:
    """Count the runs that have a checkpoint, and list the first of them as text."""
    runs = sorted(str(path) for path in run_folders(folder) if RunFolder(path).best_checkpoint.is_file())
    more = f" and {len(runs) - MAX_LISTED} more" if len(runs) > MAX_LISTED else ""
    return len(runs), f"{', '.join(runs[:MAX_LISTED])}{more}"


def _latest(outputs: Path) -> Path:
    folders = [RunFolder(path) for path in run_folders(outputs)]
    finished = [run for run in folders if run.result_file.is_file() and run.best_checkpoint.is_file()]
    if not finished:
        raise UserError(f"latest: no finished run under {outputs}/: train one, or use a run folder or a checkpoint")
    return max(finished, key=_end_time).path


def _end_time(run: RunFolder) -> float:
    """When a run finished, as a modification time; evaluations rewrite result.json but no predictions."""
    file = run.predictions_file if run.predictions_file.is_file() else run.result_file
    return file.stat().st_mtime
