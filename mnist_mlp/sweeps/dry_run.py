"""What a run or sweep would do: its jobs, which of them are finished, and about how long the others take."""

import math
import re
import statistics
import textwrap
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from mnist_mlp.compare.load import find_jobs
from mnist_mlp.config import OFFICIAL_TRAIN, Config, subset_fraction
from mnist_mlp.console import columns, shown_path
from mnist_mlp.data.idx import locate_files
from mnist_mlp.options import to_dict
from mnist_mlp.runs.files import UnreadableFileError
from mnist_mlp.runs.folder import RunFolder, is_continuation
from mnist_mlp.runs.predictions import read_curves
from mnist_mlp.runs.settings import flatten, joined, value_text
from mnist_mlp.startup import quick_start
from mnist_mlp.sweeps.jobs import Job
from mnist_mlp.sweeps.live import format_estimate, format_settings, varying_settings

SIZE_KEYS = re.compile(
    r"data\.(name|subset|val_size|batch_size)|model\..*|optim\.(name|vat|teacher|ema)|augment\..*|trainer\.(compile|precision)"
)
"""Settings that determine the duration of an epoch, besides `data.source`, which runs record as sample or not."""
RESOLVED = (("data", "source"), ("trainer", "accelerator"), ("optim", "teacher"))
"""Settings that a run replaces if they are auto, or to which it appends @ and a digest."""
MEASURED_SECONDS = 0.3
Size = tuple[str, ...]


def plan_lines(jobs: Sequence[Job], parallel: int) -> Iterator[str]:
    """Yield the state of each job, and the estimated duration with so many jobs at once. All must be valid."""
    plans = [(job, job.config, *_state(job.folder, job.config)) for job in jobs if job.config is not None]
    finished = sum(not epochs for *_, epochs in plans)
    yield f"{shown_path(jobs[0].sweep)}: {len(jobs) - finished} to train, {finished} finished and skipped"
    labels, width = varying_settings({job.name: job.overrides for job in jobs}), max(len(plan[2]) for plan in plans)
    for job, _, state, _ in plans:
        text = f"{job.number:>4}  {state:<{width}}  {format_settings(job.name, labels[job.name])}"
        yield from textwrap.wrap(text, columns() - 1, subsequent_indent=" " * (width + 8), drop_whitespace=False)
    yield duration_text([(config, epochs) for _, config, _, epochs in plans if epochs], parallel)


def _state(folder: RunFolder, config: Config) -> tuple[str, int]:
    """Describe what would happen to a job, and return how many epochs it would train at most."""
    epochs, settings = config.trainer.max_epochs, to_dict(config)
    try:
        stored = folder.stored()
    except UnreadableFileError:
        return "replaces an unreadable run", epochs
    before = stored.run or (vars(stored.result) if stored.result else None)
    if before is None:
        return "new", epochs
    for group, name in RESOLVED:
        value = before["config"].get(group, {}).get(name, "")
        if settings[group][name] in ("auto", value.partition("@")[0]):
            settings[group][name] = value
    now = {**before, "config": settings}
    is_same = not stored.changes(now)
    if config.resume == "never" or not (is_same or is_continuation(before, now)):
        return "restarts" if is_same else "other settings in its folder", epochs
    if is_same and stored.result is not None:
        return "finished", 0
    done = len(read_curves(folder.metrics_file).get("elapsed_seconds", ()))
    return f"resumes after epoch {done}", max(epochs - done, 1)


def duration_text(planned: Sequence[tuple[Config, int]], parallel: int) -> str:
    """Estimate the duration of jobs with these numbers of epochs, from runs of the same size or measured steps."""
    if not planned:
        return "nothing to train"
    known, seconds, origins = _known_seconds(), list[float](), set[str]()
    for config, epochs in planned:
        if (size := _size(config)) not in known:
            known[size] = measured_seconds(config), "measured steps"
        each, origin = known[size]
        if each is None:
            return "cannot tell how long: no finished run is of this size, and its steps cannot be measured"
        seconds.append(min(each * epochs, config.trainer.max_seconds or math.inf))
        origins.add(origin)
    parallel = min(parallel, len(seconds))
    at_once = f", {parallel} at once" if parallel > 1 else ""
    return (
        f"{format_estimate(max(sum(seconds) / parallel, *seconds, 0.0))}{at_once}, judging by {joined(sorted(origins))}"
    )


def _size(config: Config) -> Size:
    flat, data = flatten(to_dict(config)), config.data
    source = data.source.value
    if source == "auto" and not locate_files(str(data.root), data.name.value)[1]:
        source = "sample"
    return str(source == "sample"), *(value_text(value) for key, value in flat.items() if SIZE_KEYS.fullmatch(key))


def _known_seconds() -> dict[Size, tuple[float | None, str]]:
    """Return the median seconds per epoch of the finished runs in outputs/, by size."""
    keys, runs = [key for key in flatten(to_dict(Config())) if SIZE_KEYS.fullmatch(key)], dict[Size, list[float]]()
    for job in find_jobs([Path("outputs")]):
        if job.result is not None:
            seconds = job.result.timing["fit_seconds"] / job.result.epochs
            size = str(job.text("data.source") == "sample"), *map(job.text, keys)
            runs.setdefault(size, []).append(seconds)
    return {size: (statistics.median(times), "finished runs of this size") for size, times in runs.items()}


def measured_seconds(config: Config) -> float | None:
    """Time optimizer steps on random images, on the CPU; return seconds per epoch, None where they say little."""
    with quick_start():  # only needed without finished runs
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
        batch = torch.randint(256, (size, 28, 28), dtype=torch.uint8), torch.randint(10, (size,))
        stamps = [time.perf_counter()]
        while len(stamps) < 5 or stamps[-1] - stamps[2] < MEASURED_SECONDS:  # the first two steps allocate memory
            optimizer.zero_grad()
            objective(*batch)[0].backward()
            optimizer.step()
            stamps.append(time.perf_counter())
    train = (OFFICIAL_TRAIN - config.data.val_size) * subset_fraction(config.data.subset)
    return (stamps[-1] - stamps[2]) / (len(stamps) - 3) * math.ceil(train / size)
