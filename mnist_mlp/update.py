"""An optimiser's update rule as a function of tensors, so that one code runs eagerly, compiled and captured."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import SGD, Optimizer
from torch.optim.adam import adam
from torch.optim.sgd import sgd


class Update:
    """torch.optim's own rule of an SGD, Adam or AdamW with one parameter group, without its bookkeeping per step.

    The state stays the optimiser's, under torch's own names, and so gets into checkpoints; where there is none yet it
    is made here, as zeros.
    """

    def __init__(self, optimizer: Optimizer) -> None:
        (group,) = optimizer.param_groups
        self.parameters: list[Tensor] = group["params"]
        make = _sgd if isinstance(optimizer, SGD) else _adam
        states: list[dict[str, Tensor]] = [optimizer.state[weights] for weights in self.parameters]
        self._rule = make(group, self.parameters, states)

    def __call__(self, gradients: Sequence[Tensor], lr: Tensor) -> None:
        """Change the parameters in place. gradients: in the order of `parameters`; lr: () on their device."""
        compiling = torch.compiler.is_compiling()  # the fused kernels are closed to it; it fuses the plain form itself
        with torch.no_grad():
            self._rule(list(gradients), lr=lr, foreach=compiling, fused=not compiling)


def _sgd(group: dict[str, Any], parameters: list[Tensor], states: list[dict[str, Tensor]]) -> Callable[..., None]:
    options = {name: group[name] for name in ("weight_decay", "momentum", "dampening", "nesterov", "maximize")}
    buffers: list[Tensor | None] = [None] * len(parameters)
    if group["momentum"]:
        buffers = [_zeros(state, "momentum_buffer", weights) for state, weights in zip(states, parameters, strict=True)]

    def rule(gradients: list[Tensor], **how: Any) -> None:
        sgd(parameters, gradients, buffers, has_sparse_grad=False, **options, **how)

    return rule


def _adam(group: dict[str, Any], parameters: list[Tensor], states: list[dict[str, Tensor]]) -> Callable[..., None]:
    names = ("weight_decay", "decoupled_weight_decay", "eps", "amsgrad", "maximize")
    options = {name: group[name] for name in names}
    beta1, beta2 = group["betas"]
    pairs = list(zip(states, parameters, strict=True))
    means, squares = ([_zeros(state, name, weights) for state, weights in pairs] for name in ("exp_avg", "exp_avg_sq"))
    steps = [state.setdefault("step", torch.zeros((), device=weights.device)) for state, weights in pairs]

    def rule(gradients: list[Tensor], lr: Tensor, foreach: bool, fused: bool) -> None:
        # float64 as in the fused kernel: 1 - 0.999 ** step has four digits in float32
        counted, lr = (steps, lr) if fused else ([step.double() for step in steps], lr.double())
        adam(
            parameters, gradients, means, squares, [], counted, lr=lr, foreach=foreach, fused=fused,
            capturable=True, beta1=beta1, beta2=beta2, **options,
        )  # fmt: skip
        if not fused:
            torch._foreach_add_(steps, 1.0)

    return rule


def _zeros(state: dict[str, Tensor], name: str, like: Tensor) -> Tensor:
    return state.setdefault(name, torch.zeros_like(like))
