"""Command: list, and on request remove, archived, failed and unfinished runs, and old checkpoints."""

import argparse
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from mnist_mlp import __version__
from mnist_mlp.compare.load import OWN_FOLDERS, load_job
from mnist_mlp.console import command, error_line
from mnist_mlp.errors import UserError
from mnist_mlp.runs.files import is_scratch_file
from mnist_mlp.runs.folder import ARCHIVE, FolderLock, RunFolder, is_held, previous

KINDS = ("archived", "failed", "unfinished", "checkpoints")


class Item(NamedTuple):
    """What can be removed of a run. kind: of KINDS; files: existing ones, in the order of removal."""

    kind: str
    folder: RunFolder
    files: Sequence[Path]


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of `python -m mnist_mlp.clean` and of the script `mnist-mlp-clean`."""
    options = build_parser().parse_args(arguments)
    with command():
        if missing := [str(path) for path in options.paths if not path.is_dir()]:
            raise UserError(f"{', '.join(missing)} is not a folder: pass run folders, or folders that contain runs")
        sizes, failures = [], 0
        for item in (item for path in options.paths for item in find_items(path)):
            if item.kind not in (options.only or KINDS):
                continue
            size, remark = sum(path.lstat().st_size for path in item.files), ""
            try:
                refuse_unsafe(item)
                remark = remove(item) if options.delete else ""
                sizes.append(size)
            except (UserError, OSError) as error:
                remark, failures = f"kept: {error_line(error)}", failures + 1
            print(f"{item.kind:<12}{size / 1e6:>9.1f} MB  {item.folder.path}  {remark}".rstrip())
        outcome = "removed" if options.delete else "--delete removes them"
        print(f"{len(sizes)} runs, {sum(sizes) / 1e6:.1f} MB: {outcome}" if sizes else "nothing to remove")
        if failures and options.delete:
            raise UserError(f"{failures} kept, as listed")


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m mnist_mlp.clean",
        description="List archived, failed and unfinished runs, and checkpoints that newer ones replaced, with their "
        "sizes. Removes only files that mnist_mlp wrote, none of a run in use, and none through symbolic links.",
        epilog="Exit code: 0; 1 for an error, or if --delete had to keep something.",
    )
    add = parser.add_argument
    add("--version", action="version", version=f"mnist_mlp {__version__}")
    add("paths", type=Path, nargs="+", metavar="PATH", help="run folder, or folder that contains runs")
    add("--only", choices=KINDS, action="append", help="can be repeated; default: all")
    add("--delete", action="store_true", help="remove what is listed")
    return parser


def find_items(root: Path) -> Iterator[Item]:
    """Find what can be removed in and below a folder, without following symbolic links."""
    for name, subfolders, files in os.walk(root):
        is_run = not set(files).isdisjoint(RunFolder.MARKER_FILES)
        shown = [sub for sub in subfolders if sub[0] != "." or sub == ARCHIVE]
        subfolders[:] = sorted(sub for sub in shown if not (is_run and sub in OWN_FOLDERS))
        if is_run and (item := find_item(RunFolder(Path(name)))) is not None:
            yield item


def find_item(folder: RunFolder) -> Item | None:
    """Find what can be removed of a run; None if nothing."""
    if (job := load_job(folder.path)) is None:
        return None
    kind = "archived" if folder.path.parent.name == ARCHIVE else job.status
    if kind in KINDS:
        own_folders = (folder.path, folder.checkpoints, folder.figures, folder.path / ".hydra")
        scratch = [path for own in own_folders for path in own.glob(".*") if is_scratch_file(path)]
        files = [*scratch, folder.note_file, *folder.files()]
    elif job.result is not None:  # of an unreadable run, the previous checkpoints may be the only ones
        kind, files = "checkpoints", [previous(path) for path in (folder.best_checkpoint, folder.last_checkpoint)]
    else:
        return None
    existing = [path for path in files if os.path.lexists(path)]
    return Item(kind, folder, existing) if existing else None


def refuse_unsafe(item: Item) -> None:
    """Raise a UserError if the run is in use, or if its files may lie in another folder."""
    home = item.folder.path
    if is_held(home) or is_held(home.parent):
        raise UserError("in use")
    for path in {*item.files, *(path.parent for path in item.files)} - {home}:
        if path.is_symlink():
            raise UserError(f"{path.relative_to(home)} is a symbolic link")


def remove(item: Item) -> str:
    """Remove the files, and the folders that become empty; return a remark on other files in the run folder."""
    home = item.folder.path
    with FolderLock(home).acquire():
        if find_item(item.folder) != item:
            raise UserError("changed in the meantime")
        for path in item.files:
            path.unlink(missing_ok=True)
        if item.kind == "checkpoints":
            return ""
        item.folder.clear()  # removes empty folders
    if others := sorted(path.name for path in home.iterdir()):
        return f"other files remain: {', '.join(others[:3])}"
    home.rmdir()
    with suppress(OSError):  # other archived runs
        if home.parent.name == ARCHIVE:
            home.parent.rmdir()
    return ""


if __name__ == "__main__":
    main()
