"""The E-step: responsibilities of one batch and their sufficient statistics.

Two kernels compute the same quantities. ``MomentKernel`` writes the log-densities
and the statistics as one matrix product each on second-moment features;
``CenteredKernel`` works on x - mu_k. ``choose_kernel`` takes the first wherever its
cancellation stays below the tolerance of the arithmetic.
"""

import copy
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial, reduce

import torch
from torch import Tensor

from skdeepgmm._torch_backend.data import ArraySource, Block
from skdeepgmm._torch_backend.device import one_thread
from skdeepgmm._torch_backend.mixture.covariances import Covariance
from skdeepgmm._torch_backend.mixture.covariances.base import MAX_CANCELLATION
from skdeepgmm._torch_backend.mixture.density import MixtureDensity
from skdeepgmm._torch_backend.mixture.suffstats import Statistics
from skdeepgmm._torch_backend.source import Source
from skdeepgmm._torch_backend.threads import in_runs

#: exp is ten times slower where it underflows; nothing is lost below these.
LEAST_EXPONENT = {torch.float32: -80.0, torch.float64: -700.0}
#: With more second-moment features than this (full, about 180 features) a batch no
#: longer fits the caches and triangular products are as fast.
MAX_MOMENT_FEATURES = 2**14
#: Working memory for samples that miss different features.
MIXED_BYTES = 32 * 2**20
#: Moment features are kept between passes while they need less than this.
FEATURE_CACHE_BYTES = 64 * 2**20


class MomentKernel:
    """Natural form: W [1, x, features(x)] and R [1, x, features(x)]^T."""

    def __init__(self, mixture: MixtureDensity, dtype: torch.dtype, keep: bool) -> None:
        self.covariance = mixture.covariance
        natural = self.covariance.natural(mixture.means, mixture.weights.log())
        self.natural = natural.to(dtype)
        self.dtype = dtype
        self.cancellation_bound = MAX_CANCELLATION[dtype]
        self.n_features = mixture.n_features
        self.means = mixture.means
        self.center = torch.zeros_like(mixture.means)
        self.keep = keep
        self._buffer: Tensor | None = None
        self._ready: Block | None = None
        self._cached: tuple[Block | None, Tensor | None] = (None, None)
        method = type(self.covariance).second_from_features
        self._plain = method is Covariance.second_from_features
        self._sums: tuple[Statistics | None, Tensor | None] = (None, None)

    def subset(self, index: Tensor) -> "MomentKernel":
        """Return the kernel of some components."""
        found = copy.copy(self)
        found.natural, found.means = self.natural[index], self.means[index]
        found.center = self.center[index]
        if self.covariance.rank:  # of other types only the class is asked
            found.covariance = self.covariance.subset(index)
        block, cache = self._cached
        found._cached = block, None if cache is None else cache[index]
        found._buffer = found._ready = None
        found._sums = None, None
        return found

    def empty_statistics(self) -> Statistics:
        """Return statistics of no data; all in one matrix where products add to it."""
        if not self._plain:
            shape = self.covariance.second_shape(*self.center.shape)
            return Statistics.zeros(self.center, shape)
        linear = 1 + self.n_features
        sums = torch.zeros_like(self.natural, dtype=torch.float64)
        parts = sums[:, 0], sums[:, 1:linear], sums[:, linear:]
        stats = Statistics(sums.new_zeros(()), sums.new_zeros(()), *parts, self.center)
        self._sums = stats, sums
        return stats

    def log_joint(self, block: Block) -> Tensor:
        features = self._features(block)
        log_joint = self.natural @ features
        x = features[1 : 1 + self.n_features]
        other, cache = self.covariance.other_log_prob(x, self.means)
        self._cached = block, cache
        return log_joint if other is None else log_joint.add_(other)

    def accumulate(
        self, stats: Statistics, block: Block, resp: Tensor, total: Tensor | None
    ) -> None:
        features = self._features(block)
        products = resp @ features.T
        known_stats, sums = self._sums
        if known_stats is stats and sums is not None:
            sums += products
            self._cached = None, None
            return
        products = products.double()
        linear = 1 + self.n_features
        stats.nk += products[:, 0]
        stats.first += products[:, 1:linear]
        known, cache = self._cached
        self._cached = None, None
        stats.second += self.covariance.second_from_features(
            products[:, linear:],
            features[1:linear],
            total,
            resp,
            cache if known is block else None,
        )

    def _features(self, block: Block) -> Tensor:
        if block.features is not None and block.features.dtype == self.dtype:
            return block.features
        if self._ready is block and self._buffer is not None:
            return self._buffer[:, : block.x.shape[1]]
        features = self._new_features(block)
        self._write(block.x, features)
        if self.keep:
            block.features = features
        else:
            self._ready = block
        return features

    def _new_features(self, block: Block) -> Tensor:
        rows, columns = self.natural.shape[1], block.x.shape[1]
        if self.keep:
            return block.x.new_empty(rows, columns, dtype=self.dtype)
        if self._buffer is None or self._buffer.shape[1] != columns:
            self._buffer = block.x.new_empty(rows, columns, dtype=self.dtype)
        return self._buffer

    def _write(self, x: Tensor, features: Tensor) -> None:
        linear = 1 + self.n_features
        features[0] = 1.0
        features[1:linear] = x
        self.covariance.features(features[1:linear], features[linear:])


