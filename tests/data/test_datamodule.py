from pathlib import Path
from typing import Any

import pytest
import torch

from mnist_mlp.data.mnist import Digits, load_digits
from mnist_mlp.data.module import DigitData, Split
from mnist_mlp.errors import UserError


def digit_data(digits: Digits, **options: Any) -> DigitData:
    return DigitData(digits, **{"val_size": 40, **options})


def numbered_digits(source: str, train: int, test: int = 10) -> Digits:
    """Images whose pixels are all their index modulo 256."""

    def images(count: int) -> torch.Tensor:
        return torch.arange(count).remainder(256).to(torch.uint8)[:, None, None].expand(-1, 28, 28).contiguous()

    return Digits(images(train), torch.arange(train) % 10, images(test), torch.arange(test) % 10, source)


def is_equal(first: Split, second: Split) -> bool:
    return torch.equal(first.train, second.train) and torch.equal(first.val, second.val)


def test_the_split_depends_only_on_split_seed() -> None:
    digits = numbered_digits("mnist", 200)
    split = digit_data(digits, val_size=40, subset=0.5).split
    assert is_equal(split, digit_data(digits, val_size=40, subset=0.5, seed=7, batch_size=3).split)
    torch.manual_seed(123)
    assert is_equal(split, digit_data(digits, val_size=40, subset=0.5).split)
    reseeded = digit_data(digits, val_size=40, subset=0.5, split_seed=1).split
    assert set(split.val.tolist()) != set(reseeded.val.tolist())
    assert set(split.train.tolist()) != set(reseeded.train.tolist())


def test_the_training_order_depends_on_the_seed() -> None:
    def order(seed: int) -> list[int]:
        data = digit_data(numbered_digits("mnist", 200), val_size=40, seed=seed)
        return [image for batch in data.train_dataloader().batches() for image in batch.tolist()]

    assert order(0) == order(0) != order(1)
    assert sorted(order(0)) == sorted(order(1))


@pytest.mark.parametrize("val_size", [200, 201, 59_999])
def test_a_val_size_that_leaves_no_training_images_is_an_error(val_size: int) -> None:
    with pytest.raises(UserError, match=rf"^data\.val_size={val_size} must be below .*200"):
        digit_data(numbered_digits("mnist", 200), val_size=val_size)


def test_a_subset_without_images_is_an_error() -> None:
    with pytest.raises(UserError, match=r"^data\.subset=0\.001 .* 160 training images: choose a larger fraction$"):
        digit_data(numbered_digits("mnist", 200), val_size=40, subset=0.001)


@pytest.mark.parametrize(
    ("val_size", "expected"), [(0, 0), (1_000, 1_000), (3_999, 3_999), (4_000, 500), (5_000, 500), (59_999, 500)]
)
def test_the_sample_validates_on_500_images_if_val_size_is_too_large(val_size: int, expected: int) -> None:
    data = digit_data(numbered_digits("sample", 4_000), val_size=val_size)
    assert data.counts() == {"train": 4_000 - expected, "val": expected, "test": 10}


def test_counts_match_the_dataloaders(idx_root: Path) -> None:
    data = digit_data(load_digits("mnist", str(idx_root)), val_size=60, subset=0.5, batch_size=7)
    loaders = {"train": data.train_dataloader(), "val": data.val_dataloader(), "test": data.test_dataloader()}
    batches = {split: loader.batches() for split, loader in loaders.items()}
    assert data.counts() == {"train": 120, "val": 60, "test": 100}
    assert {split: sum(map(len, indices)) for split, indices in batches.items()} == data.counts()
    assert set(torch.cat(batches["train"]).tolist()) == set(data.split.train.tolist())
    assert torch.equal(torch.cat(batches["val"]), data.split.val)
    assert torch.equal(torch.cat(batches["test"]), torch.arange(100))
    assert len(data.train_dataloader()) == 18  # 120 / 7, rounded up


def test_training_and_validation_use_the_training_file_and_testing_the_test_file() -> None:
    digits = numbered_digits("mnist", 200)
    data = digit_data(digits, val_size=40)
    loaders = (data.train_dataloader(), data.val_dataloader(), data.test_dataloader(), data.predict_dataloader())
    files = [loader.images.data_ptr() for loader in loaders]
    train, test = digits.train_images.data_ptr(), digits.test_images.data_ptr()
    assert files == [train, train, test, test]
