import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor

from mnist_mlp.data.module import EVAL_BATCH, BlockLoader, EvalLoader, random_seed

SIZES = [(1, 1, 1), (7, 3, 2), (64, 64, 1), (100, 32, 50), (101, 10, 4), (96, 32, 3), (5, 64, 50)]


def batches(loader: BlockLoader, epoch: int = 0) -> list[list[int]]:
    loader.set_epoch(epoch)
    return [batch.tolist() for plan in loader for batch in plan.batches]


def images(loader: BlockLoader, epoch: int = 0) -> list[int]:
    return [image for batch in batches(loader, epoch) for image in batch]


@pytest.mark.parametrize(("count", "batch_size", "steps_per_execution"), SIZES)
def test_every_image_comes_exactly_once_per_epoch(count: int, batch_size: int, steps_per_execution: int) -> None:
    indices = torch.arange(count) * 3 + 1  # not simply 0..n-1: a loader must hand out what it was given
    loader = BlockLoader(indices, batch_size, steps_per_execution, seed=0)
    for epoch in range(3):
        assert sorted(images(loader, epoch)) == indices.tolist()


@pytest.mark.parametrize(("count", "batch_size", "steps_per_execution"), SIZES)
def test_all_batches_are_full_but_the_last_and_all_blocks_but_the_last(
    count: int, batch_size: int, steps_per_execution: int
) -> None:
    loader = BlockLoader(torch.arange(count), batch_size, steps_per_execution, seed=0)
    sizes = [len(batch) for batch in batches(loader)]
    blocks = [len(plan.batches) for plan in loader]
    assert sizes == [batch_size] * (count // batch_size) + [count % batch_size] * (count % batch_size > 0)
    steps = len(sizes)
    assert blocks == [steps_per_execution] * (steps // steps_per_execution) + [steps % steps_per_execution] * (
        steps % steps_per_execution > 0
    )
    assert (len(loader), loader.steps) == (len(blocks), steps)
    assert not any(plan.test for plan in loader)


@pytest.mark.parametrize("steps_per_execution", [2, 3, 7, 11, 50])
def test_the_order_does_not_depend_on_steps_per_execution(steps_per_execution: int) -> None:
    one = BlockLoader(torch.arange(101), 10, 1, seed=5)
    other = BlockLoader(torch.arange(101), 10, steps_per_execution, seed=5)
    assert [batches(one, epoch) for epoch in range(3)] == [batches(other, epoch) for epoch in range(3)]


def test_every_epoch_and_every_seed_has_an_order_of_its_own() -> None:
    orders = {
        tuple(images(BlockLoader(torch.arange(50), 10, 2, seed), epoch)) for seed in range(4) for epoch in range(4)
    }
    assert len(orders) == 16
    assert tuple(range(50)) not in orders


def test_the_order_is_a_function_of_seed_and_epoch_whatever_came_before() -> None:
    seasoned = BlockLoader(torch.arange(50), 10, 2, seed=1)
    for epoch in range(3):
        images(seasoned, epoch)
    torch.manual_seed(99)
    next(iter(seasoned))  # an epoch broken off
    fresh = BlockLoader(torch.arange(50), 10, 2, seed=1)
    assert images(seasoned, 3) == images(fresh, 3)
    assert images(fresh, 3) == images(fresh, 3)


def test_drawing_an_order_leaves_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    images(BlockLoader(torch.arange(50), 10, 2, seed=1))
    assert torch.equal(torch.get_rng_state(), before)


def test_seeds_differ_wherever_a_part_differs() -> None:
    seeds = {random_seed(seed, epoch, rank) for seed in range(10) for epoch in range(10) for rank in range(3)}
    assert len(seeds) == 300
    assert random_seed(2**32 - 1, 3) == random_seed(2**32 - 1, 3)


@pytest.mark.parametrize("world_size", [1, 2, 3, 4])
@pytest.mark.parametrize("count", [12, 13, 101])
def test_the_shares_of_all_ranks_cover_every_image_in_equally_many_steps(count: int, world_size: int) -> None:
    loaders = [BlockLoader(torch.arange(count), 5, 2, 0, rank, world_size) for rank in range(world_size)]
    for epoch in range(2):
        shares = [images(loader, epoch) for loader in loaders]
        assert {image for share in shares for image in share} == set(range(count))
        assert 0 <= sum(map(len, shares)) - count < world_size
        assert len({len(share) for share in shares}) == 1
        assert len({len(batches(loader, epoch)) for loader in loaders}) == 1
        assert all(len(batches(loader, epoch)) == loader.steps for loader in loaders)
        assert all(len(set(share)) == len(share) for share in shares)


@pytest.mark.parametrize("world_size", [1, 2, 3])
@pytest.mark.parametrize("count", [1, 7, EVAL_BATCH, 2 * EVAL_BATCH + 1])
def test_evaluation_covers_every_image_exactly_once_over_all_ranks(count: int, world_size: int) -> None:
    indices = torch.arange(count) + 4
    loaders = [EvalLoader(indices, True, rank, world_size) for rank in range(world_size)]
    seen = [image for loader in loaders for plan in loader for batch in plan.batches for image in batch.tolist()]
    assert sorted(seen) == indices.tolist()
    assert all(len(list(loader)) == len(loader) for loader in loaders)


@pytest.mark.parametrize("test", [False, True])
def test_evaluation_says_whether_the_images_are_the_test_files(test: bool) -> None:
    assert [plan.test for plan in EvalLoader(torch.arange(EVAL_BATCH + 1), test)] == [test, test]


def test_evaluation_keeps_the_order_given() -> None:
    indices = torch.tensor([5, 2, 9, 0])
    assert [batch.tolist() for plan in EvalLoader(indices, False) for batch in plan.batches] == [[5, 2, 9, 0]]


class Recorder(pl.LightningModule):
    """Notes the batches that reach it, by epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.seen: list[list[list[int]]] = [[], [], []]

    def training_step(self, batch: tuple[bool, tuple[Tensor, ...]]) -> None:
        self.seen[self.current_epoch].extend(part.tolist() for part in batch[1])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


@pytest.mark.filterwarnings("ignore:.*`train_dataloader` does not have many workers")
def test_lightning_tells_the_loader_which_epoch_it_is() -> None:
    recorder = Recorder()
    trainer = pl.Trainer(
        max_epochs=3,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(recorder, BlockLoader(torch.arange(23), 4, 2, seed=8))
    alone = BlockLoader(torch.arange(23), 4, 2, seed=8)
    assert recorder.seen == [batches(alone, epoch) for epoch in range(3)]


@pytest.mark.parametrize(("count", "sizes"), [(129, [64, 65]), (65, [65]), (66, [64, 2]), (128, [64, 64]), (2, [2])])
def test_a_last_mini_batch_that_is_too_small_joins_the_one_before(count: int, sizes: list[int]) -> None:
    loader = BlockLoader(torch.arange(count), 64, 50, seed=0, smallest=2)
    assert [len(batch) for batch in batches(loader)] == sizes
    assert loader.steps == len(sizes)
    assert sorted(images(loader)) == list(range(count))


def test_fewer_images_than_the_smallest_mini_batch_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 2 images, but got 1"):
        BlockLoader(torch.arange(1), 64, 50, seed=0, smallest=2)
