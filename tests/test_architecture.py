"""The import contracts in pyproject.toml, which `make test` checks, detect an upward import."""

import shutil
import subprocess
import sys
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]
LINT = "from importlinter.cli import lint_imports; raise SystemExit(lint_imports(no_cache=True))"


def test_a_forbidden_import_is_detected(tmp_path: Path) -> None:
    shutil.copy(CHECKOUT / "pyproject.toml", tmp_path)
    shutil.copytree(CHECKOUT / "mnist_mlp", tmp_path / "mnist_mlp", ignore=shutil.ignore_patterns("__pycache__"))
    with (tmp_path / "mnist_mlp" / "compare" / "effects.py").open("a") as file:
        file.write("\n\ndef late() -> None:\n    import torch\n    import mnist_mlp.reporting.page\n")
    process = subprocess.run([sys.executable, "-c", LINT], cwd=tmp_path, capture_output=True, text=True)
    assert process.returncode != 0
    violations = [line for line in process.stdout.splitlines() if "BROKEN" in line]
    assert any("downwards" in line for line in violations), process.stdout
    assert any("no torch" in line for line in violations), process.stdout


def test_linting_ignores_folders_that_a_user_adds(tmp_path: Path) -> None:
    shutil.copy(CHECKOUT / "pyproject.toml", tmp_path)
    for name in ("settings", "tests"):
        (tmp_path / name).mkdir()
    shutil.copy(CHECKOUT / "tests" / "small_steps.py", tmp_path / "tests")  # imports tests/settings.py
    (tmp_path / "settings" / "mine.py").write_text("import os,  sys")
    for arguments in (["check", "."], ["format", "--check", "."]):
        process = subprocess.run(
            [sys.executable, "-m", "ruff", *arguments], cwd=tmp_path, capture_output=True, text=True
        )
        assert process.returncode == 0, process.stdout
    (tmp_path / "tests" / "small_steps.py").write_text("import os,  sys")
    assert subprocess.run([sys.executable, "-m", "ruff", "check", "."], cwd=tmp_path, capture_output=True).returncode
