"""Jobs in worker processes: results, and isolation from a job that crashes, prints or is interrupted."""

import csv
import io
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from made_up_runs import made_up_result
from settings import config_with
from sweeps_in_process import Sweep, sweeper

from mnist_mlp.config import Config, TrainerConfig
from mnist_mlp.errors import Interrupted, UserError
from mnist_mlp.runs.files import write_json
from mnist_mlp.runs.folder import RunFolder
from mnist_mlp.runs.result import StoredRun
from mnist_mlp.runs.settings import describe
from mnist_mlp.sweeps.jobs import Job, JobEnd, refuse_invalid
from mnist_mlp.sweeps.live import SweepProgress
from mnist_mlp.sweeps.parallel import Limits, Survey, refuse_same_folder, run_jobs
from mnist_mlp.sweeps.processes import WorkerPool

TWO = ("hydra/launcher=side_by_side", "hydra.launcher.n_jobs=2")


@pytest.fixture
def sweep(idx_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sweep:
    return sweeper(idx_root, tmp_path, monkeypatch)


@pytest.fixture
def pool() -> Iterator[WorkerPool]:
    pool = WorkerPool()
    yield pool
    pool.stop()


class Recorder(SweepProgress):
    """Records the calls of its methods."""

    def __init__(self) -> None:
        super().__init__([], time.time())
        self.calls: list[tuple[Any, ...]] = []
        self.ticks = 0

    def started(self, job: Job) -> None:
        self.calls.append(("started", job.name, job.number))

    def ended(self, job: Job, end: JobEnd) -> None:
        self.calls.append(("ended", job.name, job.number, end.line, end.objective is None))

    def tick(self) -> None:
        self.ticks += 1

    def close(self) -> None:
        self.calls.append(("closed",))


@pytest.fixture
def run(tmp_path: Path, pool: WorkerPool, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[JobEnd]]:
    """Runs functions as the jobs of a sweep."""

    def call(tasks: list[Any], progress: SweepProgress | None = None) -> list[JobEnd]:
        monkeypatch.setattr("mnist_mlp.sweeps.parallel.run_job", RunTask(tasks))
        return run_jobs(synthetic_jobs(tmp_path, len(tasks)), no_records, progress or Recorder(), Limits(2), pool=pool)

    return call


@dataclass
class RunTask:
    tasks: list[Any]

    def __call__(self, job: Job, records: Any) -> JobEnd:
        end: JobEnd = self.tasks[job.number - 1]()
        return end


def synthetic_jobs(sweep: Path, count: int) -> list[Job]:
    return [
        Job(RunFolder(sweep / f"job-{n}"), sweep, n, count, [f"seed={n}"], {"seed": n}, None)
        for n in range(1, count + 1)
    ]


def no_records(job: Job) -> dict[str, str]:
    return {}


def succeed(line: str = "done") -> JobEnd:
    return JobEnd(line, 0.5)


def kill_worker(number: int) -> JobEnd:
    os.kill(os.getpid(), number)
    return JobEnd("still alive", 1.0)


def print_text(text: str, pause: float = 0.0) -> JobEnd:
    os.write(1, text.encode())  # like C code
    time.sleep(pause)
    print("the end", file=sys.stderr)
    return JobEnd("printed", 0.5)


def report_device(devices: Path) -> JobEnd:
    """Wait until a job on another device has started."""
    device = os.environ.get("CUDA_VISIBLE_DEVICES", "none")
    (devices / device).touch()
    end = time.monotonic() + 60
    while len(list(devices.iterdir())) < 2 and time.monotonic() < end:
        time.sleep(0.01)
    return JobEnd(device, 0.5)


def weights(folder: Path) -> bytes:
    import torch

    state = torch.load(folder / "checkpoints/best.ckpt", weights_only=True)["state_dict"]
    content = io.BytesIO()
    for name in sorted(state):
        content.write(state[name].numpy().tobytes())
    return content.getvalue()


def test_a_parallel_sweep_equals_a_serial_one_bit_for_bit(sweep: Sweep, capsys: pytest.CaptureFixture[str]) -> None:
    # a single run of this size uses two threads
    grid = ("seed=0,1", "data.val_size=60,300", "model.hidden_units=[600]", "data.batch_size=200")
    assert sweep(*grid, "name=serial") == 1
    serial = capsys.readouterr()
    assert sweep(*grid, "name=parallel", *TWO) == 1
    parallel = capsys.readouterr()
    folders = sorted(path.parent for path in Path("outputs/sweeps/serial").glob("*/result.json"))
    assert len(folders) == 2
    for folder in folders:
        other = Path("outputs/sweeps/parallel") / folder.name
        results = [json.loads((path / "result.json").read_text()) for path in (folder, other)]
        keys = ("metrics", "confusion_matrix", "per_class", "fingerprint", "config", "overrides", "environment")
        for result in results:
            result["config"]["name"] = None
            result["overrides"] = [override for override in result["overrides"] if "name" not in override]
        assert {key: results[0][key] for key in keys} == {key: results[1][key] for key in keys}
        assert results[0]["environment"]["threads"] == 1
        assert weights(folder) == weights(other)
        assert {path.name for path in folder.iterdir()} == {path.name for path in other.iterdir()}
        hydra = [(path / ".hydra/hydra.yaml").read_text().replace("serial", "parallel") for path in (folder, other)]
        assert [len(text.splitlines()) > 50 for text in hydra] == [True, True]
    assert "val_size-300" in parallel.err
    for out in (serial.out, parallel.out):
        assert sorted(line.split()[0] for line in out.splitlines() if line.startswith("[")) == [
            *("[1/4]", "[2/4]", "[3/4]", "[4/4]")
        ]
    with Path("outputs/sweeps/parallel/summary.csv").open() as file:
        assert sorted(row["status"] for row in csv.DictReader(file)) == ["2 failed", "2 finished"]


def test_a_killed_worker_fails_its_own_job_and_the_others_continue(
    tmp_path: Path, run: Callable[..., list[JobEnd]]
) -> None:
    recorder = Recorder()
    tasks = [succeed, partial(kill_worker, signal.SIGKILL), succeed, partial(kill_worker, signal.SIGSEGV), succeed]
    ends = run(tasks, progress=recorder)
    assert [end.objective is None for end in ends] == [False, True, False, True, False]
    reasons = [json.loads((tmp_path / f"job-{n}/failure.json").read_text())["reason"] for n in (2, 4)]
    assert reasons[0].startswith("its process was killed by signal 9 (SIGKILL)")
    assert reasons[1] == "its process was killed by signal 11 (SIGSEGV)"
    assert ends[1].line == f"[2/5] job-2: FAILED: {reasons[0]}"
    assert "Fatal Python error" in (tmp_path / "job-4/error.log").read_text()  # with a traceback
    assert sorted(call[:3] for call in recorder.calls if call[0] == "started") == [
        ("started", f"job-{n}", n) for n in range(1, 6)
    ]
    assert {call[2]: call[4] for call in recorder.calls if call[0] == "ended"} == {1: 0, 2: 1, 3: 0, 4: 1, 5: 0}
    assert recorder.calls[-1] == ("closed",)
    assert recorder.ticks


def test_output_of_workers_is_printed_in_complete_lines(
    run: Callable[..., list[JobEnd]], capsys: pytest.CaptureFixture[str]
) -> None:
    run([partial(print_text, letter * 30 + "\n" + letter * 20, 0.1) for letter in "abcdef"])
    lines = capsys.readouterr().out.splitlines()
    assert sorted(lines) == sorted(
        [letter * 30 for letter in "abcdef"] + [letter * 20 + "the end" for letter in "abcdef"]
    )


def test_a_job_that_cannot_be_prepared_does_not_affect_the_others(
    tmp_path: Path, pool: WorkerPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def records(job: Job) -> dict[str, str]:
        return {"ratio": str(1 / (job.number - 1))}

    monkeypatch.setattr("mnist_mlp.sweeps.parallel.run_job", RunTask([succeed, succeed]))
    ends = run_jobs(synthetic_jobs(tmp_path, 2), records, Recorder(), Limits(1), pool=pool)
    assert ends[0].line == "[1/2] job-1: FAILED: ZeroDivisionError: division by zero"
    assert ends[1].objective is not None


def test_the_jobs_of_a_sweep_are_spread_over_the_gpus(
    tmp_path: Path, run: Callable[..., list[JobEnd]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mnist_mlp.sweeps.parallel.survey_machine", two_gpus)
    (tmp_path / "devices").mkdir()
    ends = run([partial(report_device, tmp_path / "devices")] * 4)
    assert {end.line for end in ends} == {"0", "1"}


def two_gpus(configs: Sequence[Config]) -> Survey:
    return Survey(bytes_per_job=2**20, free=2**40, gpus=2, digits={})


@pytest.mark.parametrize(
    ("digest", "accelerator", "line"),
    [
        ("d1", "auto", "[1/1] job-1: val 97.00 %, test 97.00 % (not MNIST), reused (gpu)"),
        ("d1", "gpu", "[1/1] job-1: val 97.00 %, test 97.00 % (not MNIST), reused (gpu)"),
        ("d2", "auto", "run again"),
        ("d1", "cpu", "run again"),
    ],
)
def test_a_finished_job_is_reused_if_its_data_are_the_same_and_auto_accepts_any_device(
    tmp_path: Path, pool: WorkerPool, monkeypatch: pytest.MonkeyPatch, digest: str, accelerator: str, line: str
) -> None:
    monkeypatch.setattr("mnist_mlp.sweeps.parallel.survey_machine", partial(survey_with, digest))
    monkeypatch.setattr("mnist_mlp.sweeps.parallel.run_job", RunTask([partial(succeed, "run again")]))
    (job,) = synthetic_jobs(tmp_path, 1)
    result = made_up_result(trainer__accelerator="gpu")
    run = describe(result.config, [], {"digest": "d1"})
    job.folder.path.mkdir()
    write_json(job.folder.run_file, run)
    write_json(job.folder.result_file, {**result.to_json(), **run, "data": {**result.data, "digest": "d1"}})
    config = Config(trainer=TrainerConfig(accelerator=accelerator))
    (end,) = run_jobs([replace(job, config=config)], no_records, Recorder(), Limits(1), pool=pool)
    assert end.line == line


DATA = ("auto", Config().data.root, "mnist", "standard")


def survey_with(digest: str, configs: Sequence[Config]) -> Survey:
    return Survey(2**20, 2**40, gpus=0, digits={DATA: ("mnist", {"digest": digest}, "")})


@pytest.mark.parametrize(
    ("stored", "available"),
    [("mnist", ("sample", "d2", "no files")), ("mnist", ("", "", "no files")), ("sample", ("mnist", "d2", ""))],
)
def test_finished_jobs_are_not_replaced_because_data_have_come_or_gone(
    stored: str, available: tuple[str, str, str]
) -> None:
    source, digest, why = available
    result = made_up_result(data__source=stored)
    run = describe(result.config, [], {"digest": "d1"})
    survey = Survey(2**20, 2**40, gpus=0, digits={DATA: (source, {"digest": digest}, why)})
    with pytest.raises(UserError, match=why or "name="):
        survey.finished(StoredRun(run, replace(result, data={**result.data, "digest": "d1"})), Config())


def test_a_fault_of_some_jobs_names_them_and_one_of_all_does_not() -> None:
    refuse_invalid(["", ""])
    with pytest.raises(UserError, match=r"^job 1: a; b; job 2: c$"):
        refuse_invalid(["a; b", "b; c"])
    with pytest.raises(UserError, match=r"^jobs 2, 3, 4, \.\.\.: a$"):
        refuse_invalid(["", *5 * ["a"]])


def test_two_jobs_of_different_settings_cannot_share_a_folder(tmp_path: Path) -> None:
    job = synthetic_jobs(tmp_path, 1)[0]
    other = replace(job, number=2, config=config_with({"seed": 7}))
    refuse_same_folder([job, replace(job, number=2)])
    with pytest.raises(UserError, match="same folder"):
        refuse_same_folder([job, other])


@pytest.fixture
def without_fork_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start workers as on Windows."""
    monkeypatch.setattr(multiprocessing, "get_all_start_methods", lambda: ["spawn"])
    monkeypatch.setattr("mnist_mlp.sweeps.parallel.survey_machine", partial(survey_with, "d1"))


def test_without_a_fork_server_the_same_workers_run_all_jobs_of_all_batches(
    without_fork_server: None, run: Callable[..., list[JobEnd]]
) -> None:
    batches = [run([report_process] * 4), run([report_process] * 4)]
    processes = {end.line for ends in batches for end in ends}
    assert 1 <= len(processes) <= 2
    assert str(os.getpid()) not in processes


def test_without_a_fork_server_a_killed_worker_fails_only_its_own_job(
    without_fork_server: None, tmp_path: Path, run: Callable[..., list[JobEnd]]
) -> None:
    ends = run([succeed, partial(kill_worker, signal.SIGSEGV), succeed])
    assert [end.objective is None for end in ends] == [False, True, False]
    assert "Fatal Python error" in (tmp_path / "job-2/error.log").read_text()


@pytest.mark.parametrize("methods", [["spawn"], ["fork", "spawn", "forkserver"]])
def test_stopping_the_pool_interrupts_its_jobs_and_leaves_no_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, methods: list[str]
) -> None:
    monkeypatch.setattr(multiprocessing, "get_all_start_methods", lambda: methods)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    pool = WorkerPool()
    assert pool.submit(0, partial(wait_for_interruption, tmp_path))
    while not (tmp_path / "started").exists():
        list(pool.events(0.05))
    pool.stop()
    assert {path.name for path in tmp_path.iterdir()} == {"started", "interrupted"}


@pytest.mark.skipif("forkserver" not in multiprocessing.get_all_start_methods(), reason="needs a fork server")
def test_processes_that_the_program_starts_after_a_sweep_take_signals(run: Callable[..., list[JobEnd]]) -> None:
    run([succeed])
    process = multiprocessing.get_context("forkserver").Process(target=time.sleep, args=(60,))
    process.start()
    process.terminate()
    process.join(30)
    process.kill()  # in case it does not
    process.join()
    assert process.exitcode == -signal.SIGTERM


def report_process() -> JobEnd:
    time.sleep(0.05)
    return JobEnd(str(os.getpid()), 0.5)


def wait_for_interruption(folder: Path) -> None:
    try:
        (folder / "started").touch()
        while True:
            time.sleep(0.01)
    except Interrupted:
        (folder / "interrupted").touch()
        raise


@pytest.mark.integration
def test_the_fork_server_blocks_signals_even_while_it_starts() -> None:
    """Ctrl-C in a terminal reaches the server, too, and would end it with a traceback while it starts."""
    code = """
import multiprocessing.forkserver, pathlib, time
from mnist_mlp.sweeps import processes
processes.PRELOADED = "json"
pool = processes.WorkerPool()
pool.start()
while (server := multiprocessing.forkserver._forkserver._forkserver_pid) is None:
    time.sleep(0.001)
print(pathlib.Path(f"/proc/{server}/status").read_text())
pool.submit(0, time.time)
while not list(pool.events(0.1)):
    pass
pool.stop()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    (blocked,) = (int(line.split()[1], 16) for line in done.stdout.splitlines() if line.startswith("SigBlk"))
    assert all(blocked >> (number - 1) & 1 for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP))


def test_workers_start_with_a_long_temporary_folder(tmp_path: Path) -> None:
    """The path of the fork server's socket must not exceed 107 bytes."""
    code = """
import tempfile, time
from mnist_mlp.sweeps import processes
processes.PRELOADED = "json"
pool = processes.WorkerPool()
pool.submit(0, time.time)
while not list(pool.events(0.1)):
    pass
pool.stop()
print(tempfile.gettempdir())
"""
    folder = tmp_path / ("long" * 20)
    folder.mkdir()
    environment = {**os.environ, "TMPDIR": str(folder)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{folder}\n", "")


@pytest.mark.integration
def test_a_worker_without_a_task_ends_silently_if_its_sweep_is_killed() -> None:
    code = """
import multiprocessing.forkserver as server, os
server.set_forkserver_preload(["mnist_mlp.sweeps.preload"])
reading, writing = server.connect_to_new_process([])
os.close(writing)
os.read(reading, 8)  # its pid
print(os.read(reading, 8) != b"")  # its exit code, after it has ended
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("True\n", "")
