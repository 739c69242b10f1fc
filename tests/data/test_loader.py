from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor

from mnist_mlp.data.module import EVAL_BATCH, DigitLoader, batch_sizes, random_seed

SIZES = [(1, 1), (7, 3), (64, 64), (100, 32), (101, 10), (96, 32), (5, 64)]


def loader(count: int, batch_size: int = 10, seed: int = 0, rank: int = 0, world_size: int = 1) -> DigitLoader:
    """A loader of every third image; each image and label shows its index."""
    indices = torch.arange(3 * count)
    images = indices.remainder(256).to(torch.uint8)[:, None, None].expand(-1, 28, 28)
    sizes = batch_sizes(-(-count // world_size), batch_size)
    return DigitLoader(images, indices, indices[::3], sizes, seed, rank, world_size)


def batches(loader: DigitLoader, epoch: int = 0) -> list[list[int]]:
    loader.set_epoch(epoch)
    pairs = [(images[:, 0, 0], labels) for images, labels in loader]
    assert all(torch.equal(pixel, labels.remainder(256).to(torch.uint8)) for pixel, labels in pairs)
    return [labels.tolist() for _, labels in pairs]


def images(loader: DigitLoader, epoch: int = 0) -> list[int]:
    return [image for batch in batches(loader, epoch) for image in batch]


@pytest.mark.parametrize(("count", "batch_size"), SIZES)
def test_every_image_appears_exactly_once_per_epoch(count: int, batch_size: int) -> None:
    for epoch in range(3):
        assert sorted(images(loader(count, batch_size), epoch)) == list(range(0, 3 * count, 3))


@pytest.mark.parametrize(("count", "batch_size"), SIZES)
def test_all_mini_batches_except_the_last_are_full(count: int, batch_size: int) -> None:
    sizes = [len(batch) for batch in batches(loader(count, batch_size))]
    assert sizes == [batch_size] * (count // batch_size) + [count % batch_size] * (count % batch_size > 0)
    assert len(loader(count, batch_size)) == len(sizes)


def test_every_epoch_and_every_seed_has_a_different_order() -> None:
    orders = {tuple(images(loader(50, seed=seed), epoch)) for seed in range(4) for epoch in range(4)}
    assert len(orders) == 16
    assert tuple(range(0, 150, 3)) not in orders


def test_the_order_depends_only_on_seed_and_epoch() -> None:
    used, fresh = loader(50, seed=1), loader(50, seed=1)
    for epoch in range(3):
        images(used, epoch)
    torch.manual_seed(99)
    next(iter(used))  # an unfinished epoch
    assert images(used, 3) == images(fresh, 3)
    assert images(fresh, 3) == images(fresh, 3)


def test_shuffling_does_not_use_the_global_generator() -> None:
    before = torch.get_rng_state()
    images(loader(50, seed=1))
    assert torch.equal(torch.get_rng_state(), before)


def test_random_seed_differs_if_any_number_differs() -> None:
    seeds = {random_seed(seed, epoch, rank) for seed in range(10) for epoch in range(10) for rank in range(3)}
    assert len(seeds) == 300
    assert random_seed(2**32 - 1, 3) == random_seed(2**32 - 1, 3)


@pytest.mark.parametrize("world_size", [1, 2, 3, 4])
@pytest.mark.parametrize("count", [12, 13, 101])
def test_the_shards_of_all_ranks_cover_every_image_in_the_same_number_of_steps(count: int, world_size: int) -> None:
    loaders = [loader(count, 5, 0, rank, world_size) for rank in range(world_size)]
    for epoch in range(2):
        shards = [images(loader, epoch) for loader in loaders]
        assert {image for shard in shards for image in shard} == set(range(0, 3 * count, 3))
        assert 0 <= sum(map(len, shards)) - count < world_size
        assert len({len(shard) for shard in shards}) == 1
        assert all(len(batches(loader, epoch)) == len(loader) for loader in loaders)
        assert all(len(set(shard)) == len(shard) for shard in shards)


def test_without_a_seed_the_order_is_that_of_the_indices() -> None:
    indices = torch.tensor([5, 2, 9, 0])
    unshuffled = DigitLoader(torch.zeros(10, 28, 28), torch.arange(10), indices, [3, 1])
    assert [labels.tolist() for _, labels in unshuffled] == [[5, 2, 9], [0]]
    assert batch_sizes(0, EVAL_BATCH, smallest=0) == []


class Recorder(pl.LightningModule):
    """Records the labels of the training batches by epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.labels: list[list[list[int]]] = [[], [], []]

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        self.labels[self.current_epoch].append(batch[1].tolist())
        return self.weight.sum()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


@pytest.mark.filterwarnings("ignore:.*`train_dataloader` does not have many workers")
def test_lightning_sets_the_epoch_of_the_loader() -> None:
    recorder, quiet = Recorder(), dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar"), False)
    options: dict[str, Any] = {**quiet, "max_epochs": 3, "accelerator": "cpu", "enable_model_summary": False}
    pl.Trainer(**options).fit(recorder, loader(23, 4, seed=8))
    assert recorder.labels == [batches(loader(23, 4, seed=8), epoch) for epoch in range(3)]


@pytest.mark.parametrize(("count", "sizes"), [(129, [64, 65]), (65, [65]), (66, [64, 2]), (128, [64, 64]), (2, [2])])
def test_a_last_mini_batch_below_the_minimum_is_merged_into_the_previous_one(count: int, sizes: list[int]) -> None:
    assert batch_sizes(count, 64, smallest=2) == sizes


def test_fewer_images_than_the_smallest_mini_batch_are_an_error() -> None:
    with pytest.raises(ValueError, match="at least 2 images, but got 1"):
        batch_sizes(1, 64, smallest=2)