class TiledKernel:
    """Natural form where features are many: some at a time, which stay in the caches.

    They are written twice, for the log-densities and for the statistics: that takes
    less time than to read all of them again from further away.
    """

    def __init__(self, whole: MomentKernel) -> None:
        self.covariance, self.dtype = whole.covariance, whole.dtype
        self.cancellation_bound, self.center = whole.cancellation_bound, whole.center
        self.tile = self.covariance.tile_features(whole.n_features)
        natural, linear = whole.natural, 1 + whole.n_features
        self.constant, self.linear = natural[:, :1], natural[:, 1:linear]
        self.quadratic = torch.split(natural[:, linear:], self.tile, 1)
        self._buffer: Tensor | None = None
        self._ready: tuple[Block | None, Tensor | None] = (None, None)

    def empty_statistics(self) -> Statistics:
        shape = self.covariance.second_shape(*self.center.shape)
        return Statistics.zeros(self.center, shape)

    def log_joint(self, block: Block) -> Tensor:
        x = self._x(block)
        found = torch.addmm(self.constant, self.linear, x)
        for coefficients, features in zip(self.quadratic, self._tiles(x), strict=True):
            found.addmm_(coefficients, features)
        return found

    def accumulate(
        self, stats: Statistics, block: Block, resp: Tensor, total: Tensor | None
    ) -> None:
        x = self._x(block)
        stats.nk += resp.sum(1).double()
        stats.first += resp @ x.T
        parts = torch.split(stats.second, self.tile, 1)
        for part, features in zip(parts, self._tiles(x), strict=True):
            part += resp @ features.T

    def _x(self, block: Block) -> Tensor:
        known, x = self._ready
        if known is not block or x is None:
            x = block.x.to(self.dtype)
            self._ready = block, x
        return x

    def _tiles(self, x: Tensor) -> Iterator[Tensor]:
        """Yield the second-moment features; each is gone when the next one comes."""
        write = self.covariance.feature_writer(x)
        if self._buffer is None or self._buffer.shape[1] != x.shape[1]:
            self._buffer = x.new_empty(self.tile, x.shape[1])
        for number, coefficients in enumerate(self.quadratic):
            features = self._buffer[: coefficients.shape[1]]
            write(number * self.tile, features)
            yield features


class CenteredKernel:
    """Exact form, statistics about the current means."""

    def __init__(
        self, mixture: MixtureDensity, dtype: torch.dtype = torch.float64
    ) -> None:
        self.mixture, self.covariance = mixture, mixture.covariance
        self.dtype = dtype
        self.center = mixture.means
        exact = dtype == torch.float64
        self.cancellation_bound = math.inf if exact else MAX_CANCELLATION[dtype]

    def subset(self, index: Tensor) -> "CenteredKernel":
        """Return the kernel of some components."""
        found = copy.copy(self)
        found.mixture, found.center = self.mixture.subset(index), self.center[index]
        return found

    def empty_statistics(self) -> Statistics:
        shape = self.mixture.covariance.second_shape(*self.center.shape)
        return Statistics.zeros(self.center, shape)

    def log_joint(self, block: Block) -> Tensor:
        return self.mixture.log_joint(block.x.to(self.dtype))

    def accumulate(
        self, stats: Statistics, block: Block, resp: Tensor, total: Tensor | None
    ) -> None:
        mass = resp.double().sum(1)
        stats.nk += mass
        # resp @ x - mass * center cancels for a far component: float64 here.
        stats.first += resp.double() @ block.x.double().T - mass[:, None] * self.center
        stats.second += self.mixture.covariance.second_about(
            block.x.to(self.dtype), resp, self.center
        )


