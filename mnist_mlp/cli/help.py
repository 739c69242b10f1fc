"""Texts of the command line: help, completion, the configuration reference, and mistakes in one line each.

docs/configuration.md is the output of `python -m mnist_mlp.cli.help`.
"""

import difflib
import re
import sys
from collections.abc import Iterator, Sequence
from enum import Enum
from functools import partial
from itertools import groupby
from textwrap import shorten, wrap
from typing import Any

from mnist_mlp.config import Config, choices, conf_folder, groups
from mnist_mlp.errors import UserError
from mnist_mlp.options import allowed_values, options, wrong_value

WIDTH = 100
SUMMARY_LENGTH = 65
DEFAULT_LENGTH = 12
"""Cells for a default; one that is longer has its line for itself."""
HELP = """\
Train a plain MLP on MNIST.

  python -m mnist_mlp.train [KEY=VALUE ...]             one run, into outputs/train/<name>
  python -m mnist_mlp.train -m KEY=A,B [KEY=VALUE ...]  a sweep, into outputs/sweeps/<name>

Presets, as GROUP=CHOICE
{groups}

Options, as KEY=VALUE; with their defaults, and in brackets the values that are allowed
{options}

--cfg job shows the composed configuration, --version the version; --hydra-help explains Hydra's own
flags. Completion of keys and values in bash: eval "$(mnist-mlp-train -sc install=bash)"
"""


def help_text() -> str:
    """Every group and every option."""
    rows = list(options(Config()))
    indent = max(len(key) for key, _, _ in rows) + 4
    lines: list[str] = []
    for _, group in groupby(rows, lambda row: row[0].rpartition(".")[0]):
        lines.append("")
        for key, value, metadata in group:
            lines += _option_lines(key, value, metadata, indent)
    return HELP.format(
        groups="\n".join(line for group in groups() for line in _group_lines(group)),
        options="\n".join(lines),
    )


def _option_lines(key: str, value: Any, metadata: dict[str, Any], indent: int) -> Iterator[str]:
    shown = _shown(value)
    margin = indent + DEFAULT_LENGTH + 2
    words = wrap(
        f"{metadata['meaning']} [{allowed_values(value, metadata)}]",
        WIDTH - margin,
        break_long_words=False,
        break_on_hyphens=False,
    )
    start = f"  {key}".ljust(indent) + shown
    if len(shown) > DEFAULT_LENGTH:
        yield start
        start = ""
    for line in words:
        yield start.ljust(margin) + line
        start = ""


def _group_lines(group: str) -> Iterator[str]:
    yield ""
    for choice in choices(group):
        summary = shorten(first_comment(group, choice), SUMMARY_LENGTH, placeholder=" ...")
        yield f"  {f'{group}={choice}':<32} {summary}"


def first_comment(group: str, choice: str) -> str:
    """What a choice does: the first line of its file, which is a comment on just that."""
    text = (conf_folder() / group / f"{choice}.yaml").read_text(encoding="utf-8")
    lines = [line.removeprefix("#").strip() for line in text.splitlines()]
    first = next(line for line in lines if line and not line.startswith("@package"))
    return first.removeprefix("What:").strip()


def value_offers(line: str) -> list[str] | None:
    """What the last word of a command line may become; None where it is not an option followed by "="."""
    word = line.rpartition(" ")[2]
    key, equals, begun = word.partition("=")
    known = {name: (value, metadata) for name, value, metadata in options(Config())}
    if not equals or key not in known:
        return None
    done, comma, part = begun.rpartition(",")
    return [f"{key}={done}{comma}{value}" for value in _values(*known[key]) if value.startswith(part)]


def _values(default: Any, metadata: dict[str, Any]) -> list[str]:
    if isinstance(default, Enum):
        return [choice.name for choice in type(default)]
    if isinstance(default, bool):
        return ["true", "false"]
    return list(metadata["choices"]) or ([] if isinstance(default, list) or default is None else [str(default)])


HEAD = """\
# Configuration reference

Made by `python -m mnist_mlp.cli.help` from `mnist_mlp/config.py` and `conf/`; a test compares the two. Every
option is a key of the command line (`optim.lr=0.005`), of `mnist_mlp.fit({"optim.lr": 0.005})` and an attribute of
`Config` (`config.optim.lr`). Those marked with a star do not affect the result: they are left out of the fingerprint,
by which an earlier run is recognised.
"""


