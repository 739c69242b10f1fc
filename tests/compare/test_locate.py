"""Runs and sweeps by path, name, or "latest": one rule for every command."""

import json
import os
from pathlib import Path

import pytest
from made_up_runs import write_run

from mnist_mlp import report
from mnist_mlp.compare.__main__ import main as compare
from mnist_mlp.compare.locate import locate_folder, locate_path
from mnist_mlp.errors import UserError


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """Runs in a folder that is the current one; outputs/sweeps/lr is the newest."""
    names = ["train/mine", "train/single", "sweeps/lr/seed-0", "sweeps/lr/seed-1"]
    runs = dict[str, Path]()
    monkeypatch.chdir(tmp_path)
    for n, name in enumerate(names):
        runs[name] = write_run(Path("outputs") / name, seed=n % 2, optim__lr=0.1 if n < 2 else 0.2)
        (runs[name] / "checkpoints").mkdir()
        (runs[name] / "checkpoints" / "best.ckpt").touch()
        for file in runs[name].iterdir():
            os.utime(file, (n, n))
    return runs


def test_a_name_is_that_of_a_run_or_of_a_sweep(folders: dict[str, Path]) -> None:
    for locate in (locate_path, locate_folder):
        assert locate("mine") == Path("outputs/train/mine")
        assert locate("lr") == Path("outputs/sweeps/lr")
        assert locate("lr/seed-0") == Path("outputs/sweeps/lr/seed-0")
        assert locate("outputs") == Path("outputs")


def test_a_name_of_two_runs_is_an_error_with_both_and_a_path_is_not(folders: dict[str, Path]) -> None:
    run = write_run(Path("outputs/mine"), seed=9)
    Path("lr").mkdir()  # without runs
    assert locate_path("lr") == Path("outputs/sweeps/lr")
    with pytest.raises(UserError, match=r"mine is ambiguous: .*outputs/mine, outputs/train/mine$"):
        locate_path("mine")
    for path in ("./outputs/mine", "outputs/mine", "outputs/mine/", run, run.absolute()):
        assert locate_path(path) == Path(path)
    os.symlink(Path("outputs/train/single").absolute(), "single")  # the same run
    assert locate_path("single").resolve() == folders["train/single"].resolve()


def test_latest_is_the_run_that_finished_last_even_if_an_earlier_one_is_evaluated(folders: dict[str, Path]) -> None:
    assert locate_path("latest") == Path("outputs/sweeps/lr/seed-1")
    assert locate_folder("latest") == Path("outputs/sweeps/lr")
    os.utime("outputs/train/mine/result.json")  # rewritten by every evaluation
    assert locate_path("latest") == Path("outputs/sweeps/lr/seed-1")
    for file in Path("outputs/train/single").iterdir():
        os.utime(file)
    assert locate_folder("latest") == Path("outputs/train/single")


def test_report_and_compare_take_names_and_latest(folders: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    for name, path in {"mine": "outputs/train/mine", "lr": "outputs/sweeps/lr", "latest": "outputs/sweeps/lr"}.items():
        report.main([name, "--json"])
        assert json.loads(capsys.readouterr().out)["paths"] == [path]
    with pytest.raises(SystemExit):  # the decision
        compare(["latest", "--", "mine", "outputs/train/single", "--json"])
    content = json.loads(capsys.readouterr().out)
    assert (content["a"], content["b"]) == ("outputs/sweeps/lr", "outputs/train/mine ...")