WholeKernel = MomentKernel | CenteredKernel
AnyKernel = WholeKernel | TiledKernel


def choose_kernel(
    mixture: MixtureDensity,
    dtype: torch.dtype,
    n_samples: int,
    least_bound: float = 0.0,
    may_keep: bool = True,
) -> AnyKernel:
    """Return the fastest kernel that is accurate for ``mixture``.

    Parameters as in :func:`choose_whole_kernel`.
    """
    kernel = choose_whole_kernel(mixture, dtype, n_samples, least_bound, may_keep)
    tile = mixture.covariance.tile_features(mixture.n_features)
    if isinstance(kernel, MomentKernel) and tile and not kernel.keep:
        return TiledKernel(kernel)
    return kernel


def choose_whole_kernel(
    mixture: MixtureDensity,
    dtype: torch.dtype,
    n_samples: int,
    least_bound: float = 0.0,
    may_keep: bool = True,
) -> WholeKernel:
    """Return the fastest accurate kernel among those that write features at once.

    Parameters
    ----------
    mixture : MixtureDensity
        Of the standardised data.
    dtype : torch.dtype
        Arithmetic of the data.
    n_samples : int
        Decides whether the moment features are kept between passes.
    least_bound : float
        Magnitude up to which the statistics must be accurate, beyond the
        mixture's own.
    may_keep : bool
        Whether other passes over the same blocks may follow.
    """
    n_moments = mixture.covariance.n_moment_features(mixture.n_features)
    cancellation = max(mixture.cancellation, least_bound)
    if n_moments > MAX_MOMENT_FEATURES:
        narrow = cancellation <= MAX_CANCELLATION[dtype]
        return CenteredKernel(mixture, dtype if narrow else torch.float64)
    for precision in (dtype, torch.float64):
        if cancellation <= MAX_CANCELLATION[precision]:
            itemsize = torch.finfo(precision).bits // 8
            n_bytes = (1 + mixture.n_features + n_moments) * n_samples * itemsize
            keep = may_keep and n_bytes <= FEATURE_CACHE_BYTES
            return MomentKernel(mixture, precision, keep=keep)
    return CenteredKernel(mixture)


def normalize(log_joint: Tensor) -> Tensor:
    """Turn log-joint densities into responsibilities in place; return log p(x).

    Parameters
    ----------
    log_joint : Tensor of shape (n_components, n_samples)

    Returns
    -------
    Tensor of shape (n_samples,)
    """
    peak = log_joint.amax(0)
    if math.isfinite(float(peak.sum())):
        return _normalize(log_joint, peak)
    unreached = ~torch.isfinite(peak)
    log_prob = _normalize(log_joint, peak.masked_fill(unreached, 0.0))
    # A sample infinitely far from every component: equal shares, not 0 / 0.
    log_joint[:, unreached] = 1.0 / len(log_joint)
    log_prob[unreached] = peak[unreached]
    return log_prob


def _normalize(log_joint: Tensor, peak: Tensor) -> Tensor:
    """Do as ``normalize``, given the finite largest values of all samples."""
    least = LEAST_EXPONENT[log_joint.dtype]
    resp = log_joint.sub_(peak).clamp_min_(least).exp_()
    norm = resp.sum(0)
    resp.div_(norm)
    return norm.log_().add_(peak)


