"""A run interrupted by a simulated power cut."""

from pathlib import Path

import pytest

from mnist_mlp.config import Config
from mnist_mlp.training.classifier import DigitClassifier
from mnist_mlp.training.fit import fit


def fit_until_power_cut(config: Config, path: Path, monkeypatch: pytest.MonkeyPatch, epochs: int = 2) -> None:
    """Train in this folder and crash after this many epochs."""
    start_epoch = DigitClassifier.on_train_epoch_start

    def power_cut(self: DigitClassifier) -> None:
        if self.current_epoch == epochs:
            raise RuntimeError("power cut")
        start_epoch(self)

    with monkeypatch.context() as patched:
        patched.setattr(DigitClassifier, "on_train_epoch_start", power_cut)
        with pytest.raises(RuntimeError, match="power cut"):
            fit(config, path)
    assert not (path / "result.json").exists()
