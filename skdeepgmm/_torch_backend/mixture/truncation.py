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
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from skdeepgmm._torch_backend.data import ArraySource, Block
from skdeepgmm._torch_backend.mixture.covariances import Covariance
from skdeepgmm._torch_backend.mixture.density import MixtureDensity
from skdeepgmm._torch_backend.mixture.e_step import (
    AnyKernel,
    add_responsibilities,
    choose_kernel,
    normalize,
    statistics_of,
)
from skdeepgmm._torch_backend.mixture.em import maximize, shrunk
from skdeepgmm._torch_backend.mixture.suffstats import Statistics
from skdeepgmm._torch_backend.source import Source

#: Share of further components that a search looks at beside the neighbours.
EXTRA = 0.5
#: Passes between two searches among the nearest means.
RENEWAL = 4
#: Samples whose moment features are made together.
BATCH_ROWS = 4096
#: Steps from component to component that a new sample takes at most.
MAX_STEPS = 20
#: Samples by which the gap to the exact bound is measured.
GAP_ROWS = 2048
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


def all_rows(source: ArraySource) -> Tensor:
    """Return the standardised data, (n_samples, n_features)."""
    return torch.cat([block.x.T for block in source.blocks()])


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
        On the CPU.
    weight : Tensor of shape (n_samples,) or None
    n_passes : int
        Passes over the data so far.
    near : Tensor of int64 or None
        The nearest other components, from the last time that they were sought.
    """

    rows: Tensor
    anchors: Tensor
    neighbours: Tensor
    generator: torch.Generator
    weight: Tensor | None = None
    n_passes: int = 0
    near: Tensor | None = None

    @classmethod
    def about(
        cls,
        mixture: MixtureDensity,
        rows: Tensor,
        n_candidates: int,
        generator: torch.Generator,
        weight: Tensor | None = None,
    ) -> "Truncation":
        """Return the candidates of samples by the distances of means."""
        anchors = nearest(rows, mixture.means, typical_scale(mixture))[:, 0]
        neighbours = nearest_neighbours(mixture, n_candidates)
        return cls(rows, anchors, neighbours, generator, weight)

    def state_dict(self) -> dict[str, Any]:
        """Return all but the data, as a tree of tensors."""
        names = ("anchors", "neighbours", "n_passes", "near")
        state = {name: getattr(self, name) for name in names}
        return state | {"generator": self.generator.get_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where another one was."""
        state = dict(state)
        self.generator.set_state(state.pop("generator"))
        vars(self).update(state)

    def __call__(
        self, mixture: MixtureDensity, source: Source, least_bound: float = 0.0
    ) -> Statistics:
        """Return the statistics of one pass over the data.

        ``least_bound`` as in ``e_step``.
        """
        kernel = self._kernel(mixture, least_bound)
        stats = replace(
            kernel.empty_statistics(), cancellation_bound=kernel.cancellation_bound
        )
        further = self._further(mixture)
        seen = self._visit(kernel, self._everyone(), self.anchors, stats, None, further)
        movers = ~seen.accepted
        if bool(movers.any()):
            left = self._move(kernel, stats, seen, movers)
            least = self.rows.new_full((len(left),), -torch.inf)
            self._visit(kernel, left, self.anchors[left], stats, least)
        self.n_passes += 1
        return stats

    def settle(self, mixture: MixtureDensity) -> None:
        """Let every sample go to the best component that it finds, step by step."""
        kernel, index = self._kernel(mixture), self._everyone()
        for _ in range(MAX_STEPS):
            if not len(index):
                return
            seen = self._visit(kernel, index, self.anchors[index])
            movers = ~seen.accepted
            index = seen.index[movers]
            self.anchors[index] = seen.best[movers]

    def labels(self, mixture: MixtureDensity) -> Tensor:
        """Return the best component that each sample sees, (n_samples,)."""
        seen = self._visit(self._kernel(mixture), self._everyone(), self.anchors)
        out = torch.empty_like(self.anchors)
        out[seen.index] = seen.best
        return out

    def posterior(self, mixture: MixtureDensity) -> Tensor:
        """Return the truncated posterior, (n_samples, n_components)."""
        out = self.rows.new_zeros(len(self.rows), mixture.n_components)
        kernel = self._kernel(mixture)
        anchors, order = self.anchors.sort(stable=True)
        for anchor, part, block in self._groups(kernel, order, anchors):
            known = self.neighbours[anchor]
            resp = kernel.subset(known).log_joint(block)
            normalize(resp)
            out[order[part][:, None], known] = resp.T.to(out.dtype)
        return out

    def gap(self, mixture: MixtureDensity, count: int = GAP_ROWS) -> float:
        """Return the exact bound minus the truncated one, in nats per sample.

        The mean over at most ``count`` random samples.
        """
        kernel = self._kernel(mixture)
        index = torch.randperm(len(self.rows), generator=self.generator)[:count]
        index = index.to(self.rows.device)
        least = self.rows.new_full((len(index),), -torch.inf)
        seen = self._visit(kernel, index, self.anchors[index], least=least)
        step = max(1, DISTANCE_BYTES // (8 * mixture.n_components))
        exact = [
            normalize(kernel.log_joint(Block(x.T.contiguous(), slice(0, 0), 0)))
            for x in self.rows[seen.index].split(step)
        ]
        differences = torch.cat(exact).double() - seen.bounds.double()
        if self.weight is None:
            return float(differences.mean())
        weight = self.weight[seen.index]
        return float(weight @ differences / weight.sum())

    def _kernel(self, mixture: MixtureDensity, least_bound: float = 0.0) -> AnyKernel:
        n_samples, dtype = len(self.rows), self.rows.dtype
        return choose_kernel(mixture, dtype, n_samples, least_bound, may_keep=False)

    def _everyone(self) -> Tensor:
        return torch.arange(len(self.rows), device=self.rows.device)

    def _move(
        self, kernel: AnyKernel, stats: Statistics, seen: Visit, movers: Tensor
    ) -> Tensor:
        """Let samples go over to their best component; return those that lose by it."""
        least, goals = seen.bounds[movers], seen.best[movers]
        moved = self._visit(kernel, seen.index[movers], goals, stats, least)
        done = moved.accepted
        self.anchors[moved.index[done]] = moved.anchors[done]
        return moved.index[~done]

    def _visit(
        self,
        kernel: AnyKernel,
        index: Tensor,
        anchors: Tensor,
        stats: Statistics | None = None,
        least: Tensor | None = None,
        further: Tensor | None = None,
    ) -> Visit:
        """Look at samples from these anchors, and add them to the statistics.

        Accepted are those whose term reaches ``least``; if it is None, those whose best
        component is the anchor. ``further`` components, -1 for none, may become
        neighbours.
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
                mine = kernel.subset(known)
                log_joint = mine.log_joint(block)
                best[part] = known[log_joint.argmax(0)]
            else:
                mine, log_joint, best[part] = self._searched(
                    kernel, block, anchor, further[anchor]
                )
            log_prob = normalize(log_joint)
            bounds[part] = log_prob
            good = best[part] == anchor if least is None else log_prob >= least[part]
            accepted[part] = good
            if stats is not None:
                block.weight = self._weight_of(index[part], good)
                self._add(mine, stats, block, log_joint, log_prob, anchor)
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
    ) -> tuple[AnyKernel, Tensor, Tensor]:
        """Look for better neighbours of an anchor; return what its samples see.

        Returns
        -------
        kernel : MomentKernel or CenteredKernel
            Of the neighbours.
        log_joint : Tensor of shape (n_candidates, n_samples)
        best : Tensor of int64, (n_samples,)
        """
        known = self.neighbours[anchor]
        both = torch.cat([known, further[further >= 0]])
        wide = kernel.subset(both)
        log_joint = wide.log_joint(block)
        best = both[log_joint.argmax(0)]
        resp = log_joint.softmax(0)
        mass = resp.sum(1)
        mass[0] = torch.inf  # itself
        kept = mass.topk(len(known)).indices
        before, after = resp[: len(known)].sum(0).log(), resp[kept].sum(0).log()
        if bool(after.double().sum() > before.double().sum()):
            self.neighbours[anchor] = both[kept]
        else:
            kept = torch.arange(len(known), device=kept.device)
        return wide.subset(kept), log_joint[kept], best

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
        own = kernel.empty_statistics()
        add_responsibilities(kernel, own, block, resp, log_prob)
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
        own = torch.arange(size, device=self.neighbours.device)[:, None]

        def draw(most: int) -> Tensor:
            found = torch.randint(most, (size, n_extra), generator=self.generator)
            return found.to(own.device)

        second = self.neighbours[self.neighbours[own, draw(count)], draw(count)]
        near = self.near[own, draw(self.near.shape[1])]
        found = torch.where(draw(2) == 0, second, near).sort(1).values
        known = (found[:, :, None] == self.neighbours[:, None]).any(2)
        known[:, 1:] |= found[:, 1:] == found[:, :-1]
        return found.masked_fill(known, -1)


def hard_statistics(
    covariance_class: type[Covariance],
    rows: Tensor,
    labels: Tensor,
    center: Tensor,
    weight: Tensor | None = None,
) -> Statistics:
    """Return the statistics of samples that belong to one component each."""
    shape = covariance_class.second_shape(*center.shape)
    stats = Statistics.zeros(center, shape)
    labels, order = labels.sort(stable=True)
    for k, start, stop in segments(labels):
        mine = order[start:stop]
        block = Block(rows[mine].T.contiguous(), slice(0, 0), 0)
        block.weight = None if weight is None else weight[mine]
        resp = block.x.new_ones(1, block.n_samples)
        own = statistics_of(covariance_class, center[k : k + 1], [(block, resp)])
        stats.add(own.log_likelihood, own.total)
        stats.nk[k], stats.first[k] = own.nk[0], own.first[0]
        if covariance_class.shared:
            stats.second += own.second
        else:
            stats.second[k] = own.second[0]
    return stats


def hard_start(
    covariance_class: type[Covariance],
    rows: Tensor,
    centers: Tensor,
    ridge: Tensor,
    weight: Tensor | None = None,
) -> tuple[MixtureDensity, Tensor, Tensor]:
    """Return the M-step of samples that belong to the nearest of ``centers``.

    Covariances are pulled towards the mean one: many components have few samples.

    Returns
    -------
    mixture, failed, nk
        As ``initial_mixture``.
    """
    labels = nearest(rows, centers, torch.ones_like(centers[0]))[:, 0]
    first = covariance_class.initial_class or covariance_class
    stats = hard_statistics(first, rows, labels, centers, weight)
    mixture, failed = maximize(first, stats, ridge)
    prior = first.prior_samples(rows.shape[1])
    mixture, failed = shrunk(mixture, failed, float(stats.total), prior)
    if first is covariance_class:
        return mixture, failed, stats.nk
    values = covariance_class.initial_values(
        mixture.covariance.variances().expand_as(mixture.means),
        stats.nk,
        partial(_scatter_times, mixture.means, rows, labels, weight),
    )
    covariance, failed = covariance_class.from_values(values)
    return replace(mixture, covariance=covariance), failed, stats.nk


def _scatter_times(
    means: Tensor, rows: Tensor, labels: Tensor, weight: Tensor | None, basis: Tensor
) -> Tensor:
    """Return sum_n (x - mu_k)(x - mu_k)^T basis_k over the samples of component k."""
    product = torch.zeros_like(basis)
    labels, order = labels.sort(stable=True)
    for k, start, stop in segments(labels):
        mine = order[start:stop]
        diff = rows[mine].double() - means[k]
        weighted = diff if weight is None else diff * weight[mine, None]
        product[k] = weighted.T @ (diff @ basis[k])
    return product