def e_step(
    mixture: MixtureDensity, source: Source, least_bound: float = 0.0
) -> Statistics:
    """Return the sufficient statistics of one pass over the data (the E-step).

    ``least_bound`` asks for statistics that are accurate for an M-step whose mixture
    has this ``Covariance.cancellation``.
    """
    function = partial(_e_step_of, mixture, least_bound, source.has_missing)
    return source.reduced(function, Statistics.merge)


def _e_step_of(
    mixture: MixtureDensity,
    least_bound: float,
    about_means: bool,
    source: ArraySource,
) -> Statistics:
    """Return the statistics of a part, about the means if parts have to agree."""
    if source.patterns is not None:
        return _e_step_of_patterns(mixture, source, least_bound)
    stats = _e_step_of_complete(mixture, source, least_bound)
    if not about_means:
        return stats
    return stats.recentered(type(mixture.covariance), mixture.means)


def _e_step_of_complete(
    mixture: MixtureDensity, source: ArraySource, least_bound: float
) -> Statistics:
    """Return the E-step's statistics where no entry is missing."""
    kernel = choose_kernel(
        mixture, source.dtype, source.n_samples, least_bound, source.keep
    )

    if source.device.type != "cpu" or source.n_blocks == 1:
        with one_thread(source.device.type == "cpu"):
            return _e_step_of_blocks(kernel, source, range(source.n_blocks))

    def make() -> Callable[[range], Statistics]:
        return partial(_e_step_of_blocks, copy.copy(kernel), source)

    return reduce(Statistics.merge, in_runs(make, source.n_blocks))


def _e_step_of_blocks(
    kernel: AnyKernel, source: ArraySource, numbers: range
) -> Statistics:
    """Return the statistics of some blocks of complete samples."""
    stats = kernel.empty_statistics()
    stats.cancellation_bound = kernel.cancellation_bound
    for number in numbers:
        add_block(kernel, stats, source.block(number))
    return stats


def _e_step_of_patterns(
    mixture: MixtureDensity, source: ArraySource, least_bound: float
) -> Statistics:
    """Return the E-step's statistics where entries are missing.

    Samples that miss the same features are one complete data set of the marginal
    mixture; its statistics are completed by the conditional expectations.
    """
    shape = mixture.covariance.second_shape(*mixture.means.shape)
    total, bound = Statistics.zeros(mixture.means, shape), math.inf
    for pattern, blocks in source.parts():
        observed = pattern.observed.to(source.device)
        missing = pattern.missing.to(source.device)
        if len(observed) == 0:
            blocks = list(blocks)
            total = total.merge(_unseen(mixture, blocks, missing))
            continue
        seen = mixture.marginal(observed)
        kernel = choose_kernel(
            seen, source.dtype, len(pattern.rows), least_bound, source.keep
        )
        bound = min(bound, kernel.cancellation_bound)
        stats = kernel.empty_statistics()
        for block in blocks:
            add_block(kernel, stats, block)
        total = total.merge(completed(mixture, stats, observed, missing))
    add_mixed(total, mixture, source)
    return replace(total, cancellation_bound=bound)


