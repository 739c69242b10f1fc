"""Test-time augmentation by `evaluate`."""

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
from mnist_mlp.serve.nets import load_classifier, log_probabilities_of_views


@pytest.fixture
def distorted(run_folder: Path) -> Path:
    """A run whose checkpoint says that its training images were distorted."""
    path = RunFolder(run_folder).best_checkpoint
    checkpoint = torch.load(path, weights_only=True)
    checkpoint["hyper_parameters"]["augment"] = to_dict(AugmentConfig(rotation=20.0, elastic=1.0, elastic_sigma=4.0))
    torch.save(checkpoint, path)
    return run_folder


def test_views_are_averaged_with_the_image_itself_at_half_the_strength(distorted: Path) -> None:
    found = evaluate_run(distorted, views=3, seed=5)
    model = load_classifier(RunFolder(distorted).best_checkpoint)
    images = torch.from_numpy(found.images)
    torch.manual_seed(5)
    views = [augment(images, rotation=10.0, elastic=0.5, elastic_sigma=4.0) for _ in range(3)]
    each = torch.stack([model.logits(one).log_softmax(1) for one in (images, *views)])
    # normalised once more, as an ensemble's mean is
    np.testing.assert_allclose(found.log_probabilities, each.mean(0).log_softmax(1).numpy(), atol=1e-5)
    assert found.views == 3


def test_the_seed_draws_the_views_and_nothing_else_changes_them(distorted: Path) -> None:
    model = load_classifier(RunFolder(distorted).best_checkpoint)
    images = torch.randint(0, 256, (20, 28, 28), dtype=torch.uint8)
    first = log_probabilities_of_views(model, images, 2, seed=1)
    torch.manual_seed(99)
    before = torch.get_rng_state()
    assert torch.equal(log_probabilities_of_views(model, images, 2, seed=1), first)
    assert torch.equal(torch.get_rng_state(), before), "the caller's random numbers go on as if nothing had been drawn"
    assert not torch.equal(log_probabilities_of_views(model, images, 2, seed=2), first)


def test_the_plain_figure_stays_and_views_stand_apart(distorted: Path, tmp_path: Path) -> None:
    file = tmp_path / "found.json"
    evaluate.main([str(distorted), "--augment", "2", "--seed", "4", "--no-figures", "--json", str(file)])
    content, plain = json.loads(file.read_text()), evaluate_run(distorted)
    assert content["metrics"]["test/accuracy"] == plain.metrics["accuracy"]
    assert content["same_as_result"]
    viewed = content["augmented"]
    assert (viewed["views"], viewed["seed"]) == (2, 4)
    assert viewed["metrics"]["test/loss"] == pytest.approx(
        evaluate_run(distorted, views=2, seed=4).metrics["loss"], rel=1e-6
    )


def test_an_ensemble_has_views_of_each_member(distorted: Path, capsys: pytest.CaptureFixture[str]) -> None:
    twin = Path(shutil.copytree(distorted, distorted.parent / "twin"))
    evaluate.main([str(distorted), str(twin), "--augment", "2"])
    shown = capsys.readouterr().out
    assert shown.count("ensemble of 2") == 2
    assert "2 distorted views of it (50 % of the strength in training)" in shown
    members = evaluate_ensemble([distorted, twin], views=2).members
    assert not np.array_equal(members[0].log_probabilities, members[1].log_probabilities), "the same views"


@pytest.mark.parametrize("views", [-1, 1001])
def test_a_number_of_views_out_of_range_is_refused(distorted: Path, views: int) -> None:
    with pytest.raises(UserError, match=rf"views={views} is out of range: allowed is 1 to 1,000"):
        evaluate_run(distorted, views=views)


def test_a_net_that_saw_no_distortions_has_no_views(run_folder: Path) -> None:
    with pytest.raises(UserError, match=r"trained without augment\.\*: evaluate it without --augment"):
        evaluate_run(run_folder, views=2)
