"""Training from Python: one run, or a sweep, with the folders and the numbers of the command line."""

import itertools
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, overload

import pytorch_lightning as pl
from omegaconf import DictConfig
from pytorch_lightning.loggers import Logger

from mnist_mlp.api.notebook import NotebookProgress, in_notebook
from mnist_mlp.api.results import Run, Sweep, load_sweep
from mnist_mlp.cli.compose import (
    check_settings,
    composed_settings,
    config_records,
    job_name,
    nested_settings,
    override_text,
    run_folder,
    sweep_folder,
)
from mnist_mlp.cli.help import suggest
from mnist_mlp.config import Config, groups, non_result_keys
from mnist_mlp.data.mnist import Digits
from mnist_mlp.errors import UserError
from mnist_mlp.options import OptionGroup, from_dict, options, to_dict
from mnist_mlp.runs.folder import FolderLock, RunFolder
from mnist_mlp.runs.settings import flatten
from mnist_mlp.sweeps.jobs import Job, finish_sweep, write_run_page
from mnist_mlp.sweeps.live import sweep_progress
from mnist_mlp.sweeps.parallel import Limits, run_jobs
from mnist_mlp.training.extensions import Network, as_list
from mnist_mlp.training.fit import fit as train

Settings = Config | Mapping[str, Any] | None
"""A configuration, or settings by dotted key or nested; None for the defaults."""


def configuration(base: Config | None, settings: Mapping[str, Any]) -> Config:
    """A checked configuration: base (or the defaults) with these settings, by dotted key or nested.

    Without a base, a preset may be named too: {"experiment": "better"}, {"optim": "adam"}.
    """
    known, flat = {key for key, _, _ in options(Config())}, dotted(settings)
    presets = [key for key in groups() if key in flat]
    for key in flat:
        if key not in known and key not in presets:
            raise UserError(suggest(key))
    if presets and base is not None:
        raise UserError(
            f"{', '.join(presets)}: a preset changes the defaults: give settings by key instead of a Config"
        )
    nested = to_dict(base) if base is not None else {}
    if presets:
        nested = composed_settings(override_text(key, flat[key]) for key in presets)
    for key in known & flat.keys():
        group, _, name = key.rpartition(".")
        (nested.setdefault(group, {}) if group else nested)[name] = flat[key]
    return from_dict(Config, nested)


