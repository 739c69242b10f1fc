"""The data of the image browser, unpacked as its scripts do."""

import base64
import io
import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import made_up_digits
from made_up_runs import TRUTH, predicted_with, write_run
from numpy.typing import NDArray
from PIL import Image

from mnist_mlp.compare.collect import summarize
from mnist_mlp.compare.load import find_jobs
from mnist_mlp.reporting import sections_digits as digit_data
from mnist_mlp.reporting.data import PageContext
from mnist_mlp.reporting.sections_digits import PredictedRuns, digits_data, load_predicted_runs, select_images, sprite
from mnist_mlp.runs.folder import RunFolder

IMAGES = made_up_digits(100, 1)[0]


def runs_of(folder: Path, *wrong: list[int]) -> PredictedRuns:
    for number, indices in enumerate(wrong):
        write_run(folder / str(number), indices, seed=number)
    runs = load_predicted_runs(find_jobs([folder]))
    assert runs is not None
    return runs


def test_the_title_names_the_dataset_of_the_images_if_there_are_several(tmp_path: Path) -> None:
    for number, name in enumerate(("mnist", "mnist", "fashion_mnist")):
        run = write_run(tmp_path / str(number), range(number), optim__lr=number + 1.0, data__name=name)
        result = json.loads((run / "result.json").read_text())
        result["data"]["digest"] = name
        (run / "result.json").write_text(json.dumps(result))
    summary = summarize(find_jobs([tmp_path]))
    section = digit_data.digit_browser(PageContext(summary))
    assert section is not None
    (largest,) = [title for title, part in summary.by_dataset.items() if len(part.jobs) == 2]
    assert section.title.endswith(f" on {largest}")


def unpack(text: str, dtype: str) -> NDArray[Any]:
    return np.frombuffer(zlib.decompress(base64.b64decode(text)), dtype)


def test_all_misclassified_images_are_included_and_some_correct_ones_of_each_class(tmp_path: Path) -> None:
    runs = runs_of(tmp_path, [3, 40], [40, 71])
    shown = select_images(runs, np.linspace(0, 1, 100, dtype=np.float32))
    assert {3, 40, 71} <= set(shown)
    assert np.array_equal(shown, np.unique(shown))
    for digit in range(10):
        included, available = (shown[TRUTH[shown] == digit], np.flatnonzero(digit == TRUTH))
        assert len(included) >= len(available[:10])  # all of them, since there are ten per class
    data = digits_data(runs, shown, IMAGES, {job.folder: 7 + n for n, job in enumerate(runs.jobs)})
    assert data["indices"] == shown.tolist()
    assert data["truth"] == [TRUTH[index] for index in shown]
    assert (data["runs"], data["certain"], data["complete"], data["total"]) == ([7, 8], [0, 1], True, 100)
    predicted = unpack(data["predicted"], "u1").reshape(2, -1)
    assert predicted.tolist() == [[predicted_with(wrong)[index] for index in shown] for wrong in ([3, 40], [40, 71])]
    matrices = unpack(data["matrices"], "<u2").reshape(2, 10, 10)
    assert [matrix.tolist() for matrix in matrices] == [
        job.result.confusion_matrix for job in runs.jobs if job.result is not None
    ]
    probabilities = unpack(data["probabilities"], "u1").reshape(2, len(shown), 10)
    assert np.array_equal(probabilities.argmax(2), predicted)
    assert set(np.unique(probabilities)) == {round(255 * 0.01), round(255 * 0.91)}


def test_the_sprite_has_every_image_at_its_position() -> None:
    sheet = np.asarray(Image.open(io.BytesIO(sprite(IMAGES[:73]))).convert("L")).astype(int)
    assert sheet.shape == (2 * 28, 50 * 28)
    for index in (0, 49, 50, 72):
        top, left = index // 50 * 28, index % 50 * 28
        tile = sheet[top : top + 28, left : left + 28]
        assert np.abs(255 - tile - IMAGES[index]).max() <= 8  # half a step of 16 shades
    assert (sheet[28:, 23 * 28 :] == 255).all()


def test_beyond_the_limit_the_best_run_comes_first_and_worse_runs_are_sampled_over_cells() -> None:
    random = np.random.default_rng(0)
    truth = random.integers(0, 10, 3000).astype(np.uint8)
    good, bad = truth.copy(), random.integers(0, 10, 3000).astype(np.uint8)
    good[:30] = (good[:30] + 1) % 10
    runs = PredictedRuns([], truth, np.stack([good, bad]))
    shown = select_images(runs, np.ones(3000, dtype=np.float32), limit=500)
    assert len(shown) <= 500
    assert set(range(30)) <= set(shown)
    cells = np.bincount(truth[shown] * 10 + bad[shown], minlength=100)
    assert cells[~np.eye(10, dtype=bool).ravel()].min() >= 1
    everything = select_images(runs, np.ones(3000, dtype=np.float32), limit=3000)
    assert set(np.flatnonzero(runs.missed)) <= set(everything)


def test_probabilities_are_included_for_the_best_runs_up_to_the_size_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = runs_of(tmp_path, [3], [4], [5])
    shown, ids = np.arange(100), {job.folder: n for n, job in enumerate(runs.jobs)}
    size = len(zlib.compress(unpack(digits_data(runs, shown, IMAGES, ids)["probabilities"], "u1")[:1000].tobytes(), 6))
    monkeypatch.setattr(digit_data, "MAX_PROBABILITY_BYTES", 2 * size + size // 2)
    data = digits_data(runs, shown, IMAGES, ids)
    assert data["certain"] == [0, 1]
    assert len(unpack(data["probabilities"], "u1")) == 2 * 100 * 10


def test_runs_on_different_images_are_excluded(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_run(tmp_path / name)
    file = RunFolder(write_run(tmp_path / "reversed")).predictions_file
    with np.load(file) as archive:
        arrays = dict(archive)
    arrays["truth"] = arrays["truth"][::-1]
    np.savez(file, **arrays)
    RunFolder(write_run(tmp_path / "without")).predictions_file.unlink()
    runs = load_predicted_runs(find_jobs([tmp_path]))
    assert runs is not None
    assert [job.folder.name for job in runs.jobs] == ["a", "b"]
    assert load_predicted_runs(find_jobs([tmp_path / "without"])) is None
