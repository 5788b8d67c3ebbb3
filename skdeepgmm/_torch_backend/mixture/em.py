"""Exact expectation maximisation on additive sufficient statistics."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from skdeepgmm._torch_backend.mixture.covariances import Covariance
from skdeepgmm._torch_backend.mixture.density import MixtureDensity
from skdeepgmm._torch_backend.mixture.e_step import e_step
from skdeepgmm._torch_backend.mixture.suffstats import Statistics
from skdeepgmm._torch_backend.source import Source

#: Added to every component's mass, as scikit-learn does, so that none is zero.
MASS_FLOOR = 10 * torch.finfo(torch.float64).eps
#: A component with less mass than this many samples is empty.
EMPTY_MASS = 1e-6
#: Smaller variances of standardised data are squared rounding errors.
LEAST_VARIANCE = 1e-20
#: How often one component may be re-seeded in a run.
MAX_RESEEDS = 3
#: Floor of variances, as a share of a feature's variance, where a covariance has no
#: Cholesky factor.
VARIANCE_FLOOR = 1e-6


@dataclass(frozen=True)
class EMConfig:
    """Settings of a run.

    Attributes
    ----------
    max_iter : int
    tol : float
        Stop when the mean log-likelihood changes by less, in nats per sample.
    ridge : Tensor of shape (n_features,)
        Added to the variances of the standardised data.
    prior : float
        Samples of the pooled covariance that every component gets beside its own.
    """

    max_iter: int
    tol: float
    ridge: Tensor
    prior: float = 0.0


@dataclass
class EMResult:
    """What a run returns (for the standardised data).

    Attributes
    ----------
    mixture : MixtureDensity
    lower_bounds : list of float
        Mean log-likelihood before every M-step, in nats per sample.
    converged : bool
    stopped : bool
        True when ``on_iteration`` asked to stop.
    events : dict of int to str
        Components that were re-seeded or floored, and why.
    nk : Tensor of shape (n_components,) or None
        Mass of the components in the last E-step.
    gap : float or None
        What a truncated bound lacks to the exact one, in nats per sample.
    """

    mixture: MixtureDensity
    lower_bounds: list[float] = field(default_factory=list)
    converged: bool = False
    stopped: bool = False
    events: dict[int, str] = field(default_factory=dict)
    nk: Tensor | None = None
    gap: float | None = None

    @property
    def n_iter(self) -> int:
        return len(self.lower_bounds)

    @property
    def last_bound(self) -> float:
        return self.lower_bounds[-1] if self.lower_bounds else -math.inf

    def is_over(self, config: EMConfig) -> bool:
        """Tell whether the run has come to its end."""
        return self.n_iter >= config.max_iter or self.converged or self.stopped

    def state_dict(self) -> dict[str, Any]:
        """Return all of it as a tree of tensors."""
        mixture = {f.name: getattr(self.mixture, f.name) for f in fields(self.mixture)}
        mixture["covariance"] = dict(vars(self.mixture.covariance))
        return vars(self) | {"mixture": mixture, "events": dict(self.events)}

    @classmethod
    def from_state_dict(
        cls, state: dict[str, Any], covariance_class: type[Covariance]
    ) -> "EMResult":
        """Return the result whose state this is."""
        parts = dict(state["mixture"])
        covariance = covariance_class(**parts.pop("covariance"))
        mixture = MixtureDensity(covariance=covariance, **parts)
        return cls(**(state | {"mixture": mixture}))


OnIteration = Callable[[int, float, MixtureDensity], bool]


class Expectation(Protocol):
    """The E-step of a run."""

    def __call__(
        self, mixture: MixtureDensity, source: Source, least_bound: float = 0.0
    ) -> Statistics:
        """Return the statistics of one pass, see ``e_step``."""

    def cancellation(self, mixture: MixtureDensity) -> float:
        """Return what statistics have to be accurate to for this mixture."""


class ExactExpectation:
    """The E-step over all components."""

    def __call__(
        self, mixture: MixtureDensity, source: Source, least_bound: float = 0.0
    ) -> Statistics:
        """Return the statistics of one pass, see ``e_step``."""
        return e_step(mixture, source, least_bound)

    def cancellation(self, mixture: MixtureDensity) -> float:
        """Return what statistics have to be accurate to for this mixture."""
        return mixture.cancellation


EXACT = ExactExpectation()


def maximize(
    covariance_class: type[Covariance], stats: Statistics, ridge: Tensor
) -> tuple[MixtureDensity, Tensor]:
    """Return the mixture of highest expected likelihood (the M-step).

    Returns
    -------
    mixture : MixtureDensity
    failed : Tensor of shape (n_components,) or (1,)
        Which covariances have no Cholesky factor.
    """
    nk = stats.nk + MASS_FLOOR
    delta = stats.first / nk[:, None]
    values = covariance_class.estimate(replace(stats, nk=nk), delta, ridge)
    covariance, failed = covariance_class.from_values(values)
    failed = failed | (covariance.variances() < LEAST_VARIANCE).any(1)
    return MixtureDensity(nk / nk.sum(), stats.center + delta, covariance), failed


def shrunk(
    mixture: MixtureDensity, failed: Tensor, n_samples: float, prior: float
) -> tuple[MixtureDensity, Tensor]:
    """Return the mixture with covariances pulled towards the pooled one.

    Each is averaged as if ``prior`` of its samples had had the pooled covariance,
    the mean of the M-step under an inverse-Wishart prior about it. ``n_samples``
    stand behind the whole mixture, so that the pull fades in a long stream.
    """
    if prior == 0.0:
        return mixture, failed
    values = mixture.covariance.values
    mass = n_samples * mixture.weights
    own = (mass / (mass + prior)).reshape(-1, *[1] * (values.ndim - 1))
    covariance_class = type(mixture.covariance)
    pooled = covariance_class.pooled(values, mixture.weights)
    covariance, failed = covariance_class.from_values(
        own * values + (1.0 - own) * pooled
    )
    return replace(mixture, covariance=covariance), failed


class DegeneracyGuard:
    """Re-seeds empty and collapsed components, so that a fit never ends in an error.

    A component is *empty* when it holds less than ``EMPTY_MASS`` samples and
    *collapsed* when it sits on one point. Either way it is re-seeded at a badly
    explained sample with the pooled covariance of the others, at most
    ``MAX_RESEEDS`` times. Every other covariance without a Cholesky factor keeps its
    place with variances floored at ``VARIANCE_FLOOR`` of the features' variance.
    """

    def __init__(self, source: Source, generator: torch.Generator) -> None:
        self.source = source
        self.generator = generator
        self.reseeds: dict[int, int] = {}
        self.events: dict[int, str] = {}

    def state_dict(self) -> dict[str, Any]:
        """Return what later repairs depend on; ``events`` are in the result."""
        state = self.generator.get_state()
        return {"reseeds": dict(self.reseeds), "generator": state}

    def load_state_dict(self, state: dict[str, Any], events: dict[int, str]) -> None:
        """Go on where another guard was."""
        self.reseeds, self.events = dict(state["reseeds"]), events
        self.generator.set_state(state["generator"])

    def __call__(
        self, mixture: MixtureDensity, failed: Tensor, nk: Tensor
    ) -> tuple[MixtureDensity, bool]:
        """Return the repaired mixture and whether a component was moved."""
        empty = nk < EMPTY_MASS
        if not bool((empty | failed).any()):
            return mixture, False
        point = self._collapsed_to_a_point(mixture, failed)
        if bool(failed.any()):
            mixture = self._floor(mixture, failed)
        moved = False
        for k in (empty | point).nonzero()[:, 0].tolist():
            reason = "empty" if bool(empty[k]) else "collapsed onto one point"
            mixture, done = self._reseed(mixture, k, reason, ~(empty | point))
            moved = moved or done
        return mixture, moved

    def _collapsed_to_a_point(self, mixture: MixtureDensity, failed: Tensor) -> Tensor:
        """Return which components, not all, have no spread in any direction.

        A component that is singular along a constant feature only, or all of them
        on discrete data, keep their places.
        """
        if mixture.covariance.shared or bool(failed.all()):
            return torch.zeros(
                mixture.n_components, dtype=torch.bool, device=failed.device
            )
        variances = mixture.covariance.variances().expand_as(mixture.means)
        flat = ~(variances > VARIANCE_FLOOR)
        return failed & flat.all(1)

    def repair_initial(
        self, mixture: MixtureDensity, failed: Tensor, nk: Tensor
    ) -> MixtureDensity:
        """Return initial parameters that EM can run from.

        Parameters made of single samples have no spread of their own: their
        variances are floored without a word, their means stay. Only components
        without any sample move.
        """
        if bool(failed.any()):
            mixture = with_floor(mixture, failed)
        empty = nk < EMPTY_MASS
        for k in empty.nonzero()[:, 0].tolist():
            mixture, _ = self._reseed(mixture, k, "empty at initialization", ~empty)
        return mixture

    def _floor(self, mixture: MixtureDensity, failed: Tensor) -> MixtureDensity:
        what = "singular covariance, variances floored at 1e-6 of the features'"
        for k in failed.expand(mixture.n_components).nonzero()[:, 0]:
            self.events[int(k)] = what
        return with_floor(mixture, failed)

    def _reseed(
        self, mixture: MixtureDensity, k: int, reason: str, good: Tensor
    ) -> tuple[MixtureDensity, bool]:
        """Re-seed component k, unless that was tried often; tell if it moved."""
        if self.reseeds.get(k, 0) >= MAX_RESEEDS:
            self.events[k] = f"{reason}, kept with floored variances"
            return mixture, False
        self.reseeds[k] = self.reseeds.get(k, 0) + 1
        self.events[k] = f"{reason}, re-seeded"
        means = mixture.means.clone()
        means[k] = self._badly_explained_sample(mixture, good)
        weights = mixture.weights.clone()
        weights[k] = 1.0 / len(weights)
        covariance = self._pooled(mixture, k, good)
        return MixtureDensity(weights / weights.sum(), means, covariance), True

    def _badly_explained_sample(self, mixture: MixtureDensity, good: Tensor) -> Tensor:
        """Draw a sample among the worse explained half of a random subset."""
        n_usable = self.source.n_counted
        count = min(256, n_usable)
        index = torch.randint(n_usable, (count,), generator=self.generator)
        x = self.source.take_counted(index)
        log_joint = mixture.log_joint(x)
        if bool(good.any()):
            log_joint = log_joint[good]
        order = log_joint.logsumexp(0).argsort()
        pick = int(torch.randint(max(count // 2, 1), (1,), generator=self.generator))
        return x[:, order[pick]]

    def _pooled(self, mixture: MixtureDensity, k: int, good: Tensor) -> Covariance:
        values = mixture.covariance.values
        covariance_class = type(mixture.covariance)
        if covariance_class.shared:
            return mixture.covariance
        if bool(good.any()):
            weights = mixture.weights[good] / mixture.weights[good].sum()
            fresh = covariance_class.pooled(values[good], weights)
        else:
            ones = torch.ones_like(mixture.means[0])
            fresh = covariance_class.from_variances(ones, 1)[0]
        values = values.clone()
        values[k] = fresh
        return covariance_class.from_values(values)[0]


def with_floor(mixture: MixtureDensity, failed: Tensor) -> MixtureDensity:
    """Return the mixture with the failed covariances floored."""
    covariance_class = type(mixture.covariance)
    values = mixture.covariance.values.nan_to_num(0.0, 0.0, 0.0)
    floored = covariance_class.floored(
        values, torch.full_like(mixture.means[0], VARIANCE_FLOOR)
    )
    if not covariance_class.shared:
        mask = failed.reshape(-1, *[1] * (floored.ndim - 1))
        floored = torch.where(mask, floored, mixture.covariance.values)
    return MixtureDensity(
        mixture.weights, mixture.means, covariance_class.from_values(floored)[0]
    )


def em_step(
    mixture: MixtureDensity,
    source: Source,
    ridge: Tensor,
    expectation: Expectation = EXACT,
) -> tuple[Statistics, MixtureDensity, Tensor]:
    """Return the statistics of one E-step and the M-step's mixture and failures.

    Where one step leads from broad to tight components, the statistics may be too
    coarse for the new mixture: the E-step is then done again, exactly.
    """
    covariance_class = type(mixture.covariance)
    stats = expectation(mixture, source)
    new, failed = maximize(covariance_class, stats, ridge)
    if math.isfinite(stats.cancellation_bound):
        bad = bool(failed.any())
        needed = math.inf if bad else expectation.cancellation(new)
        if not needed <= stats.cancellation_bound:
            stats = expectation(mixture, source, needed)
            new, failed = maximize(covariance_class, stats, ridge)
    return stats, new, failed


def online_step(
    mixture: MixtureDensity,
    source: Source,
    ridge: Tensor,
    step: float,
    guard: DegeneracyGuard,
    n_seen: float,
) -> tuple[MixtureDensity, float]:
    """Return the mixture after one step of online EM, and the chunk's bound.

    The statistics of the past, which the parameters stand for, are averaged with
    the chunk's: s <- (1 - step) s + step s_chunk (Cappé & Moulines 2009).

    Parameters
    ----------
    n_seen : float
        Samples of the stream so far, this chunk's among them.

    Returns
    -------
    mixture : MixtureDensity
    lower_bound : float
        Mean log-likelihood of the chunk before the step, in nats per sample.
    """
    covariance_class = type(mixture.covariance)
    stats = e_step(mixture, source, math.inf)
    stats = stats.recentered(covariance_class, mixture.means)
    past = mixture.expected_statistics(ridge).scaled(1.0 - step)
    chunk = stats.scaled(step / float(stats.total))
    new, failed = maximize(covariance_class, past.merge(chunk), ridge)
    prior = covariance_class.prior_samples(mixture.means.shape[1])
    new, failed = shrunk(new, failed, n_seen, prior)
    new, _ = guard(new, failed, new.weights * float(source.n_samples))
    return new, stats.mean_log_likelihood


def fit_em(
    source: Source,
    initial: MixtureDensity,
    config: EMConfig,
    guard: DegeneracyGuard,
    on_iteration: OnIteration,
    lower_bound: float = -math.inf,
    result: EMResult | None = None,
    save: Callable[[], None] | None = None,
    expectation: Expectation = EXACT,
) -> EMResult:
    """Run EM from ``initial`` on the standardised blocks of ``source``.

    ``on_iteration(n_iter, lower_bound, mixture)`` is called after every M-step;
    a true result stops the run. ``lower_bound`` is the bound of an earlier run that
    this one continues. ``result`` is filled iteration by iteration; one that has some
    already is gone on from. ``save`` is called after an iteration that others follow.
    """
    if result is None:
        result = EMResult(initial, events=guard.events)
    while not result.is_over(config):
        previous = result.last_bound if result.lower_bounds else lower_bound
        stats, mixture, failed = em_step(
            result.mixture, source, config.ridge, expectation
        )
        mixture, failed = shrunk(mixture, failed, float(stats.total), config.prior)
        mixture, moved = source.agreed(guard(mixture, failed, stats.nk))
        bound = stats.mean_log_likelihood
        # In one go: Ctrl-C must not find half of it.
        vars(result).update(
            mixture=mixture,
            nk=stats.nk.clone(),
            lower_bounds=[*result.lower_bounds, bound],
        )
        result.stopped = source.agreed(on_iteration(result.n_iter, bound, mixture))
        result.converged = not moved and abs(bound - previous) < config.tol
        if save and not result.is_over(config):
            save()
    return result
