"""Optimisers, and their update rules as functions of tensors: one code for eager, compiled and captured steps."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn, optim
from torch.optim.adam import adam
from torch.optim.sgd import sgd

from mnist_mlp.config import OptimConfig

UpdateRule = Callable[..., None]
"""(gradients, lr, foreach, fused) -> None: changes the parameters in place."""


def make_optimizer(options: OptimConfig, parameters: Iterable[nn.Parameter], fused: bool = True) -> optim.Optimizer:
    """Build the torch optimiser of these options.

    Args:
        options: Its name and constants.
        parameters: What it updates.
        fused: Update all parameters by one kernel, which keeps Adam's state on their device.
    """
    shared: dict[str, Any] = {"lr": options.lr, "weight_decay": options.weight_decay}
    betas = (options.momentum, 0.999)
    match options.name.value:
        case "sgd":
            return optim.SGD(parameters, momentum=options.momentum, fused=fused, **shared)
        case "adam":
            return optim.Adam(parameters, betas=betas, fused=fused, **shared)
        case "adamw":
            return optim.AdamW(parameters, betas=betas, fused=fused, **shared)
        case "nadam":
            return NAdam(parameters, betas=betas, **shared)
        case name:
            raise NotImplementedError(name)


class FunctionalOptimizer:
    """The update rule of a torch optimiser with one parameter group, without its bookkeeping per step.

    The state stays in the optimiser, under torch's own names, and so gets into checkpoints; missing state is created
    here as zeros.
    """

    def __init__(self, optimizer: optim.Optimizer) -> None:
        (group,) = optimizer.param_groups
        self.parameters: list[Tensor] = group["params"]
        states: list[dict[str, Tensor]] = [optimizer.state[weights] for weights in self.parameters]
        self._rule = RULES[type(optimizer)](group, self.parameters, states)
        constants = {name: value for name, value in group.items() if name not in ("params", "lr", "initial_lr")}
        self.description = f"{type(optimizer).__name__} {constants}"
        """The rule and its settings but the learning rate, in words."""

    def __call__(self, gradients: Sequence[Tensor], lr: Tensor) -> None:
        """Change the parameters in place. gradients: in the order of `parameters`; lr: () on their device."""
        compiling = torch.compiler.is_compiling()  # inductor fuses the plain form; it cannot see into fused kernels
        with torch.no_grad():
            self._rule(list(gradients), lr=lr, foreach=compiling, fused=not compiling)


def _sgd(group: dict[str, Any], parameters: list[Tensor], states: list[dict[str, Tensor]]) -> UpdateRule:
    options = {name: group[name] for name in ("weight_decay", "momentum", "dampening", "nesterov", "maximize")}
    buffers: list[Tensor | None] = [None] * len(parameters)
    if group["momentum"]:
        buffers = [_zeros(state, "momentum_buffer", weights) for state, weights in zip(states, parameters, strict=True)]

    def rule(gradients: list[Tensor], **how: Any) -> None:
        sgd(parameters, gradients, buffers, has_sparse_grad=False, **options, **how)

    return rule


def _adam(group: dict[str, Any], parameters: list[Tensor], states: list[dict[str, Tensor]]) -> UpdateRule:
    names = ("weight_decay", "decoupled_weight_decay", "eps", "amsgrad", "maximize")
    options = {name: group[name] for name in names}
    beta1, beta2 = group["betas"]
    pairs = list(zip(states, parameters, strict=True))
    means, squares = ([_zeros(state, name, weights) for state, weights in pairs] for name in ("exp_avg", "exp_avg_sq"))
    steps = [_step_count(state, weights) for state, weights in pairs]

    def rule(gradients: list[Tensor], lr: Tensor, foreach: bool, fused: bool) -> None:
        # float64 as in the fused kernel: 1 - 0.999 ** step has four digits in float32
        counted, lr = (steps, lr) if fused else ([step.double() for step in steps], lr.double())
        adam(
            parameters, gradients, means, squares, [], counted, lr=lr, foreach=foreach, fused=fused,
            capturable=True, beta1=beta1, beta2=beta2, **options,
        )  # fmt: skip
        if not fused:
            for step in steps:
                step += 1

    return rule


def _nadam(group: dict[str, Any], parameters: list[Tensor], states: list[dict[str, Tensor]]) -> UpdateRule:
    """Adam with Nesterov momentum (Dozat 2016), as torch.optim.NAdam has it; that one needs Python numbers on a CPU."""
    (beta1, beta2), pairs = group["betas"], list(zip(states, parameters, strict=True))
    means, squares = ([_zeros(state, name, weights) for state, weights in pairs] for name in ("exp_avg", "exp_avg_sq"))
    steps = [_step_count(state, weights) for state, weights in pairs]
    products = [state.setdefault("mu_product", torch.ones((), device=weights.device)) for state, weights in pairs]

    def rule(gradients: list[Tensor], lr: Tensor, **how: Any) -> None:
        tensors = zip(parameters, gradients, means, squares, steps, products, strict=True)
        for weights, gradient, mean, square, step, product in tensors:
            step += 1
            count = step.double()  # 1 - 0.999 ** step has four digits in float32
            gradient = gradient + group["weight_decay"] * weights
            mu, mu_next = (beta1 * (1 - 0.5 * 0.96 ** (n * group["momentum_decay"])) for n in (count, count + 1))
            product *= mu
            mean.lerp_(gradient, 1 - beta1)
            square.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
            root = (square / (1 - beta2**count)).sqrt() + group["eps"]
            now, ahead = lr * (1 - mu) / (1 - product), lr * mu_next / (1 - product * mu_next)
            weights -= ((now * gradient + ahead * mean) / root).to(weights.dtype)

    return rule


class NAdam(optim.NAdam):
    """torch's NAdam with the update rule of `FunctionalOptimizer`, so that both make the same steps."""

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update the parameters by their gradients; returns the closure's loss."""
        with torch.enable_grad():
            loss = closure() if closure is not None else None
        rule = FunctionalOptimizer(self)
        gradients = [weights.grad for weights in rule.parameters if weights.grad is not None]
        rule(gradients, torch.tensor(self.param_groups[0]["lr"], device=gradients[0].device))
        return loss


RULES: dict[type[optim.Optimizer], Callable[..., UpdateRule]] = {
    optim.SGD: _sgd,
    optim.Adam: _adam,
    optim.AdamW: _adam,
    NAdam: _nadam,
}


def _zeros(state: dict[str, Tensor], name: str, like: Tensor) -> Tensor:
    return state.setdefault(name, torch.zeros_like(like))


def _step_count(state: dict[str, Tensor], weights: Tensor) -> Tensor:
    return state.setdefault("step", torch.zeros((), device=weights.device))
