"""EM with thousands of components: each sample sees a few candidates.

Every sample has an *anchor*, the best component it knows, and every component a short
list of *neighbours*, itself among them. The posterior of a sample is cut to the
neighbours of its anchor, so that all samples of one anchor share their candidates, and
the E-step is one small matrix product an anchor. The bound

    F = sum_n log sum_{k in neighbours(anchor(n))} pi_k N(x_n; mu_k, Sigma_k)

is the free energy of the truncated posterior: it is at most the log-likelihood, and no
step lowers it. Neighbours are replaced where that raises the sum over the samples of
the anchor, a sample goes over to a better component where its own term does not fall,
and the M-step is the usual one.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from skdeepgmm._torch_backend.data import Block
from skdeepgmm._torch_backend.mixture.density import MixtureDensity
from skdeepgmm._torch_backend.mixture.e_step import (
    AnyKernel,
    add_responsibilities,
    choose_kernel,
    normalize,
)
from skdeepgmm._torch_backend.mixture.suffstats import Statistics

#: Share of further components that a search looks at beside the neighbours.
EXTRA = 0.5
#: Passes between two searches among the nearest means.
RENEWAL = 4
#: Samples whose moment features are made together.
BATCH_ROWS = 4096
#: Working memory of distances between samples and means.
DISTANCE_BYTES = 64 * 2**20


def nearest(
    points: Tensor, centers: Tensor, scale: Tensor, count: int = 1
) -> Tensor:
    """Return the indices of the nearest centres, (n_points, count).

    Parameters
    ----------
    points : Tensor of shape (n_points, n_features)
    centers : Tensor of shape (n_components, n_features)
    scale : Tensor of shape (n_features,)
        Unit of each feature's distance.
    """
    kept = (centers / scale).to(points.dtype)
    half_norms = 0.5 * kept.square().sum(1)
    unit = scale.to(points.dtype)
    step = max(1, DISTANCE_BYTES // (len(centers) * points.element_size()))
    parts = []
    for part in points.split(step):
        closeness = torch.addmm(-half_norms, part / unit, kept.T)
        if count == 1:
            parts.append(closeness.argmax(1, keepdim=True))
        else:
            parts.append(closeness.topk(count, dim=1).indices)
    return torch.cat(parts)


def typical_scale(mixture: MixtureDensity) -> Tensor:
    """Return the standard deviations of the features within components."""
    variances = mixture.covariance.variances().expand_as(mixture.means)
    return (mixture.weights @ variances).sqrt()


def nearest_neighbours(mixture: MixtureDensity, count: int) -> Tensor:
    """Return each component and the nearest others, (n_components, count)."""
    means, scale = mixture.means, typical_scale(mixture)
    found = nearest(means.float(), means, scale, min(count + 1, len(means)))
    own = torch.arange(len(means), device=means.device)[:, None]
    # Itself first, whatever duplicated means do to the order.
    others = torch.where(found == own, -1, found)
    order = (others < 0).int().argsort(dim=1, stable=True)
    others = others.gather(1, order)[:, : count - 1]
    return torch.cat([own, others], dim=1)


def segments(sorted_labels: Tensor) -> Iterator[tuple[int, int, int]]:
    """Yield (label, start, stop) of the runs of equal labels."""
    labels, counts = torch.unique_consecutive(sorted_labels, return_counts=True)
    stops = counts.cumsum(0)
    starts = stops - counts
    yield from zip(labels.tolist(), starts.tolist(), stops.tolist(), strict=True)


def batches_of(
    sorted_labels: Tensor,
) -> Iterator[tuple[slice, int, list[tuple[int, int, int]]]]:
    """Yield runs of equal labels by the batch: its samples, their start, the runs."""
    runs: list[tuple[int, int, int]] = []
    for run in segments(sorted_labels):
        if runs and run[2] - runs[0][1] > BATCH_ROWS:
            yield slice(runs[0][1], runs[-1][2]), runs[0][1], runs
            runs = []
        runs.append(run)
    if runs:
        yield slice(runs[0][1], runs[-1][2]), runs[0][1], runs


@dataclass
class Visit:
    """What samples find among the neighbours of their anchors.

    Attributes
    ----------
    index : Tensor of int64
        The samples, by anchor.
    anchors : Tensor of int64
    bounds : Tensor
        Their terms of the bound.
    best : Tensor of int64
        The best component that each has seen.
    accepted : Tensor of bool
        Which of them are in the statistics.
    """

    index: Tensor
    anchors: Tensor
    bounds: Tensor
    best: Tensor
    accepted: Tensor


@dataclass
class Truncation:
    """E-steps with few candidates a sample; called as ``e_step`` is.

    Attributes
    ----------
    rows : Tensor of shape (n_samples, n_features)
        Standardised data.
    anchors : Tensor of int64, (n_samples,)
    neighbours : Tensor of int64, (n_components, n_candidates)
        First each component itself.
    generator : torch.Generator
    weight : Tensor of shape (n_samples,) or None
    """

    rows: Tensor
    anchors: Tensor
    neighbours: Tensor
    generator: torch.Generator
    weight: Tensor | None = None
    n_passes: int = 0
    near: Tensor | None = None

    def __call__(
        self, mixture: MixtureDensity, least_bound: float = 0.0
    ) -> Statistics:
        """Return the statistics of one pass."""
        n_samples, dtype = len(self.rows), self.rows.dtype
        kernel = choose_kernel(mixture, dtype, n_samples, least_bound, may_keep=False)
        stats = kernel.empty_statistics()
        stats.cancellation_bound = kernel.cancellation_bound
        everyone = torch.arange(n_samples, device=self.rows.device)
        seen = self._visit(
            kernel, stats, everyone, self.anchors, further=self._further(mixture)
        )
        movers = ~seen.accepted
        if bool(movers.any()):
            moved = self._visit(
                kernel,
                stats,
                seen.index[movers],
                seen.best[movers],
                least=seen.bounds[movers],
            )
            done = moved.accepted
            self.anchors[moved.index[done]] = moved.anchors[done]
            left = moved.index[~done]
            none = moved.bounds.new_full((len(left),), -torch.inf)
            self._visit(kernel, stats, left, self.anchors[left], least=none)
        self.n_passes += 1
        return stats

    def _visit(
        self,
        kernel: AnyKernel,
        stats: Statistics,
        index: Tensor,
        anchors: Tensor,
        least: Tensor | None = None,
        further: Tensor | None = None,
    ) -> Visit:
        """Add samples to the statistics, seen from these anchors.

        Those whose term reaches ``least``; if it is None, those whose best component
        is the anchor. ``further`` components, -1 for none, may become neighbours.
        """
        anchors, order = anchors.sort(stable=True)
        index = index[order]
        bounds = self.rows.new_empty(len(index))
        best, accepted = torch.empty_like(index), torch.empty_like(index).bool()
        if least is not None:
            least = least[order]
        for anchor, part, block in self._groups(kernel, index, anchors):
            known = self.neighbours[anchor]
            if further is None:
                log_joint = kernel.subset(known).log_joint(block)
                best[part] = known[log_joint.argmax(0)]
            else:
                log_joint, best[part] = self._searched(
                    kernel, block, anchor, further[anchor]
                )
            log_prob = normalize(log_joint)
            bounds[part] = log_prob
            good = best[part] == anchor if least is None else log_prob >= least[part]
            accepted[part] = good
            block.weight = self._weight_of(index[part], good)
            self._add(kernel, stats, block, log_joint, log_prob, anchor)
        return Visit(index, anchors, bounds, best, accepted)

    def _groups(
        self, kernel: AnyKernel, index: Tensor, anchors: Tensor
    ) -> Iterator[tuple[int, slice, Block]]:
        """Yield samples of one anchor, their place among all, and their block."""
        for batch, offset, runs in batches_of(anchors):
            x = self.rows[index[batch]].T.contiguous()
            features = kernel.features_of(x)
            for anchor, start, stop in runs:
                columns = slice(start - offset, stop - offset)
                block = Block(x[:, columns], slice(start, stop), 0)
                if features is not None:
                    block.features = features[:, columns]
                yield anchor, slice(start, stop), block

    def _weight_of(self, index: Tensor, good: Tensor) -> Tensor | None:
        """Return the weights of samples, 0 where they are not ``good``."""
        weight = None if self.weight is None else self.weight[index]
        if bool(good.all()):
            return weight
        return good.double() if weight is None else weight * good

    def _searched(
        self, kernel: AnyKernel, block: Block, anchor: int, further: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Look for better neighbours of an anchor; return what its samples see.

        Returns
        -------
        log_joint : Tensor of shape (n_candidates, n_samples)
        best : Tensor of int64, (n_samples,)
        """
        known = self.neighbours[anchor]
        both = torch.cat([known, further[further >= 0]])
        log_joint = kernel.subset(both).log_joint(block)
        best = both[log_joint.argmax(0)]
        resp = log_joint.softmax(0)
        mass = resp.sum(1)
        mass[0] = torch.inf  # itself
        kept = mass.topk(len(known)).indices
        before, after = resp[: len(known)].sum(0).log(), resp[kept].sum(0).log()
        if bool(after.double().sum() > before.double().sum()):
            self.neighbours[anchor] = both[kept]
            return log_joint[kept], best
        return log_joint[: len(known)], best

    def _add(
        self,
        kernel: AnyKernel,
        stats: Statistics,
        block: Block,
        resp: Tensor,
        log_prob: Tensor,
        anchor: int,
    ) -> None:
        where = self.neighbours[anchor]
        mine = kernel.subset(where)
        own = mine.empty_statistics()
        add_responsibilities(mine, own, block, resp, log_prob)
        stats.add(own.log_likelihood, own.total)
        stats.nk.index_add_(0, where, own.nk)
        stats.first.index_add_(0, where, own.first)
        if kernel.covariance.shared:
            stats.second += own.second
        else:
            stats.second.index_add_(0, where, own.second)

    def _further(self, mixture: MixtureDensity) -> Tensor:
        """Draw components that may become neighbours, -1 where none is new."""
        size, count = self.neighbours.shape
        if self.near is None or self.n_passes % RENEWAL == 0:
            self.near = nearest_neighbours(mixture, min(2 * count, size))
        n_extra = max(1, round(EXTRA * count))
        draw = {"generator": self.generator}
        own = torch.arange(size)[:, None]
        second = self.neighbours[
            self.neighbours[own, torch.randint(count, (size, n_extra), **draw)],
            torch.randint(count, (size, n_extra), **draw),
        ]
        near = self.near[own, torch.randint(self.near.shape[1], (size, n_extra), **draw)]
        which = torch.rand(size, n_extra, **draw) < 0.5
        found = torch.where(which, second, near).sort(1).values
        known = (found[:, :, None] == self.neighbours[:, None]).any(2)
        known[:, 1:] |= found[:, 1:] == found[:, :-1]
        return found.masked_fill(known, -1)
