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
    choose_whole_kernel,
    normalize,
    statistics_of,
)
from skdeepgmm._torch_backend.mixture.em import maximize, shrunk
from skdeepgmm._torch_backend.mixture.suffstats import Statistics
from skdeepgmm._torch_backend.mixture.truncated_kernels import (
    AnyGroups,
    Pack,
    groups_of,
    local_cancellation,
    packs_of,
)
from skdeepgmm._torch_backend.source import Source

#: Share of further components that a search looks at beside the neighbours.
EXTRA = 0.5
#: Passes between two searches among the nearest means.
RENEWAL = 4
#: Steps from component to component that a new sample takes at most.
MAX_STEPS = 20
#: Samples by which the gap to the exact bound is measured.
GAP_ROWS = 2048
#: Working memory of distances between samples and means.
DISTANCE_BYTES = 64 * 2**20


def nearest(points: Tensor, centers: Tensor, scale: Tensor, count: int = 1) -> Tensor:
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
    for part in torch.split(points, step):
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
        neighbours = nearest_neighbours(mixture, n_candidates)
        return cls.of(mixture, rows, neighbours, generator, weight)

    @classmethod
    def of(
        cls,
        mixture: MixtureDensity,
        rows: Tensor,
        neighbours: Tensor,
        generator: torch.Generator,
        weight: Tensor | None = None,
    ) -> "Truncation":
        """Return the candidates of samples, those of the nearest component each."""
        anchors = nearest(rows, mixture.means, typical_scale(mixture))[:, 0]
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
        groups = groups_of(mixture, self.neighbours, self.rows, least_bound)
        further = self._further(mixture)
        everyone = self._everyone()
        seen = self._visit(groups, everyone, self.anchors, True, None, further)
        movers = ~seen.accepted
        if bool(movers.any()):
            left = self._move(groups, seen, movers)
            least = self.rows.new_full((len(left),), -torch.inf)
            self._visit(groups, left, self.anchors[left], True, least)
        self.n_passes += 1
        return groups.statistics()

    def cancellation(self, mixture: MixtureDensity) -> float:
        """Return what statistics have to be accurate to for this mixture."""
        if mixture.covariance.rank:
            return mixture.cancellation
        return local_cancellation(mixture, self.neighbours)

    def settle(self, mixture: MixtureDensity) -> None:
        """Let every sample go to the best component that it finds, step by step."""
        groups, index = groups_of(mixture, self.neighbours, self.rows), self._everyone()
        for _ in range(MAX_STEPS):
            if not len(index):
                return
            seen = self._visit(groups, index, self.anchors[index])
            movers = ~seen.accepted
            index = seen.index[movers]
            self.anchors[index] = seen.best[movers]

    def labels(self, mixture: MixtureDensity) -> Tensor:
        """Return the best component that each sample sees, (n_samples,)."""
        groups = groups_of(mixture, self.neighbours, self.rows)
        seen = self._visit(groups, self._everyone(), self.anchors)
        out = torch.empty_like(self.anchors)
        out[seen.index] = seen.best
        return out

    def posterior(self, mixture: MixtureDensity) -> Tensor:
        """Return the truncated posterior, (n_samples, n_components)."""
        out = self.rows.new_zeros(len(self.rows), mixture.n_components)
        groups = groups_of(mixture, self.neighbours, self.rows)
        anchors, index = self.anchors.sort(stable=True)
        for pack in packs_of(anchors, groups.most_anchors(self.neighbours.shape[1])):
            groups.load(pack, index)
            known = self.neighbours[pack.anchors]
            resp = groups.log_joint(known)
            normalize(resp)
            samples = index[pack.places][..., None].expand(
                *pack.places.shape, len(resp)
            )
            columns = known[:, None].expand_as(samples)
            valid = pack.valid
            resp = resp.permute(1, 2, 0)[valid].to(out.dtype)
            out[samples[valid], columns[valid]] = resp
        return out

    def gap(self, mixture: MixtureDensity, count: int = GAP_ROWS) -> float:
        """Return the exact bound minus the truncated one, in nats per sample.

        The mean over at most ``count`` random samples that have weight.
        """
        groups = groups_of(mixture, self.neighbours, self.rows)
        index = self._everyone()
        if self.weight is not None:
            index = index[self.weight > 0.0]
        order = torch.randperm(len(index), generator=self.generator)[:count]
        index = index[order.to(index.device)]
        seen = self._visit(groups, index, self.anchors[index])
        step = max(1, DISTANCE_BYTES // (8 * mixture.n_components))
        kernel = choose_whole_kernel(mixture, self.rows.dtype, count, may_keep=False)
        exact = [
            normalize(kernel.log_joint(Block(x.T.contiguous(), slice(0, 0), 0)))
            for x in torch.split(self.rows[seen.index], step)
        ]
        differences = torch.cat(exact).double() - seen.bounds.double()
        differences.clamp_min_(0.0)  # two roundings of the same
        if self.weight is None:
            return float(differences.mean())
        weight = self.weight[seen.index]
        return float(weight @ differences / weight.sum())

    def _everyone(self) -> Tensor:
        return torch.arange(len(self.rows), device=self.rows.device)

    def _move(self, groups: AnyGroups, seen: Visit, movers: Tensor) -> Tensor:
        """Let samples go over to their best component; return those that lose by it."""
        least, goals = seen.bounds[movers], seen.best[movers]
        moved = self._visit(groups, seen.index[movers], goals, True, least)
        done = moved.accepted
        self.anchors[moved.index[done]] = moved.anchors[done]
        return moved.index[~done]

    def _visit(
        self,
        groups: AnyGroups,
        index: Tensor,
        anchors: Tensor,
        add: bool = False,
        least: Tensor | None = None,
        further: Tensor | None = None,
    ) -> Visit:
        """Look at samples from these anchors, and add those that are accepted.

        Accepted are those whose term reaches ``least``; if it is None, those whose best
        component is the anchor. ``further`` components, -1 for none, may become
        neighbours.
        """
        anchors, order = anchors.sort(stable=True)
        index = index[order]
        bounds = self.rows.new_empty(len(index))
        best, accepted = torch.empty_like(index), torch.empty_like(index).bool()
        least = None if least is None else least[order]
        width = self.neighbours.shape[1] + (0 if further is None else further.shape[1])
        for pack in packs_of(anchors, groups.most_anchors(width)):
            groups.load(pack, index)
            if further is None or not pack.whole:
                known = self.neighbours[pack.anchors]
                log_joint = groups.log_joint(known)
                found = known.gather(1, log_joint.argmax(0))
            else:
                log_joint, found = self._search(groups, pack, further[pack.anchors])
            log_prob = normalize(log_joint)
            if least is None:
                good = found == pack.anchors[:, None]
            else:
                good = log_prob >= least[pack.places]
            places = pack.places[pack.valid]
            for values, here in ((bounds, log_prob), (best, found), (accepted, good)):
                values[places] = here[pack.valid].to(values.dtype)
            if add:
                weight = (good & pack.valid).double()
                if self.weight is not None:
                    weight *= self.weight[index[pack.places]]
                known = self.neighbours[pack.anchors]
                groups.add(known, log_joint, log_prob.double(), weight)
        return Visit(index, anchors, bounds, best, accepted)

    def _search(
        self, groups: AnyGroups, pack: Pack, further: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Look for better neighbours of anchors; return what their samples see.

        Returns
        -------
        log_joint : Tensor of shape (n_candidates, n_anchors, n_samples)
        best : Tensor of int64, (n_anchors, n_samples)
        """
        known, is_new = self.neighbours[pack.anchors], further >= 0
        count = known.shape[1]
        both = torch.cat([known, further.clamp_min(0)], dim=1)
        log_joint = groups.log_joint(both)
        log_joint[count:].masked_fill_(~is_new.T[..., None], -torch.inf)
        best = both.gather(1, log_joint.argmax(0))
        resp = log_joint.softmax(0)
        mass = (resp * pack.valid).sum(2).T
        mass[:, count:].masked_fill_(~is_new, -1.0)
        mass[:, 0] = torch.inf  # itself
        kept = mass.topk(count, dim=1).indices
        where = kept.T[..., None].expand(count, *pack.places.shape)
        # What underflows counts as too much before, and rules the change out after it.
        tiny = torch.finfo(resp.dtype).tiny
        before = resp[:count].sum(0).clamp_min(tiny).log()
        after = resp.gather(0, where).sum(0).log()
        gain = torch.where(pack.valid, after.double() - before.double(), 0.0).sum(1)
        better = (gain > 0.0)[:, None]
        kept = torch.where(better, kept, torch.arange(count, device=kept.device))
        self.neighbours[pack.anchors] = both.gather(1, kept)
        where = kept.T[..., None].expand(count, *pack.places.shape)
        return log_joint.gather(0, where), best

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
