"""A stand-in for CUDA graphs on the CPU: replays recorded operations on the same memory with the same Python values."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Tape(TorchDispatchMode):
    """Records every operation in its context; `replay` repeats them, writing results to the recorded memory."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, Any, Any, Any]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.calls.append((func, args, kwargs or {}, result))
        return result

    def replay(self) -> None:
        with torch.no_grad():
            for func, args, kwargs, recorded in self.calls:
                for old, new in zip(tree_leaves(recorded), tree_leaves(func(*args, **kwargs)), strict=True):
                    if isinstance(old, Tensor) and old.data_ptr() != new.data_ptr():
                        old.copy_(new)


def capture_on(state: Sequence[Tensor], tapes: list[Tape]) -> Callable[[Callable[[], Any]], tuple[Any, Any]]:
    """A `Capture` that restores `state` (all tensors changed in place) and the random state."""

    def capture(function: Callable[[], Any]) -> tuple[Any, Any]:
        before, random = [tensor.detach().clone() for tensor in state], torch.get_rng_state()
        tapes.append(Tape())
        with tapes[-1]:
            results = function()
        with torch.no_grad():
            for tensor, value in zip(state, before, strict=True):
                tensor.copy_(value)
        torch.set_rng_state(random)
        return results, tapes[-1].replay

    return capture
