"""Output of a run with and without a terminal."""

import sys

import pytest
from terminal import Terminal

from mnist_mlp.training import callbacks as progress
from mnist_mlp.training.callbacks import RunProgress

ROW = {"epoch": 1, "train/loss": 0.4, "train/accuracy": 0.9, "val/loss": 0.3, "val/accuracy": 0.95, "lr": 0.01}


def install(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Print to this terminal; not a fixture, because pytest replaces sys.stdout after fixtures have run."""
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setattr(progress, "REFRESH_SECONDS", 0.0)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.delenv("NO_COLOR", raising=False)
    return terminal


def test_a_run_shows_its_progress_and_a_line_per_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = install(Terminal(), monkeypatch)
    display = RunProgress(True)
    display.begin(True)
    display.within(1, 3, 0.5, 2.0)
    assert "1/3" in terminal.lines()[1]
    assert "50 %, about 0:10 left" in terminal.lines()[1]
    display.epoch(ROW, 3, True, 5.0)
    display.within(2, 3, 0.2, 1.0)
    assert terminal.lines()[1].split()[-1] == "best"
    assert "90.00 %" in terminal.lines()[1]
    assert "about 0:09 left" in terminal.lines()[2]  # like the first epoch: 4 s of this one, and 5 s
    display.ends_early = True
    display.within(2, 3, 0.4, 2.0)
    assert "at most 0:08 left" in terminal.lines()[2]
    display.epoch({**ROW, "epoch": 2}, 3, False, 5.0)
    assert len(terminal.lines()) == 3
    assert "best" not in terminal.lines()[2]


@pytest.mark.parametrize("columns", [20, 40, 60, 80, 200])
def test_the_progress_line_never_wraps(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = install(Terminal(columns), monkeypatch)
    monkeypatch.setenv("COLUMNS", str(columns))
    for label in (
        None,
        "[11/12] hidden_units-1024-1024-1024_normalization-symmetric_lr-0.001_schedule-one_cycle_seed-3",
    ):
        display = RunProgress(True, label)
        for fraction in (0.1, 0.5, 1.0):
            display.within(13, 1000, fraction, 3600.0)
            assert terminal.screen.cursor.y == 0
            assert len(terminal.lines()) == 1
            assert terminal.screen.cursor.x < columns
        assert (label is None) or columns < 60 or terminal.lines()[0].startswith("[11/12] ")


def test_without_a_terminal_only_lines_are_printed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for label, lines in ((None, 2), ("[1/2] job", 0)):
        display = RunProgress(True, label)
        display.begin(False)
        display.within(1, 3, 0.5, 2.0)
        display.epoch({name: value for name, value in ROW.items() if "val" not in name}, 3, False, 5.0)
        out = capsys.readouterr().out
        assert "\x1b" not in out
        assert "\r" not in out
        assert out.count("\n") == lines


def test_without_progress_nothing_is_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = install(Terminal(), monkeypatch)
    display = RunProgress(False)
    display.begin(True)
    display.compiling()
    display.compiled(1.0)
    display.within(1, 3, 0.5, 2.0)
    display.epoch(ROW, 3, True, 5.0)
    assert terminal.written == []
