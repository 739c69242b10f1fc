"""A user's script type-checks against the package. Slow without mypy's cache (.mypy_cache)."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("typed_script.py")
WRONG = """
import mnist_mlp
mnist_mlp.OptimConfig(name=3)
mnist_mlp.OptimConfig(lr="0.1")
mnist_mlp.ModelConfig(hidden_units="256")
mnist_mlp.Config(optim=mnist_mlp.ModelConfig())
mnist_mlp.fit(["optim.lr=0.01"])
mnist_mlp.fit({}, 3)
mnist_mlp.fitt({})
width: str = mnist_mlp.ModelConfig().hidden_units
"""


@pytest.mark.integration
def test_a_user_script_passes_mypy_strict_and_mistakes_are_detected(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.py"
    wrong.write_text(WRONG)
    cache = SCRIPT.parents[1] / ".mypy_cache" / "user"
    process = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(cache), str(SCRIPT), str(wrong)],
        cwd=SCRIPT.parents[1],
        capture_output=True,
        text=True,
    )
    locations = [line.split(": error: ")[0] for line in process.stdout.splitlines() if ": error: " in line]
    errors = [Path(location).name for location in locations]  # mypy's cache may name the folder of an earlier run
    mistakes = [f"{wrong.name}:{number}" for number, line in enumerate(WRONG.splitlines(), 1) if number > 2]
    assert (errors, process.stderr) == (mistakes, ""), process.stdout


@pytest.mark.integration
def test_the_script_runs(tmp_path: Path) -> None:
    process = subprocess.run([sys.executable, str(SCRIPT)], cwd=tmp_path, capture_output=True, text=True)
    assert (process.returncode, process.stderr) == (0, "")
    assert {path.parent.name for path in tmp_path.glob("runs/*/result.json")} == {"config", "dotted", "nested", "both"}
