"""README and docs/: commands parse and compose, Python blocks compile, links resolve."""

import ast
import re
import subprocess
from collections import defaultdict
from collections.abc import Iterator
from importlib import import_module
from itertools import product
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.plugins import Plugins
from omegaconf import OmegaConf

import mnist_mlp
from mnist_mlp.benchmark import __main__ as benchmark
from mnist_mlp.cli.application import sweep_faults
from mnist_mlp.cli.compose import as_text, to_config
from mnist_mlp.cli.grid import register, sweep_dimensions
from mnist_mlp.cli.help import reference
from mnist_mlp.compare import __main__ as compare
from mnist_mlp.config import conf_folder
from mnist_mlp.runs import __main__ as runs

CHECKOUT = Path(__file__).resolve().parents[1]
PAGES = [CHECKOUT / "README.md", CHECKOUT / "CONTRIBUTING.md", *sorted((CHECKOUT / "docs").glob("*.md"))]
PROGRAMS = ("python", "make", "pip", "tensorboard", ".", "git", ".venv/bin/pre-commit", "mnist-mlp-train")
ECHO = r"""python() { printf '%s\n' "$@"; }; """


def commands(page: Path) -> Iterator[str]:
    """Lines in indented blocks that begin with a program, joined with their continuation lines."""
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL).replace("\\\n", "")
    for line in text.splitlines():
        if line.startswith("    ") and line.split()[0] in PROGRAMS:
            yield re.sub(r" {2,}", " ", line.strip())


def words(command: str) -> list[str]:
    """Split a command that begins with python into words, as bash does."""
    done = subprocess.run(
        ["bash", "-c", ECHO + re.sub(r" < \S+", "", command)], capture_output=True, text=True, cwd="/"
    )
    assert (done.returncode, done.stderr) == (0, ""), command
    return done.stdout.splitlines()


COMMANDS = [(page.name, command) for page in PAGES for command in commands(page)]
CALLS: dict[str, list[str]] = defaultdict(list)
for _, _command in COMMANDS:
    if match := re.match(r"python -m mnist_mlp\.(\w+)", _command):
        CALLS[match[1]].append(_command)


def test_there_are_commands_to_check() -> None:
    assert len(COMMANDS) >= 25
    assert {page for page, _ in COMMANDS} >= {"README.md", "training.md", "sweeps.md", "speed.md", "published_study.md"}
    assert CALLS.keys() >= {"train", "report", "benchmark"}


def test_bash_parses_every_command() -> None:
    script = "\n".join(command for _, command in COMMANDS)
    done = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    broken = subprocess.run(["bash", "-n"], input="python -m x seed=range(5)", capture_output=True, text=True)
    assert broken.returncode != 0, "bash -n must detect unquoted parentheses"


def test_every_override_composes() -> None:
    register()
    seen = set()
    with initialize_config_dir(version_base="1.3", config_dir=str(conf_folder())):
        for command in CALLS["train"]:
            arguments = words(command)[2:]
            task = [as_text(word) for word in arguments if not word.startswith("-")]
            dimensions = sweep_dimensions(OmegaConf.create({"hydra": {"overrides": {"task": task}}}))
            overrides = [override for dimension in dimensions for override in dimension.members]
            assert list(sweep_faults(overrides)) == [], command
            assert "-m" in arguments or not any(override.is_sweep_override() for override in overrides), command
            for rows in product(*(dimension.rows() for dimension in dimensions)):
                job = [word for row in rows for word in row]
                key = tuple(word for word in job if not re.match(r"seed=\d+$", word))
                if key not in seen:
                    seen.add(key)
                    cfg = compose("config", overrides=job)
                    assert to_config(cfg)
    assert len(seen) >= 20


def test_every_launcher_in_the_docs_is_installed_or_an_extra() -> None:
    assert Plugins.instance().is_in_toplevel_plugins_module("hydra_plugins.x")
    named = {word for command in CALLS["train"] for word in words(command) if word.startswith("hydra/launcher=")}
    assert named == {"hydra/launcher=basic", "hydra/launcher=submitit_slurm"}


def test_the_other_commands_accept_their_arguments() -> None:
    parsers = {
        **{
            name: import_module(f"mnist_mlp.{name}").build_parser for name in ("evaluate", "predict", "export", "clean")
        },
        **{name: import_module(f"mnist_mlp.{name}").build_parser for name in ("report", "tensorboard")},
        "benchmark": benchmark.build_parser,
        "compare": compare.build_parser,
        "runs": runs.build_parser,
    }
    assert {name for name, calls in CALLS.items() if calls} - {"train"} <= parsers.keys()
    for name, parser in parsers.items():
        for command in CALLS[name]:
            assert parser().parse_args(words(command)[2:]), command


def test_python_blocks_compile_and_use_existing_names() -> None:
    blocks = [block for page in PAGES for block in re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)]
    assert len(blocks) >= 4
    for block in blocks:
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "mnist_mlp":
                assert hasattr(mnist_mlp, node.attr), node.attr


def test_links_and_images_exist() -> None:
    links = [
        (page, link)
        for page in PAGES
        for link in re.findall(r"\]\(([^)#]+)\)", page.read_text())
        if not link.startswith("http")
    ]
    assert len(links) >= 10
    assert [f"{page.name}: {link}" for page, link in links if not (page.parent / link).exists()] == []


def test_the_readme_is_short() -> None:
    lines = (CHECKOUT / "README.md").read_text().splitlines()
    assert len(lines) <= 110
    assert max(map(len, lines)) <= 120


def test_the_configuration_reference_is_up_to_date(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MNIST_MLP_DATA", raising=False)
    written = (CHECKOUT / "docs/configuration.md").read_text()
    assert written == reference(), "python -m mnist_mlp.cli.help > docs/configuration.md"
