"""Claims of a published study, tested with runs that reproduce it. Claims are data: see conf/reference/*.yaml.

Each claim has a sentence under `claim` and one of these sets of keys:
  better, worse       one result beats another: tested by the paired interval of their test accuracies, unadjusted
                      because the study selected the pair, not these runs. With settings instead of names of results
                      ("optim.lr=0.1 data.batch_size=64"): tested and adjusted as in the table of the sweep
  learns_nothing      a result stays at chance level
  slower_with, runs   epoch time increases with a setting, over the results that a pattern matches
  time_by             epoch time at each value of a setting: reported, not tested
"""

import statistics
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from itertools import chain

from mnist_mlp.compare.collect import Summary, compare
from mnist_mlp.compare.consistency import family
from mnist_mlp.compare.load import Job
from mnist_mlp.compare.statistics import PairedComparison, adjust, interval_text
from mnist_mlp.config import non_result_keys
from mnist_mlp.runs.result import is_at_chance
from mnist_mlp.runs.settings import short_names

Claim = Mapping[str, str]
Runs = Mapping[str, Sequence[Job]]
"""Finished runs by the name of the published result that they reproduce."""
ALLOWED_KEYS = frozenset({"seed", "experiment", "study", "trainer.accelerator", "trainer.threads", "trainer.compile"})
"""Settings that a reproduction may change, besides those that do not affect results."""


def decide(claim: Claim, runs: Runs, summary: Summary) -> str | None:
    """Test a claim: a sentence with its verdict, None if its runs are missing."""
    try:
        if "=" in claim.get("better", ""):
            return _better_setting(claim, summary)
        return next((rule(claim, runs) for key, rule in RULES.items() if key in claim), None)
    except (KeyError, TypeError, ValueError) as error:  # claims are user input
        return f"{claim.get('claim', 'A claim')}: cannot be decided ({type(error).__name__}: {error})."


def deviations(job: Job) -> list[str]:
    """The overrides that keep a run of a preset from being a reproduction of the published result."""
    if job.result is None:
        return []
    allowed = ALLOWED_KEYS | non_result_keys()
    keys = {override: override.lstrip("+~").partition("=")[0] for override in job.result.overrides}
    return [override for override, key in keys.items() if key not in allowed and not key.startswith("reference")]


def accuracies(jobs: Sequence[Job]) -> dict[int, float]:
    """Test accuracy by seed."""
    return {job.seed: job.result.metric("test/accuracy") for job in jobs if job.result is not None}


def _better(claim: Claim, runs: Runs) -> str | None:
    better, worse = claim["better"], claim["worse"]
    if better not in runs or worse not in runs or (comparison := compare(runs[better], runs[worse])) is None:
        return None
    numbers = f"{interval_text(comparison.decisive)} points, n={comparison.decisive.n}"
    return f"{claim['claim']}: {_verdict(comparison)} ({better} against {worse}: {numbers})."


def _better_setting(claim: Claim, summary: Summary) -> str:
    """Compare all runs of one setting with those of another, matched by seed and the other settings that vary."""
    texts = [claim[side].replace("[", "").replace("]", "").replace(",", "-") for side in ("better", "worse")]
    chosen = [dict(pair.split("=", 1) for pair in text.split()) for text in texts]
    first, second = (
        [job for job in summary.jobs if all(job.text(key) == text for key, text in side.items())] for side in chosen
    )
    context = [key for key in summary.keys if not all(key in side for side in chosen)]
    if (comparison := compare(first, second, context)) is None:
        return f"{claim['claim']}: not tested: no matching runs ({claim['better']} against {claim['worse']})."
    comparison = adjust(comparison, *family(summary, first, second))
    interval, p_value = comparison.decisive, comparison.p_value
    numbers = f"{interval_text(interval)} points, n={interval.n}"
    if p_value is not None:
        adjusted = f" adjusted for {comparison.comparisons} comparisons" if comparison.comparisons > 1 else ""
        numbers += f", p = {p_value:.2g}{adjusted}"
    return f"{claim['claim']}: {_verdict(comparison)} ({claim['better']} against {claim['worse']}: {numbers})."


def _verdict(comparison: PairedComparison) -> str:
    words = {"better": "confirmed", "worse": "contradicted", "unclear": "not confirmed"}
    return words.get(comparison.outcome, comparison.verdict)


def _learns_nothing(claim: Claim, runs: Runs) -> str | None:
    name = claim["learns_nothing"]
    if name not in runs:
        return None
    best = max(accuracies(runs[name]).values())
    verdict = "confirmed" if is_at_chance(best, len(runs[name][0].classes)) else "contradicted"
    return f"{claim['claim']}: {verdict} ({name}: at most {100 * best:.2f} % over its seeds)."


def _slower_with(claim: Claim, runs: Runs) -> str | None:
    key = claim["slower_with"]
    matching = [jobs for name, jobs in runs.items() if fnmatchcase(name, claim["runs"])]
    if len(matching) < 2:
        return None
    seconds = dict(sorted((float(jobs[0].settings[key]), _epoch_seconds(jobs)) for jobs in matching))
    ordered = list(seconds.values())
    verdict = "confirmed" if ordered == sorted(ordered) else "not confirmed"
    verdict = verdict if min(map(len, matching)) > 1 else "not tested: one seed"
    times = ", ".join(f"{short_names([key])[key]} {value:g}: {time:.2f} s" for value, time in seconds.items())
    return f"{claim['claim']}: {verdict} (median time per training epoch: {times})."


def _time_by(claim: Claim, runs: Runs) -> str | None:
    jobs = defaultdict(list)
    for job in chain.from_iterable(runs.values()):
        jobs[job.text(claim["time_by"])].append(job)
    times = ", ".join(f"{value} {_epoch_seconds(group):.2f} s" for value, group in jobs.items())
    note = "" if len(jobs) > 1 else "; no other value to compare with"
    return f"{claim['claim']}, median time per training epoch: {times}{note}."


def _epoch_seconds(jobs: Sequence[Job]) -> float:
    return statistics.median(job.result.timing["epoch_seconds"] for job in jobs if job.result is not None)


RULES: dict[str, Callable[[Claim, Runs], str | None]] = {
    "better": _better,
    "learns_nothing": _learns_nothing,
    "slower_with": _slower_with,
    "time_by": _time_by,
}
