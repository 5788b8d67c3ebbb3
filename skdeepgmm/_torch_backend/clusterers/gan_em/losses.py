"""Losses of GAN-EM, in the printed form and in that of the authors' program.

The discriminator has K + 1 outputs: one a cluster, "is a real member of cluster i", and
an extra one, "is generated", which the printed losses do not use. All losses take
logits, are summed over outputs and averaged over samples; sigmoid(a) is D.

References: Zhao et al. (2018), "GAN-EM: GAN based EM learning framework",
arXiv 1812.00335.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

#: Weight of "not generated" for real samples: it balances the K weighted outputs.
EXTRA_WEIGHT = 2.0
#: Largest logit in the generator's printed loss, which grows exponentially.
LARGEST_LOGIT = 10.0


def binary_real(logits: Tensor, weights: Tensor) -> Tensor:
    """-sum_i w_i log D_i(x) - 2 log(1 - D_extra(x)) of real samples.

    Parameters
    ----------
    logits : Tensor of shape (n, n_clusters + 1)
    weights : Tensor of shape (n, n_clusters)
        P(cluster | x), rows sum to one.
    """
    members = (weights * F.softplus(-logits[:, :-1])).sum(1)
    return (members + EXTRA_WEIGHT * F.softplus(logits[:, -1])).mean()


def binary_fake(logits: Tensor) -> Tensor:
    """-sum_i log(1 - D_i(x)) - log D_extra(x) of generated samples."""
    members = F.softplus(logits[:, :-1]).sum(1)
    return (members + F.softplus(-logits[:, -1])).mean()


def binary_generator(logits: Tensor, labels: Tensor) -> Tensor:
    """-log D_c(x) - sum of log(1 - D_i(x)) over the other outputs, the extra included.

    Parameters
    ----------
    labels : Tensor of shape (n,)
        Cluster c that each sample was generated for.
    """
    # softplus(-a) = softplus(a) - a turns the own cluster's target from 0 to 1.
    own = logits.gather(1, labels[:, None])[:, 0]
    return (F.softplus(logits).sum(1) - own).mean()


def paper_real(logits: Tensor, weights: Tensor) -> Tensor:
    """-sum_i w_i log D_i(x) of real samples."""
    return (weights * F.softplus(-logits[:, :-1])).sum(1).mean()


def paper_fake(logits: Tensor) -> Tensor:
    """-sum_i log(1 - D_i(x)) of generated samples."""
    return F.softplus(logits[:, :-1]).sum(1).mean()


def paper_generator(logits: Tensor, labels: Tensor) -> Tensor:
    """-1/2 exp(a_c), the Kullback-Leibler form; D_c / (1 - D_c) = exp(a_c)."""
    own = logits.gather(1, labels[:, None])[:, 0]
    return -0.5 * own.clamp(max=LARGEST_LOGIT).exp().mean()


@dataclass(frozen=True)
class Losses:
    """The adversarial losses of one form."""

    real: Callable[[Tensor, Tensor], Tensor]
    fake: Callable[[Tensor], Tensor]
    generator: Callable[[Tensor, Tensor], Tensor]


LOSSES = {
    "binary": Losses(binary_real, binary_fake, binary_generator),
    "paper": Losses(paper_real, paper_fake, paper_generator),
}


def soften(probabilities: Tensor, temperature: float) -> Tensor:
    """Return p^(1 / temperature), normalised over the columns."""
    if temperature == 1.0:
        return probabilities
    return torch.softmax(probabilities.clamp_min(1e-30).log() / temperature, 1)
