"""What each factor of a sweep does, and whether that holds on several datasets; see docs/statistics.md."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, combinations

from mnist_mlp.compare.collect import DATASET_KEYS, UNKNOWN_DATA, Summary, by_cell, compare, count_testable_pairs
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
        depends_on: The other settings, if the first value is better at some of their values and worse at others.
    """

    key: str
    first: str
    second: str
    label: str
    differences: dict[str, PairedComparison | None]
    depends_on: str = ""

    @property
    def text(self) -> str:
        """The label and the differences in one line, with the verdict unless the sign says it."""
        intervals = {title: d.decisive if d else None for title, d in self.differences.items()}
        texts = [f"{title} {interval_text(interval, ' points')}".strip() for title, interval in intervals.items()]
        verdict = f"; {self.verdict}" * (self.outcome not in ("better", "worse") or len(texts) > 1)
        return f"{self.label}: {', '.join(texts)}{verdict}"

    @property
    def outcome(self) -> str:
        """The first value against the second, see `PairedComparison.outcome`; "unclear" if it depends on the rest."""
        outcomes = {d.outcome if d else "" for d in self.differences.values()}
        return outcomes.pop() if len(outcomes) == 1 and not self.depends_on else "unclear"

    @property
    def verdict(self) -> str:
        """On which datasets one value is better than the other, in words; on one, that of the comparison."""
        if self.depends_on:
            return f"better or worse, depending on {self.depends_on}"
        if len(self.differences) == 1:
            return next((d.verdict for d in self.differences.values() if d), "")
        significant = {title: d.decisive.mean > 0 for title, d in self.differences.items() if d and d.is_significant}
        others = [title for title in self.differences if title not in significant]
        ahead, behind = ([title for title, sign in significant.items() if sign == side] for side in (True, False))
        if not significant:
            return "unclear"
        if ahead and behind:
            opposite = f"opposite: {self.first} is better on {joined(ahead)}, {self.second} on {joined(behind)}"
            return f"{opposite}, unclear on {joined(others)}" if others else opposite
        better = f"{self.first if ahead else self.second} is better"
        if not others:
            return f"holds on {'both' if len(significant) == 2 else f'all {len(significant)}'}: {better}"
        absent = [title for title in others if self._is_absent(title, significant, 1 if ahead else -1)]
        if absent == others:
            return f"only on {joined(significant)}: {better}"
        not_on = f", not on {joined(absent)}" if absent else ""
        unclear = joined(title for title in others if title not in absent)
        return f"{better} on {joined(significant)}{not_on}, unclear on {unclear}"

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
    best, keys = _best(summary), _keys(summary)
    cells = [{tuple(map(job.text, keys)) for job in jobs if job.result is not None} for jobs in parts.values()]
    if best is None or not any(cells):
        return []
    shared = set.intersection(*filter(None, cells))
    parts = {title: [job for job in jobs if tuple(map(job.text, keys)) in shared] for title, jobs in parts.items()}
    jobs = list(chain.from_iterable(parts.values()))
    contexts = _contexts(summary, jobs)
    if len(parts) < 2 and len(contexts) < 2:
        return []
    compared = [_compare_levels(own, best, contexts)[0] for own in parts.values()]
    results = []
    for key, second in ((key, value) for key in contexts for value in sort_levels({job.text(key) for job in jobs})):
        differences = {title: pairs.get((key, second)) for title, pairs in zip(parts, compared, strict=True)}
        if sum(difference is not None for difference in differences.values()) >= min(2, len(parts)):
            other = next(job for job in jobs if job.text(key) == second)
            label = _label(summary, [name for name in keys if name not in contexts[key]], best, other)
            choice = Choice(key, best.text(key), second, label, differences)
            if any(_is_mixed(own, choice, contexts[key]) for own in parts.values()):
                names = short_names(summary.keys)
                choice = replace(choice, depends_on=joined(names[name] for name in contexts[key]))
            results.append(choice)
    return results


