"""What each factor of a sweep does, and whether that holds on several datasets; see docs/statistics.md."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, combinations

from mnist_mlp.compare.collect import DATASET_KEYS, UNKNOWN_DATA, Summary, by_cell, compare
from mnist_mlp.compare.effects import confounded, factors, sort_levels
from mnist_mlp.compare.load import Job
from mnist_mlp.compare.statistics import PairedComparison, adjust_for_all_pairs, interval_text
from mnist_mlp.runs.settings import joined, short_names


@dataclass(frozen=True)
class Choice:
    """Two values of a factor: that of the best setting, and another one.

    Attributes:
        key: The setting; of several that vary together, the one that determines the others.
        first, second: Its values.
        label: "standard instead of raw", with the names of settings whose values are not words.
        differences: first - second in test accuracy by title of the dataset ("" if there is one), adjusted for all
            pairs of values of each factor; None without matched runs.
    """

    key: str
    first: str
    second: str
    label: str
    differences: dict[str, PairedComparison | None]

    @property
    def text(self) -> str:
        """The label and the differences in one line, with the verdict unless the sign says it."""
        intervals = {title: d.decisive if d else None for title, d in self.differences.items()}
        texts = [f"{title} {interval_text(interval, ' points')}".strip() for title, interval in intervals.items()]
        verdict = f"; {self.verdict}" * (self.outcome not in ("better", "worse") or len(texts) > 1)
        return f"{self.label}: {', '.join(texts)}{verdict}"

    @property
    def outcome(self) -> str:
        """The first value against the second, see `PairedComparison.outcome`; "unclear" if datasets differ."""
        outcomes = {d.outcome if d else "" for d in self.differences.values()}
        return outcomes.pop() if len(outcomes) == 1 else "unclear"

    @property
    def verdict(self) -> str:
        """On which datasets one value is better than the other, in words; on one, that of the comparison."""
        if len(self.differences) == 1:
            return next((d.verdict for d in self.differences.values() if d), "")
        significant = {title: d.decisive.mean > 0 for title, d in self.differences.items() if d and d.is_significant}
        others = [title for title in self.differences if title not in significant]
        ahead, behind = ([title for title, sign in significant.items() if sign == side] for side in (True, False))
        if not significant:
            return "undecided"
        if ahead and behind:
            opposite = f"opposite: {self.first} is better on {joined(ahead)}, {self.second} on {joined(behind)}"
            return f"{opposite}, undecided on {joined(others)}" if others else opposite
        better = f"{self.first if ahead else self.second} is better"
        if not others:
            return f"holds on {'both' if len(significant) == 2 else f'all {len(significant)}'}: {better}"
        absent = [title for title in others if self._is_absent(title, significant, 1 if ahead else -1)]
        if absent == others:
            return f"only on {joined(significant)}: {better}"
        not_on = f", not on {joined(absent)}" if absent else ""
        undecided = joined(title for title in others if title not in absent)
        return f"{better} on {joined(significant)}{not_on}, undecided on {undecided}"

    def _is_absent(self, title: str, significant: Iterable[str], sign: int) -> bool:
        """Whether the interval on a dataset reaches zero, and lies below those with a significant effect."""
        low, high = _limits(self.differences[title], sign)
        return low <= 0 and all(high < _limits(self.differences[other], sign)[0] for other in significant)


def _limits(difference: PairedComparison | None, sign: int) -> tuple[float, float]:
    """Limits of sign * difference, infinite if unknown."""
    interval = difference.decisive if difference else None
    if interval is None or interval.low is None or interval.high is None:
        return -math.inf, math.inf
    return (interval.low, interval.high) if sign > 0 else (-interval.high, -interval.low)


def choices(summary: Summary) -> list[Choice]:
    """Compare, on each dataset, the values that the best setting on the first one has with all other values.

    Only settings with a result on each dataset count, matched by seed and all other settings. Settings that vary
    together are one factor. Empty for one factor on one dataset, as the rows of the table are its values.
    """
    parts = {title: part.jobs for title, part in summary.by_dataset.items() if title != UNKNOWN_DATA}
    best = next((row.jobs[0] for row in summary.rows if row.best), None)
    keys = [key for key in factors(summary.jobs) if key in summary.keys and key not in DATASET_KEYS]
    cells = [{tuple(map(job.text, keys)) for job in jobs if job.result is not None} for jobs in parts.values()]
    if best is None or not any(cells):
        return []
    shared = set.intersection(*filter(None, cells))
    parts = {title: [job for job in jobs if tuple(map(job.text, keys)) in shared] for title, jobs in parts.items()}
    together = confounded(summary.jobs)
    levels = {key: sort_levels({cell[index] for cell in shared}) for index, key in enumerate(keys)}
    leaders = [key for key in keys if len(levels[key]) > 1 and all(key not in others for others in together.values())]
    if len(parts) < 2 and len(leaders) < 2:
        return []
    groups = {key: [key, *together.get(key, [])] for key in leaders}
    contexts = {key: [other for other in keys if other not in group] for key, group in groups.items()}
    compared = {title: _compare_levels(jobs, best, levels, contexts) for title, jobs in parts.items()}
    results = []
    for key, second in dict.fromkeys(chain.from_iterable(compared.values())):
        differences = {title: pairs[key, second] for title, pairs in compared.items()}
        if sum(difference is not None for difference in differences.values()) >= min(2, len(parts)):
            other = next(job for jobs in parts.values() for job in jobs if job.text(key) == second)
            label = _label(summary, [name for name in groups[key] if name in keys], best, other)
            results.append(Choice(key, best.text(key), second, label, differences))
    return results


def _compare_levels(
    jobs: Sequence[Job], best: Job, levels: Mapping[str, Sequence[str]], contexts: Mapping[str, Sequence[str]]
) -> dict[tuple[str, str], PairedComparison | None]:
    """Compare the best setting's value of each factor with each other value, by key and value.

    The family of comparisons is all pairs of values of each factor, as the data choose the best setting.
    """
    compared: dict[tuple[str, str], PairedComparison | None] = {}
    family = 0
    for key, context in contexts.items():
        members = {level: [job for job in jobs if job.text(key) == level] for level in levels[key]}
        first = members.get(best.text(key), [])
        others = {level: own for level, own in members.items() if level != best.text(key)}
        compared |= {(key, level): compare(first, own, context) for level, own in others.items()}
        cells = [by_cell(own, context).keys() for own in members.values()]
        family += sum(len({seed for seed, *_ in a & b}) > 1 for a, b in combinations(cells, 2))
    return dict(zip(compared, adjust_for_all_pairs(list(compared.values()), family), strict=True))


def _label(summary: Summary, keys: Sequence[str], first: Job, second: Job) -> str:
    """Describe the values in which two runs differ; a value that is a word needs no name."""
    names, texts, others = short_names(summary.keys), [], []
    for key in keys:
        text, other = (summary.shown_values[key][job.text(key)] for job in (first, second))
        if text != other:
            are_words = all(value[0].isalpha() and value not in ("True", "False", "None") for value in (text, other))
            texts.append(text if are_words else f"{names[key]} {text}")
            others.append(other)
    return f"{', '.join(texts)} instead of {', '.join(others)}"
