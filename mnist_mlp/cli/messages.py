"""Composition errors in one line: what was wrong, what is allowed, what to do."""

import difflib
import re
import sys

from hydra.errors import OverrideParseException

from mnist_mlp.cli.suggestions import suggest
from mnist_mlp.config import Config, options, wrong_value
from mnist_mlp.errors import UserError
from mnist_mlp.presets import choices, conf_folder


def explain(error: BaseException) -> str:
    """A composition error in one line: what was wrong, what is allowed, what to do."""
    chain = [error]
    while (cause := chain[-1].__cause__ or chain[-1].__context__) is not None:
        chain.append(cause)
    for link in chain:
        if isinstance(link, UserError):
            return str(link)
        if isinstance(link, OverrideParseException):
            return f"{link.override!r} is not of the form KEY=VALUE; --help lists every key"
    text = "\n".join(str(link) for link in chain)
    for explanation in (_unknown_key, _wrong_value, _missing_choice, _several_values, _not_a_choice, _not_an_option):
        if line := explanation(text):
            return line
    return " ".join(str(error).split())


def _unknown_key(text: str) -> str | None:
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


def _not_a_choice(text: str) -> str | None:
    """Hydra does not say which argument it could not parse."""
    if "Config group override must be a string" not in text:
        return None
    for word in sys.argv[1:]:
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
