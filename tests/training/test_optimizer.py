import copy

import pytest
import torch
from torch import Tensor, nn

from mnist_mlp.config import OptimConfig, Optimizer
from mnist_mlp.training.optimizer import RULES, FunctionalOptimizer, make_optimizer

OPTIMIZERS = [(choice, momentum) for choice in Optimizer for momentum in (0.0, 0.8)]


def made(choice: Optimizer, momentum: float, net: nn.Module) -> torch.optim.Optimizer:
    return make_optimizer(OptimConfig(choice, lr=0.01, momentum=momentum, weight_decay=0.1), net.parameters())


def loss(net: nn.Module, number: int) -> Tensor:
    inputs = torch.randn(6, 5, generator=torch.Generator().manual_seed(number))
    squares: Tensor = net(inputs).square().mean()
    return squares


def plain_step(net: nn.Module, optimizer: torch.optim.Optimizer, number: int) -> None:
    optimizer.zero_grad()
    loss(net, number).backward()
    optimizer.step()


def our_step(net: nn.Module, update: FunctionalOptimizer, number: int, lr: float = 0.01) -> None:
    update(torch.autograd.grad(loss(net, number), update.parameters), torch.tensor(lr))


@pytest.mark.parametrize(("choice", "momentum"), OPTIMIZERS)
def test_it_moves_the_weights_as_the_optimizer_itself_does(choice: Optimizer, momentum: float) -> None:
    ours = nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3))
    theirs = copy.deepcopy(ours)
    update, optimizer = FunctionalOptimizer(made(choice, momentum, ours)), made(choice, momentum, theirs)
    for number in range(4):
        our_step(ours, update, number, lr=0.01 / (1 + number))
        optimizer.param_groups[0]["lr"] = 0.01 / (1 + number)
        plain_step(theirs, optimizer, number)
        for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
            torch.testing.assert_close(mine, other)


@pytest.mark.parametrize(("choice", "momentum"), OPTIMIZERS)
def test_its_state_is_the_optimizers_and_goes_on_from_one(choice: Optimizer, momentum: float) -> None:
    net = nn.Linear(5, 3)
    optimizer = made(choice, momentum, net)
    for number in range(2):
        plain_step(net, optimizer, number)
    ours = copy.deepcopy(net)
    continued = made(choice, momentum, ours)
    continued.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    update = FunctionalOptimizer(continued)
    plain_step(net, optimizer, 2)
    our_step(ours, update, 2)
    torch.testing.assert_close(ours.weight, net.weight)
    mine, other = continued.state_dict()["state"], optimizer.state_dict()["state"]
    for place in range(2):
        kept = {key: value for key, value in other.get(place, {}).items() if value is not None}
        assert mine.get(place, {}).keys() == kept.keys()
        for key, value in kept.items():
            torch.testing.assert_close(mine[place][key], value)


def test_every_optimizer_of_the_config_has_a_rule() -> None:
    made_types = {type(make_optimizer(OptimConfig(choice), nn.Linear(2, 2).parameters())) for choice in Optimizer}
    assert made_types == set(RULES)
