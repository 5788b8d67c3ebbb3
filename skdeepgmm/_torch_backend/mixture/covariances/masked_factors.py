"""Factor analysis of samples that miss different features."""

from dataclasses import dataclass

import torch
from torch import Tensor


def masked_posterior(scaled: Tensor, factors: Tensor, mask: Tensor) -> Tensor:
    """Return L of M = I + A^T D^-1 A = L L^T over the observed features.

    Parameters
    ----------
    scaled, factors : Tensor of shape (n_components, n_features, rank)
        D^-1 A and A.
    mask : Tensor of shape (n_features, n_samples)
        1 where observed, 0 where missing.

    Returns
    -------
    Tensor of shape (n_samples, n_components, rank, rank)
    """
    n_components, n_features, rank = factors.shape
    products = (scaled[..., None] * factors[..., None, :]).permute(1, 0, 2, 3)
    spread = mask.T @ products.reshape(n_features, -1)
    spread = spread.reshape(-1, n_components, rank, rank)
    chol: Tensor = torch.linalg.cholesky(
        spread + torch.eye(rank, dtype=mask.dtype, device=mask.device)
    )
    return chol


@dataclass(frozen=True)
class MaskedFactors:
    """Expected statistics of samples that miss different features.

    Attributes
    ----------
    factors : Tensor of shape (n_components, n_features, rank)
    noise : Tensor of shape (n_components, n_features)
    mask : Tensor of shape (n_features, n_samples)
        1 where observed, 0 where missing.
    chol : Tensor of shape (n_samples, n_components, rank, rank)
        L of M = L L^T over the observed features.
    diff : Tensor of shape (n_components, n_features, n_samples)
        x - mu, 0 where missing.
    scores : Tensor of shape (n_samples, n_components, rank, 1)
        A^T D^-1 (x - mu).
    """

    factors: Tensor
    noise: Tensor
    mask: Tensor
    chol: Tensor
    diff: Tensor
    scores: Tensor

    def __call__(self, resp: Tensor) -> tuple[Tensor, Tensor]:
        hidden = torch.cholesky_solve(self.scores, self.chol)[..., 0].permute(1, 2, 0)
        inverse = torch.cholesky_inverse(self.chol).flatten(2).permute(1, 0, 2)
        weight, unseen = resp[:, None], 1.0 - self.mask
        completed = self.diff + unseen * (self.factors @ hidden)
        weighted = completed * weight
        borrowed = self._borrowed(weight * unseen, inverse)
        cross = torch.bmm(weighted, hidden.mT) + borrowed
        squares = (weighted * completed).sum(-1) + (borrowed * self.factors).sum(-1)
        squares = squares + (resp @ unseen.T) * self.noise
        rank = self.factors.shape[2]
        posterior = torch.bmm(weight, inverse).reshape(-1, rank, rank)
        moment = torch.bmm(hidden * weight, hidden.mT) + posterior
        mean = (hidden * weight).sum(-1)
        top = torch.cat([cross, squares[..., None]], dim=-1)
        bottom = torch.cat([moment, mean[..., None]], dim=-1)
        second = torch.cat([top, bottom], dim=1)
        return weighted.sum(-1).double(), second.double()

    def _borrowed(self, unseen: Tensor, inverse: Tensor) -> Tensor:
        """Return what missing entries share with the factors, sum r (1 - m_d) A V."""
        shared = torch.bmm(unseen, inverse)
        shared = shared.reshape(*self.factors.shape, self.factors.shape[2])
        return (self.factors[..., None, :] @ shared)[..., 0, :]
