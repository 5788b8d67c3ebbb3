"""A Gaussian mixture of patches, seen through white noise.

Under noise of variance v a component has the covariance U (Lambda + v) U^T. Where the
eigenvalues of a component are small beside the noise they are replaced by their mean,
which makes its search and its Wiener filter low-rank:

    Sigma = U_r (Lambda_r - t) U_r^T + t I,   t = mean of the other eigenvalues.

All quantities live in the orthonormal basis of the mean-removed patches.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from skdeepgmm._torch_backend.denoising.patches import Size, dct_basis, extract, tiles
from skdeepgmm._torch_backend.linalg import pack_triangle, triangle_products

#: What an elementwise operation on a value costs, in multiply-adds of a product.
ELEMENTWISE = 12
#: Patches whose density is computed at once.
MAX_SCORED = 2**14
#: Rows of one product of projections: its result stays in the caches.
MAX_PROJECTIONS = 512


@dataclass(frozen=True)
class PatchPrior:
    """Mixture over coefficients of mean-removed patches, float64.

    Attributes
    ----------
    size : tuple of int
        Height and width of a patch.
    basis : Tensor of shape (patch pixels, n_features)
        Orthonormal, orthogonal to the constant patch.
    log_weights : Tensor of shape (n_components,)
    means : Tensor of shape (n_components, n_features)
    eigenvalues : Tensor of shape (n_components, n_features), descending
    eigenvectors : Tensor of shape (n_components, n_features, n_features)
        One a column.
    """

    size: Size
    basis: Tensor
    log_weights: Tensor
    means: Tensor
    eigenvalues: Tensor
    eigenvectors: Tensor

    @classmethod
    def from_parameters(
        cls, size: Size, weights: Tensor, means: Tensor, covariances: Tensor
    ) -> "PatchPrior":
        """Return the prior with these parameters.

        Parameters
        ----------
        means : Tensor of shape (n_components, n_features)
            n_features is the number of pixels of a patch, or one less: coefficients
            in :func:`~skdeepgmm._torch_backend.denoising.patches.dct_basis`.
        covariances : Tensor of shape (n_components, n_features, n_features)
        """
        basis = dct_basis(size, means.device)
        if means.shape[1] == basis.shape[0]:
            means = means @ basis
            covariances = basis.T @ covariances @ basis
        values, vectors = torch.linalg.eigh(covariances)
        # Smaller ones are the rounding errors of the largest.
        rounding = values[:, -1:] * (len(basis) * torch.finfo(values.dtype).eps)
        values = torch.maximum(values, rounding)
        return cls(
            size,
            basis,
            weights.log(),
            means,
            values.flip(-1).clamp_min(torch.finfo(torch.float64).tiny),
            vectors.flip(-1).contiguous(),
        )

    @property
    def n_components(self) -> int:
        return self.means.shape[0]

    @property
    def n_features(self) -> int:
        return self.means.shape[1]

    def coefficients(self, patches: Tensor) -> Tensor:
        """Return the coefficients of patches (columns); drops their mean."""
        return self.basis.T.to(patches.dtype) @ patches

    def covariances(self, index: Tensor | slice = slice(None)) -> Tensor:
        """Return the covariances of the coefficients, of some components."""
        vectors = self.eigenvectors[index]
        return (vectors * self.eigenvalues[index][:, None, :]) @ vectors.mT


@dataclass(frozen=True)
class NoisyPrior:
    """A patch prior at one noise variance, ready to search and to filter.

    Attributes
    ----------
    prior : PatchPrior
    variance : float
        Of the noise in each pixel, v.
    ranks : list of int
        Eigenvectors kept of each component.
    tails : Tensor of shape (n_components,)
        Mean of the eigenvalues that were not kept, 0 where all were.
    """

    prior: PatchPrior
    variance: float
    ranks: list[int]
    tails: Tensor

    @classmethod
    def make(
        cls, prior: PatchPrior, variance: float, truncation: float = 0.0
    ) -> "NoisyPrior":
        """Keep the eigenvalues above ``truncation * variance`` of each component."""
        kept = prior.eigenvalues > truncation * variance
        dropped = (~kept).sum(1)
        sums = (prior.eigenvalues * ~kept).sum(1)
        tails = sums / dropped.clamp_min(1)
        return cls(prior, variance, kept.sum(1).tolist(), tails)

    def search(self, dtype: torch.dtype) -> "Search":
        """Return the cheaper of the two ways to compute the same log-densities."""
        n_features = self.prior.n_features
        n_moments = n_features * (n_features + 3) // 2 + 1
        projected = sum(self.ranks) * (n_features + ELEMENTWISE)
        moments = n_moments * (self.prior.n_components + ELEMENTWISE)
        if projected < moments:
            return ProjectionSearch(self, dtype)
        return MomentSearch(self, dtype)

    def log_normalizers(self) -> Tensor:
        """Return log pi_k - 1/2 log det(2 pi (Sigma_k + v I))."""
        values = self.noisy_eigenvalues().log().sum(1)
        constant = self.prior.n_features * math.log(2 * math.pi)
        return self.prior.log_weights - 0.5 * (values + constant)

    def noisy_eigenvalues(self) -> Tensor:
        """Return the eigenvalues with the noise, those not kept levelled."""
        index = torch.arange(self.prior.n_features, device=self.tails.device)
        ranks = torch.tensor(self.ranks, device=self.tails.device)
        kept = index < ranks[:, None]
        values = torch.where(kept, self.prior.eigenvalues, self.tails[:, None])
        return values + self.variance

    def precisions(self) -> Tensor:
        """Return the inverses of Sigma_k + v I."""
        vectors = self.prior.eigenvectors
        return (vectors / self.noisy_eigenvalues()[:, None, :]) @ vectors.mT

    def wiener(self, dtype: torch.dtype) -> "WienerFilters":
        """Return the filters E[z | c, k] of clean coefficients z given noisy c."""
        return WienerFilters(self, dtype)


class Search:
    """Log-densities log pi_k N(c; mu_k, Sigma_k + v I) of coefficients c."""

    def scores(self, coefficients: Tensor) -> Tensor:
        """Return (n_components, n_patches) for coefficients (n_features, n_patches)."""
        raise NotImplementedError


class MomentSearch(Search):
    """One matrix product on the products of coefficients: [1, c, c_i c_j]."""

    def __init__(self, noisy: NoisyPrior, dtype: torch.dtype) -> None:
        precisions = noisy.precisions()
        linear = (precisions @ noisy.prior.means[:, :, None])[:, :, 0]
        constant = noisy.log_normalizers() - 0.5 * (linear * noisy.prior.means).sum(1)
        # Off-diagonal products appear once in the features, twice in c^T P c.
        precisions.diagonal(dim1=-2, dim2=-1).mul_(0.5)
        natural = [constant[:, None], linear, -pack_triangle(precisions)]
        self.natural = torch.cat(natural, dim=1).to(dtype)

    def scores(self, coefficients: Tensor) -> Tensor:
        n_features, n_patches = coefficients.shape
        features = coefficients.new_empty(self.natural.shape[1], n_patches)
        features[0] = 1
        features[1 : 1 + n_features] = coefficients
        triangle_products(coefficients, features[1 + n_features :])
        return self.natural @ features


class ProjectionSearch(Search):
    """Squared projections onto the kept eigenvectors, all components in one product.

    With t the tail and s = t + v,
    (c - mu)^T (Sigma + v I)^-1 (c - mu)
    = |c - mu|^2 / s - sum_j (1/s - 1/(lambda_j + v)) (u_j^T (c - mu))^2.
    """

    def __init__(self, noisy: NoisyPrior, dtype: torch.dtype) -> None:
        prior = noisy.prior
        level = noisy.tails + noisy.variance
        gain = 1 / level[:, None] - 1 / noisy.noisy_eigenvalues()
        rows = (prior.eigenvectors * (0.5 * gain).sqrt()[:, None, :]).mT
        self.groups = list(self._groups(noisy.ranks))
        shift = (rows @ prior.means[:, :, None])[:, :, 0]
        self.rows = [
            self._stack(rows, group, noisy.ranks, dtype) for group in self.groups
        ]
        self.shifts = [
            self._stack(shift[:, :, None], group, noisy.ranks, dtype)
            for group in self.groups
        ]
        self.ranks = noisy.ranks
        self.has_means = bool((prior.means != 0).any())
        self.constant = (
            noisy.log_normalizers() - 0.5 * prior.means.square().sum(1) / level
        ).to(dtype)[:, None]
        self.linear = (prior.means / level[:, None]).to(dtype)
        self.isotropic = (-0.5 / level).to(dtype)[:, None]

    def scores(self, coefficients: Tensor) -> Tensor:
        energy = coefficients.square().sum(0)
        scores = self.constant + self.isotropic * energy
        if self.has_means:
            scores += self.linear @ coefficients
        for group, rows, shift in zip(self.groups, self.rows, self.shifts, strict=True):
            projections = rows @ coefficients
            if self.has_means:
                projections -= shift
            self._add_squares(scores, projections, group)
        return scores

    def _add_squares(self, scores: Tensor, projections: Tensor, group: range) -> None:
        projections.square_()
        start = 0
        for component in group:
            stop = start + self.ranks[component]
            if stop > start:
                scores[component] += projections[start:stop].sum(0)
            start = stop

    @staticmethod
    def _groups(ranks: list[int]) -> list[range]:
        """Cut the components where the projections would outgrow a block."""
        groups, start, size = [], 0, 0
        for component, rank in enumerate(ranks):
            if size + rank > MAX_PROJECTIONS:
                groups.append(range(start, component))
                start, size = component, 0
            size += rank
        return [*groups, range(start, len(ranks))]

    @staticmethod
    def _stack(
        rows: Tensor, group: range, ranks: list[int], dtype: torch.dtype
    ) -> Tensor:
        return torch.cat([rows[k, : ranks[k]] for k in group]).to(dtype)


class WienerFilters:
    """z = mu + t/(t + v) (c - mu) + U_r (g - t/(t + v)) U_r^T (c - mu)."""

    def __init__(self, noisy: NoisyPrior, dtype: torch.dtype) -> None:
        prior = noisy.prior
        level = noisy.tails / (noisy.tails + noisy.variance)
        gain = 1 - noisy.variance / noisy.noisy_eigenvalues() - level[:, None]
        left = prior.eigenvectors * gain[:, None, :]
        self.n_components = prior.n_components
        self.means = prior.means.to(dtype)
        self.level = level.tolist()
        factors = zip(left, prior.eigenvectors, noisy.ranks, strict=True)
        self.factors = [
            _product_or_pair(a[:, :rank].to(dtype), u[:, :rank].T.to(dtype))
            for a, u, rank in factors
        ]

    def apply(self, coefficients: Tensor, labels: Tensor) -> Tensor:
        """Return the filtered coefficients, each by the filter of its component."""
        order = labels.argsort()
        counts = torch.bincount(labels, minlength=self.n_components).tolist()
        grouped = coefficients[:, order]
        filtered = torch.empty_like(grouped)
        start = 0
        for component, count in enumerate(counts):
            if count:
                columns = slice(start, start + count)
                filtered[:, columns] = self._filter(component, grouped[:, columns])
            start += count
        result = torch.empty_like(grouped)
        result[:, order] = filtered
        return result

    def _filter(self, component: int, block: Tensor) -> Tensor:
        mean = self.means[component][:, None]
        centered = block - mean
        filtered = centered
        for factor in reversed(self.factors[component]):
            filtered = factor @ filtered
        return filtered.add_(centered, alpha=self.level[component]).add_(mean)


def _product_or_pair(left: Tensor, right: Tensor) -> list[Tensor]:
    """Return one matrix where it is cheaper to apply than two thin ones."""
    if 2 * right.shape[0] > left.shape[0]:
        return [left @ right]
    return [left, right]


def score_log_density(prior: PatchPrior, coefficients: Tensor) -> Tensor:
    """Return log p(c) in nats of each column, without cancellation."""
    log_density = coefficients.new_full((coefficients.shape[1],), -torch.inf)
    normalizer = NoisyPrior.make(prior, 0.0).log_normalizers()
    for component in range(prior.n_components):
        scale = prior.eigenvalues[component].rsqrt()[:, None]
        whitener = (prior.eigenvectors[component].T * scale).to(coefficients.dtype)
        center = prior.means[component].to(coefficients.dtype)[:, None]
        distance = (whitener @ (coefficients - center)).square().sum(0)
        joint = normalizer[component].to(distance.dtype) - 0.5 * distance
        log_density = torch.logaddexp(log_density, joint)
    return log_density


def mean_log_density(prior: PatchPrior, image: Tensor, stride: int) -> float:
    """Return the mean of log p over the patches of an image, in nats."""
    total, count = 0.0, 0
    shape = image.shape[0], image.shape[1]
    for tile in tiles(shape, prior.size, stride, MAX_SCORED):
        coefficients = prior.coefficients(extract(image, prior.size, tile))
        total += float(score_log_density(prior, coefficients).double().sum())
        count += coefficients.shape[1]
    return total / count
