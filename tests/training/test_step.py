import copy

import torch
from small_steps import digit_classifier
from torch.nn.functional import cross_entropy

from mnist_mlp.training.optimizer import FunctionalOptimizer
from mnist_mlp.training.step import Objective, TrainingStep


def test_a_step_equals_a_plain_training_step() -> None:
    torch.manual_seed(0)
    model = digit_classifier(**{"model.hidden_layers": 1, "model.hidden_units": [8], "optim.momentum": 0.8})
    plain = copy.deepcopy(model)
    optimizer = torch.optim.SGD(plain.parameters(), lr=0.01, momentum=0.8)
    functional = FunctionalOptimizer(model.configure_optimizers()["optimizer"])
    step = TrainingStep(Objective(model, {}, label_smoothing=0.1), functional)
    images, labels = torch.randint(0, 256, (9, 28, 28), dtype=torch.uint8), torch.arange(9)
    for batch in torch.tensor([[1, 5, 2], [8, 0, 3], [1, 1, 7]]):
        loss, logits = step(images, labels, batch, torch.tensor(0.01))
        expected = plain(images[batch])
        optimizer.zero_grad()
        mean = cross_entropy(expected, labels[batch], label_smoothing=0.1)
        mean.backward()
        optimizer.step()
        torch.testing.assert_close(logits, expected.detach())
        torch.testing.assert_close(loss, mean.detach())
        assert not loss.requires_grad
        assert not logits.requires_grad
    for weights, expected_weights in zip(model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(weights, expected_weights)
