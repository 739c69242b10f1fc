"""Arrays of the user's own, in `fit` and `sweep`."""

import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import made_up_digits
from numpy.typing import NDArray

import mnist_mlp
from mnist_mlp import Config, Digits, UserError
from mnist_mlp.data.mnist import read_shared, shared_file
from mnist_mlp.options import from_dict, to_dict
from mnist_mlp.runs.folder import RunFolder
from mnist_mlp.sweeps.jobs import Job, JobEnd, run_job
from mnist_mlp.training.fit import fit

IMAGES, LABELS = made_up_digits(300, 0)
CLASSES = [f"glyph {label}" for label in range(10)]
SMALL: dict[str, Any] = {
    "model.hidden_layers": 1, "model.hidden_units": 8, "data.val_size": 60, "data.batch_size": 32, "optim.lr": 0.05,
    "trainer.max_epochs": 1, "trainer.figures": False, "trainer.progress": False,
}  # fmt: skip


def digits_of(images: NDArray[np.uint8] = IMAGES, classes: list[str] = CLASSES) -> Digits:
    return Digits(images[:200], LABELS[:200], images[200:], LABELS[200:], classes=classes)


def run_alone(digits: Digits, folder: Path) -> JobEnd:
    """Run a job of a sweep in this process."""
    config = from_dict(Config, {"model": {"hidden_layers": 1, "hidden_units": 8}, "trainer": {"max_epochs": 1}})
    config.data = replace(config.data, val_size=60)
    config.trainer = replace(config.trainer, figures=False)
    with shared_file(digits) as file:
        return run_job(Job(RunFolder(folder / "job"), folder, 1, 1, [], to_dict(config), config, digits_file=file), {})


def test_the_file_for_the_workers_holds_the_same_dataset() -> None:
    digits = digits_of()
    with shared_file(digits) as file:
        copied = read_shared(file)
        assert (copied.digest, copied.classes, copied.source) == (digits.digest, tuple(CLASSES), "arrays")
        assert torch.equal(copied.train_images, digits.train_images)
        assert torch.equal(copied.test_labels, digits.test_labels)
    assert not Path(file).exists()


def test_a_job_trains_on_the_arrays_like_fit_and_other_arrays_never_replace_its_result(tmp_path: Path) -> None:
    run_alone(digits_of(), tmp_path)
    result = RunFolder(tmp_path / "job").result()
    assert result is not None
    config = from_dict(Config, result.config)
    alone = fit(replace(config, trainer=replace(config.trainer, threads=0)), tmp_path / "alone", digits=digits_of())
    assert (result.metrics, result.data, result.fingerprint) == (alone.metrics, alone.data, alone.fingerprint)
    assert (result.source, result.classes) == ("arrays", CLASSES)
    assert "reused" in run_alone(digits_of(), tmp_path).line
    for other, change in ((digits_of(255 - IMAGES), "data.digest"), (digits_of(classes=CLASSES[::-1]), "data.classes")):
        assert re.search(f"FAILED: .*{change}: .* choose another folder", run_alone(other, tmp_path).line)
        assert RunFolder(tmp_path / "job").result() == result


@pytest.mark.parametrize(
    ("data", "settings", "message"),
    [
        (digits_of(), {"data.name": "fashion_mnist"}, r"data= replaces data\.name and data\.source"),
        (digits_of(), {"data.source": "sample"}, r"data= replaces data\.name and data\.source"),
        (IMAGES, {}, r"data=.* has the wrong type: use mnist_mlp\.Digits"),
        (None, {"data.source": "arrays"}, r"data\.source=arrays needs your arrays: pass data="),
    ],
)
@pytest.mark.parametrize("train", [mnist_mlp.fit, mnist_mlp.sweep])
def test_a_dataset_and_settings_that_contradict_it_are_an_error(
    train: Any, data: Any, settings: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=message):
        train(settings, tmp_path / "run", data=data)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("images", "labels", "remedy"),
    [
        (pd.DataFrame(IMAGES.reshape(-1, 784)), LABELS, r"train_images is a DataFrame: .*train_images\.to_numpy\(\)"),
        (IMAGES, pd.Series(LABELS), r"train_labels is a Series: .*train_labels\.to_numpy\(\)"),
        (
            IMAGES,
            LABELS.astype(str),
            r"train_labels is a ndarray: .*numpy\.unique\(train_labels, return_inverse=True\)",
        ),
        (IMAGES / 255, LABELS, r"train_images is float64 .*\(255 \* train_images\)\.round\(\) as uint8"),
    ],
)
def test_the_error_for_other_types_has_their_conversion(images: Any, labels: Any, remedy: str) -> None:
    with pytest.raises(UserError, match=remedy):
        Digits(images, labels, IMAGES, LABELS)


def test_the_documented_conversion_of_a_data_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    """`fetch_openml` is replaced by a function that returns the same types: a DataFrame and categories of strings."""
    page = (Path(__file__).parents[2] / "docs/python.md").read_text()
    (block,) = (block for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "fetch_openml" in block)
    frame = pd.DataFrame(IMAGES.reshape(-1, 784).astype(np.int64), columns=[f"pixel{n}" for n in range(1, 785)])
    text = pd.Series(LABELS.astype(str), dtype="category", name="class")
    monkeypatch.setattr("sklearn.datasets.fetch_openml", lambda *_, **__: (frame, text))
    run, module = Mock(), Mock(Digits=Digits)
    module.fit.return_value = run
    monkeypatch.setitem(sys.modules, "mnist_mlp", module)
    exec(block.replace("60_000", "200"), {})
    assert module.fit.call_args.kwargs["data"].digest == digits_of().digest
    np.testing.assert_array_equal(run.predict.call_args.args[0], IMAGES[0])


@pytest.mark.integration
def test_a_sweep_trains_on_arrays_resumes_and_refuses_other_arrays(tmp_path: Path) -> None:
    grid = {**SMALL, "seed": range(2)}
    sweep = mnist_mlp.sweep(grid, tmp_path / "sweep", data=digits_of())
    run = mnist_mlp.fit(SMALL, tmp_path / "run", data=digits_of(), seed=1)
    assert len(sweep.runs) == 2
    (same,) = [job for job in sweep.runs if job.config.seed == 1]
    assert same.result.fingerprint == run.result.fingerprint
    assert same.metrics == run.metrics
    assert "glyph 7" in same.report()
    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("result.json")}
    assert len(mnist_mlp.sweep(grid, tmp_path / "sweep", data=digits_of()).runs) == 2
    for other in (digits_of(255 - IMAGES), digits_of(classes=CLASSES[::-1])):
        with pytest.raises(UserError, match=r"earlier jobs used other data \(data\.(digest|classes): "):
            mnist_mlp.sweep(grid, tmp_path / "sweep", data=other)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("result.json")} == stamps
