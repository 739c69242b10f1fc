"""The one place that uses Lightning beyond its public interface, with a fallback to what is public.

tests/training/test_lightning_adapter.py fails where a new version of Lightning no longer has what is used here.
"""

import os
import signal
from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl
from lightning_fabric.strategies.launchers import subprocess_script
from pytorch_lightning.core.optimizer import LightningOptimizer


def count_optimizer_steps(module: pl.LightningModule, count: int) -> None:
    """Let `trainer.global_step` advance by steps that Lightning did not make itself.

    Checkpoints and logs depend on that number. Under manual optimisation it counts calls of `LightningOptimizer.step`
    alone, so the fallback makes that many calls without gradients, which change nothing.
    """
    progress = step_progress(module)
    if progress is not None:
        for tracker in (progress.total, progress.current):
            tracker.ready += count
            tracker.completed += count
        return
    optimizer = module.optimizers()
    assert isinstance(optimizer, LightningOptimizer)
    optimizer.zero_grad(set_to_none=True)
    for _ in range(count):
        optimizer.step()


def step_progress(module: pl.LightningModule) -> Any:
    """Lightning's counter of manual optimiser steps; None where this version keeps it elsewhere."""
    try:
        return module.trainer.fit_loop.epoch_loop.manual_optimization.optim_step_progress
    except AttributeError:
        return None


def leave_signals_alone(trainer: pl.Trainer) -> None:
    """Keep Lightning from handling SIGTERM: on several devices its handler waits for ranks that do not answer.

    Where that cannot be done, its handler calls ours as well.
    """
    connector = getattr(trainer, "_signal_connector", None)
    if connector is not None:
        connector.register_signal_handlers = lambda: None


def end_other_ranks(trainer: pl.Trainer) -> None:
    """End the processes that this one has started for the other devices; they wait for it otherwise."""
    kill = getattr(trainer.strategy.launcher, "kill", None)
    if kill is not None:
        kill(getattr(signal, "SIGKILL", signal.SIGTERM))


def end_in_a_line(trainer: pl.Trainer, say: Callable[[], None]) -> None:
    """Where a process that this one has started is gone, end with a line; Lightning would kill this one without."""
    observer = getattr(subprocess_script, "_ChildProcessObserver", None)
    if observer is None or trainer.world_size == 1:
        return

    def terminate_all(self: Any) -> None:
        end_other_ranks(trainer)
        say()
        os._exit(1)

    observer._terminate_all = terminate_all
