"""The progress display of a sweep: the live view on a terminal, and plain lines."""

import io
import itertools
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console
from terminal import Terminal

from mnist_mlp.config import Config, DataConfig, TrainerConfig
from mnist_mlp.runs.folder import RunFolder
from mnist_mlp.sweeps.jobs import Job, JobEnd
from mnist_mlp.sweeps.live import LiveProgress, SweepProgress, format_estimate, sweep_progress, time_left

GRID = list(itertools.product((1, 3), (0.1, 0.5), (0, 1)))
NAMES = [f"hidden_layers-{h}_lr-{lr}_max_epochs-4_seed-{s}" for h, lr, s in GRID]


class Sweep:
    """A sweep of the jobs NAMES on a terminal of the given size."""

    def __init__(self, path: Path, columns: int = 80, rows: int = 24) -> None:
        self.terminal = Terminal(columns, rows)
        config = Config(trainer=TrainerConfig(max_epochs=4))
        self.jobs = [
            Job(
                *(RunFolder(path / name), path, number, len(NAMES)),
                [f"model.hidden_layers={h}", f"optim.lr={lr}", "trainer.max_epochs=4", f"seed={seed}"],
                *({}, config),
            )
            for number, (name, (h, lr, seed)) in enumerate(zip(NAMES, GRID, strict=True), 1)
        ]
        self.console = Console(file=self.terminal, width=columns, height=rows)
        self.view = LiveProgress(self.jobs, time.time(), self.console)
        self.view.tick()

    def start(self, *indices: int) -> None:
        for index in indices:
            self.jobs[index].folder.path.mkdir()
            self.view.started(self.jobs[index])

    def epochs(self, index: int, count: int, seconds: float = 10.0) -> None:
        """Write the metrics of a job with epochs of this duration, and update the view."""
        lines = ["epoch,val/accuracy,elapsed_seconds"]
        lines += [f"{epoch},{0.9 + epoch / 100},{epoch * seconds}" for epoch in range(1, count + 1)]
        self.jobs[index].folder.metrics_file.write_text("\n".join(lines) + "\n")
        time.sleep(0.6)  # the view reads metrics twice a second
        self.view.tick()

    def end(self, index: int, objective: float | None, outcome: str) -> None:
        job = self.jobs[index]
        self.view.ended(job, JobEnd(f"{job.label}: {outcome}", objective))

    def words(self) -> list[str]:
        """The lines on the screen, with runs of spaces collapsed."""
        return [" ".join(line.split()) for line in self.terminal.lines()]