def reference() -> str:
    """Every option by group, then every preset."""
    parts = [HEAD]
    for name, group in groupby(options(Config()), lambda row: row[0].rpartition(".")[0]):
        parts.append(f"\n## {name or 'General'}\n\n| key | default | allowed | meaning |\n|---|---|---|---|\n")
        parts += [_row(*option) for option in group]
    parts.append("\n## Presets\n\n| preset | what it is |\n|---|---|\n")
    parts += [f"| `{group}={name}` | {first_comment(group, name)} |\n" for group in groups() for name in choices(group)]
    return "".join(parts)


def _row(key: str, value: Any, metadata: dict[str, Any]) -> str:
    star = "" if metadata["affects_result"] else " *"
    default = "$MNIST_MLP_DATA or ./data" if key == "data.root" else _shown(value)
    cells = (f"`{key}`{star}", f"`{default}`", allowed_values(value, metadata), metadata["meaning"])
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |\n"


def _shown(value: Any) -> str:
    shown = value.value if isinstance(value, Enum) else "null" if value is None else str(value)
    return shown.lower() if isinstance(value, bool) else shown or '""'


OTHER_NAMES: dict[str, tuple[str, ...]] = {
    "trainer.max_epochs": ("epochs", "n_epochs", "num_epochs", "max_iter", "nb_epoch"),
    "optim.lr": ("learning_rate", "learning_rate_init", "base_lr", "max_lr", "eta", "eta0", "step_size"),
    "optim.name": ("optimizer", "optimiser", "solver", "opt"),
    "optim.schedule": ("scheduler", "lr_scheduler", "lr_schedule", "learning_rate_schedule", "decay_schedule"),
    "optim.momentum": ("beta1", "beta_1", "betas"),
    "optim.weight_decay": ("alpha", "l2", "wd", "decay", "l2_regularization"),
    "optim.label_smoothing": ("smoothing",),
    "optim.teacher": ("distill", "distillation", "teacher_path", "teacher_model"),
    "optim.vat": ("vat_eps", "adversarial", "virtual_adversarial"),
    "data.batch_size": ("bs", "batch", "minibatch", "minibatch_size", "train_batch_size"),
    "data.root": ("data_dir", "data_path", "data_root", "dataset_dir", "path", "download_root"),
    "data.subset": ("train_size", "fraction", "limit_train_batches", "overfit_batches"),
    "data.val_size": ("validation_split", "validation_fraction", "val_split", "val_fraction", "validation_size"),
    "data.normalization": ("normalize", "normalise", "normalisation", "scaling", "transform", "preprocessing"),
    "model.hidden_units": (
        *("hidden_layer_sizes", "units", "hidden_size", "hidden_sizes", "hidden_dim", "hidden_dims", "width"),
        *("widths", "n_units", "neurons", "layer_sizes"),
    ),
    "model.hidden_layers": ("layers", "num_layers", "n_layers", "depth", "num_hidden_layers", "n_hidden"),
    "model.dropout": ("dropout_rate", "drop_rate", "dropout_prob", "p_dropout"),
    "model.batch_norm": ("batchnorm", "bn", "batch_normalization", "use_batch_norm", "norm"),
    "model.activation": ("act", "activation_fn", "nonlinearity"),
    "augment.rotation": ("rotation_range", "rotate", "degrees", "random_rotation"),
    "augment.translate": ("width_shift_range", "height_shift_range", "shift", "translation"),
    "augment.scale": ("zoom_range", "zoom"),
    "augment.shear": ("shear_range",),
    "trainer.accelerator": ("device", "gpu", "cuda", "use_gpu", "use_cuda", "gpus"),
    "trainer.devices": ("num_gpus", "n_gpus", "num_devices", "world_size"),
    "trainer.precision": ("dtype", "amp", "mixed_precision", "fp16", "bf16"),
    "trainer.threads": ("num_threads", "n_threads", "num_workers", "workers", "n_jobs", "cpus"),
    "trainer.early_stopping": ("patience", "n_iter_no_change", "early_stop"),
    "trainer.compile": ("jit", "jit_compile", "torch_compile"),
    "trainer.progress": ("verbose", "enable_progress_bar", "progress_bar", "quiet"),
    "trainer.figures": ("plots", "plot"),
    "seed": ("random_state", "random_seed", "seed_everything", "rng"),
    "name": ("run_name", "experiment_name", "exp_name", "output", "out_dir", "output_dir", "run"),
    "resume": ("ckpt_path", "checkpoint", "resume_from", "resume_from_checkpoint", "ckpt"),
    "experiment": ("preset", "recipe"),
}
"""Our keys, and what other libraries call them."""


def suggest(key: str) -> str:
    """The message for an unknown key, with the key that was probably meant."""
    meant = likely_key(key)
    return f"unknown key {key}: {f'did you mean {meant}? ' if meant else ''}--help lists every key"


