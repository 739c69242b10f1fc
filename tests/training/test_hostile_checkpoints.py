"""Code in a checkpoint is never executed."""

import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from hostile_input import cases
from hypothesis import given
from hypothesis import strategies as st
from small_steps import digit_classifier

from mnist_mlp.training.checkpoint import DamagedCheckpointError, read_checkpoint
from mnist_mlp.training.classifier import DigitClassifier


class Payload:
    """Calls a function when it is unpickled."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.reduced = (function, arguments)

    def __reduce__(self) -> Any:
        return self.reduced


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("key", ["", "state_dict", "hyper_parameters", "callbacks"])
def test_code_in_a_checkpoint_is_not_executed(tmp_path: Path, key: str, zipped: bool) -> None:
    trace, path = tmp_path / "executed", tmp_path / "last.ckpt"
    for payload in (Payload(os.mkdir, str(trace)), Payload(exec, f"open({str(trace)!r}, 'w')")):
        content = {"state_dict": {}, "hyper_parameters": {}, key: payload} if key else payload
        if zipped:
            torch.save(content, path)
        else:
            path.write_bytes(pickle.dumps(content))
        with pytest.raises(DamagedCheckpointError):
            read_checkpoint(path)
        with pytest.raises(Exception):  # noqa: B017, PT011 -- of any type
            DigitClassifier.load_from_checkpoint(path)
        assert not trace.exists()


@cases(10, 700)
@given(seed=st.integers(0, 2**32 - 1), count=st.integers(1, 50), cut=st.integers(0, 2000))
def test_a_damaged_checkpoint_is_rejected_or_intact(
    seed: int, count: int, cut: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "damaged.ckpt"
    intact = path.with_suffix(".intact")
    if not intact.exists():
        torch.save({"state_dict": digit_classifier().state_dict()}, intact)
    content = torch.ByteTensor(list(intact.read_bytes()))
    generator = torch.Generator().manual_seed(seed)
    positions = torch.randint(len(content), (count,), generator=generator)
    content[positions] = torch.randint(256, (count,), generator=generator).byte()
    path.write_bytes(content.numpy().tobytes()[: len(content) - cut])
    try:
        assert "state_dict" in read_checkpoint(path)
    except DamagedCheckpointError as error:
        assert "\n" not in str(error)
