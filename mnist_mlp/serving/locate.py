"""Which trained net is meant: a run folder, a checkpoint, a name under outputs/, or `latest`. Imports no torch."""

from dataclasses import dataclass
from pathlib import Path

from mnist_mlp.errors import UserError
from mnist_mlp.runs.files import JSON
from mnist_mlp.runs.folder import RunFolder
from mnist_mlp.runs.result import RunResult

OUTPUTS = Path("outputs")
LATEST = "latest"
LISTED = 6


@dataclass(frozen=True)
class TrainedNet:
    """A checkpoint, and the run folder that it is from where that is known."""

    name: str
    checkpoint: Path
    folder: RunFolder | None

    @property
    def home(self) -> Path:
        """Where what is made of it goes: the run folder, else the checkpoint's folder."""
        return self.folder.path if self.folder else self.checkpoint.parent

    def config(self) -> JSON | None:
        """The resolved configuration of the run; None for a checkpoint alone."""
        run = self.folder.run() if self.folder else None
        return dict(run["config"]) if run else None

    def result(self) -> RunResult | None:
        """The run's own result; None for a checkpoint alone and for a run that did not finish."""
        return self.folder.result() if self.folder else None


def locate(run: str | Path, outputs: Path = OUTPUTS) -> TrainedNet:
    """The net that `run` means. UserError where there is none, or more than one."""
    if str(run) == LATEST:
        return _latest(outputs)
    for place in (Path(run), *(outputs / part / run for part in ("", "train", "sweeps"))):
        if place.is_file():
            return _of_checkpoint(place)
        if place.is_dir():
            return _of_folder(place)
    raise UserError(
        f"no run {str(run)!r}: give a run folder, a checkpoint, a name under {outputs}/, or latest{_known(outputs)}"
    )


def _of_checkpoint(path: Path) -> TrainedNet:
    folder = RunFolder(path.resolve().parent.parent)
    if path.resolve().parent == folder.checkpoints and folder.run() is not None:
        return TrainedNet(_short(folder.path), path, folder)
    return TrainedNet(path.name, path, None)


def _of_folder(path: Path) -> TrainedNet:
    folder = RunFolder(path)
    if folder.best_checkpoint.is_file():
        return TrainedNet(_short(path), folder.best_checkpoint, folder)
    if any((path / mark).is_file() for mark in RunFolder.MARKER_FILES):
        raise UserError(f"{path} has no {folder.best_checkpoint.relative_to(path)}: that run has not finished an epoch")
    inside = sorted({found.parent.parent for found in path.glob("*/checkpoints/best.ckpt")})
    if inside:
        raise UserError(
            f"{path} holds {len(inside)} runs: name one of them{_listed(inside)}, or several for a committee"
        )
    raise UserError(f"{path} is no run folder: there is no checkpoints/best.ckpt in it")


def _latest(outputs: Path) -> TrainedNet:
    finished = [path for path in outputs.glob("**/result.json") if RunFolder(path.parent).best_checkpoint.is_file()]
    if not finished:
        raise UserError(f"latest: no finished run under {outputs}/; train one, or name a run folder or a checkpoint")
    return _of_folder(max(finished, key=lambda path: path.stat().st_mtime).parent)


def _known(outputs: Path) -> str:
    runs = sorted((found.parent.parent for found in outputs.glob("**/checkpoints/best.ckpt")), key=str)
    return f"; there is{_listed(runs)}" if runs else ""


def _listed(runs: list[Path]) -> str:
    more = f" and {len(runs) - LISTED} more" if len(runs) > LISTED else ""
    return f" {', '.join(map(str, runs[:LISTED]))}{more}"


def _short(folder: Path) -> str:
    """The folder's name, with that of the sweep before it."""
    parts = folder.resolve().parts
    return "/".join(parts[-2:]) if len(parts) > 2 and parts[-3] == "sweeps" else parts[-1]
