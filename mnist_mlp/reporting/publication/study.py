"""The facts that tables and texts of a publication share, with the real values of the runs."""

import statistics
from collections.abc import Iterable
from dataclasses import dataclass

from mnist_mlp.analysis.collect import Job, Row, Summary, row_label
from mnist_mlp.analysis.effects import in_order
from mnist_mlp.errors import UserError
from mnist_mlp.reporting.sections.best_run import best_job
from mnist_mlp.runs.result import RunResult
from mnist_mlp.runs.settings import value_text


@dataclass(frozen=True)
class Study:
    """The finished runs of a comparison. best: the run that the page shows in detail."""

    summary: Summary
    jobs: list[Job]
    best: Job

    @classmethod
    def of(cls, summary: Summary) -> "Study":
        """UserError where no run has finished."""
        best = best_job(summary)
        if best is None:
            raise UserError("there is nothing to publish: no run has finished")
        return cls(summary, [job for job in summary.jobs if job.result is not None], best)

    @property
    def results(self) -> list[RunResult]:
        return [job.result for job in self.jobs if job.result is not None]

    @property
    def best_result(self) -> RunResult:
        assert self.best.result is not None
        return self.best.result

    @property
    def best_row(self) -> Row:
        return next(row for row in self.summary.rows if row.best)

    @property
    def seeds(self) -> list[int]:
        return sorted({job.seed for job in self.jobs})

    @property
    def unfinished(self) -> int:
        return len(self.summary.jobs) - len(self.jobs)

    @property
    def on_sample(self) -> bool:
        return any(result.data["source"] == "sample" for result in self.results)

    @property
    def threads(self) -> str:
        """ "1 thread", "2 or 4 threads"."""
        count = self.environment("threads")
        return f"{count} thread" + ("" if count == "1" else "s")

    @property
    def use_of_test(self) -> str:
        """What the test images were used for, as the end of a sentence on them."""
        if any(job.settings.get("trainer.test_curve") is True for job in self.jobs):
            return (
                "used on the chosen checkpoint and, for the curves alone, after each epoch; no epoch is chosen by them"
            )
        return "used once, on the chosen checkpoint"

    def setting(self, key: str) -> str:
        """The value of a setting, or all its values where it varies: "0.01, 0.02 or 0.04"."""
        return either(in_order({value_text(job.settings.get(key)) for job in self.jobs}))

    def environment(self, key: str) -> str:
        """The value of a part of `environment` of result.json, or all its values."""
        return either(str(result.environment.get(key) or "unknown") for result in self.results)

    def images(self, split: str) -> str:
        """How many images of a split, or all their numbers."""
        return either(f"{result.data[split]:,}" for result in self.results)

    def label(self, row: Row) -> str:
        """The name of a row, "the setting" where nothing varies."""
        return row_label(self.summary, row) or "the setting"

    @property
    def compute_seconds(self) -> float:
        """Training time of all finished runs."""
        return sum(result.timing["fit_seconds"] for result in self.results)

    @property
    def median_seconds(self) -> float:
        """Median training time of a run."""
        return statistics.median(result.timing["fit_seconds"] for result in self.results)


def either(values: Iterable[str]) -> str:
    """Different values in words, each once."""
    distinct = list(dict.fromkeys(values))
    return distinct[0] if len(distinct) == 1 else f"{', '.join(distinct[:-1])} or {distinct[-1]}"
