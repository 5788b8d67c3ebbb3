"""One unrestricted covariance matrix a component."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from skdeepgmm._torch_backend import linalg
from skdeepgmm._torch_backend.mixture.covariances.base import (
    LOG_2PI,
    TILE_FEATURES,
    Covariance,
    FeatureWriter,
    MaskedStatistics,
    column_chunks,
    squared_norms,
)
from skdeepgmm._torch_backend.mixture.covariances.diag import DiagCovariance
from skdeepgmm._torch_backend.mixture.covariances.matrices import (
    Completion,
    MatrixCovariance,
    masked_cholesky,
    masked_density,
)
from skdeepgmm._torch_backend.mixture.covariances.pairs import Pairs
from skdeepgmm._torch_backend.mixture.covariances.sgd_factor import (
    TRUST,
    SGDFactor,
    triangular,
)
from skdeepgmm._torch_backend.mixture.suffstats import Statistics

#: Features from which on one component's product fills a processor by itself.
WIDE = 64
#: Responsibilities below this share of the largest add nothing in float64.
NO_PART = 1e-16


class FullFactor(SGDFactor):
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
        diagonal.copy_(torch.minimum(diagonal.clone(), largest))
        return moved

    @staticmethod
    def largest(ridge: Tensor) -> Tensor:
        return ridge.rsqrt()


@dataclass(frozen=True)
class FullCovariance(MatrixCovariance):
    """Covariance matrices of shape (n_components, n_features, n_features)."""

    name: ClassVar[str] = "full"
    in_sklearn: ClassVar[bool] = True
    sgd_factor: ClassVar[type[SGDFactor]] = FullFactor

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
    def least_samples(cls, n_components: int, n_features: int) -> int:
        return n_features + 1

    @classmethod
    def n_moment_features(cls, n_features: int) -> int:
        return n_features * (n_features + 1) // 2

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
    def from_variances(cls, variances: Tensor, n_components: int) -> Tensor:
        return torch.diag(variances).repeat(n_components, 1, 1)

    @classmethod
    def matched(cls, values: Tensor, weights: Tensor, pairs: Pairs) -> Tensor:
        # What the statistics come to, without the factors that they go through.
        share = pairs.share[:, None, None]
        mean = share * values[pairs.first] + (1.0 - share) * values[pairs.second]
        spread = share * (1.0 - share) * pairs.diff[:, :, None]
        return mean + spread * pairs.diff[:, None]

    @classmethod
    def coarse(cls, values: Tensor) -> tuple[type[Covariance], Tensor]:
        return DiagCovariance, values.diagonal(dim1=-2, dim2=-1)

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
        return self.log_normalizer(len(x))[:, None].to(x.dtype) - 0.5 * distance

    def dense(self, n_components: int, n_features: int) -> Tensor:
        return self.values

    def variances(self) -> Tensor:
        return self.values.diagonal(dim1=-2, dim2=-1)

    def precision_diagonal(self) -> Tensor:
        return self.precisions_chol.square().sum(-1)

    def natural(self, means: Tensor, log_weights: Tensor) -> Tensor:
        precisions = self.precisions()
        linear = (precisions @ means[:, :, None])[:, :, 0]
        constant = (
            log_weights
            + self.log_normalizer(means.shape[1])
            - 0.5 * (linear * means).sum(1)
        )
        # Off-diagonal products appear once in the features, twice in x^T P x.
        precisions.diagonal(dim1=-2, dim2=-1).mul_(0.5)
        quadratic = -linalg.pack_triangle(precisions)
        return torch.cat([constant[:, None], linear, quadratic], dim=1)

    @staticmethod
    def features(x: Tensor, out: Tensor) -> None:
        linalg.triangle_products(x, out)

    @classmethod
    def tile_features(cls, n_features: int) -> int:
        if cls.n_moment_features(n_features) <= 2 * TILE_FEATURES:
            return 0
        return max(1, TILE_FEATURES // n_features) * n_features

    @staticmethod
    def feature_writer(x: Tensor) -> FeatureWriter:
        return linalg.triangle_writer(x)

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

    @classmethod
    def masked_bytes(cls, n_components: int, n_features: int) -> int:
        return 8 * 4 * n_components * n_features**2

    @staticmethod
    def packed(matrices: Tensor) -> Tensor:
        return linalg.pack_triangle(matrices)

    @staticmethod
    def unpacked(second: Tensor, n_features: int) -> Tensor:
        return linalg.unpack_triangle(second, n_features)

    @staticmethod
    def mass_of(nk: Tensor) -> Tensor:
        return nk[:, None, None]

    @staticmethod
    def product(matrices: Tensor, vectors: Tensor) -> Tensor:
        return (matrices @ vectors[..., None])[..., 0]

    def masked(
        self, x: Tensor, mask: Tensor, means: Tensor
    ) -> tuple[Tensor, MaskedStatistics]:
        if self.ill_conditioned:
            return self.masked_by_pattern(x, mask, means)
        sigma = self.values.to(x.dtype)
        seen = mask.T[:, None]
        chol = masked_cholesky(sigma[None], seen)
        diff = ((x.T[:, None] - means.to(x.dtype)) * seen)[..., None]
        log_prob = masked_density(chol, diff, seen)[..., 0].T
        return log_prob, MaskedFull(sigma, mask.T, chol, diff)

    def color(self, noise: Tensor, component: int) -> Tensor:
        factor = self.precisions_chol[component].T
        return linalg.solve_lower(factor, noise.T).T


@dataclass(frozen=True)
class MaskedFull:
    """Expected statistics of samples that miss different features.

    Attributes
    ----------
    sigma : Tensor of shape (n_components, n_features, n_features)
    seen : Tensor of shape (n_samples, n_features)
        1 where observed, 0 where missing.
    chol : Tensor of shape (n_samples, n_components, n_features, n_features)
        Factors of the observed parts.
    diff : Tensor of shape (n_samples, n_components, n_features, 1)
        x - mu, 0 where missing.
    """

    sigma: Tensor
    seen: Tensor
    chol: Tensor
    diff: Tensor

    def __call__(self, resp: Tensor) -> tuple[Tensor, Tensor]:
        # Most samples belong to one component: the others need no completion.
        least = NO_PART * resp.max()
        first, second = torch.zeros_like(self.sigma[:, 0]), []
        for k, sigma in enumerate(self.sigma):
            rows = (resp[k] > least).nonzero()[:, 0]
            weight = resp[k, rows]
            found = Completion.of(
                self.chol[rows, k], sigma, self.diff[rows, k], self.seen[rows]
            )
            completed = found.values[..., 0]
            weighted = weight[:, None] * completed
            first[k] = weighted.sum(0)
            second.append(weighted.T @ completed + found.unexplained(sigma, weight))
        return first.double(), linalg.pack_triangle(torch.stack(second)).double()
