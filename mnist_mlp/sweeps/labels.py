"""What tells the jobs of a sweep apart, read from the names of their folders, which is all that is known at first."""

import re
from collections.abc import Mapping, Sequence
from functools import cache

from mnist_mlp.config import Config, options
from mnist_mlp.presets import groups

SHORTEST_KEY = 3
Settings = Mapping[str, str]
"""Value by short key, as in the name of a job's folder."""


@cache
def _key() -> re.Pattern[str]:
    """A key at the beginning of a name or after an underscore, and the hyphen before its value."""
    keys = [key for key, _, _ in options(Config())]
    known = {*keys, *(key.rpartition(".")[2] for key in keys), *groups(), "reference"}
    longest_first = sorted(known, key=lambda key: (-len(key), key))
    return re.compile(rf"(?:^|_)({'|'.join(map(re.escape, longest_first))})-")


def settings_in(name: str) -> Settings:
    """The settings that a folder's name tells; empty where it tells none ("defaults", a trial's number)."""
    found = list(_key().finditer(name))
    ends = [*(match.start() for match in found[1:]), len(name)]
    if not found or found[0].start() > 0:
        return {}
    return {match[1]: name[match.end() : end] for match, end in zip(found, ends, strict=True)}


def varying(names: Sequence[str]) -> dict[str, Settings]:
    """Of each name the settings in which these names differ; the same key never stands for one value in all."""
    told = {name: settings_in(name) for name in names}
    keys = dict.fromkeys(key for one in told.values() for key in one)
    vary = [key for key in keys if len({one.get(key) for one in told.values()}) > 1]
    return {name: {key: one[key] for key in vary if key in one} for name, one in told.items()}


def label(name: str, settings: Settings, room: int = 1000) -> str:
    """The settings as words, "lr 0.05, seed 0"; the folder's name where there are none.

    Where they would be longer than `room` letters, the keys lose their ends, the longest first; values stay whole.
    """
    keys = {key: key for key in settings}
    while (excess := len(_words(keys, settings)) - room) > 0:
        longest = max(keys, key=lambda key: len(keys[key]))
        others = max((len(short) for key, short in keys.items() if key != longest), default=0)
        length = max(SHORTEST_KEY, others - 1, len(keys[longest]) - excess)
        if length >= len(keys[longest]):
            break
        keys[longest] = keys[longest][:length].rstrip("_.")
    return _words(keys, settings) or name


def _words(keys: Mapping[str, str], settings: Settings) -> str:
    return ", ".join(f"{short} {settings[key]}" for key, short in keys.items())
