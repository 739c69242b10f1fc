"""A sample of `make test-faults`: failing writes, and processes that die while writing."""

from pathlib import Path

import pytest
from conftest import write_digits
from faults import Case, single_run


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    work = tmp_path_factory.mktemp("faults")
    case = Case("run", single_run(str(write_digits(work / "digits"))), work)
    case.measure()
    return case


@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("run.json", "dies"),
        ("last.ckpt", "ENOSPC"),
        ("last.ckpt", "dies"),
        ("events.out", "EIO"),
        ("result.json", "dies"),
    ],
)
def test_repeating_a_command_recovers_from_a_failed_write(case: Case, name: str, how: str) -> None:
    """The fault is at the last write to each of these files."""
    numbers = [number for number, call in enumerate(case.calls, 1) if name in call and not call.startswith("unlink")]
    assert case.try_fault(numbers[-1], how) is None


def test_the_harness_records_every_type_of_write(case: Case) -> None:
    assert {call.split()[0] for call in case.calls} >= {"write", "fsync", "replace", "link", "mkdir", "open"}
    assert Path(case.work).is_dir()
