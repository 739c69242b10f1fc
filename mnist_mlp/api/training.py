"""Train a run or a sweep from Python, with the run folders and results of the command line."""

import itertools
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence, Sized
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, overload

import pytorch_lightning as pl
from omegaconf import DictConfig
from pytorch_lightning.loggers import Logger

from mnist_mlp.api.notebook import NotebookProgress, NotebookSweepProgress, in_notebook
from mnist_mlp.api.results import Run, Sweep, load_sweep
from mnist_mlp.cli.compose import (
    composed_settings,
    config_records,
    job_name,
    nested_settings,
    override_text,
    run_folder,
    sweep_folder,
)
from mnist_mlp.cli.help import suggest
from mnist_mlp.config import Config, DatasetName, Source, groups, non_result_keys, note_one_layer
from mnist_mlp.console import encodable_output
from mnist_mlp.data.mnist import Digits, shared_file
from mnist_mlp.errors import Interrupted, UserError, keyboard_interrupt
from mnist_mlp.options import OptionGroup, from_dict, options, to_dict
from mnist_mlp.runs.folder import FolderLock, RunFolder, note_record
from mnist_mlp.runs.predictions import read_curves
from mnist_mlp.runs.settings import flatten
from mnist_mlp.sweeps.devices import run_on_devices
from mnist_mlp.sweeps.jobs import (
    Job,
    finish_sweep,
    print_interrupted,
    refuse_invalid,
    refuse_single_run,
    write_run_page,
)
from mnist_mlp.sweeps.live import sweep_progress
from mnist_mlp.sweeps.parallel import Limits, run_jobs
from mnist_mlp.training.extensions import Network, as_list
from mnist_mlp.training.fit import fit as train
from mnist_mlp.training.processes import is_launched

Settings = Config | Mapping[str, Any] | None
"""A configuration, or settings by dotted key or nested; None for the defaults."""
_training = threading.RLock()  # reentrant, because a callback may train another network


@contextmanager
def one_at_a_time() -> Iterator[None]:
    """Wait until no other thread trains: threads share PyTorch's random generators."""
    if not _training.acquire(blocking=False):
        print("waiting for another thread; mnist_mlp.sweep trains in parallel", flush=True)
        _training.acquire()
    try:
        yield
    finally:
        _training.release()


def configuration(base: Config | None, settings: Mapping[str, Any]) -> Config:
    """Return the validated configuration: base, or the defaults, updated with the settings.

    Without a base, settings may name presets: {"experiment": "better"}, {"optim": "adam"}.
    """
    known, flat = {key for key, _, _ in options(Config())}, dotted(settings)
    presets = [key for key in groups() if key in flat]
    for key in flat:
        if key not in known and key not in presets:
            raise UserError(suggest(key))
    if presets and base is not None:
        raise UserError(
            f"{', '.join(presets)}: presets cannot be combined with a Config: use settings by key instead of a Config"
        )
    nested = to_dict(base) if base is not None else {}
    if presets:
        nested = composed_settings(override_text(key, flat[key]) for key in presets)
    for key in known & flat.keys():
        group, _, name = key.rpartition(".")
        (nested.setdefault(group, {}) if group else nested)[name] = flat[key]
    if base is not None and "model.hidden_layers" not in flat and isinstance(flat.get("model.hidden_units"), Sized):
        nested["model"]["hidden_layers"] = None  # a list says the layers
    note_one_layer(nested)
    return from_dict(Config, nested)


