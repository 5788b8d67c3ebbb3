"""Adversaries of MinMax+EM: what discriminator and generator minimise.

All losses take the discriminator's raw outputs a, one a sample, and are averaged over
samples; D = sigmoid(a). "printed" is the paper's term, -log D(x) + log D(G(y)) for the
discriminator: it has no lower bound, so that it comes with a gradient penalty.

References: Pande and Awate (2020), "Generative deep-neural-network mixture modeling
with semi-supervised MinMax+EM learning", ICPR. Miyato et al. (2018), "Spectral
normalization for generative adversarial networks". Gulrajani et al. (2017), "Improved
training of Wasserstein GANs".
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

#: Weight of the gradient penalty, as its authors set it.
PENALTY = 10.0


@dataclass(frozen=True)
class Adversary:
    """One form of the adversarial game.

    Attributes
    ----------
    discriminator : callable
        Loss of the outputs for real and for generated samples.
    generator : callable
        Loss of the outputs for generated samples.
    spectral : bool
        Whether the discriminator's layers have spectral norm one.
    penalty : float
        Weight of the gradient penalty.
    """

    discriminator: Callable[[Tensor, Tensor], Tensor]
    generator: Callable[[Tensor], Tensor]
    spectral: bool
    penalty: float = 0.0


def hinge_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """max(0, 1 - a) of real samples plus max(0, 1 + a) of generated ones."""
    return F.relu(1.0 - real).mean() + F.relu(1.0 + fake).mean()


def binary_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """-log D of real samples minus log(1 - D) of generated ones."""
    return F.softplus(-real).mean() + F.softplus(fake).mean()


def printed_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """-log D of real samples plus log D of generated ones."""
    return F.softplus(-real).mean() - F.softplus(-fake).mean()


def wasserstein_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """-a of real samples plus a of generated ones."""
    return fake.mean() - real.mean()


def linear_generator(fake: Tensor) -> Tensor:
    """-a of generated samples."""
    return -fake.mean()


def log_generator(fake: Tensor) -> Tensor:
    """-log D of generated samples."""
    return F.softplus(-fake).mean()


ADVERSARIES = {
    "hinge": Adversary(hinge_discriminator, linear_generator, spectral=True),
    "binary": Adversary(binary_discriminator, log_generator, spectral=True),
    "wgan-gp": Adversary(wasserstein_discriminator, linear_generator, False, PENALTY),
    "printed": Adversary(printed_discriminator, log_generator, False, PENALTY),
}


def gradient_penalty(
    discriminator: nn.Module, real: Tensor, fake: Tensor, rng: torch.Generator
) -> Tensor:
    """Return the mean of (||grad a|| - 1)^2 at random points between paired samples."""
    size = min(len(real), len(fake))
    shape = (size, *[1] * (real.ndim - 1))
    share = torch.rand(shape, generator=rng, device=real.device, dtype=real.dtype)
    between = torch.lerp(real[:size], fake[:size], share).requires_grad_()
    output = discriminator(between).sum()
    (gradient,) = torch.autograd.grad(output, between, create_graph=True)
    # The square root has no gradient at zero.
    norm = (gradient.flatten(1).square().sum(1) + 1e-12).sqrt()
    return (norm - 1.0).square().mean()
