import copy

import numpy as np
import torch
from scipy.special import log_softmax, softmax
from small_steps import IMAGES, LABELS, classifier, digit_classifier
from torch import nn
from torch.nn.functional import cross_entropy

from mnist_mlp.training.virtual_adversarial import XI, virtual_adversarial_loss


def test_the_loss_of_a_linear_network_equals_an_explicit_computation() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(784, 10)).double()
    images = IMAGES[:5].double()
    torch.manual_seed(3)
    probe = torch.randn_like(images).flatten(1).numpy()
    torch.manual_seed(3)
    loss = virtual_adversarial_loss(lambda values: net(values / 255), images, net(images / 255), radius=1.5)

    weights, bias = net[1].weight.detach().numpy(), net[1].bias.detach().numpy()
    pixels = images.flatten(1).numpy() / 255

    def scores(shift: np.ndarray) -> np.ndarray:
        return (pixels + shift) @ weights.T + bias

    def unit(shift: np.ndarray) -> np.ndarray:
        return shift / np.linalg.norm(shift, axis=1, keepdims=True)

    clean = softmax(scores(np.zeros_like(pixels)), 1)
    # the gradient of the divergence with respect to the logits is the difference of the probabilities
    worst = unit((softmax(scores(XI * unit(probe)), 1) - clean) @ weights)
    perturbed = log_softmax(scores(1.5 * worst), 1)
    np.testing.assert_allclose(loss.item(), (clean * (np.log(clean) - perturbed)).sum(1).mean(), rtol=1e-4)


def test_the_adversarial_direction_is_worse_than_a_random_one() -> None:
    torch.manual_seed(0)
    model = digit_classifier(**{"model.hidden_units": [64]}).train()
    images = IMAGES[:20].float()
    logits = model(images)
    random = torch.randn_like(images)
    random *= 255 * 1.5 / random.flatten(1).norm(dim=1)[:, None, None]
    perturbed = model(images + random).log_softmax(1)
    random_loss = nn.functional.kl_div(perturbed, logits.log_softmax(1), reduction="batchmean", log_target=True)
    assert virtual_adversarial_loss(model, images, logits, 1.5) > 20 * random_loss


def test_running_statistics_use_clean_images_only() -> None:
    model = digit_classifier(**{"model.batch_norm": True}).train()
    images = IMAGES[:20].float()
    logits = model(images)
    before = copy.deepcopy(model.state_dict())
    virtual_adversarial_loss(model, images, logits, 2.0).backward()
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)
    model(images)
    assert not torch.equal(model.state_dict()["mlp.layers.1.running_mean"], before["mlp.layers.1.running_mean"])


def test_the_predictions_on_clean_images_are_detached() -> None:
    model = digit_classifier().train()
    images = IMAGES[:5].float()
    logits = model(images).detach().requires_grad_()
    virtual_adversarial_loss(model, images, logits, 2.0).backward()
    assert logits.grad is None
    assert all(weights.grad is not None for weights in model.parameters())


def test_the_loss_is_zero_if_predictions_are_constant() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
    nn.init.zeros_(net[1].weight)
    images = IMAGES[:5].float()
    loss = virtual_adversarial_loss(net, images, net(images), 2.0)
    loss.backward()
    assert loss == 0
    assert net[1].weight.grad.abs().max() < 1e-5


def test_a_step_adds_the_virtual_adversarial_loss() -> None:
    model, step, _ = classifier(**{"optim.vat": 2.0})
    batch = torch.arange(20)
    images = IMAGES[batch]
    logits = model(images)
    torch.manual_seed(5)
    expected = cross_entropy(logits, LABELS[batch]) + virtual_adversarial_loss(model, images.float(), logits, 2.0)
    torch.manual_seed(5)
    loss, _ = step(IMAGES, LABELS, batch, torch.tensor(0.1))
    torch.testing.assert_close(loss, expected.detach().to(loss.dtype))
