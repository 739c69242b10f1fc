"""Signals end a command with one line at any time."""

import signal
import subprocess
import sys

import pytest

from mnist_mlp.errors import begin_chunk, end_chunk, stopping_on_signals


class SignalInFinalizer:
    """Raises a signal in its finalizer, where Python only prints exceptions."""

    def __del__(self) -> None:
        signal.raise_signal(signal.SIGTERM)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_program_with_one_line_and_the_exit_code_of_shells(
    number: signal.Signals, capsys: pytest.CaptureFixture[str]
) -> None:
    before = signal.getsignal(number)
    with pytest.raises(SystemExit) as ended, stopping_on_signals():
        signal.raise_signal(number)
    assert ended.value.code == 128 + number
    by = "" if number == signal.SIGINT else f" by {number.name}"
    assert capsys.readouterr().err == f"\ninterrupted{by}\n"
    assert signal.getsignal(number) is before


def test_a_signal_ends_no_later_training_in_the_same_process() -> None:
    with pytest.raises(SystemExit), stopping_on_signals():
        signal.raise_signal(signal.SIGTERM)
    begin_chunk()
    end_chunk()


def test_a_second_signal_ends_the_process_immediately() -> None:
    code = """
import signal, sys, time
from mnist_mlp.errors import stopping_on_signals
with stopping_on_signals():
    try:
        signal.raise_signal(signal.SIGINT)
    finally:
        signal.raise_signal(signal.SIGTERM)
        print("still running")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (143, "", "")


def test_a_signal_is_deferred_to_the_end_of_a_chunk() -> None:
    done = []

    def work() -> None:
        with stopping_on_signals():
            begin_chunk()
            signal.raise_signal(signal.SIGTERM)
            done.append("chunk")
            end_chunk()
            done.append("after")

    with pytest.raises(SystemExit):
        work()
    assert done == ["chunk"]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_signal_swallowed_by_a_finalizer_is_raised_at_the_end_of_the_next_chunk() -> None:
    done = []

    def work() -> None:
        with stopping_on_signals():
            SignalInFinalizer()
            begin_chunk()
            done.append("chunk")
            end_chunk()
            done.append("after")

    with pytest.raises(SystemExit) as ended:
        work()
    assert ended.value.code == 128 + signal.SIGTERM
    assert done == ["chunk"]


def test_an_ignored_signal_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stopping_on_signals():
            signal.raise_signal(signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)
