"""Sweeps by the public command, in this process, on small made-up digits."""

import csv
import json
import os
import shutil
import signal
import sys
import threading
from pathlib import Path

import pytest
from conftest import made_up_digits, write_idx
from made_up_runs import write_run
from sweeps_in_process import TINY, Sweep, quick_page, sweeper
from torchvision.datasets import MNIST

from mnist_mlp.cli.compose import job_name
from mnist_mlp.compare.load import find_jobs
from mnist_mlp.errors import Interrupted
from mnist_mlp.runs.folder import FolderLock
from mnist_mlp.train import main
from mnist_mlp.training.classifier import DigitClassifier


@pytest.fixture
def sweep(idx_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sweep:
    return sweeper(idx_root, tmp_path, monkeypatch)


def job_folders(name: str) -> dict[str, Path]:
    """By the part of the name that tells the jobs apart in these tests."""
    return {path.parent.name: path.parent for path in Path("outputs/sweeps", name).glob("*/run.json")}


def stamps(name: str) -> dict[str, int]:
    return {job: (path / "checkpoints/last.ckpt").stat().st_mtime_ns for job, path in job_folders(name).items()}


def table(name: str) -> list[dict[str, str]]:
    with Path("outputs/sweeps", name, "summary.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(("given", "seeds"), [((), [0, 1, 2]), (("seed=5,6",), [5, 6]), (("seed=7",), [7])])
def test_a_preset_may_say_what_is_swept_and_the_command_line_goes_before_it(
    sweep: Sweep, capsys: pytest.CaptureFixture[str], given: tuple[str, ...], seeds: list[int]
) -> None:
    preset = Path("presets/experiment/three.yaml")
    preset.parent.mkdir(parents=True)
    preset.write_text("# @package _global_\nhydra:\n  sweeper:\n    params:\n      seed: range(3)\n")
    assert sweep(f"hydra.searchpath=[file://{Path.cwd()}/presets]", "experiment=three", "name=preset", *given) == 0
    results = [json.loads((path / "result.json").read_text()) for path in job_folders("preset").values()]
    assert sorted(result["config"]["seed"] for result in results) == seeds
    told = [line.split("]")[0] for line in capsys.readouterr().out.splitlines() if line.startswith("[")]
    assert told == [f"[{number}/{len(seeds)}" for number in range(1, len(seeds) + 1)]


def test_the_path_of_the_folder_is_not_an_interpolation(
    sweep: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "a${x}b"
    here.mkdir()
    monkeypatch.chdir(here)
    (here / "presets").mkdir()
    assert sweep("seed=0,1", "name=odd", "trainer.max_epochs=1", "--config-dir=presets") == 0
    assert [path.parents[4] for path in Path.cwd().glob("outputs/sweeps/odd/*/result.json")] == 2 * [here.resolve()]


def test_a_grid_has_a_folder_per_job_and_a_table(sweep: Sweep, capsys: pytest.CaptureFixture[str]) -> None:
    assert sweep("data.normalization=raw,symmetric", "seed=range(2)", "name=grid") == 0
    assert len(job_folders("grid")) == 4
    assert not any("=" in job for job in job_folders("grid"))
    rows = table("grid")
    assert {row["data.normalization"] for row in rows} == {"raw", "symmetric"}
    assert [row["n"] for row in rows] == ["2", "2"]
    assert [row["best"] for row in rows] == ["True", "False"]
    for row in rows:
        jobs = [json.loads((path / "result.json").read_text()) for path in job_folders("grid").values()]
        own = [
            job["metrics"]["test/accuracy"]
            for job in jobs
            if job["config"]["data"]["normalization"] == row["data.normalization"]
        ]
        assert float(row["test_accuracy"]) == pytest.approx(sum(own) / 2)
    out = capsys.readouterr().out
    assert "[4/4]" in out
    assert "elapsed" in out
    assert (Path("outputs/sweeps/grid/report.html")).is_file()
    assert (Path("outputs/sweeps/grid/digits.csv")).is_file()
    assert {path.name for path in Path("outputs/sweeps/grid/means").iterdir()} == {
        *("normalization-raw", "normalization-symmetric")
    }
    assert "optim.lr" not in Path("outputs/sweeps/grid/summary.md").read_text()


def test_a_finished_job_is_reused_and_a_wider_grid_runs_only_new_cells(
    sweep: Sweep, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep("seed=0,1", "name=wide")
    before = stamps("wide")
    capsys.readouterr()
    sweep("seed=0,1,2", "name=wide")
    after = stamps("wide")
    assert len(after) == 3
    assert {job: after[job] for job in before} == before
    assert capsys.readouterr().out.count("reused") == 2
    sweep("seed=0,1,2", "name=wide", "resume=never")
    assert all(stamps("wide")[job] > after[job] for job in after)


def test_a_job_equals_the_same_run_alone(sweep: Sweep, idx_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sweep("seed=0,1", "name=alone")
    monkeypatch.setattr(sys, "argv", ["train", f"data.root={idx_root}", *TINY, "seed=1", "name=single"])
    main()
    single = json.loads(Path("outputs/train/single/result.json").read_text())
    job = next(path for name, path in job_folders("alone").items() if "seed-1" in name)
    in_sweep = json.loads((job / "result.json").read_text())
    assert in_sweep["metrics"] == single["metrics"]
    assert in_sweep["fingerprint"] == single["fingerprint"]


def test_a_failed_and_a_diverged_job_leave_the_others_alone(sweep: Sweep, capsys: pytest.CaptureFixture[str]) -> None:
    assert sweep("optim.lr=0.05,1e8", "data.val_size=60,300", "name=mixed") == 1
    streams = capsys.readouterr()
    assert "2 failed" in streams.err
    assert "val_size-300" in streams.err
    rows = {row["status"]: row for row in table("mixed")}
    assert set(rows) == {"finished", "diverged", "failed"}
    assert "data.val_size=300" in rows["failed"]["reason"]
    failed = next(Path("outputs/sweeps/mixed").glob("*val_size-300*"))
    assert "Traceback" in (failed / "error.log").read_text()
    assert not (failed / "result.json").exists()


def test_a_crashed_job_is_run_again_and_its_failure_forgotten(sweep: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(self: DigitClassifier) -> None:
        raise ValueError("a bug in <here>")

    with monkeypatch.context() as patch:
        patch.setattr(DigitClassifier, "on_train_start", crash)
        assert sweep("seed=0,1", "name=again") == 1
    assert [row["status"] for row in table("again")] == ["2 failed"]
    assert table("again")[0]["reason"] == "ValueError: a bug in <here>"
    assert sweep("seed=0,1", "name=again") == 0
    assert [row["status"] for row in table("again")] == ["2 finished"]


@pytest.mark.integration
def test_a_finished_job_that_now_fails_is_a_failure_until_it_is_taken_up_again(
    sweep: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(*arguments: object) -> None:
        raise ValueError("no digits today")

    assert sweep("seed=0", "name=later") == 0
    with monkeypatch.context() as patch:
        patch.setattr("mnist_mlp.training.fit.load_digits", crash)
        assert sweep("seed=0", "name=later") == 1
    assert [row["status"] for row in table("later")] == ["failed"]
    assert sweep("seed=0", "name=later") == 0
    assert [row["status"] for row in table("later")] == ["finished"]


@pytest.mark.integration
def test_a_cut_off_sweep_goes_on_and_ends_as_if_unbroken(sweep: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    sweep("seed=0,1,2", "name=unbroken", "trainer.max_epochs=3")
    start_epoch, epochs = DigitClassifier.on_train_epoch_start, iter(range(100))

    def power_cut(self: DigitClassifier) -> None:
        if next(epochs) == 5:  # in the last epoch of the second job
            raise Interrupted(signal.SIGINT)
        start_epoch(self)

    with monkeypatch.context() as patch:
        patch.setattr(DigitClassifier, "on_train_epoch_start", power_cut)
        assert sweep("seed=0,1,2", "name=broken", "trainer.max_epochs=3") == 130
    assert len(job_folders("broken")) == 2  # Ctrl-C stops the sweep, not just the job
    assert [row["status"] for row in table("broken")] == ["1 finished, 1 unfinished"]
    first = stamps("broken")
    assert sweep("seed=0,1,2", "name=broken", "trainer.max_epochs=3") == 0
    assert sum(first.get(job) == stamp for job, stamp in stamps("broken").items()) == 1
    seconds = {"fit_seconds", "fit_seconds_std"}
    same = [[{key: row[key] for key in row.keys() - seconds} for row in table(name)] for name in ("broken", "unbroken")]
    assert same[0] == same[1]


def test_other_settings_under_the_same_name_are_set_aside(sweep: Sweep, capsys: pytest.CaptureFixture[str]) -> None:
    sweep("seed=0", "name=aside")
    (job,) = job_folders("aside").values()
    run = json.loads((job / "run.json").read_text())
    run["fingerprint"], run["config"]["optim"]["lr"] = "another", 0.5
    (job / "run.json").write_text(json.dumps(run))
    before = (job / "result.json").read_bytes()
    assert sweep("seed=0", "name=aside") == 0
    assert "archived a run with other settings" in capsys.readouterr().out
    (old,) = Path("outputs/sweeps/aside/.set_aside").iterdir()
    assert (old / "result.json").read_bytes() == before
    assert len(table("aside")) == 1


def test_jobs_that_differ_only_in_speed_have_folders_of_their_own(sweep: Sweep) -> None:
    assert sweep("trainer.steps_per_execution=1,50", "trainer.progress=false", "name=speed") == 0
    assert {name.rpartition("_")[2] for name in job_folders("speed")} == {"execution-1", "execution-50"}
    steps = [json.loads((path / "result.json").read_text())["config"] for path in job_folders("speed").values()]
    assert {config["trainer"]["steps_per_execution"] for config in steps} == {1, 50}
    assert len(table("speed")) == 2


def test_jobs_on_different_digits_are_different_runs(sweep: Sweep, idx_root: Path, tmp_path: Path) -> None:
    other = shutil.copytree(idx_root, tmp_path / "other")
    (train,) = other.rglob("train-images*")
    train.write_bytes(train.read_bytes()[:-1] + b"\x7f")
    assert sweep(f"data.root={idx_root},{other}", "name=digits") == 0
    results = [json.loads((path / "result.json").read_text()) for path in job_folders("digits").values()]
    assert len({result["data"]["digest"] for result in results}) == 2
    assert len({result["fingerprint"] for result in results}) == 2
    assert len(table("digits")) == 2


def test_a_sweep_that_runs_elsewhere_is_refused_in_one_line(sweep: Sweep, capsys: pytest.CaptureFixture[str]) -> None:
    with FolderLock(Path("outputs/sweeps/busy")).acquire():
        assert sweep("seed=0,1", "name=busy") == 1
        assert job_folders("busy") == {}
    assert sweep("seed=0", "name=busy") == 0
    assert not list(Path("outputs/sweeps/busy").rglob(".lock"))


@pytest.mark.integration
def test_a_skipped_job_costs_milliseconds(sweep: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    sweep("seed=0,1", "name=skip")

    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("a finished job builds nothing")

    monkeypatch.setattr("mnist_mlp.training.fit.DigitData.from_config", refuse)
    assert sweep("seed=0,1", "name=skip") == 0


def test_a_mistake_in_the_grid_is_refused_before_anything_is_there(sweep: Sweep) -> None:
    for mistake in ("optim.lrr=1,2", "optim.lr=abc,1"):
        assert sweep(mistake, "name=typo") == 1
        assert not Path("outputs/sweeps/typo").exists()


@pytest.mark.parametrize(
    ("overrides", "name"),
    [
        (["seed=1", "optim.lr=0.1"], "lr-0.1_seed-1"),
        (["optim.lr=0.1", "seed=1", "name=x", "data.root=/a/b", "resume=never"], "lr-0.1_seed-1"),
        (["optim.name=adam"], "optim.name-adam"),
        (["optim=adam", "experiment=debug"], "experiment-debug_optim-adam"),
        (["model.hidden_units=[256,128]"], "hidden_units-256-128"),
        ([], "defaults"),
    ],
)
def test_job_folders_are_readable_and_do_not_depend_on_order(overrides: list[str], name: str) -> None:
    assert job_name(overrides) == name


def test_job_folders_do_not_collide_where_characters_or_length_are_lost() -> None:
    values = ["a b", "a/b", "a=b", "x" * 300, "x" * 301]
    names = [job_name([f"experiment={value}"]) for value in values]
    assert len(set(names)) == len(values)
    assert all(len(name) < 200 and "=" not in name and "/" not in name for name in names)


def test_a_text_that_looks_like_a_number_keeps_its_spelling_in_the_name_of_the_job() -> None:
    assert job_name(["optim.teacher=3.10"]) == job_name(["optim.teacher='3.10'"]) == "teacher-3.10"
    assert job_name(["data.subset=1e-2"]) == job_name(["data.subset=0.01"]) == "subset-0.01"


def test_a_table_that_cannot_be_written_ends_no_sweep(
    sweep: Sweep, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(path: Path, *_: object) -> None:
        raise OSError(28, "No space left on device", str(path / "summary.csv"))

    with monkeypatch.context() as patch:
        patch.setattr("mnist_mlp.sweeps.jobs.write_summary", full)
        assert sweep("seed=0,1", "name=full") == 1
    assert len(list(Path("outputs/sweeps/full").glob("*/result.json"))) == 2
    assert "error: cannot write the table: " in capsys.readouterr().err
    assert sweep("seed=0,1", "name=full") == 0


def test_a_page_that_cannot_be_drawn_leaves_the_table(sweep: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(*arguments: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr("mnist_mlp.reporting.page.write_page", crash)
    assert sweep("seed=0", "name=pageless") == 1
    assert [row["status"] for row in table("pageless")] == ["finished"]


def test_a_failure_that_cannot_be_recorded_ends_no_sweep(
    sweep: Sweep, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(path: Path, *rest: object) -> None:
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr("mnist_mlp.sweeps.jobs.write_json", full)
    assert sweep("data.val_size=300,60", "name=unrecorded") == 1
    assert len(list(Path("outputs/sweeps/unrecorded").glob("*/result.json"))) == 1
    out = capsys.readouterr().out
    assert "FAILED: data.val_size=300 " in out
    assert "could not be recorded: " in out


def test_a_job_that_fails_after_its_folder_was_archived_is_recorded(sweep: Sweep, idx_root: Path) -> None:
    assert sweep("seed=0", "name=gone") == 0
    images, labels = made_up_digits(60, 0)  # too few for data.val_size
    write_idx(idx_root / "MNIST/raw/train-images-idx3-ubyte", images)
    write_idx(idx_root / "MNIST/raw/train-labels-idx1-ubyte", labels)
    assert sweep("seed=0", "name=gone") == 1
    (row,) = table("gone")
    assert row["status"] == "failed"
    assert "data.val_size=60 must be below" in row["reason"]


def test_hydras_chdir_does_not_change_which_digits_are_found(
    idx_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(MNIST, "mirrors", ["http://127.0.0.1:9/"])
    monkeypatch.setattr("mnist_mlp.reporting.page.write_page", quick_page)
    idx_root.rename(tmp_path / "data")
    monkeypatch.setattr(sys, "argv", ["train", "data.root=data", "hydra.job.chdir=true", "name=moved", *TINY])
    main()
    assert json.loads(Path("outputs/train/moved/result.json").read_text())["data"]["source"] == "mnist"
    assert "outputs/train/moved/report.html" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["result.json", "run.json", "failure.json"])
def test_a_broken_folder_beside_the_jobs_ends_no_sweep(sweep: Sweep, name: str) -> None:
    broken = Path("outputs/sweeps/beside/broken")
    broken.mkdir(parents=True)
    os.mkfifo(broken / name)
    assert sweep("seed=0", "name=beside") == 1
    assert sorted(row["status"] for row in table("beside")) == ["finished", "unreadable"]


def test_neighbours_that_vanish_while_the_table_is_made_do_not_matter(tmp_path: Path) -> None:
    stop = threading.Event()

    def come_and_go() -> None:
        while not stop.is_set():
            write_run(tmp_path / "passing" / "run")
            shutil.rmtree(tmp_path / "passing")

    write_run(tmp_path / "stays")
    thread = threading.Thread(target=come_and_go)
    thread.start()
    try:
        statuses = {job.status for _ in range(100) for job in find_jobs([tmp_path])}
    finally:
        stop.set()
        thread.join()
    assert statuses == {"finished"}


@pytest.mark.integration
def test_a_page_is_drawn_again_only_where_something_has_changed(sweep: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[object] = []

    def draw(paths: list[Path], target: Path) -> None:
        drawn.append(target)
        target.write_text("the page")

    monkeypatch.setattr("mnist_mlp.reporting.page.write_page", draw)
    assert sweep("seed=0,1", "name=paged") == 0
    assert sweep("seed=0,1", "name=paged") == 0
    assert len(drawn) == 1
    assert sweep("seed=0,1,2", "name=paged") == 0
    assert len(drawn) == 2
    shutil.rmtree(next(path for name, path in job_folders("paged").items() if "seed-2" in name))
    assert sweep("seed=0,1", "name=paged") == 0
    assert len(drawn) == 3
    Path("outputs/sweeps/paged/report.html").unlink()
    assert sweep("seed=0,1", "name=paged") == 0
    assert len(drawn) == 4
    assert sweep("seed=0,1", "name=paged", "resume=never") == 0
    assert len(drawn) == 5
