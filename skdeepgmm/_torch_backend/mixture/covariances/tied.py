"""One covariance matrix that all components share."""

from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from torch import Tensor

from skdeepgmm._torch_backend import linalg
from skdeepgmm._torch_backend.mixture.covariances.base import (
    LOG_2PI,
    CholeskyCovariance,
    MaskedStatistics,
    column_chunks,
    squared_norms,
)
from skdeepgmm._torch_backend.mixture.covariances.full import (
    FullCovariance,
    masked_cholesky,
    masked_density,
    masked_inverse,
)
from skdeepgmm._torch_backend.mixture.suffstats import Statistics


@dataclass(frozen=True)
class TiedCovariance(CholeskyCovariance):
    """A covariance matrix of shape (n_features, n_features)."""

    name: ClassVar[str] = "tied"

    @classmethod
    def values_shape(cls, n_components: int, n_features: int) -> tuple[int, ...]:
        return n_features, n_features

    @classmethod
    def second_shape(cls, n_components: int, n_features: int) -> tuple[int, ...]:
        return n_features, n_features

    @classmethod
    def n_parameters(cls, n_components: int, n_features: int) -> int:
        return n_features * (n_features + 1) // 2

    @classmethod
    def degenerate_below(cls, n_components: int, n_features: int) -> int:
        return n_features + n_components

    @classmethod
    def n_moment_features(cls, n_features: int) -> int:
        return 0

    @classmethod
    def from_values(cls, values: Tensor) -> tuple[Self, Tensor]:
        factor, failed = linalg.precision_cholesky(values)
        return cls(values, factor), failed[None]

    @classmethod
    def from_precisions(cls, precisions: Tensor) -> Self:
        return cls.from_precisions_chol(
            linalg.precision_cholesky_from_precision(precisions)
        )

    @classmethod
    def from_precisions_chol(cls, precisions_chol: Tensor) -> Self:
        full = FullCovariance.from_precisions_chol(precisions_chol)
        return cls(full.values, full.precisions_chol)

    @classmethod
    def estimate(cls, stats: Statistics, delta: Tensor, ridge: Tensor) -> Tensor:
        # sum_k [S_k - first_k delta_k^T - delta_k first_k^T + n_k delta_k delta_k^T],
        # and first_k = n_k delta_k.
        scatter = stats.second - (stats.nk[:, None] * delta).T @ delta
        values = scatter / stats.nk.sum()
        values = 0.5 * (values + values.T)
        values.diagonal().add_(ridge)
        return values

    @classmethod
    def floored(cls, values: Tensor, floor: Tensor) -> Tensor:
        return linalg.floor_eigenvalues(values, floor)

    @classmethod
    def from_variances(cls, variances: Tensor, n_components: int) -> Tensor:
        return torch.diag(variances)

    def precisions(self) -> Tensor:
        return self.precisions_chol @ self.precisions_chol.mT

    def scaled(self, scale: Tensor) -> Self:
        return type(self)(
            self.values * scale[:, None] * scale, self.precisions_chol / scale[:, None]
        )

    def log_prob(self, x: Tensor, means: Tensor) -> Tensor:
        # Subtract before whitening: exact where an offset is large.
        origin = means.mean(0)
        factor = self.precisions_chol.to(x.dtype).T
        centers = (factor.to(means.dtype) @ (means - origin).T).T[:, :, None]
        centers = centers.to(x.dtype)
        whitened = factor @ (x - origin.to(x.dtype)[:, None])
        distance = squared_norms(whitened, len(means), lambda part: part - centers)
        return self._log_normalizer().to(x.dtype) - 0.5 * distance

    def _log_normalizer(self) -> Tensor:
        log_det = linalg.log_det_triangular(self.precisions_chol)
        return log_det - 0.5 * self.precisions_chol.shape[-1] * LOG_2PI

    def variances(self) -> Tensor:
        return self.values.diagonal()[None]

    def precision_diagonal(self) -> Tensor:
        return self.precisions_chol.square().sum(-1)[None]

    def natural(self, means: Tensor, log_weights: Tensor) -> Tensor:
        linear = means @ (self.precisions_chol @ self.precisions_chol.T)
        constant = log_weights + self._log_normalizer() - 0.5 * (linear * means).sum(1)
        return torch.cat([constant[:, None], linear], dim=1)

    @staticmethod
    def features(x: Tensor, out: Tensor) -> None:
        """Do nothing: the quadratic term is common to all components."""

    def common_log_prob(self, x: Tensor) -> Tensor | None:
        whitened = self.precisions_chol.to(x.dtype).T @ x
        return whitened.square_().sum(0).mul_(-0.5)

    @classmethod
    def second_from_features(
        cls, products: Tensor, x: Tensor, total: Tensor | None
    ) -> Tensor:
        weighted = x if total is None else x * total
        return (weighted @ x.T).double()

    def second_about(self, x: Tensor, resp: Tensor, center: Tensor) -> Tensor:
        n_components, n_features = center.shape
        scatter = x.new_zeros(n_features, n_features, dtype=torch.float64)
        centers = center.to(x.dtype)[:, :, None]
        for columns in column_chunks(x, n_components):
            diff = x[:, columns] - centers
            scatter += torch.bmm(diff * resp[:, None, columns], diff.mT).sum(0)
        return scatter

    def expected_second(self, nk: Tensor, ridge: Tensor) -> Tensor:
        return (self.values - torch.diag(ridge)) * nk.sum()

    @classmethod
    def recentered(
        cls, second: Tensor, first: Tensor, nk: Tensor, shift: Tensor
    ) -> Tensor:
        moved = first.T @ shift
        return second - moved - moved.T + (nk[:, None] * shift).T @ shift

    def marginal(self, kept: Tensor) -> Self:
        return type(self).from_values(self.values[kept[:, None], kept])[0]

    def regress(self, diff: Tensor, observed: Tensor, missing: Tensor) -> Tensor:
        return self._gain(observed, missing).to(diff.dtype) @ diff

    def conditional(self, observed: Tensor, missing: Tensor) -> Self:
        return type(self).from_values(self._residual(observed, missing))[0]

    def _gain(self, observed: Tensor, missing: Tensor) -> Tensor:
        """Return Sigma_mo Sigma_oo^-1 of shape (..., n_missing, n_observed)."""
        cross = self.values[..., observed[:, None], missing]
        chol: Tensor = torch.linalg.cholesky(
            self.values[..., observed[:, None], observed]
        )
        return torch.cholesky_solve(cross, chol).mT

    def _residual(self, observed: Tensor, missing: Tensor) -> Tensor:
        explained = (
            self._gain(observed, missing) @ (self.values[observed[:, None], missing])
        )
        residual = self.values[missing[:, None], missing] - explained
        return 0.5 * (residual + residual.mT)

    def expand(
        self, stats: Statistics, observed: Tensor, missing: Tensor
    ) -> tuple[Tensor, Tensor]:
        n_features = self.values.shape[-1]
        lift = self.values.new_zeros(n_features, len(observed))
        lift[observed, torch.arange(len(observed), device=lift.device)] = 1.0
        lift[missing] = self._gain(observed, missing)
        second = lift @ stats.second @ lift.T
        residual = stats.nk.sum() * self._residual(observed, missing)
        second[missing[:, None], missing] += residual
        return stats.first @ lift.T, second

    @classmethod
    def masked_bytes(cls, n_components: int, n_features: int) -> int:
        return 8 * 4 * n_features * (n_features + n_components)

    def masked(
        self, x: Tensor, mask: Tensor, means: Tensor
    ) -> tuple[Tensor, MaskedStatistics]:
        sigma, seen = self.values.to(x.dtype), mask.T
        chol = masked_cholesky(sigma, seen)
        diff = (x.T[:, :, None] - means.to(x.dtype).T) * seen[..., None]
        log_prob = masked_density(chol, diff, seen).T

        def statistics(resp: Tensor) -> tuple[Tensor, Tensor]:
            weight = resp.T
            completed = sigma @ torch.cholesky_solve(diff, chol)
            precision = masked_inverse(chol, seen)
            known = torch.einsum("b,bde->de", weight.sum(1), precision)
            weighted = completed * weight[:, None]
            scatter = torch.einsum("bdk,bek->de", weighted, completed)
            scatter = scatter + weight.sum() * sigma - sigma @ known @ sigma
            return weighted.sum(0).T.double(), scatter.double()

        return log_prob, statistics

    def color(self, noise: Tensor, component: int) -> Tensor:
        factor = self.precisions_chol.T
        return linalg.solve_lower(factor, noise.T).T