@pytest.fixture(autouse=True)
def _xterm(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")


@pytest.fixture
def sweep(tmp_path: Path) -> Iterator[Sweep]:
    sweep = Sweep(tmp_path)
    yield sweep
    sweep.view.close()


def test_the_view_shows_counts_running_jobs_best_setting_failures_and_time_left(sweep: Sweep) -> None:
    assert sweep.words()[1].endswith("0 of 8 done, starting")
    sweep.start(0, 1, 2)
    for job in sweep.view.running.values():
        job.began -= 20
    sweep.epochs(0, 2)
    assert sweep.words()[1].endswith("0 of 8 done, 3 running")
    # a job takes 40 s and these have 20 s left; five jobs wait for three workers, so two of them run in sequence
    assert sweep.words()[2].endswith(" elapsed, about 2 min left")
    assert sweep.words()[3].startswith("hidden_layers=1, lr=0.1, seed 0 epoch 2/4 ")
    assert sweep.words()[3].endswith(" 92.00 %")
    assert sweep.words()[4].startswith("hidden_layers=1, lr=0.1, seed 1 starting")
    sweep.end(0, 0.96, "val 96.00 %, test 97.10 % (mnist), 40.0 s")
    sweep.end(1, 0.98, "val 98.00 %, test 97.10 % (mnist), 40.0 s")
    sweep.end(2, None, "FAILED: ValueError: the pictures are upside down")
    screen = sweep.words()
    assert screen[0].startswith("[1/8] hidden_")
    assert screen[0].endswith("=1, lr=0.1, seed 0: val 96.00 %, test 97.10 % (mnist), 40.0 s")
    assert " ".join(screen[2:4]).endswith("lr=0.5, seed 0: FAILED: ValueError: the pictures are upside down")
    assert screen[5].endswith("2 of 8 done, 0 running, 1 failed")
    assert screen[7] == "best hidden_layers=1, lr=0.1: val 97.00 % (mean of 2)"
    assert screen[8].startswith("failed hidden_layers=1, lr=0.5, seed 0: ValueError: the pictures")


def test_labels_that_do_not_fit_are_wrapped_but_not_cut(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path, columns=66)
    sweep.start(0, 1)
    text = " ".join(sweep.words())
    for word in ("hidden_layers=1,", "lr=0.1,", "seed"):
        assert text.split().count(word) == 2
    sweep.end(0, 0.96, "val 96.00 %, test 97.10 % (mnist), 40.0 s")
    sweep.view.close()
    text = " ".join(" ".join(sweep.terminal.all_lines()).split())
    assert text == "[1/8] hidden_layers=1, lr=0.1, seed 0: val 96.00 %, test 97.10 % (mnist), 40.0 s"


def test_each_dataset_has_its_own_best_setting(sweep: Sweep) -> None:
    for index, name in ((0, "mnist"), (2, "fashion_mnist")):
        sweep.jobs[index] = replace(sweep.jobs[index], config=Config(data=DataConfig(name=name)))
        sweep.start(index)
        sweep.end(index, 0.96 - index / 10, "fine")
    best = [line for line in sweep.words() if line.startswith("best")]
    assert best == ["best hidden_layers=1, lr=0.1: val 96.00 %", "best hidden_layers=1, lr=0.5: val 76.00 %"]


def test_a_line_per_job_remains_at_the_end_with_other_output_between_the_lines(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path)  # not a fixture, because pytest gives fixtures another stdout
    for index in range(len(NAMES)):
        sweep.start(index)
        if index == 0:
            print("\r  3 %\r  9 %\ra notice")
        sweep.end(index, 0.9, "fine " * 30)
    sweep.view.close()
    left = [line for line in sweep.terminal.all_lines() if line]
    assert left[0] == "a notice"
    assert [line.split("]")[0] for line in left if line[0] == "["] == [f"[{number}/8" for number in range(1, 9)]
    assert all(len(line) <= 80 for line in left)


@pytest.mark.parametrize(("columns", "rows"), [(80, 24), (40, 24), (100, 8), (80, 5), (20, 10), (200, 60)])
def test_the_view_fits_every_terminal_and_disappears_at_the_end(columns: int, rows: int, tmp_path: Path) -> None:
    sweep = Sweep(tmp_path, columns, rows)
    sweep.start(*range(8))
    for index, reason in ((2, "one"), (3, "two"), (4, "one")):
        sweep.end(index, None, f"FAILED: {reason}")
    assert len(sweep.terminal.lines()) <= rows
    sweep.view.close()
    assert "".join(sweep.terminal.all_lines()).count("FAILED") == 3
    assert "running" not in "".join(sweep.terminal.all_lines())


def test_on_a_short_terminal_the_view_counts_the_hidden_jobs(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path, rows=7)
    sweep.start(*range(8))
    screen = sweep.words()
    sweep.view.close()
    assert screen[1].endswith("0 of 8 done, 8 running")
    assert screen[-1] == "and 6 more running"


def test_no_color_removes_colors_but_not_the_view(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    sweep = Sweep(tmp_path)
    sweep.start(0)
    sweep.end(0, None, "FAILED: reason")
    sweep.view.close()
    assert not any("\x1b[3" in text or "\x1b[9" in text or "\x1b[1;3" in text for text in sweep.terminal.written)
    assert any("1 failed" in text for text in sweep.terminal.written)


@pytest.mark.parametrize(
    ("term", "tty", "live"), [("xterm", True, True), ("dumb", True, False), ("xterm", False, False)]
)
def test_without_a_redrawable_terminal_each_job_prints_one_line(
    term: str, tty: bool, live: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = Sweep(tmp_path).jobs
    output = Terminal() if tty else io.StringIO()
    monkeypatch.setattr(sys, "stdout", output)
    monkeypatch.setenv("TERM", term)
    progress = sweep_progress(jobs, time.time())
    progress.close()
    assert type(progress) is (LiveProgress if live else SweepProgress)
    if not live:
        for job in jobs:
            progress.started(job)
            progress.tick()
            progress.ended(job, JobEnd(f"{job.label}: done", 0.5))
        printed = "".join(output.written if isinstance(output, Terminal) else output.getvalue()).splitlines()
        assert [line.partition("  [")[0] for line in printed] == [f"{job.label}: done" for job in jobs]
        assert printed[0].endswith(" left]")
        assert printed[-1].endswith(" elapsed]")


@pytest.mark.integration
def test_epochs_of_an_earlier_attempt_are_not_counted(sweep: Sweep) -> None:
    sweep.jobs[0].folder.path.mkdir()
    sweep.epochs(0, 3)
    sweep.view.started(sweep.jobs[0])
    time.sleep(0.6)
    sweep.view.tick()
    assert "starting" in sweep.words()[-1]
    sweep.epochs(0, 4)
    assert "epoch 4/4" in sweep.words()[-1]


def test_reused_and_failed_jobs_are_ignored_in_the_time_left(tmp_path: Path) -> None:
    jobs = Sweep(tmp_path).jobs
    progress = SweepProgress(jobs, time.time() - 50)
    for job, end in zip(jobs, (JobEnd("", 0.9, reused=True), JobEnd("FAILED: x", None)), strict=False):
        progress.started(job)
        progress.ended(job, end)
    assert progress.seconds_left() is None
    progress.started(jobs[2])
    progress.running[3].began -= 100
    progress.ended(jobs[2], JobEnd("", 0.9))
    assert progress.seconds_left() == pytest.approx(500, abs=1)  # five more, in sequence


def test_the_time_left_is_that_of_the_last_job_to_end() -> None:
    assert time_left([], [], 1) == 0
    assert time_left([], [4.0, 6.0], 2) == 6
    assert time_left([10.0] * 3, [4.0, 6.0], 2) == 4 + 10 + 10  # ends at 6 + 10 and 4 + 10 + 10
    assert time_left([10.0] * 5, [], 2) == 30
    assert time_left([1.0, 10.0, 2.0], [], 2) == 10


def test_an_estimate_is_rounded_to_its_precision() -> None:
    assert [format_estimate(seconds) for seconds in (3, 89, 3540, 3700, 7200, 9000)] == [
        "about 10 s", "about 1 min", "about 59 min", "about 1 h", "about 2 h", "about 2 h 30 min",
    ]  # fmt: skip


def test_the_time_left_of_a_search_includes_later_rounds_by_their_epochs(tmp_path: Path) -> None:
    first, second, *_ = Sweep(tmp_path).jobs
    progress = SweepProgress([first], time.time())
    progress.extend([first], [4, 2, 8])
    assert (progress.done, progress.total) == (0, 4)
    progress.started(first)
    first.folder.path.mkdir()
    lines = [f"{epoch},{10 * epoch}" for epoch in range(1, 5)]
    first.folder.metrics_file.write_text("\n".join(["epoch,elapsed_seconds", *lines]))
    progress.running[first.number].began -= 45  # 40 s for 4 epochs, 5 s for the rest
    progress.ended(first, JobEnd("", 0.9))
    assert progress.seconds_left() == pytest.approx(3 * 5 + (4 + 2 + 8) * 10, abs=0.5)
    progress.extend([second], [2, 8])
    assert (progress.done, progress.total) == (1, 4)
    assert progress.seconds_left() == pytest.approx(3 * 5 + (4 + 2 + 8) * 10, abs=0.5)
    progress.started(second)
    progress.running[second.number].began -= 15
    assert progress.seconds_left() == pytest.approx(3 * 5 + (4 + 2 + 8) * 10 - 15, abs=0.5)
