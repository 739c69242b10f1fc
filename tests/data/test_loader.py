from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor

from mnist_mlp.data.module import EVAL_BATCH, DigitLoader, batch_sizes, random_seed

SIZES = [(1, 1), (7, 3), (64, 64), (100, 32), (101, 10), (96, 32), (5, 64)]


def loader(count: int, batch_size: int = 10, seed: int = 0, rank: int = 0, world_size: int = 1) -> DigitLoader:
    """A loader of images whose labels are their positions, of which every third is served."""
    positions = torch.arange(3 * count)
    images = positions.remainder(256).to(torch.uint8)[:, None, None].expand(-1, 28, 28)
    sizes = batch_sizes(-(-count // world_size), batch_size)
    return DigitLoader(images, positions, positions[::3], sizes, seed, rank, world_size)


def batches(loader: DigitLoader, epoch: int = 0) -> list[list[int]]:
    loader.set_epoch(epoch)
    served = [(images[:, 0, 0], labels) for images, labels in loader]
    assert all(torch.equal(pixel, labels.remainder(256).to(torch.uint8)) for pixel, labels in served)
    return [labels.tolist() for _, labels in served]


def images(loader: DigitLoader, epoch: int = 0) -> list[int]:
    return [image for batch in batches(loader, epoch) for image in batch]


@pytest.mark.parametrize(("count", "batch_size"), SIZES)
def test_every_image_comes_exactly_once_per_epoch(count: int, batch_size: int) -> None:
    for epoch in range(3):
        assert sorted(images(loader(count, batch_size), epoch)) == list(range(0, 3 * count, 3))


@pytest.mark.parametrize(("count", "batch_size"), SIZES)
def test_all_mini_batches_but_the_last_are_full(count: int, batch_size: int) -> None:
    served = loader(count, batch_size)
    sizes = [len(batch) for batch in batches(served)]
    assert sizes == [batch_size] * (count // batch_size) + [count % batch_size] * (count % batch_size > 0)
    assert len(served) == len(sizes)


def test_every_epoch_and_every_seed_has_an_order_of_its_own() -> None:
    orders = {tuple(images(loader(50, seed=seed), epoch)) for seed in range(4) for epoch in range(4)}
    assert len(orders) == 16
    assert tuple(range(0, 150, 3)) not in orders


def test_the_order_is_a_function_of_seed_and_epoch_whatever_came_before() -> None:
    seasoned, fresh = loader(50, seed=1), loader(50, seed=1)
    for epoch in range(3):
        images(seasoned, epoch)
    torch.manual_seed(99)
    next(iter(seasoned))  # an epoch that is not finished
    assert images(seasoned, 3) == images(fresh, 3)
    assert images(fresh, 3) == images(fresh, 3)


def test_drawing_an_order_leaves_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    images(loader(50, seed=1))
    assert torch.equal(torch.get_rng_state(), before)


def test_seeds_differ_wherever_a_part_differs() -> None:
    seeds = {random_seed(seed, epoch, rank) for seed in range(10) for epoch in range(10) for rank in range(3)}
    assert len(seeds) == 300
    assert random_seed(2**32 - 1, 3) == random_seed(2**32 - 1, 3)


@pytest.mark.parametrize("world_size", [1, 2, 3, 4])
@pytest.mark.parametrize("count", [12, 13, 101])
def test_the_shares_of_all_ranks_cover_every_image_in_equally_many_steps(count: int, world_size: int) -> None:
    loaders = [loader(count, 5, 0, rank, world_size) for rank in range(world_size)]
    for epoch in range(2):
        shares = [images(each, epoch) for each in loaders]
        assert {image for share in shares for image in share} == set(range(0, 3 * count, 3))
        assert 0 <= sum(map(len, shares)) - count < world_size
        assert len({len(share) for share in shares}) == 1
        assert all(len(batches(each, epoch)) == len(each) for each in loaders)
        assert all(len(set(share)) == len(share) for share in shares)


def test_without_a_seed_the_order_is_kept() -> None:
    indices = torch.tensor([5, 2, 9, 0])
    fixed = DigitLoader(torch.zeros(10, 28, 28), torch.arange(10), indices, [3, 1])
    assert [labels.tolist() for _, labels in fixed] == [[5, 2, 9], [0]]
    assert batch_sizes(0, EVAL_BATCH, smallest=0) == []


class Recorder(pl.LightningModule):
    """Notes the batches that reach it, by epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.seen: list[list[list[int]]] = [[], [], []]

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        self.seen[self.current_epoch].append(batch[1].tolist())
        return self.weight.sum()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


@pytest.mark.filterwarnings("ignore:.*`train_dataloader` does not have many workers")
def test_lightning_tells_the_loader_which_epoch_it_is() -> None:
    recorder, quiet = Recorder(), dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar"), False)
    options: dict[str, Any] = {**quiet, "max_epochs": 3, "accelerator": "cpu", "enable_model_summary": False}
    pl.Trainer(**options).fit(recorder, loader(23, 4, seed=8))
    assert recorder.seen == [batches(loader(23, 4, seed=8), epoch) for epoch in range(3)]


@pytest.mark.parametrize(("count", "sizes"), [(129, [64, 65]), (65, [65]), (66, [64, 2]), (128, [64, 64]), (2, [2])])
def test_a_last_mini_batch_that_is_too_small_joins_the_one_before(count: int, sizes: list[int]) -> None:
    assert batch_sizes(count, 64, smallest=2) == sizes


def test_fewer_images_than_the_smallest_mini_batch_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 2 images, but got 1"):
        batch_sizes(1, 64, smallest=2)
