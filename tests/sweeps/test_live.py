"""The view of a sweep that runs, on the screen of a terminal; the sweep is made up of run folders."""

import io
import itertools
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from made_up_runs import config_of, made_up_result, write_failure
from rich.cells import cell_len
from terminal import Terminal

from mnist_mlp.console import plain
from mnist_mlp.runs.files import write_json
from mnist_mlp.sweeps.live import LiveProgress, about, sweep_progress
from mnist_mlp.sweeps.progress import PlainProgress

NAMES = [f"hidden_layers-{h}_lr-{lr}_max_epochs-4_seed-{s}" for h, lr, s in itertools.product((1, 3), (0.1, 0.5), "01")]
BEGAN = 1_000_000_000.0


class Sweep:
    """A sweep of NAMES under a clock of its own."""

    def __init__(self, path: Path, terminal: Terminal, names: list[str] = NAMES) -> None:
        self.path, self.now, self.names = path, BEGAN, names
        self.view = LiveProgress(path, names, BEGAN, terminal, terminal.size, lambda: self.now)

    def start(self, name: str) -> None:
        (self.path / name).mkdir()
        write_json(
            self.path / name / "run.json",
            {"config": config_of({"trainer.max_epochs": 4}), "fingerprint": "f", "overrides": []},
        )
        self.view.started(name, self.names.index(name) + 1)

    def epochs(self, name: str, count: int, seconds: float = 10.0) -> None:
        lines = ["epoch,val/accuracy,elapsed_seconds"]
        lines += [f"{epoch},{0.9 + epoch / 100},{epoch * seconds}" for epoch in range(1, count + 1)]
        self._write(self.path / name / "metrics.csv", "\n".join(lines) + "\n")

    def end(self, name: str, wrong: int = 3) -> None:
        write_json(self.path / name / "result.json", made_up_result(range(wrong)).to_json())
        os.utime(self.path / name / "result.json", (self.now, self.now))
        number = self.names.index(name) + 1
        self.view.ended(name, number, f"[{number}/8] {name}: val 97.00 %, test 97.10 % (mnist), 40.0 s", False)

    def fail(self, name: str, reason: str) -> None:
        write_failure(self.path / name / "more", reason)
        (self.path / name / "more" / "failure.json").rename(self.path / name / "failure.json")
        number = self.names.index(name) + 1
        self.view.ended(name, number, f"[{number}/8] {name}: FAILED: {reason}", True)

    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.view.tick()

    def _write(self, path: Path, text: str) -> None:
        path.write_text(text)
        os.utime(path, (self.now, self.now))


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    for name in ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    return Terminal()


@pytest.fixture
def sweep(terminal: Terminal, tmp_path: Path) -> Iterator[Sweep]:
    made = Sweep(tmp_path, terminal)
    yield made
    made.view.close()


def test_it_shows_counts_running_jobs_the_best_failures_and_the_time_left(sweep: Sweep, terminal: Terminal) -> None:
    for name in NAMES[:3]:
        sweep.start(name)
    assert terminal.lines()[2] == "0:00 elapsed, time left: not known before an epoch has ended"
    sweep.now += 20
    for name in NAMES[:3]:
        sweep.epochs(name, 2)
    sweep.wait(0.3)
    screen = terminal.lines()
    assert screen[1].endswith("  0 of 8 done, 3 running")
    # each takes 40 s and has 20 left; 5 more, three at once: two after those that end first, one more after that
    assert screen[2] == "0:20 elapsed, about 2 min left"
    assert [" ".join(line.split()) for line in screen[3:]] == [
        f"hidden_layers 1, lr {lr}, seed {seed} epoch 2/4 {'━' * 8}╺{'━' * 7} 92.00 %"
        for lr, seed in ((0.1, 0), (0.1, 1), (0.5, 0))
    ]
    sweep.now += 20
    sweep.end(NAMES[0], wrong=2)
    sweep.end(NAMES[1], wrong=4)
    sweep.fail(NAMES[2], "ValueError: the pictures are upside down")
    screen = terminal.lines()
    assert screen[0] == "[1/8] hidden_layer 1, lr 0.1, seed 0: val 97.00 %, test 97.10 % (mnist), 40.0 s"
    assert screen[2] == "[3/8] hidden_l 1, lr 0.5, seed 0: FAILED: ValueError: the pictures are upside…"
    assert screen[4].endswith("2 of 8 done, 0 running, 1 failed")
    assert screen[6] == "best    hidden_layers 1, lr 0.1: val 97.00 % (mean of 2)"
    assert screen[7].startswith("failed  hidden_la")
    assert screen[7].endswith("lr 0.5, seed 0: ValueError: the pictures are upside down")


