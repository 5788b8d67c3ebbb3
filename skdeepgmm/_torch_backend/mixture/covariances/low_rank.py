"""Mixture of factor analysers: as the estimators and stochastic gradients see them."""

import math
from dataclasses import dataclass
from functools import cache
from typing import ClassVar

import torch
from torch import Tensor

from skdeepgmm._torch_backend.mixture.covariances.base import (
    Covariance,
    ScatterProduct,
)
from skdeepgmm._torch_backend.mixture.covariances.checks import (
    check_entries,
    check_shape,
)
from skdeepgmm._torch_backend.mixture.covariances.diag import DiagCovariance
from skdeepgmm._torch_backend.mixture.covariances.factor_analysis import (
    NO_PRECISIONS,
    FactorAnalysisCovariance,
)
from skdeepgmm._torch_backend.mixture.covariances.sgd_factor import TRUST, SGDFactor
from skdeepgmm._torch_backend.mixture.probabilistic_pca import probabilistic_pca

#: Initial factors for stochastic gradients, as a share of the features' standard
#: deviations.
INITIAL_FACTORS = 0.3
#: Least noise as a share of the factors' variance: below it log-densities would cancel.
LEAST_NOISE = 1e-8


class LowRankFactor(SGDFactor):
    """Factors and noise side by side, (n_components, n_features, rank + 1).

    The parameters are those of factor analysis, Sigma = A A^T + diag(d), and steps
    follow the expected complete-data log-likelihood: with the batch's moments about
    the means, C of x z^T and V of z z^T (z the factors' posterior), and the residual
    variances s under A,

        dA = C - A V,        d log d = s / d - 1.

    Both are linear in the batch's statistics, so that their mean over batches is the
    gradient on all data. Mean steps need no whitening: the gradient times the
    covariance is the mean of x - mu itself.
    """

    @staticmethod
    def log_prob(x: Tensor, means: Tensor, factor: Tensor) -> tuple[Tensor, Tensor]:
        covariance = FactorAnalysisCovariance.from_sgd_factor(factor)
        scores = covariance.factor_scores(x.T, means.double())
        precision = covariance.noise.reciprocal()
        linear = precision * means
        constant = covariance.log_normalizer(x.shape[1]) - 0.5 * (linear * means).sum(1)
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
        covariance, resp = FactorAnalysisCovariance.from_sgd_factor(factor), weights.T
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
        largest_norm = TRUST * (loadings.square().sum((1, 2)) + noise.sum(1)).sqrt()
        norm = shift.square().sum((1, 2)).sqrt()
        shift = (
            shift * (largest_norm / torch.maximum(norm, largest_norm))[:, None, None]
        )
        noise = noise * change.clamp(-TRUST, TRUST).exp()
        loadings = loadings + shift
        least = LEAST_NOISE * loadings.square().sum(-1)
        noise = torch.maximum(torch.maximum(noise, largest), least)
        return torch.cat([loadings, noise[..., None]], dim=-1)

    @staticmethod
    def largest(ridge: Tensor) -> Tensor:
        """Return the ridge: here it bounds the noise from below."""
        return ridge


@dataclass(frozen=True)
class LowRankCovariance(FactorAnalysisCovariance):
    """Factors and noise of mixture components; ``of_rank`` sets their number."""

    name: ClassVar[str] = "low_rank"
    rank: ClassVar[int] = 1
    sgd_factor: ClassVar[type[SGDFactor]] = LowRankFactor
    initial_class: ClassVar[type[Covariance] | None] = DiagCovariance
    supplied: ClassVar[tuple[str, ...]] = ("factors", "noise_variance")

    @classmethod
    def sized(cls, n_features: int, rank: int) -> type[Covariance]:
        return cls.of_rank(min(rank, n_features))

    @classmethod
    def estimator_parameters(cls) -> dict[str, int]:
        return {"rank": cls.rank}

    @classmethod
    def of_rank(cls, rank: int) -> type["LowRankCovariance"]:
        """Return the class of covariances with this many factors."""
        return _of_rank(rank)

    @classmethod
    def initial_values(
        cls, variances: Tensor, nk: Tensor, scatter_times: ScatterProduct
    ) -> Tensor:
        return probabilistic_pca(variances, nk, cls.rank, scatter_times)

    @classmethod
    def from_supplied(cls, *covariances: Tensor) -> "LowRankCovariance":
        return cls.of_rank(covariances[0].shape[2]).from_stored(*covariances)

    @classmethod
    def check_regular(cls, *covariances: Tensor) -> None:
        """Do nothing: positive noise, checked before, makes every matrix regular."""

    @classmethod
    def check_precisions(
        cls, precisions: Tensor, n_components: int, n_features: int
    ) -> None:
        raise ValueError(NO_PRECISIONS)

    @classmethod
    def supplied_shapes(
        cls, n_components: int, n_features: int
    ) -> tuple[tuple[int, ...], ...]:
        noise = n_components, n_features
        return (*noise, cls.rank), noise

    @classmethod
    def check_supplied(
        cls, covariances: tuple[Tensor, ...], n_components: int, n_features: int
    ) -> None:
        factors, noise = covariances
        if factors.ndim != 3:
            raise ValueError(
                "factors should have the shape of (n_components, n_features, rank), "
                f"but got {tuple(factors.shape)}"
            )
        sized = cls.of_rank(factors.shape[2])
        shapes = sized.supplied_shapes(n_components, n_features)
        for array, shape, name in zip(covariances, shapes, cls.supplied, strict=True):
            check_shape(array, shape, name)
        check_entries(noise, "noise_variance")

    @classmethod
    def initial_sgd_factor(
        cls, n_components: int, n_features: int, generator: torch.Generator
    ) -> Tensor:
        """Return small random factors, and noise that completes unit variances."""
        shape = (n_components, n_features, cls.rank)
        factors = torch.randn(shape, generator=generator, dtype=torch.float64)
        factors = factors * (INITIAL_FACTORS / math.sqrt(cls.rank))
        noise = (1.0 - factors.square().sum(-1)).clamp_min(0.5)
        return torch.cat([factors, noise[..., None]], dim=-1)


@cache
def _of_rank(rank: int) -> type[LowRankCovariance]:
    return type(f"LowRankCovariance{rank}", (LowRankCovariance,), {"rank": rank})
