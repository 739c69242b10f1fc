"""Texts of the command line: help, completion, the configuration reference and one-line error messages.

docs/configuration.md is the output of `python -m mnist_mlp.cli.help`.
"""

import difflib
import re
import sys
from collections.abc import Callable, Sequence
from enum import Enum
from itertools import groupby
from textwrap import TextWrapper, shorten
from typing import Any

from mnist_mlp.config import Config, choices, conf_folder, groups
from mnist_mlp.errors import UserError
from mnist_mlp.options import allowed_values, options, wrong_value_message

WIDTH = 100
SUMMARY_LENGTH = 65
DEFAULT_LENGTH = 12
"""Characters reserved for a default value; a longer one shifts its description to the right."""
HELP = """\
Train a plain MLP on MNIST.

  python -m mnist_mlp.train [KEY=VALUE ...]             single run in outputs/train/<name>
  python -m mnist_mlp.train -m KEY=A,B [KEY=VALUE ...]  sweep in outputs/sweeps/<name>

Presets (GROUP=CHOICE)
{groups}

Options (KEY=VALUE) with default, description and [allowed values]
{options}

--cfg job prints the composed configuration, --version the version; --hydra-help describes Hydra's
own flags. To enable bash completion: eval "$(mnist-mlp-train -sc install=bash)"
"""


def help_text() -> str:
    """Return the text of `--help`: every preset and every option."""
    rows = list(options(Config()))
    indent = max(len(key) for key, _, _ in rows) + 4
    margin = indent + DEFAULT_LENGTH + 2
    wrapper = TextWrapper(WIDTH, subsequent_indent=" " * margin, break_long_words=False, break_on_hyphens=False)
    option_lines: list[str] = []
    for _, group in groupby(rows, lambda row: row[0].rpartition(".")[0]):
        option_lines.append("")
        for key, value, metadata in group:
            start = f"{f'  {key}'.ljust(indent)}{_format_default(value)}  ".ljust(margin)
            option_lines.append(wrapper.fill(f"{start}{metadata['meaning']} [{allowed_values(value, metadata)}]"))
    group_lines: list[str] = []
    for name in groups():
        group_lines.append("")
        for choice in choices(name):
            summary = shorten(_preset_summary(name, choice), SUMMARY_LENGTH, placeholder=" ...")
            group_lines.append(f"  {f'{name}={choice}':<32} {summary}")
    return HELP.format(groups="\n".join(group_lines), options="\n".join(option_lines))


def _preset_summary(group: str, choice: str) -> str:
    text = (conf_folder() / group / f"{choice}.yaml").read_text(encoding="utf-8")
    lines = [line.removeprefix("#").strip() for line in text.splitlines()]
    first = next(line for line in lines if line and not line.startswith("@package"))
    return first.removeprefix("What:").strip()


def completions(word: str) -> list[str]:
    """Complete "KEY=VALUE" on a command line: options with their values, groups with their presets."""
    key, _, typed = word.partition("=")
    previous, comma, prefix = typed.rpartition(",")
    values = choices(key) if key in groups() else []
    for name, default, metadata in options(Config()):
        if name == key:
            names = [str(choice) for choice in type(default)] if isinstance(default, Enum) else metadata["choices"]
            values = names or (["true", "false"] if isinstance(default, bool) else [str(default)])
    return [f"{key}={previous}{comma}{value}" for value in values if value.startswith(prefix)]


HEAD = """\
# Configuration reference

Generated from `mnist_mlp/config.py` and `conf/` by `python -m mnist_mlp.cli.help`. Every option is a key on the
command line (`optim.lr=0.005`), a key in Python (`mnist_mlp.fit({"optim.lr": 0.005})`) and an attribute of `Config`
(`config.optim.lr`). Options marked with * do not affect the result; they are excluded from the fingerprint that
identifies earlier runs with the same settings.
"""


