"""Knowledge distillation: trained nets whose predictions are what another net learns, in place of the labels.

Hinton, Vinyals and Dean 2015, "Distilling the Knowledge in a Neural Network" (arXiv 1503.02531). Teachers see each
image exactly as the student does, distorted anew (Beyer 2022, arXiv 2106.05237).
"""

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from mnist_mlp.compare.collect import Job, find_jobs
from mnist_mlp.config import DataConfig
from mnist_mlp.errors import UserError
from mnist_mlp.runs.folder import RunFolder
from mnist_mlp.training.classifier import DigitClassifier

PINNED = re.compile(r"(?P<folder>.+)@(?P<digest>[0-9a-f]{12})")
"""`optim.teacher` as run.json has it: the folder, and the first digits of the SHA-256 of the weights in it."""


class Ensemble:
    """Trained nets that teach together: the mean of their log-probabilities, made probabilities again.

    That is what the committee of `evaluate` says. name: the folder that they came from, pinned to their weights.
    """

    def __init__(self, nets: Sequence[DigitClassifier], folder: str) -> None:
        self._nets = [net.eval() for net in nets]
        self.name = f"{folder}@{_digest(nets)}"

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """images: (n, 28, 28) on the scale 0 to 255 -> probabilities: (n, 10), in the nets' own number format."""
        logs = [net._forward_unchecked(images).to(net.scale.dtype).log_softmax(1) for net in self._nets]
        return torch.stack(logs).mean(0).softmax(1)

    def __repr__(self) -> str:
        return f"Ensemble({[net.mlp for net in self._nets]})"

    def to(self, device: torch.device, dtype: torch.dtype) -> "Ensemble":
        """Move the nets, in place."""
        for net in self._nets:
            net.to(device, dtype)
        return self


def load_teacher(given: str, data: DataConfig, digest: str) -> Ensemble:
    """The teacher that `optim.teacher` names, for a student with these data options on the digits of this digest.

    UserError where there is none, where a run of it has not finished, is about other digits, or has seen the student's
    validation images, and where a pinned one has other weights now.
    """
    pinned = PINNED.fullmatch(given)
    place = str(Path(pinned["folder"] if pinned else given))
    jobs = find_jobs([Path(place)])
    if not jobs:
        raise UserError(
            f"optim.teacher={place} is no folder of a run or of a sweep: give one, such as outputs/sweeps/NAME, of "
            "which every run has finished"
        )
    paths = [_checkpoint(given, job, data, digest) for job in jobs]
    teacher = Ensemble([DigitClassifier.load_from_checkpoint(path) for path in paths], place)
    if pinned and teacher.name != f"{place}@{pinned['digest']}":
        raise UserError(
            f"optim.teacher={given}: the nets there have other weights now ({teacher.name}): "
            f"give optim.teacher={place} and another name, or start over with resume=never"
        )
    return teacher


def _checkpoint(given: str, job: Job, data: DataConfig, digest: str) -> Path:
    asked, checkpoint = f"optim.teacher={given}: the run {job.folder.name}", RunFolder(job.folder).best_checkpoint
    if job.status != "finished" or not checkpoint.is_file():
        raise UserError(f"{asked} has not finished, or diverged: finish it, or move it away")
    if job.settings["data.digest"] != digest:
        raise UserError(f"{asked} is about other digits: teacher and student need the same (data.root, data.source)")
    seen = job.settings["data.val_size"], job.settings["data.split_seed"]
    ours = data.val_size, data.split_seed
    if data.val_size and seen != ours:
        raise UserError(
            f"{asked} was trained on images that the student is validated by (data.val_size and data.split_seed are "
            f"{seen[0]} and {seen[1]} there, {ours[0]} and {ours[1]} here): use the same, or data.val_size=0"
        )
    return checkpoint


def _digest(nets: Sequence[DigitClassifier]) -> str:
    found = hashlib.sha256()
    for net in nets:
        for name, value in net.state_dict().items():
            found.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
            found.update(value.cpu().contiguous().numpy().tobytes())
    return found.hexdigest()[:12]
