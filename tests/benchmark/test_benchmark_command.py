"""The benchmark on small made-up digits: what it measures is tested, never how long it takes."""

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from mnist_mlp.benchmark.command import (
    build_parser,
    main,
    measure_start,
    start_arguments,
    summary,
    sweep_table,
    table,
    widths,
)
from mnist_mlp.benchmark.loops import DEVIATION, MEAN, Epoch
from mnist_mlp.training.classifier import NORMALIZATIONS


def test_all_contenders_are_measured_and_written(
    idx_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "made" / "figures.json"
    threads = torch.get_num_threads()
    try:
        main(
            [
                *("--net=12-8", "--batch-size=16", "--val-size=60", f"--data={idx_root}", f"--output={output}"),
                *("--rounds=1", "--epochs=2", "--starts=0", "--threads=1", "--only=conventional,ours,floor"),
            ]
        )
    finally:
        torch.set_num_threads(threads)
    report = json.loads(output.read_text())
    assert report["net"] == [784, 12, 8, 10]
    assert report["images"] == {"train": 240, "val": 60}
    assert list(report["baselines"]) == ["bare", "conventional", "ours", "floor"]
    for name, row in report["baselines"].items():
        assert [len(turn) for turn in row["rounds"]] == [2]
        for train, whole in (epoch for turn in row["rounds"] for epoch in turn):
            assert train > 0
            assert whole is None if name == "floor" else whole > train
    assert report["baselines"]["bare"]["ratios"] == [1]
    told = capsys.readouterr().out
    assert told == f"{table(report)}\n{output}\n"
    assert "784-12-8-10, batch 16" in told


def test_ratios_are_taken_within_a_round() -> None:
    bare = [[Epoch(1.0, 1.5), Epoch(3.0, 3.5)], [Epoch(10.0, 12.0), Epoch(10.0, 12.0)], [Epoch(4.0, 5.0)] * 2]
    ours = [[Epoch(1.0, 2.0), Epoch(1.0, 2.0)], [Epoch(8.0, 9.0), Epoch(6.0, 9.0)], [Epoch(5.0, 5.0)] * 2]
    row = summary(ours, bare, [{"imports": 3.0}, {"imports": 1.0}, {"imports": 2.0}])
    assert row["ratios"] == [0.5, 0.7, 1.25]
    assert (row["ratio"], row["train_seconds"], row["whole_seconds"]) == (0.7, 5.0, 5.0)
    assert row["start"] == {"imports": 2.0}
    assert summary([[Epoch(1.0, None)]], [[Epoch(2.0, 3.0)]], [])["whole_seconds"] is None


def test_a_process_of_its_own_tells_its_start_up_and_memory(idx_root: Path) -> None:
    began = time.time()
    given = build_parser().parse_args(["--net=12", "--val-size=60", f"--data={idx_root}", "--threads=1", "--starts=1"])
    start = measure_start(build_parser().parse_args([*start_arguments(given, "bare"), f"--since={began}"]), 0.0)
    assert set(start) == {"imports", "data", "first_step", "peak_bytes"}
    assert all(value > 0 for value in start.values())
    assert start["imports"] + start["data"] + start["first_step"] < time.time() - began
    assert 2**27 < start["peak_bytes"] < 2**36


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
def test_the_peak_memory_is_that_of_the_process_alone() -> None:
    ballast = np.ones(2**27)  # 1 GiB
    code = "from mnist_mlp.benchmark.command import _peak_resident_bytes as peak; print(peak())"
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert int(process.stdout) < ballast.nbytes


def test_the_command_line_of_such_a_process_says_the_same() -> None:
    given = build_parser().parse_args(["--net=0", "--device=cpu", "--only=ours", "--data=there", "--source=mnist"])
    alone_given = build_parser().parse_args(start_arguments(given, "ours"))
    assert vars(alone_given) == {**vars(given), "alone": "ours"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--only=ours,mine"], "error: --only ours,mine: no mine; there are bare, conventional, ours, compiled, floor"),
        (["--net=8-0"], "error: model.hidden_units=[8, 0] is out of range"),
        (["--threads=-1"], "error: trainer.threads=-1 is out of range"),
        (["--val-size=300"], "error: data.val_size=300 leaves nothing of 300 training images"),
    ],
)
def test_a_mistake_is_one_line(idx_root: Path, tmp_path: Path, arguments: list[str], message: str) -> None:
    with pytest.raises(SystemExit, match=f"^{message.replace('[', r'.')[:60]}"):
        main([f"--data={idx_root}", f"--output={tmp_path / 'x.json'}", *arguments])
    assert not (tmp_path / "x.json").exists()


def test_a_folder_as_output_is_refused_before_anything_is_measured(idx_root: Path, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="is a folder: give a file"):
        main([f"--data={idx_root}", "--val-size=60", f"--output={tmp_path}"])


def test_nets_are_written_by_their_hidden_widths() -> None:
    assert widths("256-128-64") == (256, 128, 64)
    assert widths("0") == ()


def test_the_bare_loop_standardises_as_training_does() -> None:
    assert NORMALIZATIONS["standard"] == (MEAN, DEVIATION)


def test_the_table_of_a_sweep_has_medians_and_jobs_a_minute() -> None:
    seconds = {"bare": [10.0, 40.0, 20.0], "sweep": [6.0, 20.0, 16.0]}
    report = {
        "jobs": 8,
        "epochs": 2,
        "net": [784, 16, 10],
        "batch_size": 64,
        "bare_threads": None,
        "seconds": seconds,
        "ratios": {"bare": [1.0, 1.0, 1.0], "sweep": [0.6, 0.5, 0.8]},
    }
    rows = [line.split() for line in sweep_table(report).splitlines()]
    assert ["sweep", "16.0", "30.0", "0.60", "0.50-0.80"] in rows
    assert ["bare", "20.0", "24.0", "1.00", "1.00-1.00"] in rows


def test_neither_help_nor_the_bare_program_imports_more_than_it_needs() -> None:
    for module, heavy in (("command", "torch"), ("loops", "pytorch_lightning")):
        code = f"import sys; import mnist_mlp.benchmark.{module}; sys.exit({heavy!r} in sys.modules)"
        assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.integration
def test_whole_sweeps_are_timed_beside_whole_bare_loops(idx_root: Path, tmp_path: Path) -> None:
    output = tmp_path / "sweep.json"
    options = ("--sweep=2", "--rounds=1", "--epochs=1", "--net=8", "--val-size=60", "--threads=1", "--only=sweep")
    main([*options, f"--data={idx_root}", f"--output={output}"])
    report = json.loads(output.read_text())
    assert {name: len(times) for name, times in report["seconds"].items()} == {"bare": 1, "sweep": 1}
    assert report["ratios"]["sweep"][0] == report["seconds"]["sweep"][0] / report["seconds"]["bare"][0]
