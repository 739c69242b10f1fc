"""Texts of the command line: help, completion, the configuration reference and one-line error messages.

docs/configuration.md is the output of `python -m mnist_mlp.cli.help`.
"""

import difflib
import json
import re
import sys
from collections.abc import Callable, Sequence
from enum import Enum
from functools import partial
from itertools import groupby, pairwise
from pathlib import Path
from textwrap import TextWrapper, shorten
from typing import Any

from mnist_mlp.config import Config, choices, conf_folder, groups
from mnist_mlp.errors import UserError
from mnist_mlp.options import allowed_values, options, wrong_value_message

HYDRA_FLAGS = re.compile(
    "help|hydra-help|version|cfg|resolve|package|run|multirun|shell-completion|config-.*|experimental-rerun|info"
)
WIDTH = 100
SUMMARY_LENGTH = 65
DEFAULT_LENGTH = 12
"""Characters reserved for a default value; a longer one shifts its description to the right."""


def help_text() -> str:
    """Return the text of `--help`: every preset and every option."""
    indent = max(len(key) for key, _, _ in options(Config())) + 4
    margin = indent + DEFAULT_LENGTH + 2
    wrapper = TextWrapper(WIDTH, subsequent_indent=" " * margin, break_long_words=False, break_on_hyphens=False)

    def wrap(key: str, default: str, description: str) -> str:
        return wrapper.fill(f"{f'  {key}'.ljust(indent)}{default}  ".ljust(margin) + description)

    return _render("help.txt", wrap=wrap, shorten=partial(shorten, width=SUMMARY_LENGTH, placeholder=" ..."))


def reference() -> str:
    """Return the configuration reference in Markdown: every option by group, then every preset."""
    return _render("reference.md")


def _render(name: str, **functions: Callable[..., str]) -> str:
    """Fill a template with all options and presets."""
    from jinja2 import Template  # deferred: error messages do without it

    rows = [
        (key, _format_default(value), allowed_values(value, metadata), metadata)
        for key, value, metadata in options(Config())
    ]
    grouped = [(group, list(members)) for group, members in groupby(rows, lambda row: row[0].rpartition(".")[0])]
    presets = [{f"{group}={choice}": _preset_summary(group, choice) for choice in choices(group)} for group in groups()]
    template = Template(_read_template(name), trim_blocks=True, keep_trailing_newline=True)
    return str(template.render(groups=grouped, presets=presets, **functions))


def _read_template(name: str) -> str:
    return (Path(__file__).parent / "templates" / name).read_text(encoding="utf-8")


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
            values = names or (["true", "false"] if isinstance(default, bool) else [_format_default(default)])
    return [f"{key}={previous}{comma}{value}" for value in values if value.startswith(prefix)]


def _format_default(value: Any) -> str:
    if isinstance(value, list) and len(value) == 1:  # [256] would be a single layer
        value = value[0]
    text = value.value if isinstance(value, Enum) else "null" if value is None else str(value)
    return text.lower() if isinstance(value, bool) else text or '""'


def other_names() -> dict[str, list[str]]:
    """Return names of other libraries for the options of mnist_mlp, by key."""
    names: dict[str, list[str]] = json.loads(_read_template("other_names.json"))
    return names


def suggest(key: str) -> str:
    """Explain that a key is unknown, with a suggestion."""
    likely = likely_key(key)
    if likely == "optim":  # the presets, whose learning rates suit them
        likely = " or ".join(f"optim={choice}" for choice in choices("optim"))
    return f"unknown key {key}: {f'did you mean {likely}? ' if likely else ''}--help lists every key"


def likely_key(key: str) -> str | None:
    """Return the key that was probably meant; None if no key is similar."""
    keys = [name for name, _, _ in options(Config())]
    last = key.rpartition(".")[2].lower()
    foreign = {alias: name for name, aliases in other_names().items() for alias in aliases}
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
    text = re.sub(r"choice\('(zip\(.*?\))'\)", r"\1", "\n".join(str(link) for link in chain))  # as it was written
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
                return _missing_choice(group, choice, choices(group))
    return next((line for link in chain if (line := " ".join(str(link).split()))), type(error).__name__)


def misplaced_flag(words: Sequence[str]) -> str:
    """Explain the first option that is written as a flag, such as --epochs 5; empty if there is none."""
    for word, following in pairwise([*words, ""]):
        name, equals, value = word.removeprefix("--").partition("=")
        if word.startswith("--") and name and not HYDRA_FLAGS.fullmatch(name):
            likely = likely_key(name.replace("-", "_"))
            value = value if equals or following.startswith("-") or "=" in following else following
            hint = f"write {likely}={value or 'VALUE'}" if likely else "write KEY=VALUE"
            return f"{word} is not a flag: {hint}; --help lists every key"
    return ""


def _not_an_override(word: str) -> str:
    key, equals, value = word.partition("=")
    if equals and value.endswith(","):
        return f"{word} ends with a comma: separate values by commas without spaces, as in {key}=A,B"
    if word[:1] in ("'", '"'):  # cmd.exe
        return f'{word} begins with a quote that this shell does not remove: use double quotes, as in "seed=range(3)"'
    if equals and re.fullmatch(r"[\w.@/+~-]+", key):
        quoted = value.replace("'", r"\'")
        return f"{word} cannot be parsed: quote the value, as in \"{key}='{quoted}'\""
    return f"{word!r} is not of the form KEY=VALUE; --help lists every key"


def _wrong_value(match: re.Match[str]) -> str | None:
    for key, default, metadata in options(Config()):
        if match[1] == key or match[1].startswith(f"{key}["):
            value = re.search(r"[Vv]alue '([^']*)'", match.string)
            message = wrong_value_message(key, value and value[1], default, metadata)
            return f"{message}; list the values of a sweep without brackets" if value and "[" in value[1] else message
    return None


def _missing_choice(group: str, name: str, names: Sequence[str]) -> str:
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
    (r"key: hydra\.runtime\.cwd", lambda _: "the path of the current folder contains ${: use another folder"),
    (r"full_key: ([\w.]+)", _wrong_value),
    (
        r"Could not find '(\S+)/(\S+)'\s*(?:Available options in '\S+':((?:\n\t.*)+))?",
        lambda match: _missing_choice(match[1], match[2], (match[3] or "").split()),
    ),
    (
        r"Ambiguous value for argument '(\S+=0),(\d+)'",
        lambda match: f"{match[1]},{match[2]}: write {match[1]}.{match[2]} with a decimal point, or add -m to sweep",
    ),
    (r"Ambiguous value for argument '(\S+)'", lambda match: f"{match[1]} {_SEVERAL}, or write a list as [a,b]"),
    (r"Sweep parameters '(.+?)' requires --multirun", lambda match: f"{match[1]} {_SEVERAL}"),
    (
        r"Error merging override (\w+)=",
        lambda match: f"{match[1]} is a group, not an option: use {match[1]}.KEY=VALUE; --help lists every key",
    ),
    (r"Error merging override (hydra\.\S+)\n(.*)", lambda match: f"{match[1]} is not valid: {match[2]}"),
    (r"dynamic value space", lambda match: "this search has trials with other choices: use another name="),
)
"""Regular expressions for messages of Hydra and OmegaConf, each with its explanation."""


if __name__ == "__main__":
    print(reference(), end="")
