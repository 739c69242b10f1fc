"""Commands with unusable output, folders or terminals: one line, exit code 1, and no work is lost."""

import errno
import io
import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from made_up_runs import write_run
from sweeps_in_process import TINY
from terminal import Terminal

from mnist_mlp.console import GuardedStream, command, error_line, guarded_output, shell_quoted
from mnist_mlp.errors import UserError
from mnist_mlp.runs.folder import RunFolder


def test_printed_commands_are_quoted_for_the_shell_of_the_system(monkeypatch: pytest.MonkeyPatch) -> None:
    words = (r"outputs\sweeps\lr", "C:/Users/Me & You/x", "model.hidden_units=[8]", "name='a'", "seed=0")
    assert shlex.split(" ".join(map(shell_quoted, words))) == list(words)
    with monkeypatch.context() as windows:
        windows.setattr(os, "name", "nt")
        quoted = " ".join(map(shell_quoted, words))
    assert quoted == r"""outputs\sweeps\lr "C:/Users/Me & You/x" "model.hidden_units=[8]" "name='a'" seed=0"""


class FailingStream(io.StringIO):
    def __init__(self, error: Exception) -> None:
        super().__init__()
        self._error = error

    def write(self, text: str) -> int:
        raise self._error


@pytest.mark.parametrize("error", [BrokenPipeError(), OSError(errno.ENOSPC, "full"), ValueError("closed")])
def test_output_that_cannot_be_written_is_reported_at_the_end(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdout", FailingStream(error))
    done = []

    def work() -> None:
        with command():
            print("a line")
            print("another")
            done.append(True)

    with pytest.raises(SystemExit, match=r"^error: cannot write the output .*completed$"):
        work()
    assert done


def test_a_closed_stdout_is_not_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    with command():
        print("unread", sys.stdout.isatty())
    assert sys.stdout is None


def test_characters_that_cannot_be_encoded_become_question_marks(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    with guarded_output() as output:
        print("97.5 ± 0.1")
    assert raw.getvalue() == b"97.5 ? 0.1\n"
    assert output.error is None


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (UserError("a mistake"), "a mistake"),
        (OSError(errno.ENOSPC, "No space left on device", "a/b"), "a/b: No space left on device"),
        (PermissionError(errno.EACCES, "Permission denied"), "Permission denied"),
        (MemoryError(), "out of memory; use a smaller network or a smaller batch size"),
    ],
)
def test_an_error_of_the_environment_is_reported_in_one_line(error: Exception, line: str) -> None:
    with pytest.raises(SystemExit, match=f"^error: {line}$"), command():
        raise error
    assert "\n" not in error_line(error)


def test_a_bug_is_raised() -> None:
    with pytest.raises(ZeroDivisionError), command():
        raise ZeroDivisionError


def test_a_guarded_stream_has_the_attributes_of_its_stream() -> None:
    stream = io.StringIO()
    guard = GuardedStream(stream)
    print("a", file=guard)
    assert guard.getvalue() == "a\n"
    assert not guard.isatty()


Shell = Callable[[str], "subprocess.CompletedProcess[str]"]


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    """Runs a line of bash, in which $report is the report command for a sweep with a `±` in its table."""
    sweep = tmp_path / "sweep"
    for seed in (0, 1):
        for lr in (0.1, 0.2):
            write_run(sweep / f"{lr}_{seed}", range(3 + seed), seed=seed, optim__lr=lr)
    report = f"{shlex.quote(sys.executable)} -m mnist_mlp.report {shlex.quote(str(sweep))}"

    def run(line: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            ["bash", "-c", line], cwd=tmp_path, capture_output=True, text=True, check=False,
            env={**os.environ, "report": report, "PYTHONPATH": str(Path(__file__).parents[1])},
        )  # fmt: skip

    return run


@pytest.mark.integration
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_report_is_written_even_if_its_output_cannot_be(shell: Shell, tmp_path: Path) -> None:
    done = shell("$report > /dev/full")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "No space left on device" in done.stderr
    assert (tmp_path / "sweep" / "report.html").is_file()
    assert (tmp_path / "sweep" / "summary.csv").is_file()


@pytest.mark.integration
def test_a_run_completes_even_if_its_pipe_is_closed(idx_root: Path, tmp_path: Path) -> None:
    arguments = [f"data.root={idx_root}", *TINY, "name=x"]
    line = f"{shlex.join([sys.executable, '-m', 'mnist_mlp.train', *arguments])} | true; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", line], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stdout == "1\n"
    assert done.stderr == "error: cannot write the output (Broken pipe); the command itself completed\n"
    assert RunFolder(tmp_path / "outputs/train/x").result() is not None


def test_a_folder_that_cannot_be_created_is_reported_in_one_line(idx_root: Path, tmp_path: Path) -> None:
    (tmp_path / "outputs").write_text("a file instead of the folder")
    for arguments in ([], ["-m", "seed=0,1"]):
        done = subprocess.run(
            [sys.executable, "-m", "mnist_mlp.train", *arguments, f"data.root={idx_root}", *TINY, "name=x"],
            cwd=tmp_path, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 1
        assert done.stderr.startswith("error: ")
        assert done.stderr.count("\n") == 1, done.stderr


def test_a_terminal_shows_at_once_that_a_command_starts_and_the_first_output_replaces_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    terminal, file = Terminal(), io.StringIO()
    monkeypatch.setattr(sys, "stdout", terminal)
    with command() as output:
        output.announce_start()
        assert terminal.lines()[0]
        print("ok")
        assert terminal.lines()[0] == "ok"
    with command() as output:
        output.announce_start()
    assert terminal.lines() == ["ok"]
    monkeypatch.setattr(sys, "stdout", file)
    with command() as output:
        output.announce_start()
    assert file.getvalue() == ""
