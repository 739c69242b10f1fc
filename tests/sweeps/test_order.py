"""The order in which the jobs of a sweep run, and the limit of its time."""

import itertools
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from mnist_mlp.config import Config
from mnist_mlp.errors import Interrupted, UserError, exit_code
from mnist_mlp.runs.folder import RunFolder
from mnist_mlp.sweeps.jobs import Job, JobEnd
from mnist_mlp.sweeps.live import SweepProgress
from mnist_mlp.sweeps.order import cover
from mnist_mlp.sweeps.parallel import Limits, Survey, run_jobs


def grid(**values: int) -> list[dict[str, str]]:
    """A grid in the order of Hydra; values: how many of each key."""
    points = itertools.product(*(map(str, range(count)) for count in values.values()))
    return [dict(zip(values, point, strict=True)) for point in points]


def radius(jobs: list[dict[str, str]], run: list[int]) -> int:
    """Largest distance of a setting from the nearest one that has run."""

    def distance(a: Mapping[str, str], b: Mapping[str, str]) -> int:
        return sum(abs(int(a[key]) - int(b[key])) for key in a)

    return max(min(distance(job, jobs[index]) for index in run) for job in jobs)


def test_every_setting_runs_with_the_first_seed_before_any_runs_with_the_next() -> None:
    jobs = grid(seed=3, a=4, b=2)
    order = cover(jobs)
    assert sorted(order) == list(range(24))
    settings = [(jobs[index]["a"], jobs[index]["b"]) for index in order]
    assert [jobs[index]["seed"] for index in order] == ["0"] * 8 + ["1"] * 8 + ["2"] * 8
    assert settings[:8] == settings[8:16] == settings[16:]


@pytest.mark.parametrize("shape", [{"a": 9}, {"a": 5, "b": 5}, {"a": 3, "b": 3, "c": 3}])
def test_the_grid_is_covered_early(shape: dict[str, int]) -> None:
    jobs = grid(**shape)
    order = cover(jobs)
    for count in (2, 5, len(jobs) // 2):
        assert radius(jobs, order[:count]) < radius(jobs, list(range(count)))


def test_the_first_half_of_binary_factors_has_each_pair_of_levels_equally_often() -> None:
    jobs = grid(a=2, b=2, c=2, d=2)
    half = [jobs[index] for index in cover(jobs)[:8]]
    for first, second in itertools.combinations("abcd", 2):
        pairs = [(job[first], job[second]) for job in half]
        assert {pairs.count(pair) for pair in set(pairs)} == {2}


def test_many_settings_are_ordered_in_little_time() -> None:
    assert sorted(cover(grid(a=50, b=50, seed=2))) == list(range(5000))


class Pool:
    """Runs each job at once in this process, one after the other."""

    size, running = 1, ()

    def start(self) -> None: ...
    def stop(self) -> None: ...
    def resize(self, environments: object) -> None: ...

    def submit(self, number: int, task: Callable[[], Any]) -> bool:
        if self.running:
            return False
        self.running = ((number, task()),)
        return True

    def events(self, seconds: float) -> Iterator[tuple[int, Any]]:
        events, self.running = self.running, ()
        yield from events


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Limits], list[int]]:
    """A function that runs five jobs, one per second, and returns the numbers of those that ran."""

    def call(limits: Limits) -> list[int]:
        ran: list[int] = []
        seconds = itertools.count()
        monkeypatch.setattr("mnist_mlp.sweeps.parallel.time.time", lambda: next(seconds))
        monkeypatch.setattr("mnist_mlp.sweeps.parallel.survey_machine", lambda configs: Survey(0, None, 0, {}))
        monkeypatch.setattr("mnist_mlp.sweeps.parallel.update_table", lambda sweep: None)
        monkeypatch.setattr(
            "mnist_mlp.sweeps.parallel.run_job", lambda job, records: ran.append(job.number) or JobEnd("", 0.5)
        )
        texts = [f"optim.lr={0.1 * number}" for number in range(1, 6)]
        jobs = [
            Job(RunFolder(tmp_path / text), tmp_path, number, 5, [text], {}, Config(resume="never"))
            for number, text in enumerate(texts, 1)
        ]
        try:
            run_jobs(jobs, lambda job: {}, SweepProgress(jobs, 0.0), limits, pool=Pool())
        except Interrupted as stop:
            assert exit_code(stop) == 130
            assert stop.reason
        return ran

    return call


def test_the_order_does_not_change_the_numbers_of_the_jobs(run: Callable[[Limits], list[int]]) -> None:
    assert run(Limits(1)) == [1, 5, 3, 2, 4]
    assert run(Limits(1, order="grid")) == [1, 2, 3, 4, 5]


def test_no_job_starts_when_the_time_is_over(run: Callable[[Limits], list[int]]) -> None:
    ran = run(Limits(1, order="grid", max_seconds=3.0))
    assert 0 < len(ran) < 5
    assert ran == list(range(1, len(ran) + 1))


def test_limits_are_checked() -> None:
    with pytest.raises(UserError, match=r"hydra\.sweeper\.order=random"):
        Limits(order="random")
    for seconds in (-1.0, float("nan"), float("inf")):
        with pytest.raises(UserError, match=r"hydra\.sweeper\.max_seconds="):
            Limits(max_seconds=seconds)
