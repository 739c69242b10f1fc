import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mnist_mlp.training.optimizer import FunctionalOptimizer

OPTIMIZERS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "sgd": lambda parameters: torch.optim.SGD(parameters, lr=0.01),
    "sgd with momentum": lambda parameters: torch.optim.SGD(parameters, lr=0.01, momentum=0.8, weight_decay=0.1),
    "adam": lambda parameters: torch.optim.Adam(parameters, lr=0.01, betas=(0.8, 0.99), weight_decay=0.1, fused=True),
    "adamw": lambda parameters: torch.optim.AdamW(parameters, lr=0.01, weight_decay=0.1, fused=True),
}


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


@pytest.mark.parametrize("name", list(OPTIMIZERS))
def test_it_moves_the_weights_as_the_optimizer_itself_does(name: str) -> None:
    ours = nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3))
    theirs = copy.deepcopy(ours)
    update, optimizer = FunctionalOptimizer(OPTIMIZERS[name](ours.parameters())), OPTIMIZERS[name](theirs.parameters())
    for number in range(4):
        our_step(ours, update, number, lr=0.01 / (1 + number))
        optimizer.param_groups[0]["lr"] = 0.01 / (1 + number)
        plain_step(theirs, optimizer, number)
        for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
            torch.testing.assert_close(mine, other)


@pytest.mark.parametrize("name", list(OPTIMIZERS))
def test_its_state_is_the_optimizers_and_goes_on_from_one(name: str) -> None:
    net = nn.Linear(5, 3)
    optimizer = OPTIMIZERS[name](net.parameters())
    for number in range(2):
        plain_step(net, optimizer, number)
    ours = copy.deepcopy(net)
    continued = OPTIMIZERS[name](ours.parameters())
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
