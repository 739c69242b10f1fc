"""Knowledge distillation: the predictions of trained networks replace the labels as targets.

Hinton, Vinyals and Dean 2015, "Distilling the Knowledge in a Neural Network" (arXiv 1503.02531). Teacher and student
see the same distorted images (Beyer et al. 2022, arXiv 2106.05237).
"""

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from mnist_mlp.compare.load import Job, find_jobs
from mnist_mlp.config import DataConfig
from mnist_mlp.errors import UserError
from mnist_mlp.runs.folder import RunFolder
from mnist_mlp.training.classifier import DigitClassifier

PINNED = re.compile(r"(?P<folder>.+)@(?P<digest>[0-9a-f]{12})")
"""`optim.teacher` in run.json: the folder, and the beginning of the SHA-256 of the weights in it."""


class Ensemble:
    """Trained classifiers as one teacher: the softmax of their mean log-probabilities, as in `evaluate RUN RUN`.

    name: the folder they were loaded from, pinned to their weights.
    """

    def __init__(self, members: Sequence[DigitClassifier], folder: str) -> None:
        self._members = [member.eval() for member in members]
        self.name = f"{folder}@{_digest(members)}"

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """Return probabilities (n, classes), in the members' dtype, of images (n, 28, 28) on the scale 0 to 255."""
        logs = [member._forward_unchecked(images).to(member.scale.dtype).log_softmax(1) for member in self._members]
        return torch.stack(logs).mean(0).softmax(1)

    def __repr__(self) -> str:
        return f"Ensemble({[member.mlp for member in self._members]})"

    def to(self, device: torch.device, dtype: torch.dtype, linear: torch.dtype | None = None) -> "Ensemble":
        """Convert the members; `linear` is the dtype of linear layers, which autocast would cast at every step."""
        for member in self._members:
            member.to(device, dtype)
            for layer in member.modules():
                if linear and isinstance(layer, nn.Linear):
                    layer.to(linear)
        return self


def load_teacher(name: str, data: DataConfig, digest: str) -> Ensemble:
    """Load the teacher `optim.teacher=name` for a student with these data options and this dataset digest.

    Raises:
        UserError: A run of the teacher is missing, unfinished, of another dataset, or was trained on the student's
            validation images; or the weights of a pinned teacher have changed.
    """
    pinned = PINNED.fullmatch(name)
    folder = str(Path(pinned["folder"] if pinned else name))
    jobs = find_jobs([Path(folder)])
    if not jobs:
        raise UserError(
            f"optim.teacher={folder} is not the folder of a run or sweep: use one such as outputs/sweeps/NAME, with "
            "finished runs only"
        )
    paths = [_checked_checkpoint(name, job, data, digest) for job in jobs]
    teacher = Ensemble([DigitClassifier.load_from_checkpoint(path) for path in paths], folder)
    if pinned and teacher.name != f"{folder}@{pinned['digest']}":
        raise UserError(
            f"optim.teacher={name}: the weights in that folder have changed ({teacher.name}): "
            f"use optim.teacher={folder} and another name=, or restart with resume=never"
        )
    return teacher


def _checked_checkpoint(name: str, job: Job, data: DataConfig, digest: str) -> Path:
    run, checkpoint = f"optim.teacher={name}: the run {job.folder.name}", RunFolder(job.folder).best_checkpoint
    if job.status != "finished" or not checkpoint.is_file():
        raise UserError(f"{run} has not finished, or diverged: finish it, or move it away")
    if job.settings["data.digest"] != digest:
        raise UserError(f"{run} used another dataset: use the same data.root and data.source for teacher and student")
    teacher_split = job.settings["data.val_size"], job.settings["data.split_seed"]
    student_split = data.val_size, data.split_seed
    if data.val_size and teacher_split != student_split:
        raise UserError(
            f"{run} was trained on the student's validation images (data.val_size, data.split_seed: {teacher_split} "
            f"for the teacher, {student_split} for the student): use the same, or data.val_size=0"
        )
    return checkpoint


def _digest(members: Sequence[DigitClassifier]) -> str:
    digest = hashlib.sha256()
    for member in members:
        for name, value in member.state_dict().items():
            digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
            digest.update(value.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:12]
