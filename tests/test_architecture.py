"""Imports point downwards, and pieces stay small. The arrows are import-linter's contracts in pyproject.toml."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[1]
SOURCES = {path: path.read_text() for path in sorted((CHECKOUT / "mnist_mlp").rglob("*.py"))}
LONGEST_FUNCTION = 60
LINT = "from importlinter.cli import lint_imports; raise SystemExit(lint_imports(no_cache=True))"


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    """import-linter's verdict on the package in a folder with a pyproject.toml."""
    return subprocess.run([sys.executable, "-c", LINT], cwd=folder, capture_output=True, text=True)


def long_functions(sources: dict[Path, str], longest: int) -> Iterator[str]:
    for path, source in sources.items():
        for node in ast.walk(ast.parse(source)):
            function = isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
            if function and (node.end_lineno or 0) - node.lineno + 1 > longest:
                yield f"{path.stem}.{node.name}"


def test_imports_point_downwards() -> None:
    done = lint_imports(CHECKOUT)
    assert done.returncode == 0, done.stdout
    assert "0 broken" in done.stdout


@pytest.mark.parametrize(
    ("module", "planted"),
    [
        ("model.py", "from mnist_mlp.training.classifier import DigitClassifier"),
        ("compare/collect.py", "def late() -> None:\n    import mnist_mlp.reporting.page"),
        ("compare/effects.py", "import torch"),
        ("training/fit.py", "import hydra"),
        ("reporting/page.py", "import matplotlib.pyplot"),
        ("report.py", "from mnist_mlp.train import job"),
    ],
)
def test_a_planted_import_is_found(module: str, planted: str, tmp_path: Path) -> None:
    for path, source in SOURCES.items():
        copy = tmp_path / path.relative_to(CHECKOUT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(source)
    (tmp_path / "pyproject.toml").write_text((CHECKOUT / "pyproject.toml").read_text())
    target = tmp_path / "mnist_mlp" / module
    target.write_text(f"{target.read_text()}\n{planted}\n")
    done = lint_imports(tmp_path)
    assert done.returncode != 0
    assert "BROKEN" in done.stdout


def test_every_room_says_what_lives_there() -> None:
    rooms = [path for path in SOURCES if path.name == "__init__.py"]
    assert len(rooms) >= 10
    for path in rooms:
        assert len(ast.get_docstring(ast.parse(SOURCES[path])) or "") > 40, path


def test_no_function_is_long() -> None:
    assert len(SOURCES) >= 50
    assert list(long_functions(SOURCES, LONGEST_FUNCTION)) == []


def test_a_planted_long_function_is_found() -> None:
    body, path = "    x = 1\n", Path("a.py")
    assert list(long_functions({path: "def just():\n" + 59 * body}, 60)) == []
    assert list(long_functions({path: "class C:\n  def over(self):\n" + 60 * body}, 60)) == ["a.over"]
