"""One variance a component."""

from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from torch import Tensor

from skdeepgmm._torch_backend.mixture.covariances.base import (
    LOG_2PI,
    MaskedStatistics,
    column_chunks,
    squared_norms,
)
from skdeepgmm._torch_backend.mixture.covariances.checks import check_entries
from skdeepgmm._torch_backend.mixture.covariances.cholesky import CholeskyCovariance
from skdeepgmm._torch_backend.mixture.covariances.diag import (
    DiagCovariance,
    DiagFactor,
)
from skdeepgmm._torch_backend.mixture.covariances.sgd_factor import (
    SGDFactor,
    diagonal_moments,
)
from skdeepgmm._torch_backend.mixture.suffstats import Statistics


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


@dataclass(frozen=True)
class SphericalCovariance(CholeskyCovariance):
    """Variances of shape (n_components,); ``n_features`` comes with the means."""

    name: ClassVar[str] = "spherical"
    in_sklearn: ClassVar[bool] = True
    sgd_factor: ClassVar[type[SGDFactor]] = SphericalFactor
    isotropic: ClassVar[bool] = True

    @classmethod
    def values_shape(cls, n_components: int, n_features: int) -> tuple[int, ...]:
        return (n_components,)

    @classmethod
    def second_shape(cls, n_components: int, n_features: int) -> tuple[int, ...]:
        return (n_components,)

    @classmethod
    def n_parameters(cls, n_components: int, n_features: int) -> int:
        return n_components

    @classmethod
    def n_moment_features(cls, n_features: int) -> int:
        return 1

    @classmethod
    def from_values(cls, values: Tensor) -> tuple[Self, Tensor]:
        diag, failed = DiagCovariance.from_values(values)
        return cls(diag.values, diag.precisions_chol), failed

    @classmethod
    def from_precisions(cls, precisions: Tensor) -> Self:
        return cls(1.0 / precisions, precisions.sqrt())

    @classmethod
    def from_precisions_chol(cls, precisions_chol: Tensor) -> Self:
        return cls(precisions_chol.square().reciprocal(), precisions_chol)

    @classmethod
    def check_positive(cls, values: Tensor, what: str) -> None:
        check_entries(values, what)

    @classmethod
    def estimate(cls, stats: Statistics, delta: Tensor, ridge: Tensor) -> Tensor:
        scatter = stats.second / stats.nk - delta.square().sum(1)
        return scatter / delta.shape[1] + ridge.mean()

    @classmethod
    def floored(cls, values: Tensor, floor: Tensor) -> Tensor:
        return torch.maximum(values.nan_to_num(0.0), floor.mean())

    @classmethod
    def from_variances(cls, variances: Tensor, n_components: int) -> Tensor:
        return variances.mean().repeat(n_components)

    def precisions(self) -> Tensor:
        return self.precisions_chol.square()

    def scaled(self, scale: Tensor) -> Self:
        # Spheres stay spheres only under one common scale.
        common = scale[0]
        return type(self)(self.values * common.square(), self.precisions_chol / common)

    def log_prob(self, x: Tensor, means: Tensor) -> Tensor:
        centers = means.to(x.dtype)[:, :, None]
        factors = self.precisions_chol.to(x.dtype)[:, None, None]
        distance = squared_norms(
            x, len(means), lambda part: (part - centers).mul_(factors)
        )
        return self.log_normalizer(len(x))[:, None].to(x.dtype) - 0.5 * distance

    def log_normalizer(self, n_features: int) -> Tensor:
        return n_features * (self.precisions_chol.log() - 0.5 * LOG_2PI)

    def dense(self, n_components: int, n_features: int) -> Tensor:
        return self.values[:, None].expand(n_components, n_features).diag_embed()

    def variances(self) -> Tensor:
        return self.values[:, None]

    def precision_diagonal(self) -> Tensor:
        return self.precisions_chol.square()[:, None]

    def natural(self, means: Tensor, log_weights: Tensor) -> Tensor:
        precisions = self.precisions_chol.square()[:, None]
        linear = precisions * means
        constant = (
            log_weights
            + self.log_normalizer(means.shape[1])
            - 0.5 * (linear * means).sum(1)
        )
        return torch.cat([constant[:, None], linear, -0.5 * precisions], dim=1)

    @staticmethod
    def features(x: Tensor, out: Tensor) -> None:
        torch.sum(x.square(), dim=0, keepdim=True, out=out)

    def second_from_features(
        self,
        products: Tensor,
        x: Tensor,
        total: Tensor | None,
        resp: Tensor,
        cache: Tensor | None,
    ) -> Tensor:
        return products[:, 0]

    def second_about(self, x: Tensor, resp: Tensor, center: Tensor) -> Tensor:
        second = center.new_zeros(len(center))
        centers = center.to(x.dtype)[:, :, None]
        for columns in column_chunks(x, len(center)):
            distance = (x[:, columns] - centers).square_().sum(1)
            second += (distance * resp[:, columns]).sum(1)
        return second

    def expected_second(self, nk: Tensor, ridge: Tensor) -> Tensor:
        return (self.values - ridge.mean()) * nk * len(ridge)

    @classmethod
    def recentered(
        cls, second: Tensor, first: Tensor, nk: Tensor, shift: Tensor
    ) -> Tensor:
        moved = 2.0 * (shift * first).sum(1)
        return second - moved + nk * shift.square().sum(1)

    def marginal(self, kept: Tensor) -> Self:
        return self

    def regress(self, diff: Tensor, observed: Tensor, missing: Tensor) -> Tensor:
        return diff.new_zeros(len(diff), len(missing), diff.shape[2])

    def conditional(self, observed: Tensor, missing: Tensor) -> Self:
        return self

    def expand(
        self, stats: Statistics, observed: Tensor, missing: Tensor
    ) -> tuple[Tensor, Tensor]:
        n_features = len(observed) + len(missing)
        first = stats.first.new_zeros(len(self.values), n_features)
        first[:, observed] = stats.first
        return first, stats.second + len(missing) * stats.nk * self.values

    def masked(
        self, x: Tensor, mask: Tensor, means: Tensor
    ) -> tuple[Tensor, MaskedStatistics]:
        wide = DiagCovariance(
            self.values[:, None].expand_as(means),
            self.precisions_chol[:, None].expand_as(means),
        )
        log_prob, diagonal = wide.masked(x, mask, means)

        def statistics(resp: Tensor) -> tuple[Tensor, Tensor]:
            first, second = diagonal(resp)
            return first, second.sum(1)

        return log_prob, statistics

    def color(self, noise: Tensor, component: int) -> Tensor:
        return noise / self.precisions_chol[component]
