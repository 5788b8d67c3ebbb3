"""One covariance matrix that all components share."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from skdeepgmm._torch_backend import linalg
from skdeepgmm._torch_backend.mixture.covariances.base import (
    LOG_2PI,
    MaskedStatistics,
    column_chunks,
    squared_norms,
)
from skdeepgmm._torch_backend.mixture.covariances.full import FullFactor
from skdeepgmm._torch_backend.mixture.covariances.matrices import (
    Completion,
    MatrixCovariance,
    masked_cholesky,
    masked_density,
)
from skdeepgmm._torch_backend.mixture.covariances.pairs import Pairs
from skdeepgmm._torch_backend.mixture.covariances.sgd_factor import (
    SGDFactor,
    triangular,
)
from skdeepgmm._torch_backend.mixture.suffstats import Statistics


class TiedFactor(FullFactor):
    """One upper-triangular factor of shape (n_features, n_features)."""

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


@dataclass(frozen=True)
class TiedCovariance(MatrixCovariance):
    """A covariance matrix of shape (n_features, n_features)."""

    name: ClassVar[str] = "tied"
    shared: ClassVar[bool] = True
    in_sklearn: ClassVar[bool] = True
    sgd_factor: ClassVar[type[SGDFactor]] = TiedFactor

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
    def least_samples(cls, n_components: int, n_features: int) -> int:
        return n_features + n_components

    @classmethod
    def n_moment_features(cls, n_features: int) -> int:
        return 0

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
    def from_variances(cls, variances: Tensor, n_components: int) -> Tensor:
        return torch.diag(variances)

    @classmethod
    def merge_costs(
        cls, values: Tensor, own: Tensor, weights: Tensor, pairs: Pairs
    ) -> Tensor:
        # By the determinant lemma: |S + c d d^T| = |S| (1 + c d^T S^-1 d).
        factor = cls.from_values(values)[0].precisions_chol
        distance = (pairs.diff @ factor).square().sum(1)
        total = weights.sum()
        spread = pairs.mass * pairs.share * (1.0 - pairs.share) / total
        return 0.5 * total * (spread * distance).log1p()

    def log_prob(self, x: Tensor, means: Tensor) -> Tensor:
        # Subtract before whitening: exact where an offset is large.
        origin = means.mean(0)
        factor = self.precisions_chol.to(x.dtype).T
        centers = (factor.to(means.dtype) @ (means - origin).T).T[:, :, None]
        centers = centers.to(x.dtype)
        whitened = factor @ (x - origin.to(x.dtype)[:, None])
        distance = squared_norms(whitened, len(means), lambda part: part - centers)
        return self.log_normalizer(len(x)).to(x.dtype) - 0.5 * distance

    def dense(self, n_components: int, n_features: int) -> Tensor:
        return self.values.expand(n_components, n_features, n_features)

    def variances(self) -> Tensor:
        return self.values.diagonal()[None]

    def precision_diagonal(self) -> Tensor:
        return self.precisions_chol.square().sum(-1)[None]

    def natural(self, means: Tensor, log_weights: Tensor) -> Tensor:
        linear = means @ (self.precisions_chol @ self.precisions_chol.T)
        constant = (
            log_weights
            + self.log_normalizer(means.shape[1])
            - 0.5 * (linear * means).sum(1)
        )
        return torch.cat([constant[:, None], linear], dim=1)

    @staticmethod
    def features(x: Tensor, out: Tensor) -> None:
        """Do nothing: the quadratic term is common to all components."""

    def other_log_prob(
        self, x: Tensor, means: Tensor
    ) -> tuple[Tensor | None, Tensor | None]:
        whitened = self.precisions_chol.to(x.dtype).T @ x
        return whitened.square_().sum(0).mul_(-0.5), None

    def second_from_features(
        self,
        products: Tensor,
        x: Tensor,
        total: Tensor | None,
        resp: Tensor,
        cache: Tensor | None,
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

    @staticmethod
    def packed(matrices: Tensor) -> Tensor:
        return matrices

    @staticmethod
    def unpacked(second: Tensor, n_features: int) -> Tensor:
        return second

    @staticmethod
    def mass_of(nk: Tensor) -> Tensor:
        return nk.sum()

    @staticmethod
    def product(matrices: Tensor, vectors: Tensor) -> Tensor:
        return vectors @ matrices.T

    @classmethod
    def masked_bytes(cls, n_components: int, n_features: int) -> int:
        return 8 * 4 * n_features * (n_features + n_components)

    def masked(
        self, x: Tensor, mask: Tensor, means: Tensor
    ) -> tuple[Tensor, MaskedStatistics]:
        if self.ill_conditioned:
            return self.masked_by_pattern(x, mask, means)
        sigma, seen = self.values.to(x.dtype), mask.T
        chol = masked_cholesky(sigma, seen)
        diff = (x.T[:, :, None] - means.to(x.dtype).T) * seen[..., None]
        log_prob = masked_density(chol, diff, seen).T

        def statistics(resp: Tensor) -> tuple[Tensor, Tensor]:
            weight = resp.T
            found = Completion.of(chol, sigma, diff, seen)
            weighted = found.values * weight[:, None]
            scatter = torch.einsum("bdk,bek->de", weighted, found.values)
            scatter = scatter + found.unexplained(sigma, weight.sum(1))
            return weighted.sum(0).T.double(), scatter.double()

        return log_prob, statistics

    def color(self, noise: Tensor, component: int) -> Tensor:
        factor = self.precisions_chol.T
        return linalg.solve_lower(factor, noise.T).T
