"""Checkpoints that survive a power cut, say which run they are of, and can be moved."""

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
from mnist_mlp.runs.files import JSON, scratch_file, sync_folder, write_new
from mnist_mlp.runs.folder import RunFolder, is_continuation, previous
from mnist_mlp.runs.settings import changes

CHECKSUM = b"sha256 "
"""Begins the comment at the end of a checkpoint's zip archive; 64 hexadecimal digits follow."""
CHECKSUM_BYTES = len(CHECKSUM) + 64


class DamagedCheckpointError(UserError):
    """A checkpoint cannot be read, or does not hold what was written."""


class DurableCheckpointIO(CheckpointIO):
    """Writes a checkpoint beside its target, onto the disk, then in place of it, and keeps the one that was there.

    So under its name, or under `previous` of it, there is a whole checkpoint at every moment. Its checksum is in the
    comment of the zip archive, which torch.load passes over.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch = scratch_file(path)
        try:
            write_new(scratch, _with_checksum(checkpoint), durable=True)
            _keep(path)
            os.replace(scratch, path)
        except BaseException:
            with suppress(OSError):
                scratch.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)

    def load_checkpoint(
        self, path: Any, map_location: Any | None = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        return read_checkpoint(Path(path), map_location or "cpu")

    def remove_checkpoint(self, path: Any) -> None:
        Path(path).unlink(missing_ok=True)


def read_checkpoint(path: Path, map_location: Any = "cpu") -> dict[str, Any]:
    """The content of a checkpoint; only tensors and primitives are unpickled.

    DamagedCheckpointError where it cannot be read or its checksum is wrong.
    """
    try:
        content = path.read_bytes()
        end = content[-CHECKSUM_BYTES:]
        if end.startswith(CHECKSUM) and hashlib.sha256(content[:-CHECKSUM_BYTES]).hexdigest() != end[7:].decode():
            raise DamagedCheckpointError(f"{path} is damaged (its checksum is wrong)")
        checkpoint = torch.load(io.BytesIO(content), map_location=map_location, weights_only=True)
    except UserError:
        raise
    except Exception as error:  # of pickle, zipfile, torch and the system
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise DamagedCheckpointError(f"{path} cannot be read ({reason})") from error
    if not isinstance(checkpoint, dict) or "state_dict" not in checkpoint:
        raise DamagedCheckpointError(f"{path} is no checkpoint")
    return checkpoint


def _with_checksum(checkpoint: Mapping[str, Any]) -> memoryview:
    """The zip archive of torch.save, with the length of its comment in its last two bytes, and the checksum."""
    buffer = io.BytesIO()
    torch.save(checkpoint, buffer)
    buffer.seek(-2, os.SEEK_END)
    buffer.write(CHECKSUM_BYTES.to_bytes(2, "little"))
    buffer.write(CHECKSUM + hashlib.sha256(buffer.getbuffer()).hexdigest().encode())
    return buffer.getbuffer()


def _keep(path: Path) -> None:
    """Give the file that is there its second name, `previous`."""
    if not path.exists():
        return
    link = scratch_file(path)
    try:
        os.link(path, link)
    except OSError:  # no hard links here: for a moment there is the previous one only
        os.replace(path, previous(path))
        return
    try:
        os.replace(link, previous(path))
    finally:  # rename(2) leaves it where both are names of one file already
        with suppress(OSError):
            link.unlink(missing_ok=True)


class RunIdentity(pl.Callback):
    """Writes into every checkpoint which run it is of: the content of run.json."""

    def __init__(self, run: JSON) -> None:
        self._run = run

    def on_save_checkpoint(self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: JSON) -> None:
        checkpoint["run"] = self._run


class PortableCheckpoint(ModelCheckpoint):
    """ModelCheckpoint whose state holds wherever the folder is moved, and knows the epoch of what it saved last."""

    saved_epoch: int | None = None
    """Counted from 0."""

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "saved_epoch": self.saved_epoch}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        # Lightning forgets the best score where the folder has another path than before
        here = {
            name: self._here(state_dict[name]) for name in ("best_model_path", "kth_best_model_path", "last_model_path")
        }
        models = {self._here(path): score for path, score in state_dict["best_k_models"].items()}
        super().load_state_dict({**state_dict, **here, "best_k_models": models, "dirpath": self.dirpath})
        self.saved_epoch = state_dict["saved_epoch"]

    def _save_checkpoint(self, trainer: pl.Trainer, filepath: str) -> None:
        self.saved_epoch = trainer.current_epoch
        super()._save_checkpoint(trainer, filepath)

    def _here(self, path: str) -> str:
        return os.path.join(self.dirpath or "", os.path.basename(path)) if path else path


def checkpoint_to_resume(folder: RunFolder, run: JSON) -> tuple[Path | None, list[str]]:
    """The checkpoint that a run goes on from, None for its start; and what was found damaged, a line each.

    It is last.ckpt, else the one before, and only together with the best checkpoint of its time. UserError where a
    checkpoint is of another run than `run`, the content of a run.json.
    """
    damaged = []
    last = folder.last_checkpoint
    for path in (last, previous(last)):
        if not path.exists():
            continue
        try:
            checkpoint = read_checkpoint(path)
            _refuse_other_run(path, checkpoint, run)
            _restore_best(folder, checkpoint)
        except DamagedCheckpointError as error:
            damaged.append(str(error))
            continue
        return path, damaged
    return None, damaged


def refuse_foreign(folder: RunFolder) -> None:
    """UserError where files lie in the folder that no run of this package wrote."""
    if folder.holds_run():
        return
    last = folder.last_checkpoint
    for path in (last, previous(last)):
        with suppress(DamagedCheckpointError):
            if path.is_file() and "run" in read_checkpoint(path):
                return
    folder.refuse_foreign()


def _refuse_other_run(path: Path, checkpoint: Mapping[str, Any], run: JSON) -> None:
    own = checkpoint.get("run")
    if not isinstance(own, dict) or "config" not in own:
        raise UserError(
            f"{path} does not say which run it is of (an earlier version wrote it): "
            "choose another folder, or start over with resume=never"
        )
    if (different := changes(own, run)) and not is_continuation(own, run):
        raise UserError(
            f"{path} is of a run with other settings ({'; '.join(different)}): "
            "choose another folder, or start over with resume=never"
        )


def _restore_best(folder: RunFolder, checkpoint: Mapping[str, Any]) -> None:
    """See to it that best.ckpt is of the epoch that this checkpoint knows as the best."""
    states = checkpoint["callbacks"].values()
    epoch = next(state["saved_epoch"] for state in states if Path(state.get("best_model_path", "")).name == "best.ckpt")
    best = folder.best_checkpoint
    found = []
    for path in (best, previous(best)):
        try:
            found.append(read_checkpoint(path)["epoch"])
        except DamagedCheckpointError:
            found.append(None)
    if found[0] == epoch:
        return
    if found[1] != epoch:
        raise DamagedCheckpointError(f"{best} of epoch {epoch + 1} is lost or damaged")
    os.replace(previous(best), best)
