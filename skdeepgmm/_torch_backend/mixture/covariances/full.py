"""One unrestricted covariance matrix a component."""

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
from skdeepgmm._torch_backend.mixture.suffstats import Statistics

#: Features from which on one component's product fills a processor by itself.
WIDE = 64
#: Responsibilities below this share of the largest add nothing in float64.
NO_PART = 1e-16


@dataclass(frozen=True)
class FullCovariance(CholeskyCovariance):
    """Covariance matrices of shape (n_components, n_features, n_features)."""

    name: ClassVar[str] = "full"

    @classmethod
    def values_shape(cls, n_components: int, n_features: int) -> tuple[int, ...]:
        return n_components, n_features, n_features

    @classmethod
    def second_shape(cls, n_components: int, n_features: int) -> tuple[int, ...]:
        return n_components, n_features * (n_features + 1) // 2

    @classmethod
    def n_parameters(cls, n_components: int, n_features: int) -> int:
        return n_components * n_features * (n_features + 1) // 2

    @classmethod
    def degenerate_below(cls, n_components: int, n_features: int) -> int:
        covariance = n_features * (n_features + 1) // 2
        return n_components * (covariance + n_features + 1) - 1

    @classmethod
    def n_moment_features(cls, n_features: int) -> int:
        return n_features * (n_features + 1) // 2

    @classmethod
    def from_values(cls, values: Tensor) -> tuple[Self, Tensor]:
        factors, failed = linalg.precision_cholesky(values)
        return cls(values, factors), failed

    @classmethod
    def from_precisions(cls, precisions: Tensor) -> Self:
        return cls.from_precisions_chol(
            linalg.precision_cholesky_from_precision(precisions)
        )

    @classmethod
    def from_precisions_chol(cls, precisions_chol: Tensor) -> Self:
        eye = torch.eye(
            precisions_chol.shape[-1],
            dtype=precisions_chol.dtype,
            device=precisions_chol.device,
        )
        lower = torch.linalg.solve_triangular(
            precisions_chol, eye.expand_as(precisions_chol), upper=True
        ).mT
        return cls(lower @ lower.mT, precisions_chol)

    @classmethod
    def prior_samples(cls, n_features: int) -> float:
        return (n_features + 1) / 4

    @classmethod
    def estimate(cls, stats: Statistics, delta: Tensor, ridge: Tensor) -> Tensor:
        packed = stats.second / stats.nk[:, None]
        values = linalg.unpack_triangle(packed, delta.shape[1])
        values = values - delta[:, :, None] * delta[:, None, :]
        values.diagonal(dim1=-2, dim2=-1).add_(ridge)
        return values

    @classmethod
    def floored(cls, values: Tensor, floor: Tensor) -> Tensor:
        return linalg.floor_eigenvalues(values, floor)

    @classmethod
    def from_variances(cls, variances: Tensor, n_components: int) -> Tensor:
        return torch.diag(variances).repeat(n_components, 1, 1)

    def precisions(self) -> Tensor:
        return self.precisions_chol @ self.precisions_chol.mT

    def scaled(self, scale: Tensor) -> Self:
        return type(self)(
            self.values * scale[:, None] * scale, self.precisions_chol / scale[:, None]
        )

    def log_prob(self, x: Tensor, means: Tensor) -> Tensor:
        factors = self.precisions_chol.to(x.dtype).mT
        centers = means.to(x.dtype)[:, :, None]
        if len(x) >= WIDE:
            distance = torch.stack(
                [
                    (factor @ (x - center)).square_().sum(0)
                    for factor, center in zip(factors, centers, strict=True)
                ]
            )
        else:
            distance = squared_norms(
                x, len(means), lambda part: torch.bmm(factors, part - centers)
            )
        return self._log_normalizer()[:, None].to(x.dtype) - 0.5 * distance

    def _log_normalizer(self) -> Tensor:
        log_det = linalg.log_det_triangular(self.precisions_chol)
        return log_det - 0.5 * self.precisions_chol.shape[-1] * LOG_2PI

    def variances(self) -> Tensor:
        return self.values.diagonal(dim1=-2, dim2=-1)

    def precision_diagonal(self) -> Tensor:
        return self.precisions_chol.square().sum(-1)

    def natural(self, means: Tensor, log_weights: Tensor) -> Tensor:
        precisions = self.precisions()
        linear = (precisions @ means[:, :, None])[:, :, 0]
        constant = log_weights + self._log_normalizer() - 0.5 * (linear * means).sum(1)
        # Off-diagonal products appear once in the features, twice in x^T P x.
        precisions.diagonal(dim1=-2, dim2=-1).mul_(0.5)
        quadratic = -linalg.pack_triangle(precisions)
        return torch.cat([constant[:, None], linear, quadratic], dim=1)

    @staticmethod
    def features(x: Tensor, out: Tensor) -> None:
        linalg.triangle_products(x, out)

    def second_about(self, x: Tensor, resp: Tensor, center: Tensor) -> Tensor:
        n_components, n_features = center.shape
        shape = (n_components, n_features, n_features)
        scatter = torch.zeros(shape, dtype=torch.float64, device=x.device)
        centers = center.to(x.dtype)[:, :, None]
        if n_features >= WIDE:
            for k in range(n_components):
                diff = x - centers[k]
                scatter[k] = (diff * resp[k]) @ diff.T
            return linalg.pack_triangle(scatter)
        for columns in column_chunks(x, n_components):
            diff = x[:, columns] - centers
            scatter += torch.bmm(diff * resp[:, None, columns], diff.mT)
        return linalg.pack_triangle(scatter)

    def expected_second(self, nk: Tensor, ridge: Tensor) -> Tensor:
        values = self.values - torch.diag(ridge)
        return linalg.pack_triangle(values) * nk[:, None]

    @classmethod
    def recentered(
        cls, second: Tensor, first: Tensor, nk: Tensor, shift: Tensor
    ) -> Tensor:
        moved = first[..., None] * shift[:, None]
        moved = moved + moved.mT - nk[:, None, None] * shift[..., None] * shift[:, None]
        return second - linalg.pack_triangle(moved)

    def marginal(self, kept: Tensor) -> Self:
        return type(self).from_values(self.values[:, kept[:, None], kept])[0]

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
            self._gain(observed, missing)
            @ (self.values[..., observed[:, None], missing])
        )
        residual = self.values[..., missing[:, None], missing] - explained
        return 0.5 * (residual + residual.mT)

    def expand(
        self, stats: Statistics, observed: Tensor, missing: Tensor
    ) -> tuple[Tensor, Tensor]:
        n_components, n_features = len(self.values), self.values.shape[-1]
        lift = self.values.new_zeros(n_components, n_features, len(observed))
        lift[:, observed, torch.arange(len(observed), device=lift.device)] = 1.0
        lift[:, missing] = self._gain(observed, missing)
        seen = linalg.unpack_triangle(stats.second, len(observed))
        second = lift @ seen @ lift.mT
        residual = stats.nk[:, None, None] * self._residual(observed, missing)
        second[:, missing[:, None], missing] += residual
        first = (lift @ stats.first[..., None])[..., 0]
        return first, linalg.pack_triangle(second)

    @classmethod
    def masked_bytes(cls, n_components: int, n_features: int) -> int:
        return 8 * 4 * n_components * n_features**2

    def masked(
        self, x: Tensor, mask: Tensor, means: Tensor
    ) -> tuple[Tensor, MaskedStatistics]:
        sigma = self.values.to(x.dtype)
        seen = mask.T[:, None]
        chol = masked_cholesky(sigma[None], seen)
        diff = ((x.T[:, None] - means.to(x.dtype)) * seen)[..., None]
        log_prob = masked_density(chol, diff, seen)[..., 0].T

        def statistics(resp: Tensor) -> tuple[Tensor, Tensor]:
            # Most rows belong to one component: the others need no inverse.
            least = NO_PART * resp.max()
            rows, owners = (resp.mT > least).nonzero(as_tuple=True)
            weight, factor = resp[owners, rows], chol[rows, owners]
            solved = torch.cholesky_solve(diff[rows, owners], factor)[..., 0]
            precision = masked_inverse(factor, seen[rows, 0])
            known = torch.zeros_like(sigma).index_add_(
                0, owners, weight[:, None, None] * precision
            )
            first, scatter = torch.zeros_like(means, dtype=x.dtype), []
            for k, matrix in enumerate(sigma):
                mine = owners == k
                completed = solved[mine] @ matrix
                weighted = weight[mine, None] * completed
                first[k] = weighted.sum(0)
                scatter.append(weighted.T @ completed)
            unseen = resp.sum(1)[:, None, None] * sigma - sigma @ known @ sigma
            second = torch.stack(scatter) + unseen
            return first.double(), linalg.pack_triangle(second).double()

        return log_prob, statistics

    def color(self, noise: Tensor, component: int) -> Tensor:
        factor = self.precisions_chol[component].T
        return linalg.solve_lower(factor, noise.T).T


