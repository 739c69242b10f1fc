"""Command: decide whether one setting is better than another; the exit code is the decision."""

import argparse
import json
import re
import sys
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mnist_mlp import __version__
from mnist_mlp.compare.collect import Summary, summarize
from mnist_mlp.compare.difference import DECISIONS, Side, compare_sides
from mnist_mlp.compare.load import Job, find_jobs
from mnist_mlp.config import Config
from mnist_mlp.console import command
from mnist_mlp.errors import UserError
from mnist_mlp.options import to_dict
from mnist_mlp.runs.files import finite
from mnist_mlp.runs.settings import value_text, with_defaults

ERROR = 3
"""Exit code of every error, so that none is mistaken for a decision."""
SCHEMA_VERSION = 1
SEPARATOR = "\0"
"""Stands for `--`, which argparse would drop; no argument can contain it."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of `python -m mnist_mlp.compare` and of the script `mnist-mlp-compare`."""
    words = [SEPARATOR if word == "--" else word for word in (sys.argv[1:] if arguments is None else arguments)]
    try:
        options = build_parser().parse_intermixed_args(words)
        with command():
            if options.words.count(SEPARATOR) != 1 or SEPARATOR in (options.words[0], options.words[-1]):
                raise UserError("expected A -- B, two settings separated by one --; see --help")
            index = options.words.index(SEPARATOR)
            summary, a, b = read_sides(options.words[:index], options.words[index + 1 :])
            difference = compare_sides(summary, a, b, options.margin / 100, options.tries)
            content = {"schema_version": SCHEMA_VERSION, **asdict(difference)}
            print(json.dumps(finite(content)) if options.json else difference.line)
    except SystemExit as end:
        if not end.code:  # --help
            raise
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
        raise SystemExit(ERROR) from None
    except Exception:
        traceback.print_exc()
        raise SystemExit(ERROR) from None
    raise SystemExit(DECISIONS.index(difference.decision))


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m mnist_mlp.compare",
        usage="%(prog)s A [A ...] -- B [B ...] [--margin POINTS] [--tries N] [--json]",
        description="Decide whether A has a higher test accuracy than B, paired by seed. The decision holds however "
        "often you look while you add seeds.",
        epilog=f"Exit code: 0 if A is better by more than the margin, 1 if it is not, 2 if that is undecided, {ERROR} "
        "for an error.",
    )
    add = parser.add_argument
    add("--version", action="version", version=f"mnist_mlp {__version__}")
    sides = "run folders, or folders of sweeps; KEY=VALUE selects runs in them, at any value of the other settings. "
    sides += "B without a folder uses A's"
    add("words", nargs="*", metavar="A, B", help=sides)
    margin = "points of test accuracy by which A must be better; below 0, by which it may be worse; default: 0"
    add("--margin", type=float, default=0.0, metavar="POINTS", help=margin)
    tries = "number of comparisons you plan, of which this is one; p-values are adjusted for all of them; default: 1"
    add("--tries", type=int, default=1, metavar="N", help=tries)
    add("--json", action="store_true", help="print the result as JSON")
    return parser


def read_sides(first: Sequence[str], second: Sequence[str]) -> tuple[Summary, Side, Side]:
    """Read the summary of all tables that the runs are in, and both sides.

    A verdict is adjusted for all pairs of its table, so the sweep of a run folder belongs to the comparison. `second`
    without folders uses those of `first`. UserError if a word is neither folder nor setting, or no run is selected.
    """
    (paths_a, chosen_a), (paths_b, chosen_b) = _split(first), _split(second)
    if not paths_a:
        raise UserError(f"{' '.join(first)} has no folder: pass run folders or the folder of a sweep")
    paths_b = paths_b or paths_a
    folders = {job.folder for job in find_jobs([*paths_a, *paths_b])}
    tables = {folder.parent for folder in folders if (folder.parent / "summary.csv").is_file()}
    jobs = find_jobs([*paths_a, *paths_b, *sorted(tables)])
    summary = summarize(jobs)
    keys = () if paths_a == paths_b else summary.keys  # settings of one table are compared like for like
    return summary, _side(first, paths_a, chosen_a, jobs, keys), _side(second, paths_b, chosen_b, jobs, keys)


def _split(words: Sequence[str]) -> tuple[list[Path], dict[str, str]]:
    """Split the words of a side into folders and settings."""
    paths, chosen = [], dict[str, str]()
    for word in words:
        key, equals, value = word.partition("=")
        if equals and re.fullmatch(r"[\w.]+", key) and not Path(word).exists():
            if key in chosen:
                raise UserError(f"{key} is set twice on one side: a side is one setting")
            chosen[key] = _canonical(key, value)
        elif not Path(word).is_dir():
            raise UserError(f"{word} is not a folder: pass run folders, folders of sweeps, or KEY=VALUE")
        else:
            paths.append(Path(word))
    return paths, chosen


def _canonical(key: str, text: str) -> str:
    """The text of a setting's value as tables have it: 0.01 for 1e-2, half for 0.5."""
    group, _, name = key.rpartition(".")
    defaults: Any = getattr(Config(), group, None) if group else Config()
    if not hasattr(defaults, name):
        raise UserError(f"unknown key {key}: python -m mnist_mlp.train --help lists every key")
    try:
        value = json.loads(text)
    except ValueError:
        value = text
    checked = to_dict(getattr(type(defaults)(**{name: value}), name))
    return value_text(with_defaults({key: checked})[key])


def _side(
    words: Sequence[str], paths: Sequence[Path], chosen: Mapping[str, str], jobs: Sequence[Job], keys: Sequence[str]
) -> Side:  # fmt: skip
    """The runs in the folders with the chosen settings. Those of `keys` that do not vary among them define it, too."""
    folders = {job.folder.resolve() for job in find_jobs(paths)}
    inside = [job for job in jobs if job.folder.resolve() in folders]
    members = summarize([job for job in inside if all(job.text(key) == text for key, text in chosen.items())]).jobs
    name = " ".join(f"{key}={text}" for key, text in chosen.items()) or words[0] + " ..." * (len(words) > 1)
    if not any(job.result is not None for job in members):
        varying = ", ".join(summarize(inside).keys) or "only the seed"
        raise UserError(f"{' '.join(words) or 'one side'} has no finished run; settings that vary: {varying}")
    texts = {key: {job.text(key) for job in members} for key in keys}
    constant = {key: next(iter(values)) for key, values in texts.items() if len(values) == 1}
    return Side(name, {**constant, **chosen}, members)


if __name__ == "__main__":
    main()
