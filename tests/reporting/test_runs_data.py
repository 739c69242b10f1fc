"""The runs as the page's scripts get them, against the files of the runs."""

import json
import math
from pathlib import Path

import pytest
from made_up_runs import write_curves, write_failure, write_run, write_unfinished

from mnist_mlp.compare.collect import find_jobs, summarize
from mnist_mlp.reporting.data import CURVE_BYTES, Compared, as_block, points_per_curve, runs_data, thinned
from mnist_mlp.reporting.elements import command


def compared(folder: Path, base: Path | None = None) -> Compared:
    return Compared(summarize(find_jobs([folder])), base)


def test_runs_have_their_places_settings_measures_and_curves(tmp_path: Path) -> None:
    for seed in (1, 0):
        write_run(tmp_path / f"good_{seed}", range(seed), seed=seed, optim__lr=0.1)
        write_curves(tmp_path / f"good_{seed}", [1.23456, 0.5])
    write_run(tmp_path / "worse", range(50), seed=0, optim__lr=0.123456789)
    write_failure(tmp_path / "lost", "no memory", seed=0, optim__lr=0.7)
    data = runs_data(compared(tmp_path))
    assert [run["id"] for run in data["runs"]] == [0, 1, 2, 3]
    assert [group["runs"] for group in data["groups"]] == [[0, 1], [2], [3]]
    assert [group["name"] for group in data["groups"]] == ["lr=0.1", "lr=0.123", "lr=0.7"]
    assert [run["settings"] for run in data["runs"][1:3]] == [
        {"optim.lr": 0.1, "seed": 1}, {"optim.lr": 0.123456789, "seed": 0},
    ]  # fmt: skip
    first, _, _, lost = data["runs"]
    assert (first["name"], first["measures"]["test/accuracy"], first["measures"]["fit_seconds"]) == (
        "lr=0.1, seed=0", 100.0, 1.5,
    )  # fmt: skip
    assert first["curves"]["train/loss"] == [1.235, 0.5]
    assert (lost["status"], lost["measures"], lost["curves"]) == ("failed", {}, {})
    assert data["ranked_by"] == "val/accuracy"


def test_long_curves_are_thinned_evenly_and_keep_their_ends() -> None:
    values = [float(n) for n in range(1000)]
    found = thinned({"epoch": values, "train/loss": values, "val/loss": [math.nan] * 999 + [2.0]}, 100)
    assert len(found["epochs"]) == len(found["curves"]["train/loss"]) == 100
    assert (found["epochs"][0], found["epochs"][-1]) == (1, 1000)
    steps = [later - earlier for earlier, later in zip(found["epochs"], found["epochs"][1:], strict=False)]
    assert set(steps) <= {10, 11}
    assert found["curves"]["train/loss"] == [epoch - 1 for epoch in found["epochs"]]
    assert found["curves"]["val/loss"] == [None] * 99 + [2.0]
    assert "epochs" not in thinned({"train/loss": values[:100]}, 100)


@pytest.mark.parametrize("runs", [1, 100, 1000, 5000])
def test_the_curves_of_any_number_of_runs_fit_into_the_page(runs: int) -> None:
    curves = {
        "train/loss": [1 / 3] * 500,
        "val/loss": [1 / 3] * 500,
        "train/accuracy": [1 / 3] * 500,
        "lr": [1 / 3] * 500,
    }
    points = points_per_curve([curves] * runs)
    size = len(json.dumps(thinned(curves, points)["curves"], separators=(",", ":")))
    assert runs * size < 1.25 * CURVE_BYTES or points == 12
    assert points == 100 or runs >= 1000


@pytest.mark.parametrize("text", ["</script><b>", "<!--<script>", "&lt;", "\u2028", "'\"\\"])
def test_a_block_ends_where_it_ends_and_reads_back(text: str) -> None:
    block = str(as_block("runs-data", {"text": text, "bad": math.inf}))
    inside = block.removeprefix('<script type="application/json" id="runs-data">').removesuffix("</script>")
    assert not set("<>&") & set(inside)
    assert json.loads(inside) == {"text": text, "bad": None}


def test_links_start_from_the_page(tmp_path: Path) -> None:
    run = write_run(tmp_path / "sweep" / "a b%", optim__lr=0.1)
    assert compared(tmp_path / "sweep", tmp_path / "sweep").link(run) == "./a%20b%25/"
    assert compared(tmp_path / "sweep", tmp_path / "pages").link(run) == "./../sweep/a%20b%25/"
    assert compared(tmp_path / "sweep").link(run) == ""
    assert compared(tmp_path / "sweep").path(run) == "a b%"


def test_the_command_of_a_run_says_what_it_is_and_not_where(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", trainer__threads=1)
    text = (run / "result.json").read_text()
    overrides = '"optim.lr=0.1", "name=mine", "data.root=/secret", "hydra.sweep.dir=x", "model.hidden_units=[64,32]"'
    (run / "result.json").write_text(text.replace('"overrides": []', f'"overrides": [{overrides}]'))
    write_unfinished(tmp_path / "going")
    going, done = sorted(find_jobs([tmp_path]), key=lambda job: job.status == "finished")
    assert command(done) == "python -m mnist_mlp.train optim.lr=0.1 'model.hidden_units=[64,32]' trainer.threads=1"
    assert command(going) == "python -m mnist_mlp.train"
