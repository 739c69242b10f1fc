import os
import subprocess
import sys


def test_figures_do_not_need_a_backend() -> None:
    code = "from mnist_mlp.plots.run import class_bars, png; print(png(class_bars([0.9] * 10, 'F1'))[1:4])"
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "MPLBACKEND": "nonsense"}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert "PNG" in done.stdout, done.stderr
