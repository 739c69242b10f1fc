"""Where compiled code is kept, and who compiles: one process for each kind of step; others load what it made."""

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mnist_mlp.cache import cache_folder
from mnist_mlp.runs.lock import FolderLock
from mnist_mlp.training import torch_adapter

COMPILED_FOLDER = "TORCHINDUCTOR_CACHE_DIR"
"""Environment variable for the folder in which torch keeps compiled code."""


def keep_compiled_code() -> None:
    """Keep compiled code in the user's cache folder; torch's default is /tmp, which a restart clears."""
    folder = cache_folder()
    if folder is None or os.environ.get(COMPILED_FOLDER) not in (None, torch_adapter.default_compile_cache()):
        return
    try:
        (folder / "compiled").mkdir(parents=True, exist_ok=True)
    except OSError:
        return
    os.environ[COMPILED_FOLDER] = str(folder / "compiled")


def forget_compiled_code() -> None:
    """Remove what earlier runs kept, if it is in our folder: first renamed, since other runs may be reading it."""
    folder = cache_folder()
    kept = folder and folder / "compiled"
    if kept is None or os.environ.get(COMPILED_FOLDER) != str(kept):
        return
    aside = kept.with_name(f"compiled-{secrets.token_hex(8)}.tmp")
    with suppress(OSError):
        kept.rename(aside)
        kept.mkdir()
    shutil.rmtree(aside, ignore_errors=True)


@contextmanager
def one_compiles(kind: str) -> Iterator[None]:
    """While this lasts, no other process of this machine compiles the same kind of step: it waits, and then loads.

    Nobody waits for a kind that was compiled before, nor where the folder of compiled code cannot be written.
    kind: a name of all that decides the compiled code. The lock is that of run folders and dies with its process.
    """
    kept = os.environ.get(COMPILED_FOLDER) or torch_adapter.default_compile_cache()
    if kept is None:
        yield
        return
    folder = Path(kept) / "steps" / kind
    done, lock = folder / "compiled", FolderLock(folder)
    try:
        if not done.exists():
            lock.acquire(lambda holder: None)
        if done.exists():
            lock.release()
    except OSError:  # the lock only spares work
        lock.release()
    try:
        yield
        with suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)  # a damaged cache was removed meanwhile
            done.touch()
    finally:
        lock.release()
