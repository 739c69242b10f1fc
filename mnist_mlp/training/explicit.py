"""Gradients of an MLP without autograd's graph: autograd's kernels in its order, so the same bits in less time.

In layers this small, recording and traversing the graph costs as much as a matrix product. tests/training/
test_explicit.py compares whole runs with autograd, and fails if a version of torch changes a kernel.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from mnist_mlp.model import ACTIVATIONS, MLP, GaussianNoise
from mnist_mlp.training.step import Objective

aten: Any = torch.ops.aten
Backward = Callable[[Tensor], tuple[Callable[[], Tensor], Sequence[Tensor]]]
"""From the gradient of a layer's outputs to a function for that of its inputs, and the gradients of its parameters."""
Forward = Callable[[Any, Tensor], tuple[Tensor, Backward]]
"""From a layer and its inputs (b, n) to its outputs (b, m) and its backward pass."""


def _linear(layer: nn.Linear, inputs: Tensor) -> tuple[Tensor, Backward]:
    def backward(gradient: Tensor) -> tuple[Callable[[], Tensor], Sequence[Tensor]]:
        return lambda: gradient.mm(layer.weight), (gradient.t().mm(inputs), gradient.sum(0))

    return torch.addmm(layer.bias, inputs, layer.weight.t()), backward


def _batch_norm(layer: Any, inputs: Tensor) -> tuple[Tensor, Backward]:
    if len(inputs) == 1:  # as nn.BatchNorm1d; the variance would be 0 / 0
        raise ValueError("Batch norm expects more than one image per mini-batch in training, but got 1")
    layer.num_batches_tracked += 1
    weight, averages, eps = layer.weight, (layer.running_mean, layer.running_var), layer.eps
    outputs, *saved = torch.native_batch_norm(inputs, weight, layer.bias, *averages, True, layer.momentum, eps)

    def backward(gradient: Tensor) -> tuple[Callable[[], Tensor], Sequence[Tensor]]:
        arguments = (gradient, inputs, weight, *averages, *saved, True, eps, [True] * 3)
        of_inputs, *of_parameters = aten.native_batch_norm_backward(*arguments)
        return lambda: of_inputs, of_parameters

    return outputs, backward


def _dropout(layer: nn.Dropout, inputs: Tensor) -> tuple[Tensor, Backward]:
    mask = torch.empty_like(inputs).bernoulli_(1 - layer.p).div_(1 - layer.p)
    return inputs * mask, lambda gradient: (lambda: gradient * mask, ())


def _noise(layer: GaussianNoise, inputs: Tensor) -> tuple[Tensor, Backward]:
    return layer(inputs), lambda gradient: (lambda: gradient, ())


def _activation(derivative: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Forward:
    """Return the passes of an activation. derivative: from output gradients, inputs and outputs to input gradients."""

    def forward(layer: nn.Module, inputs: Tensor) -> tuple[Tensor, Backward]:
        outputs = layer(inputs)
        return outputs, lambda gradient: (lambda: derivative(gradient, inputs, outputs), ())

    return forward


LAYERS: dict[type[nn.Module], Forward] = {
    nn.Linear: _linear,
    nn.BatchNorm1d: _batch_norm,
    nn.Dropout: _dropout,
    GaussianNoise: _noise,
    nn.ReLU: _activation(lambda gradient, x, y: aten.threshold_backward(gradient, y, 0)),
    nn.LeakyReLU: _activation(lambda gradient, x, y: aten.leaky_relu_backward(gradient, x, 0.01, False)),
    nn.GELU: _activation(lambda gradient, x, y: aten.gelu_backward(gradient, x)),
    nn.SiLU: _activation(lambda gradient, x, y: aten.silu_backward(gradient, x)),
    nn.ELU: _activation(lambda gradient, x, y: aten.elu_backward(gradient, 1, 1, 1, False, x)),
    nn.Mish: _activation(lambda gradient, x, y: aten.mish_backward(gradient, x)),
    nn.Tanh: _activation(lambda gradient, x, y: aten.tanh_backward(gradient, y)),
    nn.Sigmoid: _activation(lambda gradient, x, y: aten.sigmoid_backward(gradient, y)),
}
"""Every layer of `MLP`, with the constants that it has there."""


class ExplicitObjective(Objective):
    """An objective whose gradients are computed layer by layer; see `explicit_objective`."""

    model: Any  # a DigitClassifier with an MLP

    @torch.no_grad()
    def gradients(self, images: Tensor, labels: Tensor, parameters: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Return the mean loss (), the logits (b, classes) and the gradient of each parameter."""
        if torch.is_autocast_enabled("cpu"):
            with torch.enable_grad():
                return super().gradients(images, labels, parameters)
        images, targets = self.prepare(images, labels)
        outputs = self.model._normalized(images).flatten(1)
        passes: list[Backward] = []
        for layer in self.model.mlp.layers:
            outputs, backward = LAYERS[type(layer)](layer, outputs)
            passes.append(backward)
        loss, gradient = _loss(outputs, targets, self.label_smoothing)
        gradients: list[Tensor] = []
        for backward in reversed(passes):
            of_inputs, own = backward(gradient())
            gradients[:0], gradient = own, of_inputs
        return loss, outputs, *gradients


def explicit_objective(objective: Objective) -> Objective:
    """Return the objective with explicit gradients for an `MLP` that trains on a CPU, without hooks."""
    return ExplicitObjective(**vars(objective)) if is_plain_mlp(objective) else objective


def is_plain_mlp(objective: Objective) -> bool:
    """Return whether the gradients are those of an `MLP` that trains on a CPU, without hooks."""
    network = getattr(objective.model, "mlp", None)
    if objective.adversarial_radius or type(network) is not MLP:
        return False
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    weights = list(network.parameters())
    return (
        all(map(_is_standard, network.layers))
        and list(map(id, weights)) == [id(own) for layer in network.layers for own in layer.parameters()]  # none shared
        and all(module.training and not any(getattr(module, name) for name in hooks) for module in network.modules())
        and all(own.requires_grad and own.is_contiguous() and own.device.type == "cpu" for own in weights)
    )


def _is_standard(layer: Any) -> bool:
    """Return whether a layer has the constants and tensors of a new `MLP`'s, which callers may change."""
    if type(layer) in ACTIVATIONS.values():
        return type(layer) in LAYERS and repr(layer) == repr(type(layer)())
    tensors = [*layer._parameters.values(), *layer._buffers.values(), getattr(layer, "momentum", 0.1)]
    return type(layer) in LAYERS and all(tensor is not None for tensor in tensors) and getattr(layer, "p", 0) < 1


def _loss(logits: Tensor, targets: Tensor, label_smoothing: float) -> tuple[Tensor, Callable[[], Tensor]]:
    """Return the mean cross-entropy () and a function that computes its gradient (b, classes)."""
    if label_smoothing or targets.is_floating_point():
        with torch.enable_grad():
            leaf = logits.detach().requires_grad_()
            loss = cross_entropy(leaf, targets, label_smoothing=label_smoothing)
            (gradient,) = torch.autograd.grad(loss, leaf)
        return loss.detach(), lambda: gradient
    logs = logits.log_softmax(1)
    loss, weight = aten.nll_loss_forward(logs, targets, None, 1, -100)
    gradient = aten.nll_loss_backward(torch.ones_like(loss), logs, targets, None, 1, -100, weight)
    return loss, lambda: torch._log_softmax_backward_data(gradient, logs, 1, logs.dtype)