def dotted(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten settings to dotted keys; groups may be nested mappings or option groups."""
    flat: dict[str, Any] = {}
    for key, value in (nested_settings(settings) if isinstance(settings, DictConfig) else settings).items():
        group = to_dict(value) if isinstance(value, OptionGroup) else value
        flat |= dotted(group, f"{prefix}{key}.") if isinstance(group, Mapping) else {f"{prefix}{key}": group}
    return flat


def _grid_values(key: str, value: Any) -> list[Any]:
    """List the values of a grid's key: the items of a list, tuple, range, iterator or array, else the value itself."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, Iterator):
        value = list(value)
    if not isinstance(value, (list, tuple, range)):
        return [value]
    lists = {name for name, default, _ in options(Config()) if isinstance(default, list)}
    if key in lists and not all(isinstance(item, (list, tuple)) for item in value):
        hint = " (with model.hidden_layers, each is the width of all layers)" * (key == "model.hidden_units")
        raise UserError(
            f"{key}={list(value)} is ambiguous: use [{list(value)}] for one value, or "
            f"{[[item] if not isinstance(item, (list, tuple)) else list(item) for item in value]} for several{hint}"
        )
    if not value:
        raise UserError(f"{key}={value!r} is empty: use at least one value")
    return list(value)


def _grid_rows(keys: str | tuple[str, ...], value: Any) -> list[dict[str, Any]]:
    """List the settings of a grid's key, or of several keys whose values vary together."""
    if isinstance(keys, str):
        return [{keys: item} for item in _grid_values(keys, value)]
    rows = list(value)
    for row in rows:
        if not isinstance(row, (list, tuple)) or len(row) != len(keys):
            raise UserError(f"{', '.join(keys)}: {row!r} is not a value for each of the {len(keys)} keys: use a tuple")
    if not rows:
        raise UserError(f"{', '.join(keys)}={value!r} is empty: use at least one tuple")
    return [dict(zip(keys, row, strict=True)) for row in rows]


def _check_type(data: Any) -> None:
    if data is not None and not isinstance(data, Digits):
        raise UserError(f"data={data!r} has the wrong type: use mnist_mlp.Digits, or settings as {{'data': {{...}}}}")


def _check_dataset(data: Digits | None, config: Config) -> None:
    if data is None and config.data.source == Source.arrays:
        raise UserError("data.source=arrays needs your arrays: pass data= to mnist_mlp.fit or mnist_mlp.sweep")
    names_dataset = config.data.source not in (Source.auto, Source.arrays) or config.data.name != DatasetName.mnist
    if data is not None and data.source == "arrays" and names_dataset:
        raise UserError("data= replaces data.name and data.source: remove these settings")


@overload
def fit(
    config: Settings = None,
    folder: str | Path | None = None,
    *,
    network: Network | None = None,
    data: Digits | None = None,
    logger: Logger | Sequence[Logger] = (),
    callbacks: pl.Callback | Sequence[pl.Callback] = (),
    note: str | None = None,
    **overrides: Any,
) -> Run: ...
@overload  # to a type checker, **{"optim.lr": 0.01} could match any keyword parameter above
def fit(config: Settings = None, folder: str | Path | None = None, /, **overrides: Any) -> Run: ...
@encodable_output()
def fit(
    config: Settings = None,
    folder: str | Path | None = None,
    *,
    network: Network | None = None,
    data: Digits | None = None,
    logger: Logger | Sequence[Logger] = (),
    callbacks: pl.Callback | Sequence[pl.Callback] = (),
    note: str | None = None,
    **overrides: Any,
) -> Run:
    """Train and test one network, with the run folder, results and resuming of `python -m mnist_mlp.train`.

    If the folder holds a finished run with the same settings, that run is returned; an interrupted run is resumed.

    Args:
        config: A Config, or settings by dotted key ({"optim.lr": 0.005}), nested ({"optim": {"lr": 0.005}}) or as an
            OmegaConf DictConfig. Settings may name presets ({"experiment": "better"}).
        folder: The run folder; default: outputs/train/ followed by `name` or the current time.
        network: A module to train instead of the MLP, or a callable that builds one after seeding, such as its class.
            It maps float images (n, 28, 28), scaled by `data.normalization`, to logits (n, classes).
        data: Images and labels to use instead of MNIST.
        logger: Lightning loggers, which receive the configuration, all metrics and the figures.
        callbacks: Additional Lightning callbacks. Those that can change the result are part of the run's identity; set
            `affects_result = False` on one that only observes.
        note: Text for the run's page, stored as note.txt in its folder; None keeps an earlier note.
        overrides: Settings that take precedence over `config`, such as seed=3 or **{"optim.lr": 0.005}.

    Returns:
        The finished or diverged run.

    Raises:
        UserError: A setting is invalid, or the folder holds a run with other settings.
        KeyboardInterrupt: The call was interrupted; the message is how to resume it.
    """
    if config is not None and not isinstance(config, (Config, Mapping)):
        raise UserError(f"config={config!r} has the wrong type: use a Config, or settings by dotted key")
    _check_type(data)
    loggers, callbacks = as_list("logger", logger, Logger), as_list("callbacks", callbacks, pl.Callback)
    base, settings = (config, {}) if isinstance(config, Config) else (None, dotted(config or {}))
    settings |= dotted(overrides)
    chosen = configuration(base, settings)
    _check_dataset(data, chosen)
    if chosen.resume not in ("auto", "never"):
        raise UserError(f"resume={chosen.resume} is for the command line: pass this folder to fit as `folder`")
    devices, launched = chosen.trainer.devices, is_launched(chosen.trainer.devices)
    if devices > 1 and not launched and (network is not None or loggers or callbacks):
        raise UserError(
            f"trainer.devices={devices} with network=, logger= or callbacks= needs a launcher: "
            f"put this into a script and run torchrun --nproc-per-node={devices} SCRIPT"
        )
    if launched and folder is None and chosen.name is None:
        raise UserError(f"the {devices} processes of this run need the same folder: pass it to fit")
    path = Path(folder if folder is not None else run_folder(chosen.name, chosen.resume))
    if isinstance(config, (Config, DictConfig)):  # both contain every setting: record only those that were changed
        defaults = flatten(to_dict(Config()))
        settings = {key: value for key, value in flatten(to_dict(chosen)).items() if value != defaults[key]}
        settings |= {"model.hidden_layers": chosen.model.hidden_layers} if "model.hidden_units" in settings else {}
    texts = [override_text(key, value) for key, value in settings.items()]
    records = {**config_records(to_dict(chosen), texts), **note_record(note)}
    if chosen.trainer.progress and in_notebook() and devices == 1:
        chosen = replace(chosen, trainer=replace(chosen.trainer, progress=False))
        callbacks = [*callbacks, NotebookProgress(RunFolder(path))]
    task = partial(train, chosen, path, texts, records, digits=data)
    try:
        with one_at_a_time():
            if devices > 1 and not launched:
                result = run_on_devices(devices, task)
            else:
                result = task(callbacks=callbacks, loggers=loggers, network=network)
        RunFolder(path).write_note(note)  # of a finished or resumed run
        write_run_page(path)
    except KeyboardInterrupt:
        epoch, epochs = len(read_curves(RunFolder(path).metrics_file).get("epoch", ())) + 1, chosen.trainer.max_epochs
        when = f"in epoch {epoch} of {epochs}" if epoch <= epochs else "after the last epoch"
        again = "again" if chosen.resume == "auto" else "without resume='never'"
        raise keyboard_interrupt(f"interrupted {when}: call fit(..., {str(path)!r}) {again} to resume") from None
    return Run(path, result)


@encodable_output()
def sweep(
    grid: Mapping[str, Any] | Mapping[str | tuple[str, ...], Any],
    folder: str | Path | None = None,
    *,
    data: Digits | None = None,
    n_jobs: int = 0,
    order: str = "cover",
    max_seconds: float = 0.0,
    note: str | None = None,
) -> Sweep:
    """Train every combination of settings, with the jobs, folders and results of `python -m mnist_mlp.train -m`.

    All settings are checked before the first job starts. Repeating the call resumes the sweep: finished jobs are kept.

    Args:
        grid: Settings as for `fit`. The items of a list, tuple, range or array are swept ({"optim.lr": [0.005, 0.01],
            "seed": range(3)}); any other value is shared by all jobs. Settings that vary together have a tuple of keys
            and a list of tuples ({("model.hidden_units", "optim.lr"): [(64, 0.1), (256, 0.03)]}).
        folder: The sweep's folder; default: outputs/sweeps/ followed by `name` or the current time.
        data: Images and labels to use instead of MNIST, in all jobs.
        n_jobs: How many jobs run in parallel, each in its own process; 0: as many as CPU cores and memory allow.
        order: "cover" runs all settings with the first seed before the next seed, far apart settings first; "grid" runs
            the jobs in the order of the grid. Results do not depend on it.
        max_seconds: No job starts later than this after the call; a repeated call continues. 0: no limit.
        note: Text for the sweep's page, stored as note.txt in its folder; None keeps an earlier note.

    Returns:
        The sweep. A failed job does not stop the others; its status is "failed".

    Raises:
        UserError: A setting is invalid, the folder has jobs with other data, or another process is running this sweep.
        KeyboardInterrupt: As for `fit`.
    """
    _check_type(data)
    name: Any = dict(grid).get("name")
    path = Path(folder if folder is not None else sweep_folder(name))
    limits = Limits(n_jobs, order=order, max_seconds=max_seconds)
    dimensions = [_grid_rows(keys, value) for keys, value in grid.items()]
    swept = sorted({key for rows in dimensions if len(rows) > 1 for key in rows[0]})
    if twice := [key for key, count in Counter(key for rows in dimensions for key in rows[0]).items() if count > 1]:
        raise UserError(f"{', '.join(twice)}: set twice: use it alone, or in one tuple of keys")
    points = [{key: row[key] for row in point for key in row} for point in itertools.product(*dimensions)]
    configs, faults = list[Config](), list[str]()
    for point in points:
        try:
            config = configuration(None, point)
            _check_dataset(data, config)
            refuse_single_run(config)
            configs.append(config)
            faults.append("")
        except UserError as error:
            faults.append(str(error))
    refuse_invalid(faults)
    for key in non_result_keys() & set(swept):
        raise UserError(f"{key} does not affect results, so it cannot be swept: use one value")
    note_record(note)  # checked before a folder is created
    started = time.time()
    with one_at_a_time(), FolderLock(path).acquire(), shared_file(data) as file:
        RunFolder(path).write_note(note)
        jobs = []
        for number, (point, config) in enumerate(zip(points, configs, strict=True), 1):
            texts = [override_text(key, value) for key, value in point.items()]
            run = RunFolder(path / job_name(texts, swept))
            settings = to_dict(config)
            jobs.append(Job(run, path, number, len(points), texts, settings, config, swept=swept, digits_file=file))
        progress = (NotebookSweepProgress if in_notebook() else sweep_progress)(jobs, started)
        try:
            try:
                run_jobs(jobs, lambda job: config_records(job.settings, job.overrides), progress, limits)
            except Interrupted as stop:
                if not stop.reason:
                    raise
                print_interrupted(stop)
            finish_sweep(path)
        except KeyboardInterrupt:
            done = f"with {progress.done} of {progress.total} jobs done"
            raise keyboard_interrupt(f"interrupted {done}: call sweep(..., {str(path)!r}) again to resume") from None
    return load_sweep(path)