def reference() -> str:
    """Return the configuration reference in Markdown: every option by group, then every preset."""
    parts = [HEAD]
    for name, group in groupby(options(Config()), lambda row: row[0].rpartition(".")[0]):
        parts.append(f"\n## {name or 'General'}\n\n| key | default | allowed | meaning |\n|---|---|---|---|\n")
        for key, value, metadata in group:
            star = "" if metadata["affects_result"] else " *"
            default = "$MNIST_MLP_DATA or ./data" if key == "data.root" else _format_default(value)
            cells = (f"`{key}`{star}", f"`{default}`", allowed_values(value, metadata), metadata["meaning"])
            parts.append(f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |\n")
    parts.append("\n## Presets\n\n| preset | description |\n|---|---|\n")
    parts += [
        f"| `{group}={name}` | {_preset_summary(group, name)} |\n" for group in groups() for name in choices(group)
    ]
    return "".join(parts)


def _format_default(value: Any) -> str:
    text = value.value if isinstance(value, Enum) else "null" if value is None else str(value)
    return text.lower() if isinstance(value, bool) else text or '""'


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
"""Names of other libraries for the options of mnist_mlp."""


def suggest(key: str) -> str:
    """Explain that a key is unknown, with a suggestion."""
    likely = likely_key(key)
    return f"unknown key {key}: {f'did you mean {likely}? ' if likely else ''}--help lists every key"


def likely_key(key: str) -> str | None:
    """Return the key that was probably meant; None if no key is similar."""
    keys = [name for name, _, _ in options(Config())]
    last = key.rpartition(".")[2].lower()
    foreign = {alias: name for name, aliases in OTHER_NAMES.items() for alias in aliases}
    short = {name.rpartition(".")[2]: name for name in reversed(keys)}
    if last in short or last in foreign:
        return short.get(last) or foreign[last]
    full = {name: name for name in keys + groups()}
    for names, word, cutoff in ((full, key, 0.6), (short, last, 0.75), (foreign, last, 0.85)):
        if matches := difflib.get_close_matches(word, names, n=1, cutoff=cutoff):
            return names[matches[0]]
    return None


def explain(error: BaseException, overrides: Sequence[str] | None = None) -> str:
    """Explain a composition error in one line. overrides: the command line, by default sys.argv."""
    chain = [error]
    while (cause := chain[-1].__cause__ or chain[-1].__context__) is not None:
        chain.append(cause)
    link: Any
    for link in chain:
        if isinstance(link, UserError):
            return str(link)
        if type(link).__name__ == "OverrideParseException":  # Hydra's, which --help must not import
            return _not_an_override(link.override)
    text = "\n".join(str(link) for link in chain)
    for pattern, explanation in MISTAKES:
        match = re.search(pattern, text)
        if match and (line := explanation(match)):
            return line
    if "Config group override must be a string" in text:  # Hydra does not report which one
        for word in sys.argv[1:] if overrides is None else overrides:
            group, _, choice = word.partition("=")
            if not group:
                return _not_an_override(word)
            if group in groups() and choice not in choices(group):
                return _missing_choice(group, choice)
    return " ".join(str(error).split())


def _not_an_override(word: str) -> str:
    return f"{word!r} is not of the form KEY=VALUE; --help lists every key"


def _wrong_value(match: re.Match[str]) -> str | None:
    for key, default, metadata in options(Config()):
        if match[1] == key or match[1].startswith(f"{key}["):
            value = re.search(r"[Vv]alue '([^']*)'", match.string)
            return wrong_value_message(key, value and value[1], default, metadata)
    return None


def _missing_choice(group: str, name: str) -> str:
    names = choices(group)
    matches = difflib.get_close_matches(name, names, n=1)
    hint = f"did you mean {matches[0]}? " if matches else ""
    return f"{group}={name} does not exist: {hint}use one of {', '.join(names) or 'none'}"


_SEVERAL = "has several values: add -m to sweep over them"
MISTAKES: tuple[tuple[str, Callable[[re.Match[str]], str | None]], ...] = (
    (
        r"(In '[\w/-]+': )(?s:.*?)Key '\S+' not in '\w+'\s+full_key: ([\w.]+)",
        lambda match: (
            match[1]
            + ("# @package _global_ is missing from the first line" if match[2] in groups() else suggest(match[2]))
        ),
    ),
    (
        r"\A(?=(?s:.*?)(?:Key '\S+' (?:is )?not in|[Nn]o match in the defaults list))"
        r"(?s:.*?)Could not (?:override|append|delete)\b.*?'([\w.@/]+)'",
        lambda match: suggest(match[1]),
    ),
    (r"full_key: ([\w.]+)", _wrong_value),
    (r"Could not find '(\S+)/(\S+)'", lambda match: _missing_choice(match[1], match[2])),
    (r"Ambiguous value for argument '(\S+)'", lambda match: f"{match[1]} {_SEVERAL}, or write a list as [a,b]"),
    (r"Sweep parameters '(.+?)' requires --multirun", lambda match: f"{match[1]} {_SEVERAL}"),
    (
        r"Error merging override (\w+)=",
        lambda match: f"{match[1]} is a group, not an option: use {match[1]}.KEY=VALUE; --help lists every key",
    ),
)
"""Regular expressions for messages of Hydra and OmegaConf, each with its explanation."""


if __name__ == "__main__":
    print(reference(), end="")
