"""Adversarial losses of MinMax+EM on small cases."""

import math

import pytest
import torch
from torch import nn

from skdeepgmm._torch_backend.clusterers import networks
from skdeepgmm._torch_backend.clusterers.minmax_em.losses import (
    ADVERSARIES,
    gradient_penalty,
)
from skdeepgmm._torch_backend.rng import new_generator

REAL, FAKE = torch.tensor([2.0, 0.0]), torch.tensor([-3.0, 0.5])


def log_d(a):
    return math.log(1.0 / (1.0 + math.exp(-a)))


@pytest.mark.parametrize(
    "name, discriminator, made",
    [
        ("hinge", (0 + 1) / 2 + (0 + 1.5) / 2, 1.25),
        (
            "binary",
            -(log_d(2) + log_d(0)) / 2 - (log_d(3) + log_d(-0.5)) / 2,
            -(log_d(-3) + log_d(0.5)) / 2,
        ),
        ("wgan-gp", -1.0 - 1.25, 1.25),
        (
            "printed",
            -(log_d(2) + log_d(0)) / 2 + (log_d(-3) + log_d(0.5)) / 2,
            -(log_d(-3) + log_d(0.5)) / 2,
        ),
    ],
)
def test_adversarial_losses_by_hand(name, discriminator, made):
    adversary = ADVERSARIES[name]
    assert adversary.discriminator(REAL, FAKE).item() == pytest.approx(discriminator)
    assert adversary.generator(FAKE).item() == pytest.approx(made)


def test_unbounded_losses_have_a_penalty_and_the_others_spectral_norm():
    for name, adversary in ADVERSARIES.items():
        assert bool(adversary.penalty) == (name in ("wgan-gp", "printed"))
        assert adversary.spectral != bool(adversary.penalty)


def test_gradient_penalty_of_a_linear_discriminator():
    linear = networks.build(lambda: nn.Linear(3, 1), new_generator(0))
    with torch.no_grad():
        linear.weight.copy_(torch.tensor([[2.0, -1.0, 2.0]]))
    points = (torch.rand(n, 3, generator=new_generator(n)) for n in (9, 5))
    penalty = gradient_penalty(linear, *points, new_generator(0))
    assert penalty.item() == pytest.approx((3.0 - 1.0) ** 2, rel=1e-5)
