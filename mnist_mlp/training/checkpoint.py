"""Checkpoints that survive power loss, identify their run and can be moved."""

import hashlib
import io
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.io.checkpoint_io import CheckpointIO
from pytorch_lightning.callbacks import ModelCheckpoint

from mnist_mlp.errors import UserError
from mnist_mlp.runs.files import JSON, replace_file, scratch_file, write_bytes
from mnist_mlp.runs.folder import RunFolder, is_continuation, previous
from mnist_mlp.runs.settings import changes

CHECKSUM = b"sha256 "
"""Prefix of the comment at the end of a checkpoint's zip archive; 64 hexadecimal digits follow."""
CHECKSUM_BYTES = len(CHECKSUM) + 64


class DamagedCheckpointError(UserError):
    """A checkpoint cannot be read, or its checksum does not match."""


class DurableCheckpointIO(CheckpointIO):
    """Checkpoint IO that writes atomically and durably, and keeps the previous version of each file.

    At every moment there is a complete checkpoint at its path or at `previous` of it. The checksum is in the comment
    of the zip archive, which torch.load ignores.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Write to a scratch file, sync it to the disk and move it to `path`."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, _with_checksum(checkpoint), durable=True, before_replace=_keep_previous)

    def load_checkpoint(
        self, path: Any, map_location: Any | None = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Verify and load a checkpoint; only tensors and primitives are unpickled."""
        return share_step_count(read_checkpoint(Path(path), map_location or "cpu"))

    def remove_checkpoint(self, path: Any) -> None:
        """Delete a checkpoint; its previous version stays."""
        Path(path).unlink(missing_ok=True)


def read_checkpoint(path: Path, map_location: Any = "cpu") -> dict[str, Any]:
    """Load a checkpoint; only tensors and primitives are unpickled.

    Raises:
        DamagedCheckpointError: The file cannot be read, or its checksum does not match.
    """
    try:
        content = path.read_bytes()
        end = content[-CHECKSUM_BYTES:]
        if end.startswith(CHECKSUM) and hashlib.sha256(content[:-CHECKSUM_BYTES]).hexdigest() != end[7:].decode():
            raise DamagedCheckpointError(f"{path} is damaged (its checksum does not match)")
        checkpoint = torch.load(io.BytesIO(content), map_location=map_location, weights_only=True)
    except UserError:
        raise
    except Exception as error:  # pickle, zipfile, torch and the operating system raise many types
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise DamagedCheckpointError(f"{path} cannot be read ({reason})") from error
    if not isinstance(checkpoint, dict) or "state_dict" not in checkpoint:
        raise DamagedCheckpointError(f"{path} is not a checkpoint")
    return checkpoint


