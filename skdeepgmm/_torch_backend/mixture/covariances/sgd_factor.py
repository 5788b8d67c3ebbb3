"""Precision factors under stochastic gradients: what each covariance type provides.

A factor U has the shape of scikit-learn's ``precisions_cholesky_`` and
U U^T = inverse covariance. With z = U^T (x - mu) and M = mean of q z z^T, the natural
gradient of the expected log-density in U is U T, T + T^T = q I - M: no matrix is ever
inverted. In detail, the natural gradient in Sigma is S - Sigma, S the weighted scatter;
so dP = -P (S - Sigma) P = U (I - M) U^T, and dP = U (T + T^T) U^T for dU = U T with an
upper-triangular T.

A ridge is the penalty -1/2 tr(P diag(ridge)) on the objective: M grows by
U^T diag(ridge) U, and the stationary point is Sigma = S + diag(ridge), as in EM.
"""

from abc import ABC, abstractmethod

import torch
from torch import Tensor

#: Largest relative change of a factor in one step (Frobenius norm, or per entry).
TRUST = 0.5


class SGDFactor(ABC):
    """Log-densities and natural gradients for one covariance type."""

    @staticmethod
    @abstractmethod
    def log_prob(x: Tensor, means: Tensor, factor: Tensor) -> tuple[Tensor, Tensor]:
        """Return log N(x; mu_k, Sigma_k) and what ``directions`` reuses of it.

        Parameters
        ----------
        x : Tensor of shape (n_samples, n_features)
        means : Tensor of shape (n_components, n_features)
        factor : Tensor

        Returns
        -------
        log_prob : Tensor of shape (n_samples, n_components)
        cache : Tensor
        """

    @staticmethod
    @abstractmethod
    def directions(
        x: Tensor,
        cache: Tensor,
        weights: Tensor,
        mass: Tensor,
        means: Tensor,
        factor: Tensor,
        ridge: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Return weighted sums of the natural gradients of means and factor.

        The first is U^T times the mean's, the second the T of the module's text.

        Parameters
        ----------
        weights : Tensor of shape (n_samples, n_components)
            The objective's derivative by the log-joint densities, over n_samples.
        mass : Tensor of shape (n_components,)
            Sum of the weights over the samples.
        """

    @staticmethod
    @abstractmethod
    def from_second(
        first: Tensor, second: Tensor, mass: Tensor, factor: Tensor, ridge: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return what ``directions`` does from weighted moments about the means.

        ``first`` and ``second`` are shaped as in ``suffstats.Statistics``.
        """

    @staticmethod
    @abstractmethod
    def unwhiten(step: Tensor, factor: Tensor) -> Tensor:
        """Return the mean step in data coordinates, U^-T step."""

    @staticmethod
    @abstractmethod
    def move(factor: Tensor, step: Tensor, largest: Tensor) -> Tensor:
        """Return the factor after a step; diagonals stay in (0, ``largest``]."""

    @staticmethod
    @abstractmethod
    def largest(ridge: Tensor) -> Tensor:
        """Return the largest diagonal of a factor when variances exceed the ridge."""


def triangular(mass: Tensor, moment: Tensor) -> Tensor:
    """Return the upper-triangular T with T + T^T = mass I - moment."""
    direction = -torch.triu(moment)
    diagonal = direction.diagonal(dim1=-2, dim2=-1)
    diagonal.add_(mass[..., None]).mul_(0.5)
    return direction


def diagonal_moments(
    x: Tensor,
    square: Tensor,
    weights: Tensor,
    mass: Tensor,
    means: Tensor,
    ridge: Tensor,
) -> tuple[Tensor, Tensor]:
    """Return weighted sums of x - mu and of (x - mu)^2 + ridge."""
    first = weights.T @ x - mass[:, None] * means
    second = weights.T @ square - 2.0 * first * means - mass[:, None] * means.square()
    return first, second.clamp_min(0.0) + mass[:, None] * ridge