def _is_mixed(jobs: Sequence[Job], choice: Choice, context: Sequence[str]) -> bool:
    """Whether the first value is significantly better at some values of the other settings, and worse at others."""
    values = [[job for job in jobs if job.text(choice.key) == value] for value in (choice.first, choice.second)]
    first, second = (_by_level(own, *context) for own in values)
    pairs = [compare(first[cell], second[cell]) for cell in first.keys() & second.keys()]
    outcomes = {pair.outcome for pair in adjust_for_all_pairs(pairs, len(pairs)) if pair}
    return {"better", "worse"} <= outcomes


def family(summary: Summary, first: Sequence[Job], second: Sequence[Job]) -> tuple[list[PairedComparison], int]:
    """The other comparisons of the family that two sides belong to, and the size of the family.

    If the sides are all runs of two values of a factor, of several, the family is all pairs of values of each factor;
    else it is all pairs of settings on the dataset.
    """
    part, sides = summary.table_of(first[0]), [{job.folder for job in jobs} for jobs in (first, second)]
    contexts, best = _contexts(part, part.jobs), _best(part)
    for key in contexts if best and len(contexts) > 1 else ():
        pair = [level for level, own in _by_level(part.jobs, key).items() if {job.folder for job in own} in sides]
        if best and len(pair) == 2:
            compared, size = _compare_levels(part.jobs, best, contexts)
            same = {(key, level) for level in pair if best.text(key) in pair}
            return [own for name, own in compared.items() if own and name not in same], max(size, 1)
    rows = [row for row in part.rows if {job.folder for job in row.jobs if job.result is not None} in sides]
    own = rows[1] if len(rows) == 2 and rows[0].best else None
    known = [row.comparison for row in part.rows if row.comparison is not None and row is not own]
    return known, max(count_testable_pairs(part.rows), 1)


def _best(summary: Summary) -> Job | None:
    """A run of the best setting on the first dataset."""
    return next((row.jobs[0] for row in summary.rows if row.best), None)


def _keys(summary: Summary) -> list[str]:
    return [key for key in factors(summary.jobs) if key in summary.keys and key not in DATASET_KEYS]


def _contexts(summary: Summary, jobs: Sequence[Job]) -> dict[str, list[str]]:
    """The settings that matched runs share, by factor: all that vary except itself and those that vary with it."""
    keys, together = _keys(summary), confounded(summary.jobs)
    leaders = [key for key in keys if len(_by_level(jobs, key)) > 1 and key not in chain(*together.values())]
    return {key: [name for name in keys if name not in (key, *together.get(key, ()))] for key in leaders}


def _by_level(jobs: Iterable[Job], *keys: str) -> dict[str, list[Job]]:
    """Runs with a result by the text of these settings."""
    levels: dict[str, list[Job]] = {}
    for job in jobs:
        if job.result is not None:
            levels.setdefault(", ".join(map(job.text, keys)), []).append(job)
    return levels


def _compare_levels(
    jobs: Sequence[Job], best: Job, contexts: Mapping[str, Sequence[str]]
) -> tuple[dict[tuple[str, str], PairedComparison | None], int]:
    """Compare the best setting's value of each factor with each other value, by key and value.

    Also returns the size of the family: all pairs of values of each factor, as the data choose the best setting.
    """
    compared: dict[tuple[str, str], PairedComparison | None] = {}
    size = 0
    for key, context in contexts.items():
        levels, first = _by_level(jobs, key), best.text(key)
        others = {value: own for value, own in levels.items() if value != first}
        compared |= {(key, value): compare(levels.get(first, []), own, context) for value, own in others.items()}
        cells = [by_cell(own, context).keys() for own in levels.values()]
        size += sum(len({seed for seed, *_ in a & b}) > 1 for a, b in combinations(cells, 2))
    return dict(zip(compared, adjust_for_all_pairs(list(compared.values()), size), strict=True)), size


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