def share_step_count(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """Equalize Lightning's step counts of automatic and manual optimization: runs resume with and without chunks."""
    loop = checkpoint["loops"]["fit_loop"]
    manual = loop["epoch_loop.manual_optimization.optim_step_progress"]
    automatic = loop["epoch_loop.automatic_optimization.optim_progress"]["optimizer"]["step"]
    steps = max(manual["total"]["completed"], automatic["total"]["completed"])
    for counter in (manual["total"], automatic["total"]):
        counter.update(ready=steps, completed=steps)
    loop["epoch_loop.state_dict"]["_batches_that_stepped"] = steps
    return checkpoint


def _with_checksum(checkpoint: Mapping[str, Any]) -> memoryview:
    """Serialize as torch.save does; the checksum becomes the archive's comment, after two bytes with its length."""
    buffer = io.BytesIO()
    torch.save(checkpoint, buffer)
    buffer.seek(-2, os.SEEK_END)
    buffer.write(CHECKSUM_BYTES.to_bytes(2, "little"))
    buffer.write(CHECKSUM + hashlib.sha256(buffer.getbuffer()).hexdigest().encode())
    return buffer.getbuffer()


def _keep_previous(path: Path) -> None:
    if not path.exists():
        return
    link = scratch_file(path)
    try:
        os.link(path, link)
    except OSError:  # the file system has no hard links: until the new file is moved, only `previous` exists
        replace_file(path, previous(path))
        return
    try:
        replace_file(link, previous(path))
    finally:  # rename(2) leaves the link if both are links to the same file
        with suppress(OSError):
            link.unlink(missing_ok=True)


class PortableCheckpoint(ModelCheckpoint):
    """ModelCheckpoint whose state remains valid if the folder is moved, and includes the epoch saved last."""

    saved_epoch: int | None = None
    """Counted from 0."""

    def state_dict(self) -> dict[str, Any]:
        """Return the state, with `saved_epoch`."""
        return {**super().state_dict(), "saved_epoch": self.saved_epoch}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state with this folder's paths; Lightning drops the best score if they have changed."""
        names = ("best_model_path", "kth_best_model_path", "last_model_path")
        paths = {name: self._relocate(state_dict[name]) for name in names}
        models = {self._relocate(path): score for path, score in state_dict["best_k_models"].items()}
        super().load_state_dict({**state_dict, **paths, "best_k_models": models, "dirpath": self.dirpath})
        self.saved_epoch = state_dict["saved_epoch"]

    def _save_checkpoint(self, trainer: pl.Trainer, filepath: str) -> None:
        if not trainer.is_last_batch and Path(filepath).name == "last.ckpt":
            return  # trainer.max_seconds ended the epoch: a longer run trains all of it again, as an unbroken run does
        self.saved_epoch = trainer.current_epoch
        super()._save_checkpoint(trainer, filepath)

    def _relocate(self, path: str) -> str:
        return os.path.join(self.dirpath or "", os.path.basename(path)) if path else path


def checkpoint_to_resume(folder: RunFolder, run: JSON) -> tuple[Path | None, list[str]]:
    """Choose the checkpoint to resume from: last.ckpt or its previous version, with the matching best.ckpt.

    Returns:
        The checkpoint's path, None to start from scratch; and a line for each damaged checkpoint.

    Raises:
        UserError: A checkpoint belongs to another run than `run`, the content of run.json.
    """
    damaged: list[str] = []
    last = folder.last_checkpoint
    for path in filter(Path.exists, (last, previous(last))):
        try:
            checkpoint = read_checkpoint(path)
            _refuse_other_run(path, checkpoint, run)
            _restore_best(folder, checkpoint)
            return path, damaged
        except DamagedCheckpointError as error:
            damaged.append(str(error))
    return None, damaged


def refuse_foreign(folder: RunFolder) -> None:
    """Raise UserError if the folder contains files that were not written by a run of this package."""
    if folder.holds_run():
        return
    last = folder.last_checkpoint
    for path in (last, previous(last)):
        with suppress(DamagedCheckpointError):
            if path.is_file() and "run" in read_checkpoint(path):
                return
    folder.refuse_foreign()


def _refuse_other_run(path: Path, checkpoint: Mapping[str, Any], run: JSON) -> None:
    saved_run = checkpoint.get("run")
    if not isinstance(saved_run, dict) or "config" not in saved_run:
        reason = "does not identify its run (an earlier version wrote it)"
    elif (differences := changes(saved_run, run)) and not is_continuation(saved_run, run):
        reason = f"belongs to a run with other settings ({'; '.join(differences)})"
    else:
        return
    raise UserError(f"{path} {reason}: choose another folder, or restart with resume=never")


def _restore_best(folder: RunFolder, checkpoint: Mapping[str, Any]) -> None:
    """Ensure that best.ckpt is of the epoch that was the best when this checkpoint was written."""
    states = checkpoint["callbacks"].values()
    epoch = next(state["saved_epoch"] for state in states if Path(state.get("best_model_path", "")).name == "best.ckpt")
    best = folder.best_checkpoint
    for path in (best, previous(best)):
        with suppress(DamagedCheckpointError):
            if read_checkpoint(path)["epoch"] == epoch:
                replace_file(path, best)  # does nothing to best.ckpt itself
                return
    raise DamagedCheckpointError(f"{best} of epoch {epoch + 1} is lost or damaged")