def masked_cholesky(sigma: Tensor, seen: Tensor) -> Tensor:
    """Return the Cholesky factors of the observed parts, padded by the identity.

    Parameters
    ----------
    sigma : Tensor of shape (..., n_features, n_features)
    seen : Tensor of shape (..., n_features)
        1 where observed, 0 where missing.
    """
    padded = sigma * (seen[..., :, None] * seen[..., None, :])
    padded = padded + torch.diag_embed(1.0 - seen)
    chol: Tensor = torch.linalg.cholesky(padded)
    return chol


def masked_density(chol: Tensor, diff: Tensor, seen: Tensor) -> Tensor:
    """Return log N(diff; 0, L L^T) of the observed entries, (..., n_columns)."""
    whitened = torch.linalg.solve_triangular(chol, diff, upper=False)
    log_det = linalg.log_det_triangular(chol)[..., None]
    constant = 0.5 * LOG_2PI * seen.sum(-1)[..., None]
    density: Tensor = -0.5 * whitened.square().sum(-2) - log_det - constant
    return density


def masked_inverse(chol: Tensor, seen: Tensor) -> Tensor:
    """Return the inverses of the observed parts, zero elsewhere."""
    inverse: Tensor = torch.cholesky_inverse(chol)
    return inverse * (seen[..., :, None] * seen[..., None, :])
