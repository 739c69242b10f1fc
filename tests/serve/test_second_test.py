"""QMNIST as a second test of networks trained on MNIST, and the counts of evaluations by test set."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mnist_mlp import evaluate
from mnist_mlp.compare.statistics import accuracy_interval
from mnist_mlp.data.mnist import Digits, load_digits
from mnist_mlp.datasets import DATASETS
from mnist_mlp.errors import UserError
from mnist_mlp.reporting.page import write_page
from mnist_mlp.runs.folder import RunFolder, reopen_for_more_epochs
from mnist_mlp.serve.evaluate import evaluate_run

COMMON, FASHION = 10_000, DATASETS["fashion_mnist"].digest


@pytest.fixture(scope="module")
def qmnist() -> Digits:
    """60,000 test images: blank ones labeled 0 in place of MNIST's, then the sample's 1,000 test images 50 times."""
    sample = load_digits("sample")
    images = np.concatenate([np.zeros((COMMON, 28, 28), np.uint8), np.tile(sample.test_images.numpy(), (50, 1, 1))])
    labels = np.concatenate([np.zeros(COMMON, np.uint8), np.tile(sample.test_labels.numpy(), 50)])
    return Digits(images[:10], labels[:10], images, labels, "files")


@pytest.fixture(autouse=True)
def _with_qmnist(qmnist: Digits, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(source: str, root: str | None = None, name: str = "mnist") -> Digits:
        return qmnist if name == "qmnist" else load_digits(source, root, name)

    monkeypatch.setattr("mnist_mlp.serve.evaluate.load_digits", load)


def edit_run(folder: Path, **values: Any) -> None:
    """Set values in run.json; keys such as config__data__source."""
    file = RunFolder(folder).run_file
    run = json.loads(file.read_text())
    for key, value in values.items():
        *groups, name = key.split("__")
        section = run
        for group in groups:
            section = section[group]
        section[name] = value
    file.write_text(json.dumps(run))


def evaluations(folder: Path) -> dict[str, int]:
    result = RunFolder(folder).result()
    assert result is not None
    return result.evaluations


def test_qmnist50k_leaves_out_the_images_that_mnist_has(run_folder: Path) -> None:
    result = RunFolder(run_folder).result()
    assert result is not None
    new, every = evaluate_run(run_folder, "qmnist50k"), evaluate_run(run_folder, "qmnist60k")
    assert (len(new.truth), len(every.truth), new.indices[0]) == (50_000, 60_000, COMMON)
    assert new.confusion_matrix == (50 * np.array(result.confusion_matrix)).tolist()
    assert every.correct[COMMON:].tolist() == new.correct.tolist()


def test_every_evaluation_on_a_test_set_is_counted_by_its_name(
    run_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = RunFolder(run_folder)
    before = folder.result()
    assert before is not None
    assert before.evaluations == {"sample": 1}
    for options in (["--test", "qmnist50k"], ["--split", "val"], [], []):
        evaluate.main([str(run_folder), *options, "--no-figures"])
    assert "sample 3, qmnist50k 1" in capsys.readouterr().out
    page = write_page([run_folder], run_folder / "report.html")
    assert "sample 3, qmnist50k 1" in page.read_text(encoding="utf-8")
    assert folder.result() == replace(before, evaluations={"sample": 3, "qmnist50k": 1})


def test_concurrent_evaluations_are_all_counted(run_folder: Path) -> None:
    code = (
        "import pathlib, sys; from mnist_mlp.runs.folder import RunFolder\n"
        "for _ in range(10): RunFolder(pathlib.Path(sys.argv[1])).count_evaluation('qmnist50k')"
    )
    processes = [subprocess.Popen([sys.executable, "-c", code, str(run_folder)]) for _ in range(3)]
    assert [process.wait() for process in processes] == [0, 0, 0]
    assert evaluations(run_folder) == {"sample": 1, "qmnist50k": 30}


def test_an_evaluation_that_cannot_be_counted_is_reported(
    run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (run_folder / "evaluation").touch()  # as in a read-only folder, no file can be written
    evaluate.main([str(run_folder), "--json", str(tmp_path / "evaluation.json")])
    out = capsys.readouterr().out
    assert "Equal to result.json." in out
    assert "sample 1; this one is not counted" in out
    assert "No figures" in out
    assert json.loads((tmp_path / "evaluation.json").read_text())["metrics"]["test/accuracy"] > 0.5


def test_the_test_before_an_extension_is_counted(run_folder: Path) -> None:
    folder = RunFolder(run_folder)
    run = folder.run()
    assert run is not None
    run["config"]["trainer"]["max_epochs"] += 1
    assert reopen_for_more_epochs(folder, run)
    reopened = folder.run()
    assert reopened is not None
    assert reopened["evaluations"] == {"sample": 1}


@pytest.mark.parametrize(
    ("values", "name"),
    [
        (
            {"config__data__source": "files", "config__data__name": "fashion_mnist", "data__digest": FASHION},
            "Fashion-MNIST",
        ),
        ({"config__data__source": "mnist", "data__digest": "0123456789abcdef"}, "not MNIST"),
        ({"config__data__source": "arrays"}, "arrays"),
    ],
)
def test_a_network_of_other_images_is_not_tested_on_qmnist(run_folder: Path, values: dict[str, Any], name: str) -> None:
    edit_run(run_folder, **values)
    with pytest.raises(UserError, match=rf"sample_net was trained .*\({name}\): use --split test") as error:
        evaluate_run(run_folder, "qmnist50k")
    assert "\n" not in str(error.value)
    assert evaluations(run_folder) == {"sample": 1}


def test_a_part_of_qmnist_is_not_the_second_test(run_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mnist_mlp.serve.evaluate.load_digits", lambda *_: load_digits("sample"))
    with pytest.raises(UserError, match=r"60,000 images, not 1,000"):
        evaluate_run(run_folder, "qmnist60k")


def test_seeds_of_a_setting_have_an_interval_over_seeds_and_images(run_folder: Path, tmp_path: Path) -> None:
    import torch

    runs = [run_folder]
    for seed in (1, 2):
        runs.append(Path(shutil.copytree(run_folder, run_folder.parent / f"seed_{seed}")))
        edit_run(runs[-1], config__seed=seed)
        checkpoint = torch.load(RunFolder(runs[-1]).best_checkpoint, weights_only=True)
        checkpoint["state_dict"]["mlp.layers.0.weight"] *= 1 + seed
        torch.save(checkpoint, RunFolder(runs[-1]).best_checkpoint)
    command, file = [*map(str, runs), "--json", str(tmp_path / "seeds.json")], tmp_path / "seeds.json"
    evaluate.main(command)
    correct = np.stack([evaluate_run(run).correct for run in runs])
    assert json.loads(file.read_text())["accuracy_interval"] == pytest.approx(accuracy_interval(correct))
    edit_run(runs[-1], config__optim__lr=0.5)
    evaluate.main(command)
    assert "accuracy_interval" not in json.loads(file.read_text())