def test_before_any_job_has_begun_the_sweep_is_starting(sweep: Sweep, terminal: Terminal) -> None:
    sweep.wait(1)
    assert terminal.lines()[1].endswith("  0 of 8 done, starting")
    sweep.start(NAMES[0])
    assert terminal.lines()[1].endswith("  0 of 8 done, 1 running")


def test_a_sweep_of_which_all_was_done_before_starts_nothing(tmp_path: Path, terminal: Terminal) -> None:
    sweep = Sweep(tmp_path, terminal, NAMES[:1])
    (tmp_path / NAMES[0]).mkdir()
    write_json(tmp_path / NAMES[0] / "result.json", made_up_result().to_json())
    sweep.view.ended(NAMES[0], 1, f"{NAMES[0]}: already there", False)
    shown = terminal.lines()
    sweep.view.close()
    assert any(line.endswith("1 of 1 done, 0 running") for line in shown)


def test_nothing_stays_twice_and_no_line_is_wider_than_the_terminal(sweep: Sweep, terminal: Terminal) -> None:
    for name in NAMES:
        sweep.start(name)
        for count in (1, 2, 3, 4):
            sweep.now += 5
            sweep.epochs(name, count, 5)
            sweep.view.tick()
        if NAMES.index(name) % 4 == 3:
            sweep.fail(name, "RuntimeError: " + "all went wrong " * 20)
        else:
            sweep.end(name)
        for text in terminal.written:
            assert all(cell_len(line) < 80 for line in plain(text).split("\n"))
        terminal.written.clear()
    assert sum("done, " in line for line in terminal.all_lines()) == 1
    sweep.view.close()
    left = terminal.all_lines()
    assert [line.split("]")[0] for line in left] == [f"[{number}/8" for number in range(1, 9)]


def test_what_others_print_goes_above_and_their_passing_lines_nowhere(tmp_path: Path, terminal: Terminal) -> None:
    sweep = Sweep(tmp_path, terminal)
    sweep.start(NAMES[0])
    print("a notice")
    print("\r  3 %", end="")
    print("\r  9 %\rwaiting for process 7", file=sys.stderr)
    sweep.wait(1)
    assert terminal.lines()[:4] == ["a notice", "waiting for process 7", "", terminal.lines()[3]]
    assert terminal.lines()[3].endswith("0 of 8 done, 1 running")
    sweep.view.close()
    print("afterwards")
    assert terminal.lines() == ["a notice", "waiting for process 7"]


@pytest.mark.parametrize(("columns", "rows"), [(80, 24), (40, 24), (100, 8), (80, 5), (80, 3), (20, 10), (200, 60)])
def test_it_fits_every_terminal(columns: int, rows: int, tmp_path: Path, terminal: Terminal) -> None:
    terminal.screen.resize(rows, columns)
    sweep = Sweep(tmp_path, terminal)
    for name in NAMES[2:]:
        sweep.start(name)
    for name, reason in zip(NAMES[2:5], ("one", "two", "one"), strict=True):
        sweep.fail(name, reason)
    sweep.wait(1)
    sweep.wait(1)
    sweep.view.close()
    assert len([line for line in terminal.all_lines() if line]) == 3  # of the failures, and nothing was left behind


def test_on_a_short_terminal_the_count_of_jobs_that_are_not_shown(tmp_path: Path, terminal: Terminal) -> None:
    terminal.screen.resize(6, 80)
    sweep = Sweep(tmp_path, terminal)
    for name in NAMES:
        sweep.start(name)
    screen = terminal.lines()
    sweep.view.close()
    assert screen[0].endswith("0 of 8 done, 8 running")
    assert [line.split()[0] for line in screen[2:]] == ["hidden_layers", "hidden_layers", "and"]
    assert screen[4] == "  and 6 more run"


