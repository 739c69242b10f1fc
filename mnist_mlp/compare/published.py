"""The claims of a published study, decided by runs that repeat it. A claim is data: see conf/reference/*.yaml.

Kinds of claims, each with its sentence under `claim`:
  better, worse       one published result beats another: decided by the paired interval of their test accuracies,
                      uncorrected, since the study chose the pair and not these runs
  learns_nothing      a result stays at chance
  slower_with, runs   the time of an epoch rises with a setting, over the results that a pattern matches
  time_by             the time of an epoch at each value of a setting: shown, not decided
"""

import statistics
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from itertools import chain

from mnist_mlp.compare.collect import Job, compare
from mnist_mlp.compare.tables import interval_text
from mnist_mlp.config import non_result_keys
from mnist_mlp.runs.result import is_at_chance
from mnist_mlp.runs.settings import short_names

Claim = Mapping[str, str]
Runs = Mapping[str, Sequence[Job]]
"""Finished runs by the name of the published result that they repeat."""
FREE = frozenset({"seed", "experiment", "trainer.accelerator", "trainer.threads", "trainer.compile"})
"""What may differ from a preset in a repetition of its result, besides the settings that affect no result."""


def decide(claim: Claim, runs: Runs) -> str | None:
    """A claim and its verdict in a sentence; None if the runs that it is about are missing."""
    try:
        return next((rule(claim, runs) for kind, rule in KINDS.items() if kind in claim), None)
    except (KeyError, TypeError, ValueError) as error:  # a claim is text that somebody wrote
        return f"{claim.get('claim', 'A claim')}: cannot be decided ({type(error).__name__}: {error})."


def deviations(job: Job) -> list[str]:
    """The overrides by which a run of a preset differs from a repetition of the published result."""
    if job.result is None:
        return []
    free = FREE | non_result_keys()
    keys = {override: override.lstrip("+~").partition("=")[0] for override in job.result.overrides}
    return [override for override, key in keys.items() if key not in free and not key.startswith("reference")]


def accuracies(jobs: Sequence[Job]) -> dict[int, float]:
    """Test accuracy by seed."""
    return {job.seed: job.result.metric("test/accuracy") for job in jobs if job.result is not None}


def _better(claim: Claim, runs: Runs) -> str | None:
    better, worse = claim["better"], claim["worse"]
    if better not in runs or worse not in runs or (comparison := compare(runs[better], runs[worse])) is None:
        return None
    gap = comparison.decisive
    if gap.low is None or gap.high is None:
        direction = "but it points that way" if gap.mean > 0 else "and it points the other way"
        verdict = f"one seed cannot tell, {direction}"
    elif gap.low <= 0 <= gap.high:
        verdict = "not confirmed, the interval covers zero"
    else:
        verdict = "confirmed" if gap.mean > 0 else "contradicted"
    return f"{claim['claim']}: {verdict} ({better} against {worse}: {interval_text(gap)} points, n={gap.n})."


def _learns_nothing(claim: Claim, runs: Runs) -> str | None:
    name = claim["learns_nothing"]
    if name not in runs:
        return None
    best = max(accuracies(runs[name]).values())
    verdict = "confirmed" if is_at_chance(best) else "contradicted"
    return f"{claim['claim']}: {verdict} ({name}: at most {100 * best:.2f} % over its seeds)."


def _slower_with(claim: Claim, runs: Runs) -> str | None:
    key = claim["slower_with"]
    chosen = [jobs for name, jobs in runs.items() if fnmatchcase(name, claim["runs"])]
    if len(chosen) < 2:
        return None
    seconds = dict(sorted((float(jobs[0].settings[key]), _epoch_seconds(jobs)) for jobs in chosen))
    ordered = list(seconds.values())
    verdict = "confirmed" if ordered == sorted(ordered) else "not confirmed: the times do not rise steadily"
    shown = ", ".join(f"{short_names([key])[key]} {value:g}: {took:.2f} s" for value, took in seconds.items())
    return f"{claim['claim']}: {verdict} (median time to train an epoch: {shown})."


def _time_by(claim: Claim, runs: Runs) -> str | None:
    jobs = defaultdict(list)
    for job in chain.from_iterable(runs.values()):
        jobs[job.text(claim["time_by"])].append(job)
    shown = ", ".join(f"{value} {_epoch_seconds(same):.2f} s" for value, same in jobs.items())
    alone = "" if len(jobs) > 1 else "; there is nothing to compare it with"
    return f"{claim['claim']}, median time to train an epoch: {shown}{alone}."


def _epoch_seconds(jobs: Sequence[Job]) -> float:
    return statistics.median(job.result.timing["epoch_seconds"] for job in jobs if job.result is not None)


KINDS: dict[str, Callable[[Claim, Runs], str | None]] = {
    "better": _better,
    "learns_nothing": _learns_nothing,
    "slower_with": _slower_with,
    "time_by": _time_by,
}
