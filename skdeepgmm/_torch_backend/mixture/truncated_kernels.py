"""Small matrix products for many groups of samples that share their candidates.

Samples of one anchor see the same candidates. Anchors with about equally many samples
are packed: padded to the same number and computed by one batched product.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from skdeepgmm._torch_backend.data import Block
from skdeepgmm._torch_backend.mixture.covariances.base import MAX_CANCELLATION
from skdeepgmm._torch_backend.mixture.density import MixtureDensity
from skdeepgmm._torch_backend.mixture.e_step import (
    MAX_MOMENT_FEATURES,
    WholeKernel,
    add_responsibilities,
    choose_whole_kernel,
)
from skdeepgmm._torch_backend.mixture.suffstats import Statistics

#: Samples of a pack, and values of its candidates' coefficients.
PACK_ROWS, PACK_VALUES = 4096, 2**22
#: Largest ``Covariance.cancellation`` about anchors in float64: an error of 1e-4 nats
#: in densities of components that collapsed elsewhere.
MOST_CANCELLATION = 1e12
#: More samples of one anchor are seen in pieces.
MOST_ROWS = 2**15


@dataclass
class Pack:
    """Samples of some anchors, padded to equally many.

    Attributes
    ----------
    anchors : Tensor of int64, (n_anchors,)
    places : Tensor of int64, (n_anchors, n_samples)
        Where the samples are in the order by anchor.
    valid : Tensor of bool, (n_anchors, n_samples)
        False for padding.
    whole : bool
        Whether all samples of the anchors are in it.
    """

    anchors: Tensor
    places: Tensor
    valid: Tensor
    whole: bool = True


def packs_of(labels: Tensor, most_anchors: int) -> Iterator[Pack]:
    """Yield packs of samples whose labels are sorted."""
    anchors, counts = torch.unique_consecutive(labels, return_counts=True)
    starts = counts.cumsum(0) - counts
    order = counts.argsort(descending=True, stable=True)
    anchors, counts, starts = anchors[order], counts[order], starts[order]
    sizes, first = counts.tolist(), 0
    while first < len(sizes):
        width, last = sizes[first], first + 1
        most = min(most_anchors, max(1, PACK_ROWS // width))
        while last < len(sizes) and last - first < most and 2 * sizes[last] > width:
            last += 1
        part = slice(first, last)
        ranges = range(0, width, MOST_ROWS)
        for begin in ranges:
            columns = torch.arange(
                begin, min(begin + MOST_ROWS, width), device=labels.device
            )
            valid = columns < counts[part, None]
            places = starts[part, None] + torch.where(valid, columns, 0)
            yield Pack(anchors[part], places, valid, len(ranges) == 1)
        first = last


class Shift(Protocol):
    """B of quadratic features f: f(y + c) = f(y) + B(c, y) + f(c), one c an anchor."""

    def coefficients(self, quadratic: Tensor) -> Tensor:
        """Return the coefficients of y in <quadratic, B(c, y)>, (..., n_features)."""

    def products(self, linear: Tensor) -> Tensor:
        """Return B(c, linear), (n_anchors, n_rows, n_moment_features)."""


class SquareShift:
    """Of squares of the features, of their sum, or of nothing: B(c, y) = 2 c y.

    Parameters
    ----------
    center : Tensor of shape (n_anchors, n_features)
    n_moments : int
        Number of second-moment features.
    """

    def __init__(self, center: Tensor, n_moments: int) -> None:
        self.twice, self.n_moments = 2.0 * center[:, None], n_moments

    def coefficients(self, quadratic: Tensor) -> Tensor:
        """Return the coefficients of y in <quadratic, B(c, y)>, (..., n_features)."""
        if not self.n_moments:
            return torch.zeros_like(self.twice)
        return quadratic * self.twice

    def products(self, linear: Tensor) -> Tensor:
        """Return B(c, linear), (n_anchors, n_rows, n_moment_features)."""
        found = linear * self.twice
        if self.n_moments == 1:
            return found.sum(-1, keepdim=True)
        return found[..., : self.n_moments]


class MatrixShift:
    """Of any quadratic features, B(c, .) as matrices.

    Parameters
    ----------
    center : Tensor of shape (n_anchors, n_features)
    features : callable
        Second-moment features of rows.
    """

    def __init__(self, center: Tensor, features: Callable[[Tensor], Tensor]) -> None:
        n_features = center.shape[1]
        units = torch.eye(n_features, dtype=center.dtype, device=center.device)
        both = features((center[:, None] + units).flatten(0, 1))
        both = both.reshape(*center.shape, -1)
        self.cross = (both - features(center)[:, None] - features(units)).mT

    def coefficients(self, quadratic: Tensor) -> Tensor:
        """Return the coefficients of y in <quadratic, B(c, y)>, (..., n_features)."""
        return torch.bmm(quadratic, self.cross)

    def products(self, linear: Tensor) -> Tensor:
        """Return B(c, linear), (n_anchors, n_rows, n_moment_features)."""
        return torch.bmm(linear, self.cross.mT)


class PackedMoments:
    """The natural form about each anchor's mean, one batched product a pack.

    Thousands of components are tight beside the spread of the data, where products of
    x would cancel; those of x - c, c the anchor's mean, do not. Second-moment features
    are quadratic, so that both coefficients and statistics go from one centre to the
    other by a ``Shift``.

    Parameters
    ----------
    mixture : MixtureDensity
        Of a covariance type without factors.
    rows : Tensor of shape (n_samples, n_features)
    dtype : torch.dtype
        Of the products.
    """

    def __init__(
        self, mixture: MixtureDensity, rows: Tensor, dtype: torch.dtype
    ) -> None:
        self.mixture, self.rows, self.dtype = mixture, rows, dtype
        covariance = mixture.covariance
        self.natural = covariance.natural(mixture.means, mixture.weights.log())
        self.linear = slice(1, 1 + mixture.n_features)
        self.products = torch.zeros_like(self.natural)
        self.n_moments = covariance.n_moment_features(mixture.n_features)
        zero = torch.zeros_like(mixture.means)
        self.stats = Statistics.zeros(zero, covariance.second_shape(*zero.shape))
        exact = dtype == torch.float64
        self.bound = math.inf if exact else MAX_CANCELLATION[dtype]

    def most_anchors(self, n_candidates: int) -> int:
        """Return how many anchors a pack may have."""
        n_features = self.mixture.n_features
        n_rows = n_candidates
        if self.n_moments > n_features:
            n_rows = max(n_candidates, n_features)
        return max(1, PACK_VALUES // (n_rows * self.natural.shape[1]))

    def load(self, pack: Pack, index: Tensor) -> None:
        """Read the samples of a pack, whose numbers are ``index``."""
        self.index = index[pack.places]
        center = self.mixture.means[pack.anchors]
        if self.mixture.covariance.shared:
            center = torch.zeros_like(center)
        rows = self.rows[self.index].to(self.dtype) - center.to(self.dtype)[:, None]
        self.features = self._features(rows.flatten(0, 1).T)
        self.at_center = self._features(center.T).T[..., None]
        self.shift = self._shift(center)

    def log_joint(self, candidates: Tensor) -> Tensor:
        """Return log-densities of (n_anchors, n_candidates), candidates first."""
        natural = self.natural[candidates]
        quadratic = natural[..., self.linear.stop :]
        natural[..., :1] = torch.bmm(natural, self.at_center)
        natural[..., self.linear] += self.shift.coefficients(quadratic)
        product = torch.bmm(natural.to(self.dtype), self._stacked())
        mixture = self.mixture
        other, _ = mixture.covariance.other_log_prob(self._x(), mixture.means)
        if other is not None:  # one for all components
            product += other.reshape(len(product), 1, -1)
        return product.permute(1, 0, 2)

    def add(
        self, candidates: Tensor, resp: Tensor, log_prob: Tensor, weight: Tensor
    ) -> None:
        """Add weighted samples, responsibilities candidates first."""
        self.stats.add((weight * log_prob).sum(), weight.sum())
        weight = weight.to(resp.dtype)
        resp = (resp * weight).permute(1, 0, 2)
        products = torch.bmm(resp, self._stacked().mT).double()
        nk, stop = products[..., :1], self.linear.stop
        products[..., stop:] += self.shift.products(products[..., self.linear])
        products[..., 1:] += nk * self.at_center.mT[..., 1:]
        where = candidates.flatten()
        self.products.index_add_(0, where, products.flatten(0, 1))
        if self.mixture.covariance.shared:
            self.stats.second += self.mixture.covariance.second_from_features(
                products, self._x(), weight.flatten(), resp, None
            )

    def statistics(self) -> Statistics:
        """Return the statistics of all that was added."""
        products, stats, covariance = self.products, self.stats, self.mixture.covariance
        stats.nk += products[:, 0]
        stats.first += products[:, self.linear]
        if not covariance.shared:
            stats.second += covariance.second_from_features(
                products[:, self.linear.stop :], self.rows, None, products, None
            )
        return replace(stats, cancellation_bound=self.bound)

    def _shift(self, center: Tensor) -> Shift:
        if self.n_moments <= self.mixture.n_features:
            return SquareShift(center, self.n_moments)
        stop = self.linear.stop
        return MatrixShift(center, lambda rows: self._features(rows.T)[stop:].T)

    def _features(self, x: Tensor) -> Tensor:
        """Return [1, x, f(x)] of samples (n_features, n_samples)."""
        features = x.new_empty(self.natural.shape[1], x.shape[1])
        features[0] = 1.0
        features[self.linear] = x
        self.mixture.covariance.features(
            features[self.linear], features[self.linear.stop :]
        )
        return features

    def _stacked(self) -> Tensor:
        """Return the features as (n_anchors, n_moments, n_samples)."""
        return self.features.reshape(-1, *self.index.shape).permute(1, 0, 2)

    def _x(self) -> Tensor:
        return self.features[self.linear]


class SingleGroups:
    """Any kernel, one anchor at a time: factors, and the exact form."""

    def __init__(self, kernel: WholeKernel, rows: Tensor) -> None:
        self.kernel, self.rows = kernel, rows
        self.stats = kernel.empty_statistics()

    def most_anchors(self, n_candidates: int) -> int:
        """Return how many anchors a pack may have."""
        return 1

    def load(self, pack: Pack, index: Tensor) -> None:
        """Read the samples of a pack, whose numbers are ``index``."""
        x = self.rows[index[pack.places[0]]].T.contiguous()
        self.block = Block(x, slice(0, 0), 0)

    def log_joint(self, candidates: Tensor) -> Tensor:
        """Return log-densities of (1, n_candidates), candidates first."""
        self.candidates, self.part = candidates[0], self.kernel.subset(candidates[0])
        return self.part.log_joint(self.block)[:, None]

    def add(
        self, candidates: Tensor, resp: Tensor, log_prob: Tensor, weight: Tensor
    ) -> None:
        """Add weighted samples, responsibilities candidates first."""
        where = candidates[0]
        part = self.part.subset((where[:, None] == self.candidates).int().argmax(1))
        own, self.block.weight = part.empty_statistics(), weight[0]
        add_responsibilities(part, own, self.block, resp[:, 0], log_prob[0])
        self.stats.add(own.log_likelihood, own.total)
        self.stats.nk.index_add_(0, where, own.nk)
        self.stats.first.index_add_(0, where, own.first)
        if self.kernel.covariance.shared:
            self.stats.second += own.second
        else:
            self.stats.second.index_add_(0, where, own.second)

    def statistics(self) -> Statistics:
        """Return the statistics of all that was added."""
        bound = self.kernel.cancellation_bound
        return replace(self.stats, cancellation_bound=bound)


AnyGroups = PackedMoments | SingleGroups


def local_cancellation(mixture: MixtureDensity, neighbours: Tensor) -> float:
    """Return the ``Covariance.cancellation`` about the means of anchors."""
    covariance, means = mixture.covariance, mixture.means
    if covariance.shared:
        return covariance.cancellation(means)
    precision = covariance.precision_diagonal().expand_as(means)
    own = (precision * covariance.variances()).sum(1)
    largest, step = 0.0, max(1, PACK_VALUES // neighbours.shape[1] // means.shape[1])
    for anchors, known in zip(
        torch.split(means, step), torch.split(neighbours, step), strict=True
    ):
        squares = (means[known] - anchors[:, None]).square()
        found = own[known] + (precision[known] * squares).sum(2)
        largest = max(largest, float(found.max()))
    return largest


def groups_of(
    mixture: MixtureDensity,
    neighbours: Tensor,
    rows: Tensor,
    least_bound: float = 0.0,
) -> AnyGroups:
    """Return the fastest accurate way to see the rows."""
    n_moments = mixture.covariance.n_moment_features(mixture.n_features)
    if not mixture.covariance.rank and n_moments <= MAX_MOMENT_FEATURES:
        own = local_cancellation(mixture, neighbours)
        if max(own, least_bound) <= MAX_CANCELLATION[rows.dtype]:
            return PackedMoments(mixture, rows, rows.dtype)
        wanted = own if least_bound == math.inf else max(own, least_bound)
        if wanted <= MOST_CANCELLATION:
            return PackedMoments(mixture, rows, torch.float64)
    kernel = choose_whole_kernel(
        mixture, rows.dtype, len(rows), least_bound, may_keep=False
    )
    return SingleGroups(kernel, rows)
