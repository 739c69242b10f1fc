"""Progress in a notebook: one display that is drawn anew after each epoch."""

import math
import sys
from collections.abc import Mapping, Sequence
from html import escape
from importlib import import_module
from typing import Any

import pytorch_lightning as pl

from mnist_mlp.runs.folder import RunFolder
from mnist_mlp.runs.predictions import Curves, read_curves

WIDTH, PLOT_HEIGHT = 300, 120
LEFT, RIGHT, BOTTOM = 46, 10, 40
LEGEND_LINE = 15
COLOURS = ("#4477aa", "#ee7733", "#228833", "#aa3377", "#66ccee", "#997700")
"""Told apart by people who see colours differently (Paul Tol's "bright" scheme)."""
CELL = "padding:2px 10px 2px 0;white-space:nowrap"


def card(title: str, parts: Sequence[str]) -> str:
    """Parts side by side under a title, one below the other where the page is narrow."""
    boxes = "".join(f'<div style="min-width:0;overflow-x:auto">{part}</div>' for part in parts)
    return (
        f'<div style="font-family:sans-serif;font-size:13px"><div style="font-weight:600;margin:4px 0">{escape(title)}'
        f'</div><div style="display:flex;flex-wrap:wrap;gap:16px;align-items:flex-start">{boxes}</div></div>'
    )


def pairs(rows: Sequence[tuple[str, str]]) -> str:
    """A table of names and values."""
    cells = "".join(
        f'<tr><td style="{CELL};text-align:left;opacity:.7">{escape(name)}</td>'
        f'<td style="{CELL};text-align:left">{escape(value)}</td></tr>'
        for name, value in rows
    )
    return f'<table style="border-collapse:collapse;margin:0;font-size:13px">{cells}</table>'


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table with a header; what looks like a number is aligned to the right."""
    head = "".join(
        f'<th style="{CELL};text-align:left;border-bottom:1px solid">{escape(cell) or "&nbsp;"}</th>' for cell in header
    )
    body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows)
    return f'<table style="border-collapse:collapse;margin:0;font-size:13px"><tr>{head}</tr>{body}</table>'


def standard_figures(curves: Curves) -> list[tuple[str, dict[str, Sequence[float]], str]]:
    """Loss and accuracy, in training and in validation: title, lines by name, number format."""
    figures = []
    for title, column, form in (("loss", "loss", ".3g"), ("accuracy", "accuracy", ".1%")):
        lines = {split: curves[f"{split}/{column}"] for split in ("train", "val") if f"{split}/{column}" in curves}
        if lines:
            figures.append((title, lines, form))
    return figures


def curves_svg(title: str, lines: Mapping[str, Sequence[float]], form: str) -> str:
    """Curves over epochs 1, 2, ..., with a legend. form: how the numbers of the axis are written."""
    finite = [value for values in lines.values() for value in values if math.isfinite(value)]
    if not finite:
        return ""
    low, high = min(finite), max(finite)
    if high - low < 1e-9:
        low, high = low - abs(low) * 0.01 - 1e-3, high + abs(high) * 0.01 + 1e-3
    epochs = max(map(len, lines.values()))
    legend, top = _legend(list(lines))
    height = top + PLOT_HEIGHT + BOTTOM

    def x(epoch: int) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * ((epoch - 1) / (epochs - 1) if epochs > 1 else 0.5)

    def y(value: float) -> float:
        return top + PLOT_HEIGHT * (high - value) / (high - low)

    parts = [f'<text x="{LEFT}" y="12" font-weight="600">{escape(title)}</text>', *legend]
    for value in (low, (low + high) / 2, high):
        parts.append(f'<path d="M{LEFT} {y(value):.1f}H{WIDTH - RIGHT}" stroke="currentColor" opacity=".2"/>')
        parts.append(f'<text x="{LEFT - 5}" y="{y(value) + 4:.1f}" text-anchor="end">{format(value, form)}</text>')
    for epoch in sorted({1, (epochs + 1) // 2, epochs}):
        parts.append(f'<text x="{x(epoch):.1f}" y="{height - 24}" text-anchor="middle">{epoch}</text>')
    parts.append(f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{height - 8}" text-anchor="middle">epoch</text>')
    for colour, values in zip(COLOURS, lines.values(), strict=False):
        points = [f"{x(n):.1f},{y(value):.1f}" for n, value in enumerate(values, 1) if math.isfinite(value)]
        parts.append(f'<polyline points="{" ".join(points)}" fill="none" stroke="{colour}" stroke-width="2"/>')
        if len(points) == 1:
            at = points[0].split(",")
            parts.append(f'<circle cx="{at[0]}" cy="{at[1]}" r="3" fill="{colour}"/>')
    return (
        f'<svg width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}" font-size="11" fill="currentColor" '
        f'role="img" aria-label="{escape(title)} over epochs">{"".join(parts)}</svg>'
    )


def _legend(names: Sequence[str]) -> tuple[list[str], int]:
    """The legend, in as many lines as it needs, and where the plot may begin."""
    parts, left, line = [], LEFT, 0
    for colour, name in zip(COLOURS, names, strict=False):
        width = 34 + 6 * len(name)
        if left > LEFT and left + width > WIDTH:
            left, line = LEFT, line + 1
        base = 30 + LEGEND_LINE * line
        parts.append(f'<path d="M{left} {base - 4}h14" stroke="{colour}" stroke-width="2"/>')
        parts.append(f'<text x="{left + 18}" y="{base}">{escape(name)}</text>')
        left += width
    return parts, 44 + LEGEND_LINE * line


def _cell(text: str) -> str:
    numeric = text[:1].lstrip("+-").isdigit() or text[:2].lstrip("+-").isdigit()
    return f'<td style="{CELL};text-align:{"right" if numeric else "left"}">{escape(text)}</td>'


def in_notebook() -> bool:
    """Whether this runs in a Jupyter kernel, whose front end shows HTML."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return getattr(shell, "kernel", None) is not None


class NotebookProgress(pl.Callback):
    """Shows the curves so far, and at last only how long it took: the run then shows itself."""

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder
        self._display: Any = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        ipython: Any = import_module("IPython.display")  # there, since this runs in a notebook
        self._display = ipython.display(ipython.HTML(f"epoch 0 of {trainer.max_epochs}"), display_id=True)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._update(progress_html(self._folder, trainer.current_epoch + 1, trainer.max_epochs or 0))

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        seconds = [*read_curves(self._folder.metrics_file).get("elapsed_seconds", ()), 0.0][-2:][0]
        self._update(f"{trainer.current_epoch} epochs in {seconds:.1f} s")

    def _update(self, content: str) -> None:
        ipython: Any = import_module("IPython.display")
        if self._display is not None:
            self._display.update(ipython.HTML(content))


def progress_html(folder: RunFolder, epoch: int, epochs: int) -> str:
    """The curves of a run that is under way, with the time that it may still take."""
    curves = read_curves(folder.metrics_file)
    seconds = [*curves.get("elapsed_seconds", ()), 0.0][-2:][0]
    left = f", about {seconds / epoch * (epochs - epoch):.0f} s left" if epoch < epochs else ""
    bar = f'<progress value="{epoch}" max="{epochs}" style="width:300px"></progress>'
    figures = [curves_svg(*figure) for figure in standard_figures(curves)]
    return card(f"epoch {epoch} of {epochs}, {seconds:.0f} s{left}", [bar, *figures])
