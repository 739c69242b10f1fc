"""Checkpoints loaded so that nothing in them is executed, and refused in one line where they are not ours."""

import pickle
import warnings
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

from mnist_mlp.errors import UserError
from mnist_mlp.models.mlp import layer_sizes
from mnist_mlp.training.classifier import DigitClassifier

NEEDED = ("hyper_parameters", "state_dict")


def load_classifier(checkpoint_path: str | Path) -> DigitClassifier:
    """The classifier in a checkpoint, on the CPU and in evaluation mode.

    Only tensors and primitives are unpickled (`weights_only=True`). UserError where the file cannot be read, is cut
    off, is of another project, contains code, or contradicts itself.
    """
    path = Path(checkpoint_path)
    checkpoint = _read(path)
    missing = [
        key for key in NEEDED if not isinstance(checkpoint, dict) or not isinstance(checkpoint.get(key), Mapping)
    ]
    if missing:
        raise _refusal(path, f"it has no {' and no '.join(missing)}")
    _check_size(path, checkpoint)
    try:
        return DigitClassifier.load_from_checkpoint(path)
    except (UserError, RuntimeError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise _refusal(path, _first_line(error)) from None


def _read(path: Path) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's remarks on other formats; what counts is refused below
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise UserError(
            f"{path} is refused: it is no checkpoint, or holds more than tensors and plain values, which could be "
            "code; nothing in it was run"
        ) from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from None
    except Exception as error:  # a cut-off or forged archive makes torch's readers raise almost anything
        raise UserError(f"{path} is broken or no checkpoint ({_first_line(error)}): copy it again") from None


def _check_size(path: Path, checkpoint: Mapping[str, Any]) -> None:
    """A few bytes of hyper-parameters must not make us allocate gigabytes: the weights have to be there, too."""
    options = checkpoint["hyper_parameters"].get("model")
    if not isinstance(options, Mapping):
        raise _refusal(path, "its hyper_parameters have no model")
    try:
        sizes = layer_sizes(int(options["hidden_layers"]), [int(units) for units in options["hidden_units"]])
    except (KeyError, TypeError, ValueError) as error:
        raise _refusal(path, f"its hyper_parameters describe no net: {_first_line(error)}") from None
    wanted = sum(before * after for before, after in pairwise(sizes))
    stored = sum(value.numel() for value in checkpoint["state_dict"].values() if isinstance(value, torch.Tensor))
    if min(sizes) < 1 or wanted > stored:
        raise _refusal(path, f"it describes a net of {wanted:,} weights and holds {stored:,}")


def _refusal(path: Path, why: str) -> UserError:
    return UserError(f"{path} is no checkpoint of this package ({why}): give one that mnist_mlp.train wrote")


def _first_line(error: BaseException) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:160]
