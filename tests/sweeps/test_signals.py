"""Sweeps in separate processes that are interrupted, killed or started from a script; no process is left running."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pretended_system import environment

pytestmark = pytest.mark.integration
LONG = (
    *("model.hidden_layers=1", "model.hidden_units=[8]", "data.val_size=60", "data.batch_size=32"),
    *("trainer.max_epochs=100000", "trainer.figures=false", "seed=range(4)", "name=long"),
)
Start = Callable[..., "subprocess.Popen[str]"]


ON_WINDOWS_TOO = pytest.mark.parametrize("start", ["linux", "windows"], indirect=True)


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[Start]:
    """Starts a program in a new session, on Linux or on a pretended system."""
    monkeypatch.chdir(tmp_path)
    system = getattr(request, "param", "linux")
    variables = dict(os.environ) if system == "linux" else environment(system, tmp_path / "pretended")
    started: list[subprocess.Popen[str]] = []

    def call(*arguments: str) -> "subprocess.Popen[str]":
        command = [sys.executable, *arguments]
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace",
            start_new_session=True, env=variables,
        )  # fmt: skip
        started.append(process)
        return process

    yield call
    for process in started:
        for pid in of_session(process.pid):
            os.kill(pid, signal.SIGKILL)
        process.communicate()


def of_session(session: int) -> list[int]:
    """Processes of a session, except zombies."""
    pids = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == session and fields[0] != "Z":
            pids.append(int(path.parent.name))
    return pids


def wait_until(condition: Callable[[], object], seconds: float = 90) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "timed out"
        time.sleep(0.05)


def workers(session: int) -> list[int]:
    """Processes that hold the lock of a job's folder."""
    locks = Path("outputs/sweeps/long").glob("*/.lock")
    return [json.loads(text)["pid"] for path in locks if (text := path.read_text())]


def running(start: Start, idx_root: Path, *more: str) -> "subprocess.Popen[str]":
    """A running sweep with checkpoints of two jobs."""
    process = start("-m", "mnist_mlp.train", "-m", f"data.root={idx_root}", *LONG, "hydra.launcher.n_jobs=2", *more)
    wait_until(lambda: len(list(Path("outputs/sweeps/long").glob("*/checkpoints/last.ckpt"))) == 2)
    return process


