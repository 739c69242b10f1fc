import copy

import numpy as np
import torch
from scipy.special import log_softmax, softmax
from small_steps import IMAGES, LABELS, classifier, digit_classifier
from torch import nn
from torch.nn.functional import cross_entropy

from mnist_mlp.training.virtual_adversarial import XI, virtual_adversarial_loss


def test_of_a_linear_net_it_is_what_hand_computation_gives() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(784, 10)).double()
    images = IMAGES[:5].double()
    torch.manual_seed(3)
    probe = torch.randn_like(images).flatten(1).numpy()
    torch.manual_seed(3)
    loss = virtual_adversarial_loss(lambda values: net(values / 255), images, net(images / 255), radius=1.5)

    weights, bias = net[1].weight.detach().numpy(), net[1].bias.detach().numpy()
    pixels = images.flatten(1).numpy() / 255

    def scores(moves: np.ndarray) -> np.ndarray:
        return (pixels + moves) @ weights.T + bias

    def unit(moves: np.ndarray) -> np.ndarray:
        return moves / np.linalg.norm(moves, axis=1, keepdims=True)

    given = softmax(scores(np.zeros_like(pixels)), 1)
    # the gradient of the divergence in the logits of a softmax is the difference of the probabilities
    worst = unit((softmax(scores(XI * unit(probe)), 1) - given) @ weights)
    moved = log_softmax(scores(1.5 * worst), 1)
    np.testing.assert_allclose(loss.item(), (given * (np.log(given) - moved)).sum(1).mean(), rtol=1e-4)


def test_the_direction_it_finds_is_worse_than_a_random_one() -> None:
    torch.manual_seed(0)
    model = digit_classifier(**{"model.hidden_units": [64]}).train()
    images = IMAGES[:20].float()
    logits = model(images)
    random = torch.randn_like(images)
    random *= 255 * 1.5 / random.flatten(1).norm(dim=1)[:, None, None]
    moved = model(images + random).log_softmax(1)
    elsewhere = nn.functional.kl_div(moved, logits.log_softmax(1), reduction="batchmean", log_target=True)
    assert virtual_adversarial_loss(model, images, logits, 1.5) > 20 * elsewhere


def test_what_batch_norm_keeps_is_of_the_images_alone() -> None:
    model = digit_classifier(**{"model.batch_norm": True}).train()
    images = IMAGES[:20].float()
    logits = model(images)
    kept = copy.deepcopy(model.state_dict())
    virtual_adversarial_loss(model, images, logits, 2.0).backward()
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, kept[name], rtol=0, atol=0)
    model(images)
    assert not torch.equal(model.state_dict()["mlp.layers.1.running_mean"], kept["mlp.layers.1.running_mean"])


def test_the_predictions_on_the_images_are_taken_as_given() -> None:
    model = digit_classifier().train()
    images = IMAGES[:5].float()
    logits = model(images).detach().requires_grad_()
    virtual_adversarial_loss(model, images, logits, 2.0).backward()
    assert logits.grad is None
    assert all(weights.grad is not None for weights in model.parameters())


def test_where_nothing_moves_the_predictions_it_is_zero() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
    nn.init.zeros_(net[1].weight)
    images = IMAGES[:5].float()
    loss = virtual_adversarial_loss(net, images, net(images), 2.0)
    loss.backward()
    assert loss == 0
    assert net[1].weight.grad.abs().max() < 1e-5


def test_a_step_adds_it_to_the_loss_on_the_images() -> None:
    model, step, _ = classifier(**{"optim.vat": 2.0})
    batch = torch.arange(20)
    images = IMAGES[batch]
    logits = model(images)
    torch.manual_seed(5)
    expected = cross_entropy(logits, LABELS[batch]) + virtual_adversarial_loss(model, images.float(), logits, 2.0)
    torch.manual_seed(5)
    loss, _ = step(IMAGES, LABELS, batch, torch.tensor(0.1))
    torch.testing.assert_close(loss, expected.detach().to(loss.dtype))
