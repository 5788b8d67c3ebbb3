"""Precision factors under stochastic gradients, one class a covariance type.

A factor U has the shape of scikit-learn's ``precisions_cholesky_`` and
U U^T = inverse covariance. With z = U^T (x - mu) and M = mean of q z z^T, the natural
gradient of the expected log-density in U is U T, T + T^T = q I - M: no matrix is ever
inverted. In detail, the natural gradient in Sigma is S - Sigma, S the weighted scatter;
so dP = -P (S - Sigma) P = U (I - M) U^T, and dP = U (T + T^T) U^T for dU = U T with an
upper-triangular T.

A ridge is the penalty -1/2 tr(P diag(ridge)) on the objective: M grows by
U^T diag(ridge) U, and the stationary point is Sigma = S + diag(ridge), as in EM.
"""

import math
from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor

from skdeepgmm._torch_backend import linalg
from skdeepgmm._torch_backend.mixture.covariances import LowRankCovariance

LOG_2PI = math.log(2.0 * math.pi)
#: Largest relative change of a factor in one step (Frobenius norm, or per entry).
TRUST = 0.5
#: Start factors of low-rank covariances, as a share of the features' deviations.
START_FACTORS = 0.3


class Factor(ABC):
    """Log-densities and natural gradients for one covariance type."""

    #: Whether all components share one factor.
    shared: ClassVar[bool] = False

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


class FullFactor(Factor):
    """Upper-triangular factors of shape (n_components, n_features, n_features)."""

    @staticmethod
    def log_prob(x: Tensor, means: Tensor, factor: Tensor) -> tuple[Tensor, Tensor]:
        center = means[:, None] @ factor
        # z in the layout (component, sample, feature): one batched product.
        z = torch.baddbmm(-center, x.expand(len(means), *x.shape), factor)
        log_det = factor.diagonal(dim1=1, dim2=2).log().sum(1)
        constant = log_det - 0.5 * x.shape[1] * LOG_2PI
        return (constant[:, None] - 0.5 * z.square().sum(2)).T, z

    @staticmethod
    def directions(
        x: Tensor,
        cache: Tensor,
        weights: Tensor,
        mass: Tensor,
        means: Tensor,
        factor: Tensor,
        ridge: Tensor,
    ) -> tuple[Tensor, Tensor]:
        weighted = cache * weights.T[:, :, None]
        moment = weighted.mT @ cache
        moment += mass[:, None, None] * ((factor.mT * ridge) @ factor)
        return weighted.sum(1), triangular(mass, moment)

    @staticmethod
    def from_second(
        first: Tensor, second: Tensor, mass: Tensor, factor: Tensor, ridge: Tensor
    ) -> tuple[Tensor, Tensor]:
        scatter = linalg.unpack_triangle(second, first.shape[1]).to(factor.dtype)
        scatter = scatter + mass[:, None, None] * torch.diag(ridge)
        whitened = (first.to(factor.dtype)[:, None] @ factor)[:, 0]
        return whitened, triangular(mass, factor.mT @ scatter @ factor)

    @staticmethod
    def unwhiten(step: Tensor, factor: Tensor) -> Tensor:
        moved: Tensor = torch.linalg.solve_triangular(
            factor.mT, step[:, :, None], upper=False
        )
        return moved[:, :, 0]

    @staticmethod
    def move(factor: Tensor, step: Tensor, largest: Tensor) -> Tensor:
        norm = step.flatten(-2).norm(dim=-1)[..., None, None]
        step = step * (TRUST / norm.clamp_min(TRUST))
        diagonal = step.diagonal(dim1=-2, dim2=-1)
        # exp keeps the diagonal positive whatever the step.
        step = torch.triu(step, 1) + torch.diag_embed(diagonal.exp())
        moved = factor @ step
        diagonal = moved.diagonal(dim1=-2, dim2=-1)
        diagonal.copy_(torch.minimum(diagonal, largest))
        return moved

    @staticmethod
    def largest(ridge: Tensor) -> Tensor:
        return ridge.rsqrt()


