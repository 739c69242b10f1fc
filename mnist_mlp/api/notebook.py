"""HTML for runs and sweeps in notebooks, and a progress display that is updated after each epoch."""

import base64
import io
import sys
import time
from collections.abc import Callable, Sequence
from html import escape
from importlib import import_module
from typing import TYPE_CHECKING, Any

import pytorch_lightning as pl
from rich.console import Console
from rich.theme import Theme

from mnist_mlp.runs.folder import RunFolder
from mnist_mlp.runs.predictions import Curves, read_curves
from mnist_mlp.sweeps.jobs import Job
from mnist_mlp.sweeps.live import LiveProgress

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PREFORMATTED = '<pre style="margin:0;line-height:1.4">{code}</pre>'
REDRAW_SECONDS = 0.5
"""Minimum time between two updates; drawing one takes about a tenth of it."""


def card(title: str, panels: Sequence[str]) -> str:
    """Arrange panels of HTML side by side under a title; on a narrow page they wrap."""
    boxes = "".join(f'<div style="min-width:0;overflow-x:auto">{panel}</div>' for panel in panels)
    return (
        f'<div style="font-family:sans-serif;font-size:13px"><div style="font-weight:600;margin:4px 0">{escape(title)}'
        f'</div><div style="display:flex;flex-wrap:wrap;gap:16px;align-items:flex-start">{boxes}</div></div>'
    )


def preformatted(text: str) -> str:
    """Format text in a fixed-width font, for tables."""
    return PREFORMATTED.format(code=escape(text))


def picture(figure: "Figure", description: str) -> str:
    """Embed a figure as an image with this alternative text; its white background suits light and dark themes."""
    from mnist_mlp.plots.run import png  # deferred: matplotlib

    source = f"data:image/png;base64,{base64.b64encode(png(figure)).decode()}"
    width = round(80 * figure.get_figwidth())
    return f'<img src="{source}" alt="{escape(description)}" style="width:{width}px;max-width:100%">'


def curves_picture(curves: Curves, best_epoch: int | None = None) -> str:
    """Draw accuracy and loss per epoch; empty if there are no curves."""
    from mnist_mlp.plots.run import learning_curves  # deferred: matplotlib

    return picture(learning_curves(curves, best_epoch), "accuracy and loss over the epochs") if len(curves) else ""


def in_notebook() -> bool:
    """Whether the process is a Jupyter kernel, whose front end displays HTML."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return getattr(shell, "kernel", None) is not None


def updatable(content: str) -> Callable[[str], None]:
    """Display HTML in the output cell; return a function that replaces it."""
    ipython = import_module("IPython.display")  # imported by name: IPython is not a dependency
    display = ipython.display(ipython.HTML(content), display_id=True)
    return lambda content: display.update(ipython.HTML(content))


class NotebookProgress(pl.Callback):
    """Displays the learning curves during training, and finally only its duration: the run displays its own curves."""

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder
        self._last_update = 0.0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Create the display."""
        self._update = updatable(f"epoch 0 of {trainer.max_epochs}")

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Update progress bar, remaining time and curves, at most once per REDRAW_SECONDS."""
        if time.monotonic() - self._last_update < REDRAW_SECONDS:
            return
        epoch, epochs = trainer.current_epoch + 1, trainer.max_epochs or 0
        curves, seconds = self._read()
        remaining = f", about {seconds / epoch * (epochs - epoch):.0f} s left" if epoch < epochs else ""
        bar = f'<progress value="{epoch}" max="{epochs}" style="width:300px"></progress>'
        self._update(card(f"epoch {epoch} of {epochs}, {seconds:.0f} s{remaining}", [bar, curves_picture(curves)]))
        self._last_update = time.monotonic()

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Replace the display by the duration of the training."""
        self._update(f"{trainer.current_epoch} epochs in {self._read()[1]:.1f} s")

    def _read(self) -> tuple[Curves, float]:
        curves = read_curves(self._folder.metrics_file)
        return curves, [0.0, *curves.get("elapsed_seconds", ())][-1]


class NotebookSweepProgress(LiveProgress):
    """Displays in the output cell what a terminal shows of a running sweep, without the lines of finished jobs."""

    def __init__(self, jobs: Sequence[Job], began: float) -> None:
        self._update, theme = updatable(""), Theme({"bar.back": "grey62"})  # visible on light and dark pages
        options: dict[str, Any] = {"force_terminal": False, "force_jupyter": False, "width": 100, "height": 30}
        super().__init__(jobs, began, Console(record=True, file=io.StringIO(), theme=theme, **options))

    def _draw(self) -> None:
        self._console.file = io.StringIO()
        self._console.export_text()  # clears what is recorded
        self._console.print(self._view())
        self._update(self._console.export_html(inline_styles=True, code_format=PREFORMATTED))