def add_mixed(total: Statistics, mixture: MixtureDensity, source: ArraySource) -> None:
    """Add the samples whose pattern of missing features is rare, one by one."""
    covariance, log_weights = mixture.covariance, mixture.weights.log()[:, None]
    n_bytes = covariance.masked_bytes(*mixture.means.shape)
    for block, mask in source.mixed(max(1, MIXED_BYTES // n_bytes)):
        resp, statistics = covariance.masked(block.x, mask, mixture.means)
        log_prob = normalize(resp.add_(log_weights))
        if block.weight is None:
            total.add(log_prob.sum(), float(block.n_samples))
        else:
            total.add(block.weight @ log_prob, block.weight.sum())
            resp.mul_(block.weight)
        first, second = statistics(resp)
        total.nk += resp.sum(1)
        total.first += first
        total.second += second


def completed(
    mixture: MixtureDensity, stats: Statistics, observed: Tensor, missing: Tensor
) -> Statistics:
    """Return statistics of all features, about the means, from observed ones."""
    covariance_class = type(mixture.covariance)
    centered = stats.recentered(covariance_class, mixture.means[:, observed])
    if len(missing) == 0:
        return replace(centered, center=mixture.means)
    first, second = mixture.covariance.expand(centered, observed, missing)
    return replace(centered, first=first, second=second, center=mixture.means)


def _unseen(
    mixture: MixtureDensity, blocks: list[Block], missing: Tensor
) -> Statistics:
    """Return the expected statistics of samples with no observed entry."""
    mass = mixture.means.new_zeros(())
    for block in blocks:
        mass += block.n_samples if block.weight is None else block.weight.sum()
    observed = missing[:0]
    empty = mixture.marginal(observed)
    shape = empty.covariance.second_shape(*empty.means.shape)
    stats = Statistics.zeros(empty.means, shape)
    stats.nk += mass * mixture.weights
    stats.add(torch.zeros_like(mass), mass)
    stats.second += empty.covariance.unobserved_second(stats.nk)
    first, second = mixture.covariance.expand(stats, observed, missing)
    return replace(stats, first=first, second=second, center=mixture.means)


def add_block(kernel: AnyKernel, stats: Statistics, block: Block) -> None:
    """Add one batch to the statistics; its responsibilities end here."""
    resp = kernel.log_joint(block)
    log_prob = normalize(resp)
    add_responsibilities(kernel, stats, block, resp, log_prob)


def add_responsibilities(
    kernel: AnyKernel, stats: Statistics, block: Block, resp: Tensor, log_prob: Tensor
) -> None:
    """Add a batch of known responsibilities; they are weighted in place."""
    total = None
    if block.weight is None:
        stats.add(log_prob.sum(dtype=torch.float64), float(block.n_samples))
    else:
        stats.add(block.weight @ log_prob.double(), block.weight.sum())
        total = block.weight.to(resp.dtype)
        resp.mul_(total)
    kernel.accumulate(stats, block, resp, total)


def statistics_of(
    covariance_class: type[Covariance],
    center: Tensor,
    blocks: Iterable[tuple[Block, Tensor]],
) -> Statistics:
    """Return the statistics of responsibilities that are known (initialization).

    Parameters
    ----------
    covariance_class : type of Covariance
    center : Tensor of shape (n_components, n_features), float64
    blocks : iterable of (Block, responsibilities of shape (n_components, n_samples))
    """
    unit = unit_mixture(covariance_class, center)
    exact: AnyKernel = CenteredKernel(unit)
    fast = exact
    small = covariance_class.n_moment_features(center.shape[1]) <= MAX_MOMENT_FEATURES
    if small and not bool(center.any()):
        fast = MomentKernel(unit, torch.float64, keep=False)
    stats = exact.empty_statistics()
    for block, resp in blocks:
        weight = block.n_samples if block.weight is None else block.weight.sum()
        stats.add(torch.zeros_like(stats.total), weight)
        if block.weight is not None:
            resp = resp * block.weight
        live = resp.any(0)
        # A few single rows cost nothing and deserve every digit.
        kernel = fast if bool(live.all()) else exact
        if bool(live.any()):
            wide = replace(block, x=block.x[:, live].double(), features=None)
            total = None if block.weight is None else block.weight[live]
            kernel.accumulate(stats, wide, resp[:, live].double(), total)
    return stats


def unit_mixture(covariance_class: type[Covariance], means: Tensor) -> MixtureDensity:
    """Return equal weights and unit variances about ``means``."""
    n_components, n_features = means.shape
    ones = torch.ones(n_features, dtype=torch.float64, device=means.device)
    values = covariance_class.from_variances(ones, n_components)
    unit, _ = covariance_class.from_values(values)
    weights = means.new_full((n_components,), 1.0 / n_components)
    return MixtureDensity(weights, means, unit)


def row_bytes(
    covariance_class: type[Covariance],
    n_components: int,
    n_features: int,
    dtype: torch.dtype,
) -> int:
    """Return the working memory of the E-step for one sample."""
    n_moments = covariance_class.n_moment_features(n_features)
    if n_moments > MAX_MOMENT_FEATURES:
        n_moments = 0
    elif tile := covariance_class.tile_features(n_features):
        n_moments = tile
    values = (
        1 + 2 * n_features + n_moments + (3 + 2 * covariance_class.rank) * n_components
    )
    return values * torch.finfo(dtype).bits // 8
