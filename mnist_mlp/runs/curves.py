"""The curves of a run, read from its metrics.csv, and their mean over several runs. Imports no torch."""

import csv
import io
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from mnist_mlp.runs.reading import read_text
from mnist_mlp.runs.schema import LARGEST

Curves = Mapping[str, Sequence[float]]
"""Columns of metrics.csv by name, a number per epoch; NaN where there is none."""


def read_curves(path: Path) -> Curves:
    """The columns of a metrics.csv; empty where there is none or it cannot be read."""
    try:
        rows = list(csv.DictReader(io.StringIO(read_text(path) or "", newline="")))
    except (ValueError, csv.Error):
        return {}
    return {name: [_number(row.get(name)) for row in rows] for name in (rows[0] if rows else ()) if name}


def band(curves: Iterable[Sequence[float]]) -> list[tuple[float, float, float]]:
    """Mean, lowest and highest at each epoch, over the curves that have a finite number there."""
    points = []
    for epoch in zip(*_same_length(list(curves)), strict=True):
        numbers = [number for number in epoch if math.isfinite(number)] or [math.nan]
        points.append((statistics.fmean(numbers), min(numbers), max(numbers)))
    return points


def _same_length(curves: Sequence[Sequence[float]]) -> list[list[float]]:
    longest = max(map(len, curves), default=0)
    return [[*curve, *[math.nan] * (longest - len(curve))] for curve in curves]


def _number(text: str | None) -> float:
    try:
        value = float(text or "nan")
    except ValueError:
        return math.nan
    return math.nan if abs(value) > LARGEST else value
