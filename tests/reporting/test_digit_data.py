"""What the digit browser holds, unpacked again as its scripts do it."""

import base64
import io
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import made_up_digits
from made_up_runs import TRUTH, predicted_with, write_run
from numpy.typing import NDArray
from PIL import Image

from mnist_mlp.compare.collect import find_jobs
from mnist_mlp.reporting import sections_digits as digit_data
from mnist_mlp.reporting.sections_digits import Labelled, digits_data, labelled, shown_digits, sprite
from mnist_mlp.runs.folder import RunFolder

IMAGES = made_up_digits(100, 1)[0]


def runs_of(folder: Path, *wrong: list[int]) -> Labelled:
    for number, places in enumerate(wrong):
        write_run(folder / str(number), places, seed=number)
    found = labelled(find_jobs([folder]))
    assert found is not None
    return found


def unpacked(text: str, kind: str) -> NDArray[Any]:
    return np.frombuffer(zlib.decompress(base64.b64decode(text)), kind)


def test_every_digit_is_held_that_a_run_misses_and_right_ones_of_each_class(tmp_path: Path) -> None:
    runs = runs_of(tmp_path, [3, 40], [40, 71])
    shown = shown_digits(runs, np.linspace(0, 1, 100, dtype=np.float32))
    assert {3, 40, 71} <= set(shown)
    assert np.array_equal(shown, np.unique(shown))
    for digit in range(10):
        held, there = (shown[TRUTH[shown] == digit], np.flatnonzero(digit == TRUTH))
        assert len(held) >= len(there[:10])  # all of them here, since there are ten of each
    data = digits_data(runs, shown, IMAGES, {job.folder: 7 + n for n, job in enumerate(runs.jobs)})
    assert data["places"] == shown.tolist()
    assert data["truth"] == "".join(str(TRUTH[place]) for place in shown)
    assert (data["runs"], data["certain"], data["complete"], data["total"]) == ([7, 8], [0, 1], True, 100)
    predicted = unpacked(data["predicted"], "u1").reshape(2, -1)
    assert predicted.tolist() == [[predicted_with(places)[one] for one in shown] for places in ([3, 40], [40, 71])]
    matrices = unpacked(data["matrices"], "<u2").reshape(2, 10, 10)
    assert [matrix.tolist() for matrix in matrices] == [
        job.result.confusion_matrix for job in runs.jobs if job.result is not None
    ]
    sure = unpacked(data["probabilities"], "u1").reshape(2, len(shown), 10)
    assert np.array_equal(sure.argmax(2), predicted)
    assert set(np.unique(sure)) == {round(255 * 0.01), round(255 * 0.91)}


def test_the_sprite_is_every_image_in_its_place() -> None:
    sheet = np.asarray(Image.open(io.BytesIO(sprite(IMAGES[:73]))).convert("L")).astype(int)
    assert sheet.shape == (2 * 28, 50 * 28)
    for place in (0, 49, 50, 72):
        top, left = place // 50 * 28, place % 50 * 28
        tile = sheet[top : top + 28, left : left + 28]
        assert np.abs(255 - tile - IMAGES[place]).max() <= 8  # half a step of 16 shades
    assert (sheet[28:, 23 * 28 :] == 255).all()


def test_where_too_many_are_missed_the_best_come_first_and_bad_runs_give_some_of_each_cell() -> None:
    random = np.random.default_rng(0)
    truth = random.integers(0, 10, 3000).astype(np.uint8)
    good, bad = truth.copy(), random.integers(0, 10, 3000).astype(np.uint8)
    good[:30] = (good[:30] + 1) % 10
    runs = Labelled([], truth, np.stack([good, bad]))
    shown = shown_digits(runs, np.ones(3000, dtype=np.float32), most=500)
    assert len(shown) <= 500
    assert set(range(30)) <= set(shown)
    cells = np.bincount(truth[shown] * 10 + bad[shown], minlength=100)
    assert cells[~np.eye(10, dtype=bool).ravel()].min() >= 1
    everything = shown_digits(runs, np.ones(3000, dtype=np.float32), most=3000)
    assert set(np.flatnonzero(runs.missed)) <= set(everything)


def test_probabilities_are_held_for_the_best_runs_until_their_room_is_filled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = runs_of(tmp_path, [3], [4], [5])
    shown, ids = np.arange(100), {job.folder: n for n, job in enumerate(runs.jobs)}
    one = len(zlib.compress(unpacked(digits_data(runs, shown, IMAGES, ids)["probabilities"], "u1")[:1000].tobytes(), 6))
    monkeypatch.setattr(digit_data, "MAX_PROBABILITY_BYTES", 2 * one + one // 2)
    data = digits_data(runs, shown, IMAGES, ids)
    assert data["certain"] == [0, 1]
    assert len(unpacked(data["probabilities"], "u1")) == 2 * 100 * 10


def test_runs_on_other_images_are_left_out(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_run(tmp_path / name)
    other = write_run(tmp_path / "other")
    file = RunFolder(other).predictions_file
    with np.load(file) as old:
        arrays = dict(old)
    arrays["truth"] = arrays["truth"][::-1]
    np.savez(file, **arrays)
    RunFolder(write_run(tmp_path / "without")).predictions_file.unlink()
    found = labelled(find_jobs([tmp_path]))
    assert found is not None
    assert [job.folder.name for job in found.jobs] == ["a", "b"]
    assert labelled(find_jobs([tmp_path / "without"])) is None
