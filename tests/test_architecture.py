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