def dotted(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Settings by dotted key; groups of them may be nested, as dicts or as option groups."""
    flat: dict[str, Any] = {}
    for key, value in (nested_settings(settings) if isinstance(settings, DictConfig) else settings).items():
        group = to_dict(value) if isinstance(value, OptionGroup) else value
        flat |= dotted(group, f"{prefix}{key}.") if isinstance(group, Mapping) else {f"{prefix}{key}": group}
    return flat


def _several(key: str, value: Any) -> list[Any]:
    """The values of a key of a grid: a list, tuple, range or array has several, anything else is one."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, Iterator):
        value = list(value)
    if not isinstance(value, (list, tuple, range)):
        return [value]
    lists = {name for name, default, _ in options(Config()) if isinstance(default, list)}
    if key in lists and not all(isinstance(item, (list, tuple)) for item in value):
        raise UserError(
            f"{key}={list(value)} may be one value or several: give [{list(value)}] for one, "
            f"or {[[item] if not isinstance(item, (list, tuple)) else list(item) for item in value]} for several"
        )
    if not value:
        raise UserError(f"{key}={value!r} gives no value")
    return list(value)


@overload
def fit(
    config: Settings = None,
    folder: str | Path | None = None,
    *,
    network: Network | None = None,
    data: Digits | None = None,
    logger: Logger | Sequence[Logger] = (),
    callbacks: pl.Callback | Sequence[pl.Callback] = (),
    **overrides: Any,
) -> Run: ...
@overload  # for a type checker, **{"optim.lr": 0.01} might be any of the parameters above
def fit(config: Settings = None, folder: str | Path | None = None, /, **overrides: Any) -> Run: ...
def fit(
    config: Settings = None,
    folder: str | Path | None = None,
    *,
    network: Network | None = None,
    data: Digits | None = None,
    logger: Logger | Sequence[Logger] = (),
    callbacks: pl.Callback | Sequence[pl.Callback] = (),
    **overrides: Any,
) -> Run:
    """Train and test one net, as `python -m mnist_mlp.train` does: the same folder, numbers and resuming.

    Args:
        config: a Config, or settings by dotted key ({"optim.lr": 0.005}), nested ({"optim": {"lr": 0.005}}) or as a
            DictConfig of OmegaConf; presets, too ({"experiment": "better"}).
        folder: by default outputs/train/<name or time>.
        network: a network of your own instead of the MLP, from scaled images (n, 28, 28) to logits (n, 10): a module,
            or what builds one (its class) after seeding.
        data: arrays of your own instead of MNIST.
        logger: one or several Lightning loggers, which get the configuration, all metrics and the figures.
        callbacks: further Lightning callbacks. Those that can change the result are part of the run's identity, unless
            they have `affects_result = False`.
        overrides: settings on top, such as seed=3 or **{"optim.lr": 0.005}.

    Raises:
        UserError: a ValueError that describes in one line what can be corrected.
    """
    if config is not None and not isinstance(config, (Config, Mapping)):
        raise UserError(f"config={config!r} has the wrong type: give a Config, or settings by dotted key")
    if data is not None and not isinstance(data, Digits):
        raise UserError(f"data={data!r} has the wrong type: give mnist_mlp.Digits, or settings as {{'data': {{...}}}}")
    loggers, callbacks = as_list("logger", logger, Logger), as_list("callbacks", callbacks, pl.Callback)
    base, settings = (config, {}) if isinstance(config, Config) else (None, dotted(config or {}))
    settings |= dotted(overrides)
    chosen = configuration(base, settings)
    if chosen.resume not in ("auto", "never"):
        raise UserError(f"resume={chosen.resume} is for the command line: give fit that folder itself")
    path = Path(folder if folder is not None else run_folder(chosen.name, chosen.resume))
    if isinstance(config, (Config, DictConfig)):  # which have every setting: record those that differ from the defaults
        defaults = flatten(to_dict(Config()))
        settings = {key: value for key, value in flatten(to_dict(chosen)).items() if value != defaults[key]}
    texts = [override_text(key, value) for key, value in settings.items()]
    records = config_records(to_dict(chosen), texts)
    if chosen.trainer.progress and in_notebook():
        chosen = replace(chosen, trainer=replace(chosen.trainer, progress=False))
        callbacks = [*callbacks, NotebookProgress(RunFolder(path))]
    result = train(chosen, path, texts, records, callbacks=callbacks, loggers=loggers, network=network, digits=data)
    write_run_page(path)
    return Run(path, result)


def sweep(grid: Mapping[str, Any], folder: str | Path | None = None, *, n_jobs: int = 0) -> Sweep:
    """Train every combination of these settings, as `python -m mnist_mlp.train -m` does: the same jobs and folders.

    grid: settings by dotted key; a list, tuple, range or array gives several values ({"optim.lr": [0.005, 0.01],
    "seed": range(3)}), anything else one for all. folder: by default outputs/sweeps/<name or time>. The same call goes
    on with what is not finished. All settings are checked before the first job starts. n_jobs: how many at once, each
    in a process of its own; 0 for as many as there are cores and memory for.
    """
    limits, path = Limits(n_jobs), Path(folder if folder is not None else sweep_folder(grid.get("name")))
    values = {key: _several(key, value) for key, value in grid.items()}
    swept = sorted(key for key in values if len(values[key]) > 1)
    points = [dict(zip(values, point, strict=True)) for point in itertools.product(*values.values())]
    configs = [check_settings(to_dict(configuration(None, point))) for point in points]
    for key in non_result_keys() & set(swept):
        raise UserError(f"{key} changes no result, so that its jobs would be one and the same: give one value")
    began = time.time()
    with FolderLock(path).acquire():
        jobs = []
        for number, (point, config) in enumerate(zip(points, configs, strict=True), 1):
            texts = [override_text(key, value) for key, value in point.items()]
            job = RunFolder(path / job_name(texts, swept))
            jobs.append(Job(job, path, number, len(points), texts, to_dict(config), config, swept=swept))
        run_jobs(jobs, lambda job: config_records(job.settings, job.overrides), sweep_progress(jobs, began), limits)
        finish_sweep(path)
    return load_sweep(path)
