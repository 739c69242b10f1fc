"""The one place that uses torch beyond its public interface. Each function falls back to what is public.

tests/training/test_torch_adapter.py fails where a new version of torch no longer has what is used here.
"""

import gc
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch
import torch._dynamo

MOST_SHAPES = 64
"""Nets of different shapes that share a compiled step's cache; torch's own limit of 8 makes the ninth run fail."""


def can_compile_backward() -> bool:
    """Whether torch.compile can put the backward pass and the update into the graph of the forward pass."""
    return hasattr(torch._dynamo.config, "trace_autograd_ops")


@contextmanager
def compiling_whole_steps() -> Iterator[None]:
    """While this lasts, torch.compile traces torch.autograd.grad, accepts nets of many shapes, and starts quickly."""
    with torch._dynamo.config.patch(trace_autograd_ops=True, recompile_limit=MOST_SHAPES), quick_compiler():
        yield


@contextmanager
def quick_compiler() -> Iterator[None]:
    """While this lasts, importing torch's compiler leaves out what the code that is already compiled does not need.

    Of 2.2 s of CPU until a compiled step that is kept on disk, 0.35 s go into a hash of Triton, which nothing on a CPU
    uses, and 0.3 s into templates of GPU kernels and into the garbage collector.
    """
    with ExitStack() as until_end:
        if gc.isenabled():
            gc.disable()
            until_end.callback(gc.enable)
        until_end.enter_context(_templates_made_on_use())
        if not torch.cuda.is_available():
            _name_triton_by_version()
        yield


class TemplateMadeOnUse:
    """A jinja2 template that is compiled when something is asked of it."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make

    def __getattr__(self, name: str) -> Any:
        return getattr(self._make(), name)


@contextmanager
def _templates_made_on_use() -> Iterator[None]:
    """torch makes the templates of all its kernels when its compiler is imported: 27 by jinja2, for GPUs."""
    try:
        from jinja2 import Environment
    except ImportError:
        yield
        return
    from_string: Any = Environment.from_string

    def later(self: Environment, *arguments: Any, **options: Any) -> Any:
        return TemplateMadeOnUse(cache(lambda: from_string(self, *arguments, **options)))

    Environment.from_string = later  # type: ignore[method-assign]
    try:
        yield
    finally:
        Environment.from_string = from_string  # type: ignore[method-assign]


def _name_triton_by_version() -> None:
    """Let the key of what is compiled for a CPU hold Triton's version, in place of a hash of all its files."""
    from torch._inductor import codecache

    set_key = getattr(getattr(codecache, "triton_key", None), "set", None)
    if set_key is not None:
        with suppress(PackageNotFoundError, RuntimeError):  # there is no Triton; the key is set already
            set_key(version("triton"))


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
