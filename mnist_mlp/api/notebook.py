"""How runs and sweeps are shown in a notebook, and progress: one display that is redrawn after an epoch."""

import base64
import sys
import time
from collections.abc import Sequence
from html import escape
from importlib import import_module
from typing import TYPE_CHECKING, Any

import pytorch_lightning as pl

from mnist_mlp.runs.folder import RunFolder
from mnist_mlp.runs.predictions import Curves, read_curves

if TYPE_CHECKING:
    from matplotlib.figure import Figure

REDRAW_SECONDS = 0.5
"""At least between two drawings: each takes a tenth of it."""


def card(title: str, parts: Sequence[str]) -> str:
    """Parts side by side under a title, one below the other on a narrow page."""
    boxes = "".join(f'<div style="min-width:0;overflow-x:auto">{part}</div>' for part in parts)
    return (
        f'<div style="font-family:sans-serif;font-size:13px"><div style="font-weight:600;margin:4px 0">{escape(title)}'
        f'</div><div style="display:flex;flex-wrap:wrap;gap:16px;align-items:flex-start">{boxes}</div></div>'
    )


def preformatted(text: str) -> str:
    """Text in a font of fixed width, for tables."""
    return f'<pre style="margin:0;line-height:1.4">{escape(text)}</pre>'


def picture(figure: "Figure", shows: str) -> str:
    """A figure on its white ground, which can be read on light and dark pages."""
    from mnist_mlp.plots.run import png  # deferred: matplotlib

    source = f"data:image/png;base64,{base64.b64encode(png(figure)).decode()}"
    return f'<img src="{source}" alt="{escape(shows)}" style="width:640px;max-width:100%">'


def curves_picture(curves: Curves, best_epoch: int | None = None) -> str:
    """Accuracy and loss of a run over its epochs; empty without curves."""
    from mnist_mlp.plots.run import learning_curves  # deferred: matplotlib

    return picture(learning_curves(curves, best_epoch), "accuracy and loss over the epochs") if curves else ""


def in_notebook() -> bool:
    """Whether this runs in a Jupyter kernel, whose front end shows HTML."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return getattr(shell, "kernel", None) is not None


class NotebookProgress(pl.Callback):
    """Shows the curves so far, and at the end only how long it took: the run then shows itself."""

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder
        self._ipython: Any = None
        self._display: Any = None
        self._drawn = 0.0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._ipython = import_module("IPython.display")  # installed, since this runs in a notebook
        html = self._ipython.HTML(f"epoch 0 of {trainer.max_epochs}")
        self._display = self._ipython.display(html, display_id=True)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if time.monotonic() - self._drawn < REDRAW_SECONDS:
            return
        epoch, epochs = trainer.current_epoch + 1, trainer.max_epochs or 0
        curves, seconds = self._read()
        left = f", about {seconds / epoch * (epochs - epoch):.0f} s left" if epoch < epochs else ""
        bar = f'<progress value="{epoch}" max="{epochs}" style="width:300px"></progress>'
        self._update(card(f"epoch {epoch} of {epochs}, {seconds:.0f} s{left}", [bar, curves_picture(curves)]))
        self._drawn = time.monotonic()

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._update(f"{trainer.current_epoch} epochs in {self._read()[1]:.1f} s")

    def _read(self) -> tuple[Curves, float]:
        """The curves so far, and the seconds they took."""
        curves = read_curves(self._folder.metrics_file)
        return curves, [0.0, *curves.get("elapsed_seconds", ())][-1]

    def _update(self, content: str) -> None:
        if self._display is not None:
            self._display.update(self._ipython.HTML(content))
