import copy

import pytest
import torch
from torch import Tensor, nn

from mnist_mlp.config import OptimConfig, Optimizer
from mnist_mlp.training.optimizer import RULES, FunctionalOptimizer, make_optimizer

OPTIMIZERS = [(choice, momentum) for choice in Optimizer for momentum in (0.0, 0.8)]


def build_optimizer(choice: Optimizer, momentum: float, net: nn.Module) -> torch.optim.Optimizer:
    return make_optimizer(OptimConfig(choice, lr=0.01, momentum=momentum, weight_decay=0.1), net.parameters())


def loss(net: nn.Module, number: int) -> Tensor:
    inputs = torch.randn(6, 5, generator=torch.Generator().manual_seed(number))
    squares: Tensor = net(inputs).square().mean()
    return squares


def plain_step(net: nn.Module, optimizer: torch.optim.Optimizer, number: int) -> None:
    optimizer.zero_grad()
    loss(net, number).backward()
    optimizer.step()


def functional_step(net: nn.Module, update: FunctionalOptimizer, number: int, lr: float = 0.01) -> None:
    update(torch.autograd.grad(loss(net, number), update.parameters), torch.tensor(lr))


@pytest.mark.parametrize(("choice", "momentum"), OPTIMIZERS)
def test_updates_equal_those_of_the_torch_optimizer(choice: Optimizer, momentum: float) -> None:
    net = nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3))
    reference = copy.deepcopy(net)
    update = FunctionalOptimizer(build_optimizer(choice, momentum, net))
    optimizer = build_optimizer(choice, momentum, reference)
    for number in range(4):
        functional_step(net, update, number, lr=0.01 / (1 + number))
        optimizer.param_groups[0]["lr"] = 0.01 / (1 + number)
        plain_step(reference, optimizer, number)
        for weights, expected in zip(net.parameters(), reference.parameters(), strict=True):
            torch.testing.assert_close(weights, expected)


@pytest.mark.parametrize(("choice", "momentum"), OPTIMIZERS)
def test_training_continues_from_the_state_of_a_torch_optimizer(choice: Optimizer, momentum: float) -> None:
    net = nn.Linear(5, 3)
    optimizer = build_optimizer(choice, momentum, net)
    for number in range(2):
        plain_step(net, optimizer, number)
    resumed_net = copy.deepcopy(net)
    continued = build_optimizer(choice, momentum, resumed_net)
    continued.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    update = FunctionalOptimizer(continued)
    plain_step(net, optimizer, 2)
    functional_step(resumed_net, update, 2)
    torch.testing.assert_close(resumed_net.weight, net.weight)
    states, expected_states = continued.state_dict()["state"], optimizer.state_dict()["state"]
    for index in range(2):
        expected = {key: value for key, value in expected_states.get(index, {}).items() if value is not None}
        assert states.get(index, {}).keys() == expected.keys()
        for key, value in expected.items():
            torch.testing.assert_close(states[index][key], value)


def test_every_optimizer_of_the_config_has_a_rule() -> None:
    types = {type(make_optimizer(OptimConfig(choice), nn.Linear(2, 2).parameters())) for choice in Optimizer}
    assert types == set(RULES)
