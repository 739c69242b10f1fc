"""Mean runs for TensorBoard, read back from their event files and compared with metrics.csv."""

import csv
import errno
import shutil
import statistics
from pathlib import Path

import pytest
from made_up_runs import write_curves, write_run
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from mnist_mlp.compare.collect import summarize
from mnist_mlp.compare.load import find_jobs
from mnist_mlp.reporting.tensorboard import write_means


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    """Two settings with three seeds each, one of which stopped early: means end with it."""
    for lr in (0.1, 0.2):
        for seed in range(3):
            folder = write_run(tmp_path / f"{lr}_{seed}", seed=seed, optim__lr=lr)
            write_curves(folder, [lr + 0.1 * seed, 0.5 * lr + 0.07 * seed, 0.1][: 2 if seed == 2 else 3])
    return tmp_path


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    events.Reload()
    return {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def test_means_and_deviations_match_metrics_csv(sweep: Path) -> None:
    write_means(sweep, summarize(find_jobs([sweep])))
    written = scalars(sweep / "means" / "lr-0.1")
    columns: dict[str, list[list[float]]] = {}
    for seed in range(3):
        with (sweep / f"0.1_{seed}" / "metrics.csv").open() as file:
            for epoch, line in enumerate(csv.DictReader(file)):
                for tag in set(line) - {"epoch"}:
                    epochs = columns.setdefault(tag, [[], [], []])
                    epochs[epoch].append(float(line[tag]))
    assert set(written) == {
        name for tag in columns for name in (tag, f"variation/{tag} mean - std", f"variation/{tag} mean + std")
    }
    assert len(columns) == 4
    for tag, epochs in columns.items():
        assert [len(numbers) for numbers in epochs] == [3, 3, 2]
        for sign, name in ((0, tag), (-1, f"variation/{tag} mean - std"), (1, f"variation/{tag} mean + std")):
            expected = [statistics.fmean(numbers) + sign * statistics.stdev(numbers) for numbers in epochs[:2]]
            assert [step for step, _ in written[name]] == [1, 2]
            assert [value for _, value in written[name]] == pytest.approx(expected, abs=1e-6)


def test_writing_again_changes_and_duplicates_nothing(sweep: Path) -> None:
    write_means(sweep, summarize(find_jobs([sweep])))
    before = {path: path.stat().st_mtime_ns for path in sweep.glob("means/*/*")}
    write_means(sweep, summarize(find_jobs([sweep])))
    assert {path: path.stat().st_mtime_ns for path in sweep.glob("means/*/*")} == before
    shutil.rmtree(sweep / "0.1_2")
    write_means(sweep, summarize(find_jobs([sweep])))
    assert len(list(sweep.glob("means/lr-0.1/events*"))) == 1
    written = scalars(sweep / "means" / "lr-0.1")["train/loss"]
    assert [step for step, _ in written] == [1, 2, 3]
    assert written[0][1] == pytest.approx((0.1 + 0.2) / 2)


def test_a_group_with_fewer_than_two_seeds_has_no_mean(sweep: Path) -> None:
    write_means(sweep, summarize(find_jobs([sweep])))
    for seed in (0, 1):
        shutil.rmtree(sweep / f"0.2_{seed}")
    assert [path.name for path in write_means(sweep, summarize(find_jobs([sweep])))] == ["lr-0.1"]
    assert [path.name for path in (sweep / "means").iterdir()] == ["lr-0.1"]


def test_settings_of_any_length_have_means_of_their_own(tmp_path: Path) -> None:
    for last in (1, 2):
        for seed in (0, 1):
            units = [*range(100, 190), last]
            folder = write_run(tmp_path / f"{last}_{seed}", seed=seed, model__hidden_units=units)
            write_curves(folder, [0.1, 0.2])
    assert len(set(write_means(tmp_path, summarize(find_jobs([tmp_path]))))) == 2


def test_interrupted_writes_are_redone_and_other_folders_are_kept(sweep: Path) -> None:
    (sweep / "means" / "mine").mkdir(parents=True)
    (sweep / "means" / "mine" / "notes.txt").write_text("keep")
    write_means(sweep, summarize(find_jobs([sweep])))
    (sweep / "means" / "lr-0.1" / "means.json").write_text('{"digest": ""}')
    write_means(sweep, summarize(find_jobs([sweep])))
    assert len(list(sweep.glob("means/lr-0.1/events*"))) == 1
    assert (sweep / "means" / "mine" / "notes.txt").is_file()


def test_a_full_disk_is_one_error_and_the_next_call_recovers(
    sweep: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as disk:
        disk.setattr("tensorboard.compat.tensorflow_stub.io.gfile.LocalFileSystem.append", full)
        with pytest.raises(OSError, match="No space left"):
            write_means(sweep, summarize(find_jobs([sweep])))
    assert capfd.readouterr() == ("", "")
    write_means(sweep, summarize(find_jobs([sweep])))
    assert len(scalars(sweep / "means" / "lr-0.1")) == 12
