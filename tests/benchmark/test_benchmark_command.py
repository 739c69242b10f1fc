"""The benchmark on small synthetic digits; durations are not tested."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mnist_mlp.benchmark.__main__ import build_config, build_parser, main, summary, sweep_table, widths
from mnist_mlp.benchmark.loops import DEVIATION, MEAN, Epoch
from mnist_mlp.datasets import MNIST_STATISTICS


@pytest.mark.parametrize(
    "name", ["conventional", "ours", "floor", pytest.param("compiled", marks=pytest.mark.integration)]
)
def test_each_loop_is_timed_next_to_the_bare_loop(
    name: str, idx_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "new" / "figures.json"
    threads = torch.get_num_threads()
    try:
        main(
            [
                *("--net=12-8", "--batch-size=16", "--val-size=60", f"--data={idx_root}", f"--output={output}"),
                *("--rounds=1", "--epochs=2", "--threads=1", f"--only={name}"),
            ]
        )
    finally:
        torch.set_num_threads(threads)
    report = json.loads(output.read_text())
    assert report["net"] == [784, 12, 8, 10]
    assert report["images"] == {"train": 240, "val": 60}
    assert list(report["baselines"]) == ["bare", name]
    assert report["baselines"]["bare"]["ratios"] == [1]
    ((epochs,), (bare,)) = (report["baselines"][each]["rounds"] for each in (name, "bare"))
    assert len(epochs) == len(bare) == 2
    for train, total in [*epochs, *bare]:
        assert train > 0
        assert total is None or total > train
    assert (epochs[0][1] is None) == (name == "floor")
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()[4:6]] == ["bare", name]


def test_ratios_are_computed_within_a_round() -> None:
    bare = [[Epoch(1.0, 1.5), Epoch(3.0, 3.5)], [Epoch(10.0, 12.0), Epoch(10.0, 12.0)], [Epoch(4.0, 5.0)] * 2]
    training = [[Epoch(1.0, 2.0), Epoch(1.0, 2.0)], [Epoch(8.0, 9.0), Epoch(6.0, 9.0)], [Epoch(5.0, 5.0)] * 2]
    row = summary(training, bare)
    assert row["ratios"] == [0.5, 0.7, 1.25]
    assert (row["ratio"], row["train_seconds"], row["whole_seconds"]) == (0.7, 5.0, 5.0)
    assert summary([[Epoch(1.0, None)]], [[Epoch(2.0, 3.0)]])["whole_seconds"] is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--only=ours,mine"], "error: --only ours,mine: unknown mine; use bare, conventional, ours, compiled, floor"),
        (["--net=8-0"], "error: model.hidden_units=[8, 0] is out of range"),
        (["--threads=-1"], "error: trainer.threads=-1 is out of range"),
        (["--val-size=300"], "error: data.val_size=300 must be below the number of training images"),
    ],
)
def test_a_mistake_is_one_line(idx_root: Path, tmp_path: Path, arguments: list[str], message: str) -> None:
    with pytest.raises(SystemExit, match=f"^{message.replace('[', r'.')[:60]}"):
        main([f"--data={idx_root}", "--val-size=60", f"--output={tmp_path / 'x.json'}", *arguments])
    assert not (tmp_path / "x.json").exists()


def test_a_folder_as_output_is_rejected_before_measuring(idx_root: Path, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="is a folder"):
        main([f"--data={idx_root}", "--val-size=60", f"--output={tmp_path}"])


def test_every_auto_is_resolved_before_measuring(tmp_path: Path) -> None:
    options = build_parser().parse_args(["--source=sample", "--epochs=1", f"--data={tmp_path}"])
    config = build_config(options)
    assert (config.data.source, config.data.val_size, config.trainer.threads) == ("sample", 500, 1)
    assert config.trainer.accelerator in ("cpu", "gpu")


def test_nets_are_specified_by_their_hidden_widths() -> None:
    assert widths("256-128-64") == [256, 128, 64]
    assert widths("0") == []


def test_the_bare_loop_normalizes_as_training_does() -> None:
    assert (MEAN, DEVIATION) == MNIST_STATISTICS


def test_the_table_of_a_sweep_has_medians_and_jobs_per_minute() -> None:
    report = {
        "jobs": 8,
        "epochs": 2,
        "net": [784, 16, 10],
        "batch_size": 64,
        "bare_threads": None,
        "seconds": {"bare": [10.0, 40.0, 20.0], "sweep": [6.0, 20.0, 16.0]},
        "ratios": {"bare": [1.0, 1.0, 1.0], "sweep": [0.6, 0.5, 0.8]},
    }
    rows = [line.split() for line in sweep_table(report).splitlines()]
    assert ["sweep", "16.0", "30.0", "0.60", "0.50-0.80"] in rows
    assert ["bare", "20.0", "24.0", "1.00", "1.00-1.00"] in rows


@pytest.mark.integration
def test_help_does_not_import_torch_and_the_bare_loop_not_lightning() -> None:
    for module, heavy in (("__main__", "torch"), ("loops", "pytorch_lightning")):
        code = f"import sys; import mnist_mlp.benchmark.{module}; sys.exit({heavy!r} in sys.modules)"
        assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.integration
def test_whole_sweeps_are_timed_next_to_whole_bare_loops(idx_root: Path, tmp_path: Path) -> None:
    output = tmp_path / "sweep.json"
    options = ("--sweep=2", "--rounds=1", "--epochs=1", "--net=8", "--val-size=60", "--threads=1", "--only=sweep")
    main([*options, f"--data={idx_root}", f"--output={output}"])
    report = json.loads(output.read_text())
    assert {name: len(times) for name, times in report["seconds"].items()} == {"bare": 1, "sweep": 1}
    assert report["ratios"]["sweep"][0] == report["seconds"]["sweep"][0] / report["seconds"]["bare"][0]
