"""A job of a sweep: run it or reuse its result, record a failure, update the table, report progress."""

import os
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf, SCMode

from mnist_mlp.analysis.summary import as_text, write_summary
from mnist_mlp.cli.compose import records, to_config
from mnist_mlp.errors import UserError
from mnist_mlp.quick_start import quick_start
from mnist_mlp.runs.files import read_json, write_json, write_text
from mnist_mlp.runs.folder import RunFolder
from mnist_mlp.runs.result import RunResult
from mnist_mlp.runs.tables import percent


def sweep_job(cfg: DictConfig) -> float | None:
    """Run one job and return its objective: the best validation accuracy, without validation the training accuracy.

    None if it failed. A failing job does not end the sweep: the traceback goes to its error.log, the reason to
    failure.json.
    """
    app = HydraConfig.get()
    folder = RunFolder(Path(app.runtime.output_dir))
    number = int(app.job.num) + 1
    place = f"[{number}/{os.environ.get('MNIST_MLP_JOBS', '?')}] {folder.path.name}"
    finished_before = folder.result_file.is_file()
    earlier, resumed = read_json(folder.result_file), folder.last_checkpoint.is_file() and not finished_before
    try:
        result = _run(cfg, folder, place)
    except BrokenPipeError:  # nobody reads the output any more, which is no failure of the job
        raise
    except Exception as error:
        reason = _keep_failure(folder, cfg, error)
        _print_line(f"{place}: FAILED: {reason}")
        return None
    except (KeyboardInterrupt, SystemExit):  # the latter is how Lightning passes the former on
        print("\ninterrupted: what is finished stays; the same command with the same name= goes on", file=sys.stderr)
        raise SystemExit(130) from None
    finally:
        write_summary(Path(app.sweep.dir))
    _print_line(f"{place}: {_outcome(result, result.to_json() == earlier, resumed)}{_left(number)}")
    return float(result.metrics.get("val/accuracy", result.metrics["train/accuracy"]) or "nan")


def finish_sweep(sweep: Path) -> int:
    """The closing table and page of a sweep; the exit code, 1 if a job failed."""
    summary = write_summary(sweep)
    if summary is None:
        return 1
    from mnist_mlp.reporting.page import write_page  # deferred: draws figures

    print(f"\n{as_text(summary)}\n")
    print(f"  page   {write_page([sweep], sweep / 'report.html')}\n  table  {sweep / 'summary.csv'}, summary.md")
    failed = [job.folder.name for row in summary.rows for job in row.jobs if job.status == "failed"]
    if failed:
        print(f"error: {len(failed)} failed: {', '.join(failed)} (see error.log in their folders)", file=sys.stderr)
    return 1 if failed else 0


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
    known = isinstance(error, UserError)
    reason = " ".join(str(error).split()) if known else f"{type(error).__name__}: {' '.join(str(error).split())}"
    config: Any = OmegaConf.to_container(cfg, enum_to_str=True, structured_config_mode=SCMode.DICT)
    write_text(folder.error_log, "".join(traceback.format_exception(error)))
    write_json(
        folder.failure_file, {"reason": reason, "overrides": list(HydraConfig.get().overrides.task), "config": config}
    )
    return reason


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
