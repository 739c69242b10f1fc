"""The JSON data of the runs on a page, compared with their files."""

import json
import math
from pathlib import Path

import pytest
from made_up_runs import write_curves, write_failure, write_run, write_unfinished

from mnist_mlp.compare.collect import summarize
from mnist_mlp.compare.load import find_jobs
from mnist_mlp.reporting.data import CURVE_BYTES, PageContext, json_block, points_per_curve, runs_data, thin_curves
from mnist_mlp.reporting.elements import command


def context_of(folder: Path, base: Path | None = None) -> PageContext:
    return PageContext(summarize(find_jobs([folder])), base)


def test_runs_have_ids_settings_metrics_and_curves(tmp_path: Path) -> None:
    for seed in (1, 0):
        write_run(tmp_path / f"good_{seed}", range(seed), seed=seed, optim__lr=0.1)
        write_curves(tmp_path / f"good_{seed}", [1.23456, 0.5])
    write_run(tmp_path / "worse", range(50), seed=0, optim__lr=0.123456789)
    write_failure(tmp_path / "lost", "no memory", seed=0, optim__lr=0.7)
    data = runs_data(context_of(tmp_path))
    assert [run["id"] for run in data["runs"]] == [0, 1, 2, 3]
    assert [group["runs"] for group in data["groups"]] == [[0, 1], [2], [3]]
    assert [group["name"] for group in data["groups"]] == ["lr=0.1", "lr=0.123", "lr=0.7"]
    assert [run["settings"] for run in data["runs"][1:3]] == [
        {"optim.lr": 0.1, "seed": 1}, {"optim.lr": 0.123456789, "seed": 0},
    ]  # fmt: skip
    first, _, _, lost = data["runs"]
    assert (first["name"], first["measures"]["test/accuracy"], first["measures"]["fit_seconds"]) == (
        "lr=0.1, seed 0", 100.0, 1.5,
    )  # fmt: skip
    assert first["curves"]["train/loss"] == [1.235, 0.5]
    assert (lost["status"], lost["measures"], lost["curves"]) == ("failed", {}, {})
    assert data["ranked_by"] == "val/accuracy"


def test_long_curves_are_thinned_evenly_including_first_and_last_epoch() -> None:
    values = [float(n) for n in range(1000)]
    thinned = thin_curves({"epoch": values, "train/loss": values, "val/loss": [math.nan] * 999 + [2.0]}, 100)
    assert len(thinned["epochs"]) == len(thinned["curves"]["train/loss"]) == 100
    assert (thinned["epochs"][0], thinned["epochs"][-1]) == (1, 1000)
    steps = [later - earlier for earlier, later in zip(thinned["epochs"], thinned["epochs"][1:], strict=False)]
    assert set(steps) <= {10, 11}
    assert thinned["curves"]["train/loss"] == [epoch - 1 for epoch in thinned["epochs"]]
    assert thinned["curves"]["val/loss"] == [None] * 99 + [2.0]
    assert "epochs" not in thin_curves({"train/loss": values[:100]}, 100)


@pytest.mark.parametrize("runs", [1, 100, 1000, 5000])
def test_the_curves_of_any_number_of_runs_fit_into_the_page(runs: int) -> None:
    curves = {
        "train/loss": [1 / 3] * 500,
        "val/loss": [1 / 3] * 500,
        "train/accuracy": [1 / 3] * 500,
        "lr": [1 / 3] * 500,
    }
    points = points_per_curve([curves] * runs)
    size = len(json.dumps(thin_curves(curves, points)["curves"], separators=(",", ":")))
    assert runs * size < 1.25 * CURVE_BYTES or points == 12
    assert points == 100 or runs >= 1000


@pytest.mark.parametrize("text", ["</script><b>", "<!--<script>", "&lt;", "\u2028", "'\"\\"])
def test_text_cannot_end_a_json_block(text: str) -> None:
    block = str(json_block("runs-data", {"text": text, "bad": math.inf}))
    content = block.removeprefix('<script type="application/json" id="runs-data">').removesuffix("</script>")
    assert not set("<>&") & set(content)
    assert json.loads(content) == {"text": text, "bad": None}


def test_links_are_relative_to_the_page(tmp_path: Path) -> None:
    run = write_run(tmp_path / "sweep" / "a b%", optim__lr=0.1)
    assert context_of(tmp_path / "sweep", tmp_path / "sweep").link(run) == "./a%20b%25/"
    assert context_of(tmp_path / "sweep", tmp_path / "pages").link(run) == "./../sweep/a%20b%25/"
    assert context_of(tmp_path / "sweep").link(run) == ""
    assert context_of(tmp_path / "sweep").path(run) == "a b%"


def test_the_command_of_a_run_omits_its_location(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", trainer__threads=1)
    text = (run / "result.json").read_text()
    overrides = '"optim.lr=0.1", "name=mine", "data.root=/secret", "hydra.sweep.dir=x", "model.hidden_units=[64,32]"'
    (run / "result.json").write_text(text.replace('"overrides": []', f'"overrides": [{overrides}]'))
    write_unfinished(tmp_path / "unfinished")
    unfinished, finished = sorted(find_jobs([tmp_path]), key=lambda job: job.status == "finished")
    assert command(finished) == "python -m mnist_mlp.train optim.lr=0.1 'model.hidden_units=[64,32]' trainer.threads=1"
    assert command(unfinished) == "python -m mnist_mlp.train"


def test_the_command_of_an_earlier_run_with_one_width_in_a_list_keeps_its_layers(tmp_path: Path) -> None:
    for layers in (1, 3):
        run = write_run(tmp_path / str(layers), model__hidden_layers=layers, model__hidden_units=[64])
        text = (run / "result.json").read_text()
        (run / "result.json").write_text(text.replace('"overrides": []', '"overrides": ["model.hidden_units=[64]"]'))
    one, three = find_jobs([tmp_path])
    assert command(one) == "python -m mnist_mlp.train 'model.hidden_units=[64]'"
    assert command(three) == "python -m mnist_mlp.train model.hidden_units=64"
