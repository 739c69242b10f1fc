"""Call `train -m` in this process with tiny settings on synthetic digits; jobs run in this process by default."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hydra.core.global_hydra import GlobalHydra

from mnist_mlp.train import main

Sweep = Callable[..., int]
TINY = (
    *("model.hidden_layers=1", "model.hidden_units=[8]", "data.val_size=60", "data.batch_size=32", "optim.lr=0.05"),
    *("trainer.max_epochs=2", "trainer.figures=false"),
)


def sweeper(idx_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sweep:
    """A function that runs a sweep with these overrides in tmp_path and returns its exit code."""
    monkeypatch.chdir(tmp_path)
    if (
        "joblib.externals.loky" in sys.modules
    ):  # its workers outlive a sweep and keep the working directory of that test
        sys.modules["joblib.externals.loky"].get_reusable_executor().shutdown(wait=True)
    monkeypatch.setattr("mnist_mlp.reporting.page.write_page", quick_page)

    def call(*overrides: str) -> int:
        keys = {override.partition("=")[0] for override in overrides}
        defaults = (f"data.root={idx_root}", "hydra/launcher=basic", *TINY)
        unchanged = [default for default in defaults if default.partition("=")[0] not in keys]
        monkeypatch.setattr(sys, "argv", ["train", "-m", *unchanged, *overrides])
        GlobalHydra.instance().clear()
        try:
            main()
        except SystemExit as ended:
            return ended.code if isinstance(ended.code, int) else 1
        return 0

    return call


def quick_page(paths: list[Path], target: Path, status: str = "") -> Path:
    """Replace the page, which has its own tests."""
    target.write_text(f"page of {paths} {status}")
    return target
