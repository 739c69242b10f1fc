"""Progress in a notebook: one display that is drawn anew after each epoch."""

import sys
from importlib import import_module
from typing import Any

import pytorch_lightning as pl

from mnist_mlp.api import html
from mnist_mlp.runs.curves import read_curves
from mnist_mlp.runs.folder import RunFolder


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
    figures = [html.curves_svg(*figure) for figure in html.standard_figures(curves)]
    return html.card(f"epoch {epoch} of {epochs}, {seconds:.0f} s{left}", [bar, *figures])