class TiedFactor(FullFactor):
    """One upper-triangular factor of shape (n_features, n_features)."""

    shared = True

    @staticmethod
    def log_prob(x: Tensor, means: Tensor, factor: Tensor) -> tuple[Tensor, Tensor]:
        z, center = x @ factor, means @ factor
        constant = factor.diagonal().log().sum() - 0.5 * x.shape[1] * LOG_2PI
        distance = torch.cdist(
            z, center, compute_mode="donot_use_mm_for_euclid_dist"
        ).square()
        return constant - 0.5 * distance, z

    @staticmethod
    def directions(
        x: Tensor,
        cache: Tensor,
        weights: Tensor,
        mass: Tensor,
        means: Tensor,
        factor: Tensor,
        ridge: Tensor,
    ) -> tuple[Tensor, Tensor]:
        center = means @ factor
        first = weights.T @ cache - mass[:, None] * center
        # sum q (z - c)(z - c)^T, with the cross terms gathered in ``first``.
        moment = (cache * weights.sum(1, keepdim=True)).T @ cache
        cross = first.T @ center
        moment = moment - cross - cross.T - (mass[:, None] * center).T @ center
        total = mass.sum()
        moment += total * ((factor.T * ridge) @ factor)
        return first, triangular(total, moment)

    @staticmethod
    def from_second(
        first: Tensor, second: Tensor, mass: Tensor, factor: Tensor, ridge: Tensor
    ) -> tuple[Tensor, Tensor]:
        total = mass.sum()
        scatter = second.to(factor.dtype) + total * torch.diag(ridge)
        whitened = first.to(factor.dtype) @ factor
        return whitened, triangular(total, factor.T @ scatter @ factor)

    @staticmethod
    def unwhiten(step: Tensor, factor: Tensor) -> Tensor:
        moved: Tensor = torch.linalg.solve_triangular(factor.T, step.T, upper=False)
        return moved.T


class DiagFactor(Factor):
    """Square-root precisions of shape (n_components, n_features)."""

    @staticmethod
    def log_prob(x: Tensor, means: Tensor, factor: Tensor) -> tuple[Tensor, Tensor]:
        square = x.square()
        precision = factor.square()
        linear = precision * means
        constant = factor.log().sum(1) - 0.5 * (linear * means).sum(1)
        product = torch.addmm(x @ linear.T, square, precision.T, alpha=-0.5)
        return product + (constant - 0.5 * x.shape[1] * LOG_2PI), square

    @staticmethod
    def directions(
        x: Tensor,
        cache: Tensor,
        weights: Tensor,
        mass: Tensor,
        means: Tensor,
        factor: Tensor,
        ridge: Tensor,
    ) -> tuple[Tensor, Tensor]:
        first, moment = diagonal_moments(x, cache, weights, mass, means, ridge)
        moment = moment * factor.square()
        return first * factor, 0.5 * (mass[:, None] - moment)

    @staticmethod
    def from_second(
        first: Tensor, second: Tensor, mass: Tensor, factor: Tensor, ridge: Tensor
    ) -> tuple[Tensor, Tensor]:
        moment = second.to(factor.dtype) + mass[:, None] * ridge
        moment = moment * factor.square()
        return first.to(factor.dtype) * factor, 0.5 * (mass[:, None] - moment)

    @staticmethod
    def unwhiten(step: Tensor, factor: Tensor) -> Tensor:
        return step / factor

    @staticmethod
    def move(factor: Tensor, step: Tensor, largest: Tensor) -> Tensor:
        return torch.minimum(factor * step.clamp(-TRUST, TRUST).exp(), largest)

    @staticmethod
    def largest(ridge: Tensor) -> Tensor:
        return ridge.rsqrt()


class SphericalFactor(DiagFactor):
    """Square-root precisions of shape (n_components,)."""

    @staticmethod
    def log_prob(x: Tensor, means: Tensor, factor: Tensor) -> tuple[Tensor, Tensor]:
        return DiagFactor.log_prob(x, means, factor[:, None].expand_as(means))

    @staticmethod
    def directions(
        x: Tensor,
        cache: Tensor,
        weights: Tensor,
        mass: Tensor,
        means: Tensor,
        factor: Tensor,
        ridge: Tensor,
    ) -> tuple[Tensor, Tensor]:
        first, moment = diagonal_moments(x, cache, weights, mass, means, ridge)
        moment = moment.mean(1) * factor.square()
        return first * factor[:, None], 0.5 * (mass - moment)

    @staticmethod
    def from_second(
        first: Tensor, second: Tensor, mass: Tensor, factor: Tensor, ridge: Tensor
    ) -> tuple[Tensor, Tensor]:
        moment = second.to(factor.dtype) / len(ridge) + mass * ridge.mean()
        moment = moment * factor.square()
        return first.to(factor.dtype) * factor[:, None], 0.5 * (mass - moment)

    @staticmethod
    def unwhiten(step: Tensor, factor: Tensor) -> Tensor:
        return step / factor[:, None]

    @staticmethod
    def largest(ridge: Tensor) -> Tensor:
        return ridge.mean().rsqrt()


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


