"""`command | head` ends without a traceback."""

import subprocess
import sys
from pathlib import Path

import pytest

from mnist_mlp.closed_pipe import EXIT_CODE

CODE = """
from mnist_mlp.closed_pipe import quiet_closed_pipe
with quiet_closed_pipe():
    while True:
        print("a line", flush=True)
"""


def read_one_line(command: list[str], folder: Path) -> tuple[str, str, int]:
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        first = process.stdout.readline()
        process.stdout.close()
        return first, process.stderr.read(), process.wait()


def test_a_closed_pipe_is_no_traceback(tmp_path: Path) -> None:
    assert read_one_line([sys.executable, "-c", CODE], tmp_path) == ("a line\n", "", EXIT_CODE)


@pytest.mark.parametrize("how", [[], ["-m", "seed=0,1"]])
def test_training_stops_where_nobody_reads(idx_root: Path, tmp_path: Path, how: list[str]) -> None:
    run = [sys.executable, "-m", "mnist_mlp.train", *how, f"data.root={idx_root}", "name=x", "data.val_size=60"]
    _, err, code = read_one_line([*run, "trainer.max_epochs=200", "trainer.figures=false"], tmp_path)
    assert code == EXIT_CODE
    assert "Traceback" not in err
    if not how:
        resume = tmp_path / "outputs/train/x"
        assert err == f"stopped, since nobody reads the output any more: go on with resume={resume}\n"
    assert not list(tmp_path.rglob("error.log"))