@pytest.mark.parametrize(
    ("number", "group", "code"),
    [
        (signal.SIGINT, True, 130),  # Ctrl-C in a terminal reaches all processes
        (signal.SIGTERM, False, 143),
        (signal.SIGTERM, True, 143),
        (signal.SIGHUP, True, 129),
    ],
)
def test_a_signal_ends_all_jobs_after_their_chunk_and_keeps_their_checkpoints(
    start: Start, idx_root: Path, number: signal.Signals, group: bool, code: int
) -> None:
    process = running(start, idx_root)
    (os.killpg if group else os.kill)(process.pid, number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == code
    word = "Interrupted" if number == signal.SIGINT else f"Interrupted by {number.name}"
    assert err.startswith(f"\n{word}: 0 of 4 jobs done; ")
    assert err.count("\n") == 2
    assert "2 unfinished" in out
    wait_until(lambda: not of_session(process.pid), 10)
    assert not list(Path("outputs").rglob("failure.json"))
    assert not list(Path("outputs").rglob("*.tmp"))
    assert not list(Path("outputs").rglob(".lock"))


def test_a_running_sweep_has_a_page_that_says_how_far_it_is_until_it_ends(start: Start, idx_root: Path) -> None:
    page = Path("outputs/sweeps/live/report.html")
    epochs = ("trainer.max_epochs=2,400", "trainer.steps_per_execution=1", "trainer.figures=false", "name=live")
    process = start(
        "-m", "mnist_mlp.train", "-m", f"data.root={idx_root}", *LONG[:4], *epochs, "hydra.launcher.n_jobs=1"
    )
    wait_until(page.exists)
    assert process.poll() is None
    assert "1 of 2 jobs done" in page.read_text()
    process.communicate(timeout=120)
    assert process.returncode == 0
    assert 'id="running"' not in page.read_text()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_before_the_first_job_ends_the_sweep_with_the_exit_code_of_shells(
    start: Start, idx_root: Path, number: signal.Signals, code: int
) -> None:
    process = start("-m", "mnist_mlp.train", "-m", f"data.root={idx_root}", *LONG)
    wait_until(lambda: Path("outputs/sweeps/long").is_dir())
    os.killpg(process.pid, number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == code
    assert err.lower().startswith("\ninterrupted")
    assert err.count("\n") == 2
    wait_until(lambda: not of_session(process.pid), 10)
    assert not list(Path("outputs").rglob("result.json"))


@pytest.mark.parametrize("start", ["linux", "windows", "macos"], indirect=True)
def test_after_ctrl_c_in_a_terminal_the_jobs_resume_from_their_checkpoints(start: Start, idx_root: Path) -> None:
    interrupt(running(start, idx_root))
    before = rows()
    process = running(start, idx_root)
    wait_until(lambda: all(rows()[path] > count for path, count in before.items()))
    interrupt(process)


def interrupt(process: "subprocess.Popen[str]") -> None:
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err.startswith("\nInterrupted: 0 of 4 jobs done; ")
    assert err.count("\n") == 2
    assert "2 unfinished" in out
    wait_until(lambda: not of_session(process.pid), 10)
    assert not list(Path("outputs").rglob(".lock"))


def rows() -> dict[Path, int]:
    """Numbers of epochs in the jobs' metrics."""
    return {path: len(path.read_text().splitlines()) for path in Path("outputs/sweeps/long").glob("*/metrics.csv")}


@ON_WINDOWS_TOO
def test_workers_end_if_their_parent_is_killed(start: Start, idx_root: Path) -> None:
    process = running(start, idx_root)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    wait_until(lambda: not of_session(process.pid), 20)
    assert len(list(Path("outputs/sweeps/long").glob("*/checkpoints/last.ckpt"))) == 2
    assert not list(Path("outputs/sweeps/long").glob("*/.lock"))


@ON_WINDOWS_TOO
def test_a_killed_job_counts_as_failed_and_the_next_one_runs(start: Start, idx_root: Path) -> None:
    process = running(start, idx_root)
    first = sorted(workers(process.pid))
    os.kill(first[0], signal.SIGKILL)
    wait_until(lambda: len(list(Path("outputs/sweeps/long").glob("*/checkpoints/last.ckpt"))) == 3)
    (failure,) = Path("outputs/sweeps/long").glob("*/failure.json")
    assert json.loads(failure.read_text())["reason"].startswith("its process was killed by signal 9")
    os.kill(process.pid, signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "FAILED: its process was killed by signal 9 (SIGKILL)" in out
    wait_until(lambda: not of_session(process.pid), 10)


@ON_WINDOWS_TOO
def test_a_script_without_a_main_guard_is_run_once(start: Start, idx_root: Path, tmp_path: Path) -> None:
    script = tmp_path / "mine.py"
    script.write_text(
        "import mnist_mlp\n"
        "print('once')\n"
        f"grid = {{'data.root': {str(idx_root)!r}, 'data.val_size': 60, 'model.hidden_units': [[8]],\n"
        "         'trainer.max_epochs': 1, 'trainer.figures': False, 'seed': range(3)}\n"
        "sweep = mnist_mlp.sweep(grid, 'grid', n_jobs=2)\n"
        "assert len(sweep.runs) == 3\n"
    )
    process = start(str(script))
    out, err = process.communicate(timeout=120)
    assert (process.returncode, err) == (0, "")
    assert out.count("once") == 1
    assert sum(line.startswith("[") for line in out.splitlines()) == 3
    wait_until(lambda: not of_session(process.pid), 10)


@pytest.mark.parametrize("name", [["name=mine"], []], ids=["named", "unnamed"])
def test_an_interrupted_run_reports_its_epoch_and_the_command_that_resumes_it(
    start: Start, idx_root: Path, name: list[str]
) -> None:
    command = ["-m", "mnist_mlp.train", f"data.root={idx_root}", *LONG[:-2], *name]
    process = start(*command)
    wait_until(lambda: list(Path("outputs/train").glob("*/checkpoints/last.ckpt")))
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    (epoch,) = map(int, re.findall(r"in epoch (\d+) of 100000", err))
    (metrics,) = Path("outputs/train").glob("*/metrics.csv")
    assert len(metrics.read_text().splitlines()) == epoch  # a header and the epochs before
    process = start(*(command if name else shlex.split(err.splitlines()[-1])[1:]))
    wait_until(lambda: len(metrics.read_text().splitlines()) > epoch)
    os.killpg(process.pid, signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    assert "Resuming from" in out
