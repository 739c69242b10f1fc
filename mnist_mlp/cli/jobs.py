"""A job of a sweep: run it or reuse its result, record a failure, update the table, report progress."""

import os
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf, SCMode

from mnist_mlp.analysis.collect import find_jobs, summarize
from mnist_mlp.analysis.summary import as_text, write_summary
from mnist_mlp.cli.compose import records, to_config
from mnist_mlp.cli.preflight import PreflightCallback
from mnist_mlp.console import error_line, guarded_output
from mnist_mlp.errors import UserError
from mnist_mlp.interruption import Interrupted, exit_code, said
from mnist_mlp.quick_start import quick_start
from mnist_mlp.runs.files import write_json, write_text
from mnist_mlp.runs.folder import RunFolder
from mnist_mlp.runs.reading import UnreadableFileError
from mnist_mlp.runs.result import RunResult
from mnist_mlp.runs.tables import percent

unrecorded: list[str] = []
"""Jobs of this process that failed, of which their folders say nothing."""


def sweep_job(cfg: DictConfig) -> float | None:
    """Run one job and return its objective: the best validation accuracy, without validation the training accuracy.

    None if it failed. A failing job does not end the sweep: the traceback goes to its error.log, the reason to
    failure.json.
    """
    with guarded_output():
        return _sweep_job(cfg)


def _sweep_job(cfg: DictConfig) -> float | None:
    app = HydraConfig.get()
    folder = RunFolder(Path(app.runtime.output_dir))
    number = int(app.job.num) + 1
    place = f"[{number}/{os.environ.get('MNIST_MLP_JOBS', '?')}] {folder.path.name}"
    earlier = finished_before(folder)
    resumed = folder.last_checkpoint.is_file() and earlier is None
    try:
        result = _run(cfg, folder, place)
    except Exception as error:
        reason = _keep_failure(folder, cfg, error)
        _print_line(f"{place}: FAILED: {reason}")
        return None
    except (Interrupted, KeyboardInterrupt, SystemExit) as stop:  # the last is how Lightning passes Ctrl-C on
        if PreflightCallback.sweep is None:  # in another process than the sweep, which says it once
            raise
        say_interrupted(stop)
        raise SystemExit(exit_code(stop)) from None
    finally:
        _update_table(Path(app.sweep.dir))
    _print_line(f"{place}: {_outcome(result, result == earlier, resumed)}{_left(number)}")
    return result.metric("val/accuracy" if "val/accuracy" in result.metrics else "train/accuracy")


def say_interrupted(stop: BaseException) -> None:
    """Tell that a sweep was interrupted, and how it goes on."""
    line = f"{said(stop)}: what is finished stays; the same command with the same name= goes on"
    print(f"\n{line}", file=sys.stderr)


def finished_before(folder: RunFolder) -> RunResult | None:
    """The result that is in a folder already; None where there is none that can be read."""
    try:
        return folder.result()
    except UnreadableFileError:
        return None


def finish_sweep(sweep: Path) -> int:
    """The closing table and page of a sweep; the exit code, 1 if a job failed."""
    jobs = find_jobs([sweep])
    if not jobs and not unrecorded:
        return 1
    summary = summarize(jobs)
    print(f"\n{as_text(summary)}\n")
    complete = _write_page(sweep) and _update_table(sweep)
    if complete:
        print(f"  page   {sweep / 'report.html'}\n  table  {sweep / 'summary.csv'}, summary.md")
    for status, advice in (("failed", "see error.log in their folders"), ("unreadable", "see the table")):
        names = [job.folder.name for row in summary.rows for job in row.jobs if job.status == status]
        if names:
            print(f"error: {len(names)} {status}: {', '.join(names)} ({advice})", file=sys.stderr)
            complete = False
    if unrecorded:
        print(f"error: {len(unrecorded)} failed, and could not be recorded: {', '.join(unrecorded)}", file=sys.stderr)
    return 0 if complete and not unrecorded else 1


def _write_page(sweep: Path) -> bool:
    from mnist_mlp.reporting.page import write_page  # deferred: draws figures

    try:
        write_page([sweep], sweep / "report.html")
    except Exception as error:
        print(f"error: no page was written: {_reason(error)}; python -m mnist_mlp.report {sweep}", file=sys.stderr)
        return False
    return True


def _update_table(sweep: Path) -> bool:
    """Rewrite the table. Where that fails no run is lost, and the next job tries again."""
    try:
        write_summary(sweep)
    except Exception as error:
        print(f"error: the table could not be written: {_reason(error)}", file=sys.stderr)
        return False
    return True


def _print_line(line: str) -> None:
    """Print with one write, so that parallel jobs do not mix; on a terminal this replaces the bar."""
    print(f"\r\x1b[2K{line}" if sys.stdout.isatty() else line, flush=True)


def _run(cfg: DictConfig, folder: RunFolder, place: str) -> RunResult:
    config = to_config(cfg)
    if config.resume not in ("auto", "never"):
        raise UserError(f"resume={config.resume} is for one run: in a sweep give auto or never")
    if config.trainer.devices > 1:
        raise UserError(
            f"trainer.devices={config.trainer.devices} is for one run: the jobs of a sweep take one device each"
        )
    with quick_start():
        from mnist_mlp.training.fit import fit  # deferred: a mistake in the settings is reported without torch

    return fit(config, folder.path, HydraConfig.get().overrides.task, records(cfg), place)


def _keep_failure(folder: RunFolder, cfg: DictConfig, error: Exception) -> str:
    """Write error.log and failure.json; the reason, with what kept them from being written."""
    reason = _reason(error)
    try:
        config: Any = OmegaConf.to_container(cfg, enum_to_str=True, structured_config_mode=SCMode.DICT)
        content = {"reason": reason, "overrides": list(HydraConfig.get().overrides.task), "config": config}
        folder.path.mkdir(parents=True, exist_ok=True)  # it may have been archived
        write_text(folder.error_log, "".join(traceback.format_exception(error)))
        write_json(folder.failure_file, content)
    except Exception as second:
        unrecorded.append(folder.path.name)
        return f"{reason} (this could not be recorded: {_reason(second)})"
    return reason


def _reason(error: Exception) -> str:
    if isinstance(error, UserError):
        return str(error)
    return error_line(error) if isinstance(error, OSError) else f"{type(error).__name__}: {error_line(error)}"


def _outcome(result: RunResult, reused: bool, resumed: bool) -> str:
    metrics = result.metrics
    how = "already there" if reused else f"{'resumed, ' if resumed else ''}{result.timing['fit_seconds']:.1f} s"
    val = f"val {percent(metrics['val/accuracy'])}, " if "val/accuracy" in metrics else ""
    diverged = "DIVERGED, " if result.status == "diverged" else ""
    return f"{diverged}{val}test {percent(metrics['test/accuracy'])} ({result.data['source']}), {how}"


def _left(number: int) -> str:
    """Time since the sweep began, and the time left if the remaining jobs take as long as those before."""
    total, began = os.environ.get("MNIST_MLP_JOBS", "?"), os.environ.get("MNIST_MLP_SWEEP_START")
    if began is None:
        return ""
    elapsed = time.time() - float(began)
    left = f", about {_clock(elapsed / number * (int(total) - number))} left" if total.isdigit() else ""
    return f"  [{_clock(elapsed)} elapsed{left}]"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(max(seconds, 0)), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}" if minutes >= 60 else f"{minutes}:{rest:02}"
