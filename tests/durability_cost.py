"""What it costs to trust a run folder: the time in fsync, checksums, lock and digest, per epoch and per start.

    python tests/durability_cost.py [OVERRIDE ...]        # the default run for three epochs, unless told otherwise

Wall-clock and processor time of the training process, each call counted once where one is within another.
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
    timed(epochs, "second name of the checkpoint before", checkpoint, "_keep_previous")
    timed(start, "lock taken and released", folder.FolderLock, "acquire")
    timed(start, "lock taken and released", folder.FolderLock, "release")
    timed(start, "digest of the digits", vars(mnist.Digits)["digest"], "func")
    timed(start, "CRC-32 of the official files", mnist.zlib, "crc32")
    timed(start, "look for a checkpoint and for others' files", fit, "checkpoint_to_resume")
    timed(start, "look for a checkpoint and for others' files", fit, "refuse_foreign")
    timed(start, "run.json and .hydra/", folder.RunFolder, "start")
    assert files, callbacks
    whole: Times = defaultdict(list)
    timed(whole, "epoch", callbacks.EpochLog, "on_train_epoch_end")
    given = sys.argv[1:]
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as work:
        os.chdir(work)
        usual = ["trainer.max_epochs=3", "trainer.figures=false", "name=cost"]
        sys.argv = ["train", *given, *(one for one in usual if one.split("=")[0] not in "=".join(given).split("="))]
        began = time.perf_counter(), time.process_time()
        train.main()
        took = time.perf_counter() - began[0], time.process_time() - began[1]
        os.chdir("/")
    count = len(whole["epoch"])
    epoch = took[0] / count, took[1] / count
    print(
        f"\n{count} epochs, {epoch[0]:.3f} s each with their part of start and test ({epoch[1]:.3f} s of processor)\n"
    )
    report("per epoch", epochs, count, epoch)
    report("per start", start, 1, None)


def timed(times: Times, name: str, owner: Any, attribute: str, without: tuple[str, Any, str] | None = None) -> None:
    """Note what each call takes; less what a call within it takes, where one is given."""
    function: Callable[..., Any] = getattr(owner, attribute)
    inner: Times = defaultdict(list)
    if without:
        timed(inner, *without)

    @wraps(function)
    def call(*arguments: Any, **options: Any) -> Any:
        began, known = (time.perf_counter(), time.thread_time()), sum(map(len, inner.values()))
        try:
            return function(*arguments, **options)
        finally:
            took = time.perf_counter() - began[0], time.thread_time() - began[1]
            within = [pair for pairs in inner.values() for pair in pairs[known:]]
            times[name].append((took[0] - sum(one for one, _ in within), took[1] - sum(one for _, one in within)))

    setattr(owner, attribute, call)


def report(title: str, times: Times, count: int, whole: tuple[float, float] | None) -> None:
    print(f"{title:46} {'calls':>6} {'wall ms':>9} {'cpu ms':>9}")
    sums = [0.0, 0.0]
    for name, pairs in times.items():
        wall, cpu = (1000 * sum(pair[place] for pair in pairs) / count for place in (0, 1))
        sums = [sums[0] + wall, sums[1] + cpu]
        print(f"  {name:44} {len(pairs) / count:6.1f} {wall:9.2f} {cpu:9.2f}")
    parts = f"   = {sums[0] / whole[0] / 10:.2f} % and {sums[1] / whole[1] / 10:.2f} %" if whole else ""
    print(f"  {'together':44} {'':6} {sums[0]:9.2f} {sums[1]:9.2f}{parts}\n")


if __name__ == "__main__":
    main()
