"""Factors and noise of mixture components from their leading directions."""

from collections.abc import Callable

import torch
from torch import Tensor

from skdeepgmm._torch_backend.rng import new_generator

#: Directions drawn beyond the rank when a covariance's range is sought.
OVERSAMPLING = 5
#: Least noise, in units of a component's variance.
LEAST_NOISE = 1e-3


def probabilistic_pca(
    variances: Tensor,
    nk: Tensor,
    rank: int,
    scatter_times: Callable[[Tensor], Tensor],
) -> Tensor:
    """Return factors and noise variances, (n_components, n_features, rank + 1).

    Two passes of randomised subspace iteration (Halko, Martinsson & Tropp 2011),
    then probabilistic PCA in closed form.

    Parameters
    ----------
    variances : Tensor of shape (n_components, n_features)
    nk : Tensor of shape (n_components,)
        Mass of the components.
    rank : int
    scatter_times : callable
        Maps directions (n_components, n_features, width) to the product of every
        component's scatter matrix with its directions.
    """
    n_components, n_features = variances.shape
    width = min(n_features, rank + OVERSAMPLING)
    generator = new_generator(0)
    basis = torch.randn(
        n_components, n_features, width, generator=generator, dtype=torch.float64
    ).to(variances.device)
    mass = nk.clamp_min(1.0)[:, None, None]
    basis, _ = torch.linalg.qr(scatter_times(basis))
    product = scatter_times(basis) / mass
    values, vectors = torch.linalg.eigh(basis.mT @ product)
    values = values[:, -rank:].clamp_min(0.0)
    directions = basis @ vectors[..., -rank:]
    rest = (variances.sum(1) - values.sum(1)).clamp_min(0.0)
    noise = (rest / max(n_features - rank, 1))[:, None]
    least = 1e-4 * values[:, -1:].clamp_min(1e-12)
    factors = directions * torch.maximum(values - noise, least).sqrt()[:, None]
    own = variances - factors.square().sum(-1)
    own = torch.maximum(own, LEAST_NOISE * variances)
    return torch.cat([factors, own[..., None]], dim=-1)