def likely_key(key: str) -> str | None:
    """The known key that was probably meant; None where nothing is near."""
    known = [name for name, _, _ in options(Config())]
    last = key.rpartition(".")[2].lower()
    if same := [name for name in known if name.rpartition(".")[2] == last]:
        return same[0]
    for ours, theirs in OTHER_NAMES.items():
        if last in theirs:
            return ours
    if near := difflib.get_close_matches(key, known + groups(), n=1):
        return near[0]
    if near := difflib.get_close_matches(last, [name.rpartition(".")[2] for name in known], n=1, cutoff=0.75):
        return next(name for name in known if name.rpartition(".")[2] == near[0])
    names = [name for theirs in OTHER_NAMES.values() for name in theirs]
    near = difflib.get_close_matches(last, names, n=1, cutoff=0.85)
    return next((ours for ours, theirs in OTHER_NAMES.items() if near and near[0] in theirs), None)


def explain(error: BaseException, overrides: Sequence[str] | None = None) -> str:
    """A composition error in one line: what was wrong, what is allowed, what to do. overrides: default sys.argv."""
    chain = [error]
    while (cause := chain[-1].__cause__ or chain[-1].__context__) is not None:
        chain.append(cause)
    link: Any
    for link in chain:
        if isinstance(link, UserError):
            return str(link)
        if type(link).__name__ == "OverrideParseException":  # Hydra's, which --help must not import
            return f"{link.override!r} is not of the form KEY=VALUE; --help lists every key"
    text = "\n".join(str(link) for link in chain)
    not_a_choice = partial(_not_a_choice, words=sys.argv[1:] if overrides is None else overrides)
    for explanation in (_unknown_key, _wrong_value, _missing_choice, _several_values, not_a_choice, _not_an_option):
        if line := explanation(text):
            return line
    return " ".join(str(error).split())


def _unknown_key(text: str) -> str | None:
    in_a_file = re.search(r"(In '[\w/-]+': )(?s:.*?)Key '\S+' not in '\w+'\s+full_key: ([\w.]+)", text)
    if in_a_file and in_a_file.group(2) in groups():
        return f"{in_a_file.group(1)}# @package _global_ is missing in its first line"
    if in_a_file:
        return in_a_file.group(1) + suggest(in_a_file.group(2))
    found = re.search(r"Could not (?:override|append|delete)\b.*?'([\w.@/]+)'", text)
    bad = re.search(r"Key '(\S+)' (?:is )?not in|[Nn]o match in the defaults list", text)
    if not found or not bad:
        return None
    return suggest(found.group(1))


def _wrong_value(text: str) -> str | None:
    key = re.search(r"full_key: ([\w.]+)", text)
    if not key:
        return None
    for name, default, metadata in options(Config()):
        if key.group(1) == name or key.group(1).startswith(f"{name}["):
            found = re.search(r"[Vv]alue '([^']*)'", text)
            return wrong_value(name, found.group(1) if found else None, default, metadata)
    return None


def _missing_choice(text: str) -> str | None:
    found = re.search(r"Could not find '(\S+)'", text)
    if not found:
        return None
    group, _, name = found.group(1).rpartition("/")
    known = choices(group)
    near = difflib.get_close_matches(name, known, n=1)
    hint = f": did you mean {near[0]}?" if near else ":"
    return f"no {group}={name}{hint} there is {', '.join(known) or 'none'}"


def _several_values(text: str) -> str | None:
    found = re.search(r"Ambiguous value for argument '(\S+)'|Sweep parameters '(.+?)' requires --multirun", text)
    if not found:
        return None
    if found.group(1):
        return f"{found.group(1)} gives several values: add -m to sweep over them, or write a list as [a,b]"
    return f"{found.group(2)} gives several values: add -m to sweep over them"


def _not_a_choice(text: str, words: Sequence[str]) -> str | None:
    """Hydra does not say which argument it could not parse."""
    if "Config group override must be a string" not in text:
        return None
    for word in words:
        group, _, choice = word.partition("=")
        if not group:
            return f"{word!r} is not of the form KEY=VALUE; --help lists every key"
        if (conf_folder() / group).is_dir() and not (conf_folder() / group / f"{choice}.yaml").is_file():
            return _missing_choice(f"Could not find '{group}/{choice}'")
    return None


def _not_an_option(text: str) -> str | None:
    found = re.search(r"Error merging override (\w+)=", text)
    return (
        found and f"{found.group(1)} is a group, not an option: give {found.group(1)}.KEY=VALUE; --help lists every key"
    )


if __name__ == "__main__":
    print(reference(), end="")
