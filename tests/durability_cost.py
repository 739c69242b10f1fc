"""The cost of a durable run folder: time in fsync, checksums, lock and digest, per epoch and per start.

    python tests/durability_cost.py [OVERRIDE ...]        # by default, the default run for three epochs

Wall-clock and CPU time of the training process; nested calls are counted once.
"""

import os
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

Times = dict[str, list[tuple[float, float]]]


def main() -> None:
    from mnist_mlp import train
    from mnist_mlp.data import mnist
    from mnist_mlp.runs import files, folder
    from mnist_mlp.startup import quick_start

    with quick_start():
        from mnist_mlp.training import callbacks, checkpoint, fit

    epochs: Times = defaultdict(list)
    start: Times = defaultdict(list)
    timed(epochs, "fsync", os, "fsync")
    timed(epochs, "checksum", checkpoint, "_with_checksum", without=("torch.save", checkpoint.torch, "save"))
    timed(epochs, "hard link to the previous checkpoint", checkpoint, "_keep_previous")
    timed(start, "acquire and release the lock", folder.FolderLock, "acquire")
    timed(start, "acquire and release the lock", folder.FolderLock, "release")
    timed(start, "digest of the digits", vars(mnist.Digits)["digest"], "func")
    timed(start, "CRC-32 of the official files", mnist.zlib, "crc32")
    timed(start, "search for checkpoints and foreign files", fit, "checkpoint_to_resume")
    timed(start, "search for checkpoints and foreign files", fit, "refuse_foreign")
    timed(start, "run.json and .hydra/", folder.RunFolder, "start")
    assert files, callbacks
    whole: Times = defaultdict(list)
    timed(whole, "epoch", callbacks.EpochLog, "on_train_epoch_end")
    overrides = sys.argv[1:]
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as work:
        os.chdir(work)
        keys = "=".join(overrides).split("=")
        defaults = ["trainer.max_epochs=3", "trainer.figures=false", "name=cost"]
        sys.argv = ["train", *overrides, *(default for default in defaults if default.split("=")[0] not in keys)]
        start_times = time.perf_counter(), time.process_time()
        train.main()
        elapsed = time.perf_counter() - start_times[0], time.process_time() - start_times[1]
        os.chdir("/")
    count = len(whole["epoch"])
    epoch = elapsed[0] / count, elapsed[1] / count
    print(f"\n{count} epochs, {epoch[0]:.3f} s each including their share of start and test ({epoch[1]:.3f} s CPU)\n")
    report("per epoch", epochs, count, epoch)
    report("per start", start, 1, None)


def timed(times: Times, name: str, owner: Any, attribute: str, without: tuple[str, Any, str] | None = None) -> None:
    """Record the time of each call, without that of the nested function `without`."""
    function: Callable[..., Any] = getattr(owner, attribute)
    inner: Times = defaultdict(list)
    if without:
        timed(inner, *without)

    @wraps(function)
    def call(*arguments: Any, **options: Any) -> Any:
        start_times, seen = (time.perf_counter(), time.thread_time()), sum(map(len, inner.values()))
        try:
            return function(*arguments, **options)
        finally:
            elapsed = time.perf_counter() - start_times[0], time.thread_time() - start_times[1]
            nested = [pair for pairs in inner.values() for pair in pairs[seen:]]
            times[name].append(
                (elapsed[0] - sum(wall for wall, _ in nested), elapsed[1] - sum(cpu for _, cpu in nested))
            )

    setattr(owner, attribute, call)


def report(title: str, times: Times, count: int, whole: tuple[float, float] | None) -> None:
    print(f"{title:46} {'calls':>6} {'wall ms':>9} {'cpu ms':>9}")
    sums = [0.0, 0.0]
    for name, pairs in times.items():
        wall, cpu = (1000 * sum(pair[index] for pair in pairs) / count for index in (0, 1))
        sums = [sums[0] + wall, sums[1] + cpu]
        print(f"  {name:44} {len(pairs) / count:6.1f} {wall:9.2f} {cpu:9.2f}")
    shares = f"   = {sums[0] / whole[0] / 10:.2f} % and {sums[1] / whole[1] / 10:.2f} %" if whole else ""
    print(f"  {'total':44} {'':6} {sums[0]:9.2f} {sums[1]:9.2f}{shares}\n")


if __name__ == "__main__":
    main()
