"""A sample of `make test-faults`: writes that fail, and processes that die while they write."""

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
def test_the_same_command_mends_what_a_failed_write_left(case: Case, name: str, how: str) -> None:
    """At the last write that has to do with each of these files."""
    numbers = [number for number, call in enumerate(case.calls, 1) if name in call and not call.startswith("unlink")]
    assert case.try_fault(numbers[-1], how) is None


def test_the_harness_sees_every_kind_of_write(case: Case) -> None:
    assert {call.split()[0] for call in case.calls} >= {"write", "fsync", "replace", "link", "mkdir", "open"}
    assert Path(case.work).is_dir()