class LowRankFactor(Factor):
    """Factors and noise side by side, (n_components, n_features, rank + 1).

    The parameters are those of factor analysis, Sigma = A A^T + diag(d), and steps
    follow the expected complete-data log-likelihood: with the batch's moments about
    the means, C of x z^T and V of z z^T (z the factors' posterior), and the residual
    variances s under A,

        dA = C - A V,        d log d = s / d - 1.

    Both are linear in the batch's statistics, so that their mean over batches is the
    gradient on all data. Mean steps need no whitening: the gradient times the
    covariance is the mean deviation itself.
    """

    @staticmethod
    def log_prob(x: Tensor, means: Tensor, factor: Tensor) -> tuple[Tensor, Tensor]:
        covariance = low_rank_covariance(factor)
        scores = covariance.factor_scores(x.T, means.double())
        precision = covariance.noise.reciprocal()
        linear = precision * means
        constant = covariance.log_normalizer() - 0.5 * (linear * means).sum(1)
        precision, linear, constant = (
            value.to(x.dtype) for value in (precision, linear, constant)
        )
        diagonal = torch.addmm(x @ linear.T, x.square(), precision.T, alpha=-0.5)
        return diagonal + constant + 0.5 * scores.square().sum(1).T, scores

    @staticmethod
    def directions(
        x: Tensor,
        cache: Tensor,
        weights: Tensor,
        mass: Tensor,
        means: Tensor,
        factor: Tensor,
        ridge: Tensor,
    ) -> tuple[Tensor, Tensor]:
        covariance, resp = low_rank_covariance(factor), weights.T
        squares = (resp @ x.square()).double()
        second = covariance.second_from_scores(x.T, squares, cache, resp)
        first, nk, center = (resp @ x).double(), mass.double(), means.double()
        second = covariance.recentered(second, first, nk, center)
        first = first - nk[:, None] * center
        return LowRankFactor.from_second(first, second, mass, factor, ridge)

    @staticmethod
    def from_second(
        first: Tensor, second: Tensor, mass: Tensor, factor: Tensor, ridge: Tensor
    ) -> tuple[Tensor, Tensor]:
        n_features = factor.shape[1]
        loadings, noise = factor[..., :-1], factor[..., -1]
        second = second.to(factor.dtype)
        cross, squares = second[:, :n_features, :-1], second[:, :n_features, -1]
        fitted = loadings @ second[:, n_features:, :-1]
        residual = squares + (loadings * (fitted - 2.0 * cross)).sum(-1)
        change = residual.clamp_min(0.0) / noise - mass[:, None]
        step = torch.cat([cross - fitted, change[..., None]], dim=-1)
        return first.to(factor.dtype), step

    @staticmethod
    def unwhiten(step: Tensor, factor: Tensor) -> Tensor:
        return step

    @staticmethod
    def move(factor: Tensor, step: Tensor, largest: Tensor) -> Tensor:
        loadings, noise = factor[..., :-1], factor[..., -1]
        shift, change = step[..., :-1], step[..., -1]
        reach = TRUST * (loadings.square().sum((1, 2)) + noise.sum(1)).sqrt()
        norm = shift.square().sum((1, 2)).sqrt()
        shift = shift * (reach / torch.maximum(norm, reach))[:, None, None]
        noise = noise * change.clamp(-TRUST, TRUST).exp()
        noise = torch.maximum(noise, largest)
        return torch.cat([loadings + shift, noise[..., None]], dim=-1)

    @staticmethod
    def largest(ridge: Tensor) -> Tensor:
        """Return the ridge: here it bounds the noise from below."""
        return ridge


def low_rank_covariance(factor: Tensor) -> LowRankCovariance:
    """Return the covariances of (n_components, n_features, rank + 1)."""
    kind = LowRankCovariance.of_rank(factor.shape[2] - 1)
    return kind.from_values(factor.double())[0]


def random_low_rank(
    n_components: int, n_features: int, rank: int, generator: torch.Generator
) -> Tensor:
    """Return small random factors, and noise that completes unit variances."""
    shape = (n_components, n_features, rank)
    factors = torch.randn(shape, generator=generator, dtype=torch.float64)
    factors = factors * (START_FACTORS / math.sqrt(rank))
    noise = (1.0 - factors.square().sum(-1)).clamp_min(0.5)
    return torch.cat([factors, noise[..., None]], dim=-1)


#: Factor classes by the value of ``covariance_type``.
FACTORS: dict[str, type[Factor]] = {
    "full": FullFactor,
    "tied": TiedFactor,
    "diag": DiagFactor,
    "spherical": SphericalFactor,
    "low_rank": LowRankFactor,
}
