"""One variance a component and feature."""

from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from torch import Tensor

from skdeepgmm._torch_backend.mixture.covariances.base import (
    LOG_2PI,
    MAX_CANCELLATION,
    TILE_FEATURES,
    FeatureWriter,
    MaskedStatistics,
    column_chunks,
    squared_norms,
)
from skdeepgmm._torch_backend.mixture.covariances.checks import check_entries
from skdeepgmm._torch_backend.mixture.covariances.cholesky import CholeskyCovariance
from skdeepgmm._torch_backend.mixture.covariances.sgd_factor import (
    TRUST,
    SGDFactor,
    diagonal_moments,
)
from skdeepgmm._torch_backend.mixture.suffstats import Statistics

#: With more features than this, squares are written apart from the features.
WIDE = 128


class DiagFactor(SGDFactor):
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


@dataclass(frozen=True)
class DiagCovariance(CholeskyCovariance):
    """Variances of shape (n_components, n_features)."""

    name: ClassVar[str] = "diag"
    in_sklearn: ClassVar[bool] = True
    sgd_factor: ClassVar[type[SGDFactor]] = DiagFactor

    @classmethod
    def values_shape(cls, n_components: int, n_features: int) -> tuple[int, ...]:
        return n_components, n_features

    @classmethod
    def second_shape(cls, n_components: int, n_features: int) -> tuple[int, ...]:
        return n_components, n_features

    @classmethod
    def n_parameters(cls, n_components: int, n_features: int) -> int:
        return n_components * n_features

    @classmethod
    def n_moment_features(cls, n_features: int) -> int:
        return n_features

    @classmethod
    def from_values(cls, values: Tensor) -> tuple[Self, Tensor]:
        positive = (values > 0.0) & (values < torch.inf)
        safe = torch.where(positive, values, 1.0)
        return cls(values, safe.rsqrt()), ~positive.reshape(len(values), -1).all(1)

    @classmethod
    def from_precisions(cls, precisions: Tensor) -> Self:
        return cls(1.0 / precisions, precisions.sqrt())

    @classmethod
    def from_precisions_chol(cls, precisions_chol: Tensor) -> Self:
        return cls(precisions_chol.square().reciprocal(), precisions_chol)

    @classmethod
    def prior_samples(cls, n_features: int) -> float:
        return 0.5

    @classmethod
    def check_positive(cls, values: Tensor, what: str) -> None:
        check_entries(values, what)

    @classmethod
    def estimate(cls, stats: Statistics, delta: Tensor, ridge: Tensor) -> Tensor:
        return stats.second / stats.nk[:, None] - delta.square() + ridge

    @classmethod
    def floored(cls, values: Tensor, floor: Tensor) -> Tensor:
        return torch.maximum(values.nan_to_num(0.0), floor)

    @classmethod
    def from_variances(cls, variances: Tensor, n_components: int) -> Tensor:
        return variances.repeat(n_components, 1)

    def precisions(self) -> Tensor:
        return self.precisions_chol.square()

    def scaled(self, scale: Tensor) -> Self:
        return type(self)(self.values * scale.square(), self.precisions_chol / scale)

    def log_prob(self, x: Tensor, means: Tensor) -> Tensor:
        factors = self.precisions_chol.to(x.dtype)[:, :, None]
        centers = means.to(x.dtype)[:, :, None]
        distance = squared_norms(
            x, len(means), lambda part: (part - centers).mul_(factors)
        )
        return self.log_normalizer(len(x))[:, None].to(x.dtype) - 0.5 * distance

    def log_normalizer(self, n_features: int) -> Tensor:
        log_det = self.precisions_chol.log().sum(1)
        return log_det - 0.5 * n_features * LOG_2PI

    def dense(self, n_components: int, n_features: int) -> Tensor:
        return self.values.diag_embed()

    def variances(self) -> Tensor:
        return self.values

    def precision_diagonal(self) -> Tensor:
        return self.precisions_chol.square()

    def natural(self, means: Tensor, log_weights: Tensor) -> Tensor:
        precisions = self.precisions_chol.square()
        linear = precisions * means
        constant = (
            log_weights
            + self.log_normalizer(means.shape[1])
            - 0.5 * (linear * means).sum(1)
        )
        return torch.cat([constant[:, None], linear, -0.5 * precisions], dim=1)

    @staticmethod
    def features(x: Tensor, out: Tensor) -> None:
        torch.mul(x, x, out=out)

    @classmethod
    def tile_features(cls, n_features: int) -> int:
        return min(n_features, 2 * TILE_FEATURES) if n_features > WIDE else 0

    @staticmethod
    def feature_writer(x: Tensor) -> FeatureWriter:
        def write(first: int, out: Tensor) -> None:
            rows = x[first : first + len(out)]
            torch.mul(rows, rows, out=out)

        return write

    def second_about(self, x: Tensor, resp: Tensor, center: Tensor) -> Tensor:
        second = torch.zeros_like(center)
        centers = center.to(x.dtype)[:, :, None]
        for columns in column_chunks(x, len(center)):
            diff = (x[:, columns] - centers).square_()
            second += torch.bmm(diff, resp[:, columns, None])[:, :, 0]
        return second

    def expected_second(self, nk: Tensor, ridge: Tensor) -> Tensor:
        return (self.values - ridge) * nk[:, None]

    @classmethod
    def recentered(
        cls, second: Tensor, first: Tensor, nk: Tensor, shift: Tensor
    ) -> Tensor:
        return second - 2.0 * shift * first + nk[:, None] * shift.square()

    def marginal(self, kept: Tensor) -> Self:
        return type(self)(self.values[:, kept], self.precisions_chol[:, kept])

    def regress(self, diff: Tensor, observed: Tensor, missing: Tensor) -> Tensor:
        return diff.new_zeros(len(diff), len(missing), diff.shape[2])

    def conditional(self, observed: Tensor, missing: Tensor) -> Self:
        return self.marginal(missing)

    def expand(
        self, stats: Statistics, observed: Tensor, missing: Tensor
    ) -> tuple[Tensor, Tensor]:
        first = torch.zeros_like(self.values)
        first[:, observed] = stats.first
        second = stats.nk[:, None] * self.values
        second[:, observed] = stats.second
        return first, second

    def masked(
        self, x: Tensor, mask: Tensor, means: Tensor
    ) -> tuple[Tensor, MaskedStatistics]:
        if self.cancellation(means) > MAX_CANCELLATION[x.dtype]:
            return self._masked_differences(x, mask, means)
        precisions = self.precisions_chol.square()
        constant = self.precisions_chol.log() - 0.5 * LOG_2PI
        constant = constant - 0.5 * precisions * means.square()
        linear = x * mask
        square = linear * x
        coefficients = torch.cat([constant, precisions * means, -0.5 * precisions], 1)
        log_prob = coefficients.to(x.dtype) @ torch.cat([mask, linear, square])

        def statistics(resp: Tensor) -> tuple[Tensor, Tensor]:
            mass = (resp @ mask.T).double()
            first = (resp @ linear.T).double()
            second = (resp @ square.T).double() - 2.0 * means * first
            second = second + mass * means.square()
            missing = resp.double().sum(1)[:, None] - mass
            return first - mass * means, second + missing * self.values

        return log_prob, statistics

    def _masked_differences(
        self, x: Tensor, mask: Tensor, means: Tensor
    ) -> tuple[Tensor, MaskedStatistics]:
        """Do as ``masked``, from x - mu: where squares of x would cancel."""
        diff = (x - means.to(x.dtype)[..., None]) * mask
        square = diff.square()
        factors = self.precisions_chol.to(x.dtype)
        constant = (factors.log() - 0.5 * LOG_2PI) @ mask
        log_prob = constant - 0.5 * (diff * factors[..., None]).square().sum(1)

        def statistics(resp: Tensor) -> tuple[Tensor, Tensor]:
            weight = resp[..., None]
            missing = (resp @ (1.0 - mask).T).double()
            second = torch.bmm(square, weight)[..., 0].double()
            first = torch.bmm(diff, weight)[..., 0].double()
            return first, second + missing * self.values

        return log_prob, statistics

    def color(self, noise: Tensor, component: int) -> Tensor:
        return noise / self.precisions_chol[component]
