from pathlib import Path
from typing import Any

import pytest
import torch

from mnist_mlp.data.mnist import Digits, load_digits
from mnist_mlp.data.module import DigitData, Split
from mnist_mlp.errors import UserError


def digit_data(digits: Digits, **options: Any) -> DigitData:
    """With these options, small ones where they say nothing."""
    defaults = {"batch_size": 64, "val_size": 40, "subset": 1.0, "split_seed": 0, "seed": 0}
    return DigitData(digits, **{**defaults, **options})


def made_up(source: str, train: int, test: int = 10) -> Digits:
    """Every image says which it is."""

    def images(count: int) -> torch.Tensor:
        return torch.arange(count).remainder(256).to(torch.uint8)[:, None, None].expand(-1, 28, 28).contiguous()

    return Digits(images(train), torch.arange(train) % 10, images(test), torch.arange(test) % 10, source)


def same(one: Split, other: Split) -> bool:
    return torch.equal(one.train, other.train) and torch.equal(one.val, other.val)


def test_the_split_depends_on_split_seed_alone() -> None:
    digits = made_up("mnist", 200)
    split = digit_data(digits, val_size=40, subset=0.5).split
    assert same(split, digit_data(digits, val_size=40, subset=0.5, seed=7, batch_size=3).split)
    torch.manual_seed(123)
    assert same(split, digit_data(digits, val_size=40, subset=0.5).split)
    other = digit_data(digits, val_size=40, subset=0.5, split_seed=1).split
    assert set(split.val.tolist()) != set(other.val.tolist())
    assert set(split.train.tolist()) != set(other.train.tolist())


def test_the_training_order_depends_on_the_training_seed() -> None:
    def order(seed: int) -> list[int]:
        data = digit_data(made_up("mnist", 200), val_size=40, seed=seed)
        return [image for batch in data.train_dataloader().batches() for image in batch.tolist()]

    assert order(0) == order(0) != order(1)
    assert sorted(order(0)) == sorted(order(1))


@pytest.mark.parametrize("val_size", [200, 201, 59_999])
def test_validation_that_leaves_no_training_image_is_refused(val_size: int) -> None:
    with pytest.raises(
        UserError, match=rf"^data\.val_size={val_size} leaves nothing of 200 training images: choose it below 200$"
    ):
        digit_data(made_up("mnist", 200), val_size=val_size)


def test_a_subset_without_an_image_is_refused() -> None:
    with pytest.raises(
        UserError, match=r"^data\.subset=0\.001 keeps none of 160 training images: choose a larger fraction$"
    ):
        digit_data(made_up("mnist", 200), val_size=40, subset=0.001)


@pytest.mark.parametrize(
    ("val_size", "expected"), [(0, 0), (1_000, 1_000), (3_999, 3_999), (4_000, 500), (5_000, 500), (59_999, 500)]
)
def test_the_sample_validates_on_500_where_it_cannot_spare_more(val_size: int, expected: int) -> None:
    data = digit_data(made_up("sample", 4_000), val_size=val_size)
    assert data.counts() == {"train": 4_000 - expected, "val": expected, "test": 10}


def test_counts_are_what_the_loaders_serve(idx_root: Path) -> None:
    data = digit_data(load_digits("mnist", str(idx_root)), val_size=60, subset=0.5, batch_size=7)
    loaders = {"train": data.train_dataloader(), "val": data.val_dataloader(), "test": data.test_dataloader()}
    served = {split: loader.batches() for split, loader in loaders.items()}
    assert data.counts() == {"train": 120, "val": 60, "test": 100}
    assert {split: sum(map(len, batches)) for split, batches in served.items()} == data.counts()
    assert set(torch.cat(served["train"]).tolist()) == set(data.split.train.tolist())
    assert torch.equal(torch.cat(served["val"]), data.split.val)
    assert torch.equal(torch.cat(served["test"]), torch.arange(100))
    assert len(data.train_dataloader()) == 18  # 120 images, 7 a step


def test_test_images_come_from_the_test_file_and_the_others_from_the_training_file() -> None:
    digits = made_up("mnist", 200)
    data = digit_data(digits, val_size=40)
    loaders = (data.train_dataloader(), data.val_dataloader(), data.test_dataloader(), data.predict_dataloader())
    files = [loader.images.data_ptr() for loader in loaders]
    train, test = digits.train_images.data_ptr(), digits.test_images.data_ptr()
    assert files == [train, train, test, test]
