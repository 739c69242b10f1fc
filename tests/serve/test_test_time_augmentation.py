"""Test-time augmentation in `evaluate`."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from mnist_mlp import evaluate
from mnist_mlp.config import AugmentConfig
from mnist_mlp.data.augment import augment
from mnist_mlp.errors import UserError
from mnist_mlp.options import to_dict
from mnist_mlp.runs.folder import RunFolder
from mnist_mlp.serve.evaluate import evaluate_ensemble, evaluate_run
from mnist_mlp.serve.nets import augmented_log_probabilities, load_classifier


@pytest.fixture
def augmented_run(run_folder: Path) -> Path:
    """A run whose checkpoint records that it was trained with augmentation."""
    path = RunFolder(run_folder).best_checkpoint
    checkpoint = torch.load(path, weights_only=True)
    checkpoint["hyper_parameters"]["augment"] = to_dict(AugmentConfig(rotation=20.0, elastic=1.0, elastic_sigma=4.0))
    torch.save(checkpoint, path)
    return run_folder


def test_log_probabilities_of_image_and_copies_at_half_the_strength_are_averaged(augmented_run: Path) -> None:
    evaluation = evaluate_run(augmented_run, augment=3, seed=5)
    model = load_classifier(RunFolder(augmented_run).best_checkpoint)
    images = torch.from_numpy(evaluation.images)
    torch.manual_seed(5)
    copies = [augment(images, rotation=10.0, elastic=0.5, elastic_sigma=4.0) for _ in range(3)]
    expected = torch.stack([model.logits(batch).log_softmax(1) for batch in (images, *copies)])
    # the mean is normalized again, like that of an ensemble
    np.testing.assert_allclose(evaluation.log_probabilities, expected.mean(0).log_softmax(1).numpy(), atol=1e-5)
    assert evaluation.augment == 3


def test_copies_depend_on_the_seed_only(augmented_run: Path) -> None:
    model = load_classifier(RunFolder(augmented_run).best_checkpoint)
    images = torch.randint(0, 256, (20, 28, 28), dtype=torch.uint8)
    first = augmented_log_probabilities(model, images, 2, seed=1)
    torch.manual_seed(99)
    before = torch.get_rng_state()
    assert torch.equal(augmented_log_probabilities(model, images, 2, seed=1), first)
    assert torch.equal(torch.get_rng_state(), before), "the global random state changed"
    assert not torch.equal(augmented_log_probabilities(model, images, 2, seed=2), first)


def test_augmented_results_are_reported_separately(augmented_run: Path, tmp_path: Path) -> None:
    file = tmp_path / "evaluation.json"
    evaluate.main([str(augmented_run), "--augment", "2", "--seed", "4", "--no-figures", "--json", str(file)])
    content, plain = json.loads(file.read_text()), evaluate_run(augmented_run)
    assert content["metrics"]["test/accuracy"] == plain.metrics["accuracy"]
    assert content["same_as_result"]
    augmented = content["augmented"]
    assert (augmented["views"], augmented["seed"]) == (2, 4)
    assert augmented["metrics"]["test/loss"] == pytest.approx(
        evaluate_run(augmented_run, augment=2, seed=4).metrics["loss"], rel=1e-6
    )


def test_ensemble_members_have_separate_copies(augmented_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    twin = Path(shutil.copytree(augmented_run, augmented_run.parent / "twin"))
    evaluate.main([str(augmented_run), str(twin), "--augment", "2"])
    output = capsys.readouterr().out
    assert output.count("ensemble of 2") == 2
    assert "each image and 2 augmented copies at 50 % of the strength in training" in output
    members = evaluate_ensemble([augmented_run, twin], augment=2).members
    assert not np.array_equal(members[0].log_probabilities, members[1].log_probabilities), "identical copies"


@pytest.mark.parametrize("copies", [-1, 1001])
def test_a_number_of_copies_out_of_range_is_an_error(augmented_run: Path, copies: int) -> None:
    with pytest.raises(UserError, match=rf"augment={copies} is out of range: use 1 to 1,000"):
        evaluate_run(augmented_run, augment=copies)


def test_augmentation_needs_a_network_trained_with_it(run_folder: Path) -> None:
    with pytest.raises(UserError, match=r"trained with augment\.\*: evaluate without --augment"):
        evaluate_run(run_folder, augment=2)


@pytest.mark.parametrize("count", [1, 2])
def test_what_cannot_be_evaluated_prints_nothing_and_counts_nothing(
    run_folder: Path, count: int, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (run_folder / "result.json").read_bytes()
    with pytest.raises(SystemExit, match="evaluate without --augment"):
        evaluate.main([*[str(run_folder)] * count, "--augment", "2"])
    assert capsys.readouterr().out == ""
    assert (run_folder / "result.json").read_bytes() == before
