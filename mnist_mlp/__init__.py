"""Train, compare and trust plain MLPs on MNIST. Names are imported on first use, so `--help` does not import torch."""

import os
import sys
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if sys.argv[:1] == ["-m"] and find_spec("torch") is None:  # a command
    sys.exit(f"error: {sys.executable} has no torch: activate .venv (. .venv/bin/activate), or create it (make train)")

_MODULES = {
    **dict.fromkeys(("fit", "sweep"), "api.training"),
    **dict.fromkeys(("Run", "Sweep", "load_run", "load_sweep"), "api.results"),
    **dict.fromkeys(("Config", "DataConfig", "ModelConfig", "OptimConfig", "AugmentConfig", "TrainerConfig"), "config"),
    **dict.fromkeys(("Digits", "load_digits"), "data.mnist"),
    "DigitClassifier": "training.classifier",
    "DigitData": "data.module",
    "MLP": "model",
    "MLPClassifier": "api.sklearn",
    "UserError": "errors",
    "compose": "cli.compose",
    "prepare": "data.picture",
}
__all__ = [*_MODULES, "__version__"]

if not os.path.isdir(os.path.join(__path__[0], "conf")):
    __path__.append(os.path.dirname(__path__[0]))  # in a checkout, mnist_mlp.conf is conf/ next to the package

if TYPE_CHECKING:
    from mnist_mlp.api.results import Run as Run
    from mnist_mlp.api.results import Sweep as Sweep
    from mnist_mlp.api.results import load_run as load_run
    from mnist_mlp.api.results import load_sweep as load_sweep
    from mnist_mlp.api.sklearn import MLPClassifier as MLPClassifier
    from mnist_mlp.api.training import fit as fit
    from mnist_mlp.api.training import sweep as sweep
    from mnist_mlp.cli.compose import compose as compose
    from mnist_mlp.config import AugmentConfig as AugmentConfig
    from mnist_mlp.config import Config as Config
    from mnist_mlp.config import DataConfig as DataConfig
    from mnist_mlp.config import ModelConfig as ModelConfig
    from mnist_mlp.config import OptimConfig as OptimConfig
    from mnist_mlp.config import TrainerConfig as TrainerConfig
    from mnist_mlp.data.mnist import Digits as Digits
    from mnist_mlp.data.mnist import load_digits as load_digits
    from mnist_mlp.data.module import DigitData as DigitData
    from mnist_mlp.data.picture import prepare as prepare
    from mnist_mlp.errors import UserError as UserError
    from mnist_mlp.model import MLP as MLP
    from mnist_mlp.training.classifier import DigitClassifier as DigitClassifier
else:

    def __getattr__(name: str) -> Any:
        if name not in _MODULES:
            raise AttributeError(f"module 'mnist_mlp' has no attribute {name!r}")
        try:
            value = getattr(import_module(f"mnist_mlp.{_MODULES[name]}"), name)
        except (
            RuntimeError
        ) as error:  # torchmetrics imports torchvision, whose operators need the torch it was built for
            if "torchvision" not in str(error):
                raise
            raise ImportError(f"{error}: install the torchvision for this version of torch") from None
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted(__all__)
