"""Optimizers, and their update rules as functions of tensors for eager, compiled and captured steps."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn, optim
from torch.optim.adam import adam
from torch.optim.rmsprop import rmsprop
from torch.optim.sgd import sgd

from mnist_mlp.config import OptimConfig

UpdateRule = Callable[..., None]
"""Called as rule(gradients, lr=, foreach=, fused=); updates the parameters in place."""


def make_optimizer(options: OptimConfig, parameters: Iterable[nn.Parameter], fused: bool = True) -> optim.Optimizer:
    """Build the optimizer; `fused` updates all parameters in one kernel and keeps Adam's state on their device."""
    shared: dict[str, Any] = {"lr": options.lr, "weight_decay": options.weight_decay}
    if options.name.value == "sgd":
        return optim.SGD(parameters, momentum=options.momentum, nesterov=options.nesterov, fused=fused, **shared)
    if options.name.value == "rmsprop":
        parameters = list(parameters)
        return optim.RMSprop(parameters, momentum=options.momentum, capturable=parameters[0].is_cuda, **shared)
    shared["betas"] = (options.momentum, 0.999)
    if options.name.value == "nadam":
        return NAdam(parameters, **shared)
    adam_type = optim.AdamW if options.name.value == "adamw" else optim.Adam
    return adam_type(parameters, fused=fused, **shared)


class FunctionalOptimizer:
    """The update rule of a torch optimizer with one parameter group, without torch's overhead per step.

    The state stays in the optimizer under torch's names, for checkpoints; missing state is initialized here.
    max_norm: clips the gradients as `torch.nn.utils.clip_grad_norm_`, which takes only those in parameters; 0: off.
    """

    def __init__(self, optimizer: optim.Optimizer, max_norm: float = 0.0) -> None:
        (group,) = optimizer.param_groups
        self.parameters: list[Tensor] = group["params"]
        self._max_norm = max_norm
        states: list[dict[str, Tensor]] = [optimizer.state[parameter] for parameter in self.parameters]
        self._rule = RULES[type(optimizer)](group, self.parameters, states)
        constants = {name: value for name, value in group.items() if name not in ("params", "lr", "initial_lr")}
        self.description = f"{type(optimizer).__name__} {constants} {max_norm}"
        """The optimizer's class and its settings except the learning rate."""

    def __call__(self, gradients: Sequence[Tensor], lr: Tensor) -> None:
        """Update the parameters in place by gradients in their order and a learning rate () on their device."""
        is_compiling = torch.compiler.is_compiling()  # inductor can fuse foreach operations, but not fused kernels
        with torch.no_grad():
            if self._max_norm:
                factor = torch.clamp(self._max_norm / (nn.utils.get_total_norm(gradients) + 1e-6), max=1.0)
                gradients = [gradient * factor for gradient in gradients]
            self._rule(list(gradients), lr=lr, foreach=is_compiling, fused=not is_compiling)


def _sgd(group: dict[str, Any], parameters: list[Tensor], states: list[dict[str, Tensor]]) -> UpdateRule:
    options = {name: group[name] for name in ("weight_decay", "momentum", "dampening", "nesterov", "maximize")}
    buffers: list[Any] = [None] * len(parameters)
    if group["momentum"]:
        buffers = _zeros("momentum_buffer", states, parameters)

    def rule(gradients: list[Tensor], **flags: Any) -> None:
        sgd(parameters, gradients, buffers, has_sparse_grad=False, **options, **flags)

    return rule


def _adam(group: dict[str, Any], parameters: list[Tensor], states: list[dict[str, Tensor]]) -> UpdateRule:
    names = ("weight_decay", "decoupled_weight_decay", "eps", "amsgrad", "maximize")
    options = {name: group[name] for name in names}
    (beta1, beta2), steps = group["betas"], _step_counts(states, parameters)
    means, squares = (_zeros(name, states, parameters) for name in ("exp_avg", "exp_avg_sq"))

    def rule(gradients: list[Tensor], lr: Tensor, foreach: bool, fused: bool) -> None:
        # float64 as in the fused kernel: 1 - 0.999 ** step has four correct digits in float32
        step_counts, lr = (steps, lr) if fused else ([step.double() for step in steps], lr.double())
        adam(
            parameters, gradients, means, squares, [], step_counts, lr=lr, foreach=foreach, fused=fused,
            capturable=True, beta1=beta1, beta2=beta2, **options,
        )  # fmt: skip
        if not fused:
            for step in steps:
                step += 1

    return rule


def _rmsprop(group: dict[str, Any], parameters: list[Tensor], states: list[dict[str, Tensor]]) -> UpdateRule:
    names = ("weight_decay", "momentum", "alpha", "eps", "centered", "maximize")
    options = {name: group[name] for name in names}
    steps, squares = _step_counts(states, parameters), _zeros("square_avg", states, parameters)
    buffers = _zeros("momentum_buffer", states, parameters) if group["momentum"] else []

    def rule(gradients: list[Tensor], lr: Tensor, foreach: bool, fused: bool) -> None:
        flags = dict.fromkeys(("foreach", "capturable"), foreach or group["capturable"])  # graphs cannot read `lr`
        rmsprop(parameters, gradients, squares, [], buffers, steps, lr=lr, **flags, **options)

    return rule


def _nadam(group: dict[str, Any], parameters: list[Tensor], states: list[dict[str, Tensor]]) -> UpdateRule:
    """Implement torch.optim.NAdam (Dozat 2016) on tensors; on a CPU, torch's own requires Python numbers."""
    (beta1, beta2), pairs = group["betas"], list(zip(states, parameters, strict=True))
    means, squares = (_zeros(name, states, parameters) for name in ("exp_avg", "exp_avg_sq"))
    steps = _step_counts(states, parameters)
    products = [state.setdefault("mu_product", torch.ones((), device=weights.device)) for state, weights in pairs]

    def rule(gradients: list[Tensor], lr: Tensor, **flags: Any) -> None:
        tensors = zip(parameters, gradients, means, squares, steps, products, strict=True)
        for weights, gradient, mean, square, step, product in tensors:
            step += 1
            count = step.double()  # in float32 1 - 0.999 ** step would have four correct digits
            gradient = gradient + group["weight_decay"] * weights
            mu, mu_next = (beta1 * (1 - 0.5 * 0.96 ** (n * group["momentum_decay"])) for n in (count, count + 1))
            product *= mu
            mean.lerp_(gradient, 1 - beta1)
            square.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
            denominator = (square / (1 - beta2**count)).sqrt() + group["eps"]
            gradient_lr, mean_lr = lr * (1 - mu) / (1 - product), lr * mu_next / (1 - product * mu_next)
            weights -= ((gradient_lr * gradient + mean_lr * mean) / denominator).to(weights.dtype)

    return rule


class NAdam(optim.NAdam):
    """torch's NAdam with the update rule of `FunctionalOptimizer`: both make identical steps."""

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update the parameters by their gradients; return the closure's loss."""
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
    optim.RMSprop: _rmsprop,
}


def _zeros(name: str, states: list[dict[str, Tensor]], like: list[Tensor]) -> list[Tensor]:
    pairs = zip(states, like, strict=True)
    return [state.setdefault(name, torch.zeros_like(weights)) for state, weights in pairs]


def _step_counts(states: list[dict[str, Tensor]], parameters: list[Tensor]) -> list[Tensor]:
    return [state.setdefault("step", torch.zeros((), device=parameters[0].device)) for state in states]
