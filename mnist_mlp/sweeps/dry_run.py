"""What a run or sweep would do: its jobs, which of them are finished, and about how long the others take."""

import math
import re
import statistics
import textwrap
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mnist_mlp.compare.load import find_jobs
from mnist_mlp.config import OFFICIAL_TRAIN, Config, subset_fraction
from mnist_mlp.console import columns, shown_path
from mnist_mlp.options import to_dict
from mnist_mlp.runs.files import UnreadableFileError
from mnist_mlp.runs.folder import is_continuation
from mnist_mlp.runs.predictions import read_curves
from mnist_mlp.runs.settings import flatten, joined, value_text
from mnist_mlp.sweeps.jobs import Job
from mnist_mlp.sweeps.live import format_estimate, format_settings, varying_settings

SIZE_KEYS = re.compile(
    r"data\.(name|subset|val_size|batch_size)|model\..*|optim\.(name|vat|teacher|ema)|augment\..*|trainer\.(compile|precision)"
)
"""Settings that determine the duration of an epoch."""
RESOLVED = (("data", "source", "auto"), ("trainer", "accelerator", "auto"))
"""Settings that a run replaces if they have this value."""
MEASURED_SECONDS = 0.3


def plan_lines(jobs: Sequence[Job], parallel: int) -> Iterator[str]:
    """Yield the jobs of a sweep with their state, and the estimated duration.

    Args:
        jobs: valid jobs.
        parallel: how many of them run at once.
    """
    states = [_state(job) for job in jobs]
    counts = Counter("finished (skipped)" if not epochs else "to train" for _, epochs in states)
    yield f"{len(jobs)} jobs in {shown_path(jobs[0].sweep)}: {joined(f'{n} {name}' for name, n in counts.items())}"
    labels, width = varying_settings({job.name: job.overrides for job in jobs}), max(len(state) for state, _ in states)
    for job, (state, _) in zip(jobs, states, strict=True):
        text = f"{job.number:>4}  {state:<{width}}  {format_settings(job.name, labels[job.name])}"
        yield from textwrap.wrap(text, columns() - 1, subsequent_indent=" " * (width + 8), drop_whitespace=False)
    yield duration_text([(job.config, epochs) for job, (_, epochs) in zip(jobs, states, strict=True)], parallel)


def run_line(job: Job) -> str:
    """Describe a single run."""
    state, epochs = _state(job)
    return f"{shown_path(job.folder.path)}: {state}; {duration_text([(job.config, epochs)], 1)}"


def _state(job: Job) -> tuple[str, int]:
    """Describe what would happen to a job, and return how many epochs it would train at most."""
    config: Any = job.config
    epochs: int = config.trainer.max_epochs
    try:
        stored = job.folder.stored()
    except UnreadableFileError:
        return "unreadable", epochs
    before = stored.run or (vars(stored.result) if stored.result else None)
    if before is None or config.resume == "never":
        return "new" if before is None else "restarts", epochs
    settings = to_dict(config)
    for group, name, value in RESOLVED:
        if settings[group][name] == value:
            settings[group][name] = before["config"][group][name]
    if before["config"]["optim"].get("teacher", "").partition("@")[0] == config.optim.teacher:
        settings["optim"]["teacher"] = before["config"]["optim"].get("teacher", "")
    now = {**before, "config": settings}
    is_same = not stored.changes(now)
    if is_same and stored.result is not None:
        return "finished", 0
    if is_same or is_continuation(before, now):
        done = len(read_curves(job.folder.metrics_file).get("elapsed_seconds", ()))
        return f"resumes after epoch {done}" if done else "restarts", epochs - done
    return "other settings in its folder", epochs


def duration_text(planned: Sequence[tuple[Config | None, int]], parallel: int) -> str:
    """Estimate the duration from finished runs of the same size, or from measured steps.

    Args:
        planned: settings and number of epochs of each job.
        parallel: how many of them run at once.
    """
    waiting = [(config, epochs) for config, epochs in planned if config is not None and epochs]
    if not waiting:
        return "nothing to train"
    known, seconds, origins = _known_seconds(), list[float](), set[str]()
    for config, epochs in waiting:
        if (size := _size(config)) not in known:
            known[size] = (_measured_seconds(config), "measured steps")
        each, origin = known[size]
        if each is None:
            return "cannot tell how long: no finished run is of this size, and its steps cannot be measured"
        seconds.append(min(each * epochs, config.trainer.max_seconds or math.inf))
        origins.add(origin)
    total = max(sum(seconds) / min(parallel, len(seconds)), *seconds, 0.0)
    at_once = f", {parallel} at once" if parallel > 1 and len(seconds) > 1 else ""
    return f"{format_estimate(total)}{at_once}, judging by {joined(sorted(origins))}"


def _size(config: Config) -> tuple[str, ...]:
    flat = flatten(to_dict(config))
    return tuple(value_text(value) for key, value in flat.items() if SIZE_KEYS.fullmatch(key))


def _known_seconds() -> dict[tuple[str, ...], tuple[float | None, str]]:
    """Return the median seconds per epoch of the finished runs in outputs/, by size."""
    keys, runs = [key for key in flatten(to_dict(Config())) if SIZE_KEYS.fullmatch(key)], dict[Any, list[float]]()
    for job in find_jobs([Path("outputs")]):
        if job.result is not None:
            seconds = job.result.timing["fit_seconds"] / job.result.epochs
            runs.setdefault(tuple(map(job.text, keys)), []).append(seconds)
    return {size: (statistics.median(times), "finished runs of this size") for size, times in runs.items()}


def _measured_seconds(config: Config) -> float | None:
    """Time optimizer steps on random images, on a CPU thread; return seconds per epoch, None where that says little."""
    from mnist_mlp.startup import quick_start

    with quick_start():
        import torch

        from mnist_mlp.training.classifier import DigitClassifier
        from mnist_mlp.training.step import Objective
        from mnist_mlp.training.trainer import choose_accelerator, cpu_threads

    trainer, optim, size = config.trainer, config.optim, config.data.batch_size
    is_plain = trainer.precision == "32-true" and not (trainer.compile or optim.teacher)
    if not is_plain or choose_accelerator(config) != "cpu":
        return None
    with cpu_threads(trainer.threads or 1):
        model = DigitClassifier.from_config(config)
        optimizer = model.configure_optimizers()["optimizer"]
        objective = Objective(model, config.augment.strengths(), optim.label_smoothing, optim.vat)
        images, labels = torch.randint(256, (size, 28, 28), dtype=torch.uint8), torch.randint(10, (size,))
        began, count = 0.0, -3  # the first steps allocate memory
        while count <= 0 or time.perf_counter() - began < MEASURED_SECONDS:
            began = time.perf_counter() if count == 0 else began
            optimizer.zero_grad()
            objective(images, labels)[0].backward()
            optimizer.step()
            count += 1
        step = (time.perf_counter() - began) / count
    train = (OFFICIAL_TRAIN - config.data.val_size) * subset_fraction(config.data.subset)
    return step * math.ceil(train / size)
