"""The one place that uses torch beyond its public interface. Each function falls back to what is public.

tests/training/test_torch_adapter.py fails where a new version of torch no longer has what is used here.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
import torch._dynamo

MOST_SHAPES = 64
"""Nets of different shapes that share a compiled step's cache; torch's own limit of 8 makes the ninth run fail."""


def can_compile_backward() -> bool:
    """Whether torch.compile can put the backward pass and the update into the graph of the forward pass."""
    return hasattr(torch._dynamo.config, "trace_autograd_ops")


@contextmanager
def compiling_whole_steps() -> Iterator[None]:
    """While this lasts, torch.compile traces torch.autograd.grad, and accepts nets of many shapes."""
    with torch._dynamo.config.patch(trace_autograd_ops=True, recompile_limit=MOST_SHAPES):
        yield


def forget_compiled(function: Callable[..., object]) -> None:
    """Drop what torch.compile keeps in memory of this function; of everything, where torch cannot forget one alone."""
    reset_code = getattr(torch._dynamo, "reset_code", None)
    if reset_code is None:
        torch.compiler.reset()
    else:
        reset_code(function.__code__)


def default_compile_cache() -> str | None:
    """The folder in which torch keeps compiled code unless told otherwise; None where that cannot be known."""
    try:
        from torch._inductor.runtime.cache_dir_utils import default_cache_dir
    except ImportError:
        return None
    return default_cache_dir()


def forget_compile_cache() -> None:
    """Drop what torch remembers in memory of the files in its compile cache; nothing where it cannot be told to."""
    from torch._inductor import utils

    clear = getattr(utils, "clear_caches", None) or getattr(utils, "clear_inductor_caches", None)
    if clear is not None:
        clear()
