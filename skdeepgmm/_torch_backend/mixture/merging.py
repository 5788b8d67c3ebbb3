"""Fewer components: pairs are merged where that costs the least likelihood.

Components i and j become the Gaussian with the moments of both. What the mixture's
log-likelihood loses by it is at most (Runnalls 2007, "Kullback-Leibler approach to
Gaussian mixture reduction", IEEE Trans. Aerospace and Electronic Systems 43)

    B_ij = 1/2 [(w_i + w_j) log |P_ij| - w_i log |P_i| - w_j log |P_j|],

P_ij the pair's covariance. The pair of least B_ij is merged, then the bounds of the
new component alone are renewed, until as many are left as are wanted.
"""

import math

import torch
from torch import Tensor

from skdeepgmm._torch_backend.mixture.covariances import Covariance
from skdeepgmm._torch_backend.mixture.covariances.pairs import Pairs
from skdeepgmm._torch_backend.mixture.density import MixtureDensity

#: Matrices of pairs in memory at a time.
PAIR_BYTES = 64 * 2**20
#: Floating-point operations of all pairs' bounds from which on most pairs get only
#: the bound of ``Covariance.coarse``.
MAX_OPERATIONS = 2e11
#: So many pairs of a component are then measured: the best ones by the coarse bound.
N_CANDIDATES = 6


def merged(mixture: MixtureDensity, n_components: int) -> MixtureDensity:
    """Return the mixture with pairs merged until ``n_components`` are left."""
    if n_components >= mixture.n_components:
        return mixture
    merger = Merger(mixture)
    for _ in range(mixture.n_components - n_components):
        merger.merge_closest()
    return merger.mixture()


def merge_costs(mixture: MixtureDensity, pairs: Pairs) -> Tensor:
    """Return the bounds B_ij of pairs, in nats a sample, (n_pairs,)."""
    covariance_class, values = type(mixture.covariance), mixture.covariance.values
    own = covariance_class.log_normalizers(values, mixture.n_features)
    return covariance_costs(covariance_class, values, own, mixture.weights, pairs)


def covariance_costs(
    covariance_class: type[Covariance],
    values: Tensor,
    own: Tensor,
    weights: Tensor,
    pairs: Pairs,
) -> Tensor:
    """Return the bounds of pairs of components; ``own`` are their log_normalizers."""
    n_bytes = 8 * covariance_class.pair_size(pairs.diff.shape[1])
    size = max(1, PAIR_BYTES // n_bytes)
    parts = [
        covariance_class.merge_costs(values, own, weights, part)
        for part in pairs.split(size)
    ]
    costs = torch.cat(parts) if parts else pairs.diff.new_zeros(0)
    # Rounding may leave an error; a singular matrix has no bound: never first.
    return costs.nan_to_num(nan=math.inf).clamp_min(0.0)


class Merger:
    """Components that become fewer, and the bounds of all pairs.

    Attributes
    ----------
    weights, means, values : Tensor
        Of the components; those that are gone keep their places.
    own : Tensor of shape (n_components,) or (1,)
        ``log_normalizers`` of the covariances.
    alive : Tensor of shape (n_components,), bool
    costs : Tensor of shape (n_components, n_components)
        B_ij for i < j; infinite where there is no such pair.
    """

    def __init__(self, mixture: MixtureDensity) -> None:
        self.covariance_class = type(mixture.covariance)
        self.weights, self.means = mixture.weights.clone(), mixture.means.clone()
        self.values = mixture.covariance.values.clone()
        self.own = self._normalizers(self.values)
        size = mixture.n_components
        self.alive = torch.ones(size, dtype=torch.bool, device=self.means.device)
        self.costs = self.means.new_full((size, size), math.inf)
        self._measure_all()

    def merge_closest(self) -> None:
        """Merge the pair that costs least."""
        first, second = divmod(int(self.costs.argmin()), len(self.costs))
        if not math.isfinite(float(self.costs[first, second])):
            first, second = self.alive.nonzero()[:2, 0].tolist()
        pair = self._pairs(*(self._index([k]) for k in (first, second)))
        values = self.covariance_class.matched(self.values, self.weights, pair)
        if self.covariance_class.shared:
            self.values, self.own = values, self._normalizers(values)
        else:
            self.values[first] = values[0]
            self.own[first] = self._normalizers(values)[0]
        self.means[first] += pair.offsets()[0][0].neg()
        self.weights[first] += self.weights[second]
        self.weights[second] = 0.0
        self.alive[second] = False
        self.costs[second] = self.costs[:, second] = math.inf
        self._renew(first)

    def mixture(self) -> MixtureDensity:
        """Return the components that are left."""
        values = self.values
        if not self.covariance_class.shared:
            values = values[self.alive]
        covariance, _ = self.covariance_class.from_values(values)
        weights = self.weights[self.alive]
        return MixtureDensity(
            weights / weights.sum(), self.means[self.alive], covariance
        )

    def _measure_all(self) -> None:
        alive = self.alive.nonzero()[:, 0]
        first, second = alive[torch.combinations(torch.arange(len(alive)))].T
        self._measure(first, second)

    def _renew(self, k: int) -> None:
        """Measure the pairs that a merge into component k has changed."""
        if self.covariance_class.shared:
            self._measure_all()
            return
        self.costs[k] = self.costs[:, k] = math.inf
        others = self.alive.nonzero()[:, 0]
        others = others[others != k]
        mine = torch.full_like(others, k)
        self._measure(torch.minimum(mine, others), torch.maximum(mine, others))

    def _measure(self, first: Tensor, second: Tensor) -> None:
        """Measure pairs; where that is dear, those which look close."""
        pairs = self._pairs(first, second)
        if self._operations() > MAX_OPERATIONS:
            pairs = self._close(pairs)
        costs = covariance_costs(
            self.covariance_class, self.values, self.own, self.weights, pairs
        )
        self.costs[pairs.first, pairs.second] = costs

    def _operations(self) -> float:
        """Return what the bounds of all pairs cost."""
        n_components, n_features = self.means.shape
        size = self.covariance_class.pair_size(n_features)
        return n_components**2 / 2 * size * n_features / 3

    def _close(self, pairs: Pairs) -> Pairs:
        """Return the pairs that are among the closest of one of their components."""
        coarse = self.covariance_class.coarse(self.values)
        if coarse is None:
            return pairs
        coarse_class, values = coarse
        own = coarse_class.log_normalizers(values, self.means.shape[1])
        costs = covariance_costs(coarse_class, values, own, self.weights, pairs)
        table = torch.full_like(self.costs, math.inf)
        table[pairs.first, pairs.second] = table[pairs.second, pairs.first] = costs
        order = table.argsort(1)[:, :N_CANDIDATES]
        near = torch.zeros_like(table, dtype=torch.bool).scatter_(1, order, True)
        near = near | near.T
        kept = near[pairs.first, pairs.second]
        return self._pairs(pairs.first[kept], pairs.second[kept])

    def _normalizers(self, values: Tensor) -> Tensor:
        return self.covariance_class.log_normalizers(values, self.means.shape[1])

    def _pairs(self, first: Tensor, second: Tensor) -> Pairs:
        return Pairs.of(self.weights, self.means, first, second)

    def _index(self, indices: list[int]) -> Tensor:
        return torch.tensor(indices, device=self.means.device)