def test_a_window_made_narrower_keeps_no_pieces(sweep: Sweep, terminal: Terminal) -> None:
    sweep.start(NAMES[0])
    sweep.fail(NAMES[0], "it went wrong " * 10)
    before = terminal.lines()
    # as a terminal that wraps anew does it: each line that is too long takes two
    wrapped = [part for line in before for part in ([line[:50], line[50:]] if len(line) > 50 else [line])]
    terminal.screen.reset()
    terminal.screen.resize(24, 50)
    terminal.write("\n".join(wrapped) + "\n")
    sweep.wait(1)
    screen = terminal.lines()
    assert screen[:3] == [wrapped[0].rstrip(), wrapped[1], ""]
    assert screen[3].endswith("0 of 8 done, 0 running, 1 failed")
    assert [line.split()[0] for line in screen[4:]] == ["0:01", "failed"]


def test_wide_letters_count_twice(tmp_path: Path, terminal: Terminal) -> None:
    names = [f"name-数字识别实验的一个很长很长的名字与另一个很长的名字{n}" for n in range(2)]
    sweep = Sweep(tmp_path, terminal, names)
    sweep.start(names[0])
    sweep.wait(1)
    shown = [line for line in terminal.lines() if "starting" in line]
    sweep.view.close()
    assert len(shown) == 1
    assert "…" in shown[0]
    assert "字0  starting" in shown[0].replace("字 0", "字0")


def test_no_color_is_without_colours_but_not_without_the_view(
    tmp_path: Path, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    sweep = Sweep(tmp_path, terminal)
    sweep.start(NAMES[0])
    sweep.fail(NAMES[0], "reason")
    sweep.view.close()
    assert not any("\x1b[3" in text or "\x1b[9" in text or "\x1b[1;3" in text for text in terminal.written)
    assert any("1 failed" in text for text in terminal.written)


@pytest.mark.parametrize(
    ("term", "tty", "live"), [("xterm", True, True), ("dumb", True, False), ("xterm", False, False)]
)
def test_where_lines_cannot_be_redrawn_each_job_has_one(
    term: str, tty: bool, live: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = Terminal() if tty else io.StringIO()
    monkeypatch.setattr(sys, "stdout", output)
    monkeypatch.setenv("TERM", term)
    progress = sweep_progress(tmp_path, NAMES, BEGAN)
    progress.close()
    assert isinstance(progress, LiveProgress if live else PlainProgress)
    if not live:
        for number, name in enumerate(NAMES, 1):
            progress.started(name, number)
            progress.tick()
            progress.ended(name, number, f"[{number}/8] {name}: well", False)
        printed = "".join(output.written if isinstance(output, Terminal) else output.getvalue()).splitlines()
        expected = [f"[{number}/8] {name}: well" for number, name in enumerate(NAMES, 1)]
        assert [line.partition("  [")[0] for line in printed] == expected


def test_jobs_of_an_earlier_day_do_not_make_the_time_left_short(sweep: Sweep) -> None:
    for name in NAMES[:4]:
        sweep.start(name)
        write_json(sweep.path / name / "result.json", made_up_result().to_json())
        os.utime(sweep.path / name / "result.json", (BEGAN - 9000, BEGAN - 9000))
        sweep.view.ended(name, 1, f"{name}: already there", False)
    assert sweep.view._state.seconds_left() is None
    sweep.start(NAMES[4])
    sweep.now += 100
    sweep.end(NAMES[4])
    assert sweep.view._state.seconds_left() == pytest.approx(300)  # three more, one at a time


def test_the_epochs_of_an_earlier_attempt_are_not_those_of_this_one(sweep: Sweep, terminal: Terminal) -> None:
    sweep.start(NAMES[0])
    sweep.epochs(NAMES[0], 3)
    sweep.view._state.running.clear()
    sweep.view.started(NAMES[0], 1)
    sweep.wait(1)
    assert "starting" in terminal.lines()[-1]
    sweep.epochs(NAMES[0], 4)
    sweep.wait(1)
    assert "epoch 4/4" in terminal.lines()[-1]


def test_the_time_left_is_not_told_more_exactly_than_it_is_known() -> None:
    assert [about(seconds) for seconds in (3, 89, 3540, 3700, 7200, 9000)] == [
        "about 10 s", "about 1 min", "about 59 min", "about 1 h", "about 2 h", "about 2 h 30 min",
    ]  # fmt: skip
