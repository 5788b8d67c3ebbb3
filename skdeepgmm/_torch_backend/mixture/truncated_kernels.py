"""Small matrix products for many groups of samples that share their candidates.

Samples of one anchor see the same candidates. Anchors with about equally many samples
are packed: padded to the same number and computed by one batched product.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from skdeepgmm._torch_backend.data import Block
from skdeepgmm._torch_backend.mixture.density import MixtureDensity
from skdeepgmm._torch_backend.mixture.e_step import (
    AnyKernel,
    MomentKernel,
    add_responsibilities,
    choose_kernel,
)
from skdeepgmm._torch_backend.mixture.suffstats import Statistics

#: Samples of a pack, and values of its candidates' coefficients.
PACK_ROWS, PACK_VALUES = 4096, 2**22
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


class PackedMoments:
    """The natural form, one batched product a pack.

    Parameters
    ----------
    kernel : MomentKernel
        Of a covariance type without factors.
    rows : Tensor of shape (n_samples, n_features)
    """

    def __init__(self, kernel: MomentKernel, rows: Tensor) -> None:
        self.kernel, self.rows = kernel, rows
        n_components, width = kernel.natural.shape
        self.products = kernel.means.new_zeros(n_components, width)
        self.stats = kernel.empty_statistics()
        self.most_values = width

    def most_anchors(self, n_candidates: int) -> int:
        """Return how many anchors a pack may have."""
        return max(1, PACK_VALUES // (n_candidates * self.most_values))

    def load(self, pack: Pack, index: Tensor) -> None:
        """Read the samples of a pack, whose numbers are ``index``."""
        self.index = index[pack.places]
        self.features = self.kernel.features_of(self.rows[self.index.flatten()].T)

    def log_joint(self, candidates: Tensor) -> Tensor:
        """Return log-densities of (n_anchors, n_candidates), candidates first."""
        n_anchors, n_samples = self.index.shape
        product = torch.bmm(self.kernel.natural[candidates], self._stacked())
        other, _ = self.kernel.covariance.other_log_prob(self._x(), self.kernel.means)
        if other is not None:  # one for all components
            product += other.reshape(n_anchors, 1, n_samples)
        return product.permute(1, 0, 2)

    def add(
        self, candidates: Tensor, resp: Tensor, log_prob: Tensor, weight: Tensor
    ) -> None:
        """Add weighted samples, responsibilities candidates first."""
        total = weight.sum()
        self.stats.add((weight * log_prob).sum(), total)
        weight = weight.to(resp.dtype)
        products = torch.bmm(
            (resp * weight).permute(1, 0, 2), self._stacked().mT
        ).flatten(0, 1)
        self.products.index_add_(0, candidates.flatten(), products.double())
        if self.kernel.covariance.shared:
            self.stats.second += self.kernel.covariance.second_from_features(
                products, self._x(), weight.flatten(), resp, None
            )

    def statistics(self) -> Statistics:
        """Return the statistics of all that was added."""
        linear, stats = 1 + self.kernel.n_features, self.stats
        stats.nk += self.products[:, 0]
        stats.first += self.products[:, 1:linear]
        if not self.kernel.covariance.shared:
            stats.second += self.kernel.covariance.second_from_features(
                self.products[:, linear:], self.rows, None, self.products, None
            )
        return replace(stats, cancellation_bound=self.kernel.cancellation_bound)

    def _stacked(self) -> Tensor:
        """Return the features as (n_anchors, n_moments, n_samples)."""
        return self.features.reshape(-1, *self.index.shape).permute(1, 0, 2)

    def _x(self) -> Tensor:
        return self.features[1 : 1 + self.kernel.n_features]


class SingleGroups:
    """Any kernel, one anchor at a time: factors, and the exact form."""

    def __init__(self, kernel: AnyKernel, rows: Tensor) -> None:
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


def groups_of(
    mixture: MixtureDensity, rows: Tensor, least_bound: float = 0.0
) -> AnyGroups:
    """Return the fastest accurate way to see the rows."""
    kernel = choose_kernel(mixture, rows.dtype, len(rows), least_bound, may_keep=False)
    if isinstance(kernel, MomentKernel) and not mixture.covariance.rank:
        return PackedMoments(kernel, rows)
    return SingleGroups(kernel, rows)
