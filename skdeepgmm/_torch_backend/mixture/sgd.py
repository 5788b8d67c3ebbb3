"""Gaussian mixtures under stochastic natural gradients with momentum.

One step moves, for every component k with objective weights q_nk (``annealing``),

    mu_k     by  lr * Sigma_k  mean_n q_nk grad_mu log N  /  pi_k
    U_k      by  lr * U_k T_k,  T_k + T_k^T = (mean_n q_nk) I - M_k  (over pi_k)
    logit_k  by  lr * (mean_n q_nk - pi_k)  /  pi_k

the gradients times the inverse Fisher information of their block. The step then has
no units: it is the same for wide and tight, frequent and rare components, and the
training does not depend on an affine change of the features. Momentum averages the
gradients of about 1 / (1 - momentum) batches.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

import torch
from torch import Tensor

from skdeepgmm._torch_backend import annealing
from skdeepgmm._torch_backend.mixture.covariances import Covariance
from skdeepgmm._torch_backend.mixture.covariances.base import MaskedStatistics
from skdeepgmm._torch_backend.mixture.density import MixtureDensity
from skdeepgmm._torch_backend.mixture.merging import merged
from skdeepgmm._torch_backend.ranks import Ranks
from skdeepgmm._torch_backend.schedules import (
    EMPTY_SHARE,
    MAX_RESEEDS,
    stream_lr,
)

#: Samples, or samples and their weights (None for no weights).
Batch: TypeAlias = Tensor | tuple[Tensor, Tensor | None]
#: What the gradient reuses of the log-densities.
Cache: TypeAlias = Tensor | MaskedStatistics

#: Learning rate of the factors while annealed, relative to that of the means:
#: precisions that follow at once starve the components which are a little worse at
#: first.
ANNEALED_FACTOR_LR = 0.2
#: Features from which on that rate falls as 1 / n_features^2: advantages in log-density
#: add up over the features, and images of 784 pixels need covariances that wait.
ANNEALED_FEATURES = 32
#: Share of the usage of earlier batches in the running mean.
USAGE_MEMORY = 0.95
#: Steps between two looks for empty components.
RESEED_EVERY = 25
#: Step at which a stream's learning rate has begun to fall.
STREAM_STEPS = 100
#: Samples whose gradient is in memory at a time when the likelihood is measured.
SCORE_ROWS = 4096


class Plan(Protocol):
    """Learning rate and coupling as functions of the step count."""

    def lr(self, step: int) -> float: ...

    def radius(self, step: int) -> float | None: ...

    def frees_weights(self, step: int) -> bool: ...

    def may_reseed(self, step: int) -> bool: ...

    @property
    def size(self) -> int | None: ...

    def merges(self, step: int) -> bool: ...


@dataclass(frozen=True)
class StreamPlan:
    """A stream without end: learning rates fall as step^-0.6, whose sum diverges."""

    learning_rate: float

    def lr(self, step: int) -> float:
        return stream_lr(self.learning_rate, step, STREAM_STEPS)

    def radius(self, step: int) -> float | None:
        return None

    def frees_weights(self, step: int) -> bool:
        return True

    def may_reseed(self, step: int) -> bool:
        return step > STREAM_STEPS

    @property
    def size(self) -> int | None:
        return None

    def merges(self, step: int) -> bool:
        return False


@dataclass
class Parameters:
    """A mixture of the standardised data, or a velocity of one.

    Attributes
    ----------
    logits : Tensor of shape (n_components,)
        Softmax of these are the weights.
    means : Tensor of shape (n_components, n_features)
    factor : Tensor
        Precision factor in scikit-learn's shape for the covariance type.
    """

    logits: Tensor
    means: Tensor
    factor: Tensor

    def zeros(self) -> "Parameters":
        """Return a velocity of zero."""
        return Parameters(*(torch.zeros_like(value) for value in vars(self).values()))

    def clone(self) -> "Parameters":
        return Parameters(*(value.clone() for value in vars(self).values()))


@dataclass(frozen=True)
class SGDConfig:
    """Settings of the training.

    Attributes
    ----------
    covariance_class : type of Covariance
    plan : Plan
    momentum : float
    ridge : Tensor of shape (n_features,)
        Variance floor for the standardised data.
    objective : callable
        Annealed objective, used while the plan has a radius.
    missing : bool
        Whether samples may have missing entries (NaN).
    """

    covariance_class: type[Covariance]
    plan: Plan
    momentum: float
    ridge: Tensor
    objective: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] = annealing.maximum
    missing: bool = False


@dataclass
class SGDMixture:
    """A mixture that learns from batches; ``training.train`` drives it.

    Attributes
    ----------
    parameters, velocity : Parameters
    config : SGDConfig
    generator : torch.Generator
        Chooses the samples at which empty components are re-seeded.
    events : dict of int to int
        How often each re-seeded component was re-seeded.
    usage : Tensor of shape (n_components,)
        Running mean of the samples' share that each component gets.
    ranks : Ranks or None
        Processes that make each batch together.
    """

    parameters: Parameters
    config: SGDConfig
    generator: torch.Generator
    velocity: Parameters = field(init=False)
    usage: Tensor = field(init=False)
    steps: int = 0
    step_scale: float = 1.0
    events: dict[int, int] = field(default_factory=dict)
    ranks: Ranks | None = None

    def __post_init__(self) -> None:
        self.shared = self.config.covariance_class.shared
        self.factors = self.config.covariance_class.sgd_factor
        self.velocity = self.parameters.zeros()
        self.usage = torch.full_like(self.parameters.logits, 1.0 / self.n_components)
        self.largest = self.factors.largest(self.config.ridge)
        # A start far below the ridge has gradients that momentum would never forget.
        now = self.parameters.factor
        still = torch.zeros_like(now)
        self.parameters.factor = self.factors.move(now, still, self.largest)
        self.distances = annealing.torus_distances(self.n_components)

    @property
    def n_components(self) -> int:
        return len(self.parameters.logits)

    @property
    def annealed(self) -> bool:
        """Whether the likelihood is not yet that of the mixture which is wanted."""
        return self.radius is not None or self.excess > 0

    @property
    def radius(self) -> float | None:
        """The present coupling radius; None for the log-likelihood."""
        return self.config.plan.radius(self.steps)

    @property
    def excess(self) -> int:
        """How many components are still to be merged into others."""
        size = self.config.plan.size
        return 0 if size is None else self.n_components - size

    def state_dict(self) -> dict[str, Any]:
        """Return everything that a step changes."""
        parts = {"parameters": self.parameters, "velocity": self.velocity}
        tensors = {
            f"{part}.{name}": value
            for part, values in parts.items()
            for name, value in vars(values).items()
        }
        counts = {"steps": self.steps, "events": dict(self.events)}
        return {**tensors, "usage": self.usage, **counts}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to a state."""
        for part in ("parameters", "velocity"):
            names = vars(getattr(self, part))
            values = {name: state[f"{part}.{name}"].clone() for name in names}
            setattr(self, part, Parameters(**values))
        self.usage = state["usage"].clone()
        self.steps, self.events = state["steps"], dict(state["events"])

    def log_joint(self, x: Tensor) -> tuple[Tensor, Cache]:
        """Return log(pi_k N(x; mu_k, Sigma_k)) of samples and components, and cache."""
        now = self.parameters
        cache: Cache
        if not self.config.missing:
            log_prob, cache = self.factors.log_prob(x, now.means, now.factor)
        else:
            log_prob, cache = self._masked(x)
        return log_prob + torch.log_softmax(now.logits, 0), cache

    def _masked(self, x: Tensor) -> tuple[Tensor, MaskedStatistics]:
        """Return the log-densities of the observed entries, and their statistics."""
        now = self.parameters
        covariance = self.covariance(now.factor)
        seen = (~torch.isnan(x)).T.double()
        rows = x.nan_to_num(0.0).T.double()
        log_prob, statistics = covariance.masked(rows, seen, now.means.double())
        return log_prob.T.to(x.dtype), statistics

    def covariance(self, factor: Tensor) -> Covariance:
        """Return the covariances of a factor, float64."""
        return self.config.covariance_class.from_sgd_factor(factor)

    def log_likelihood(self, x: Tensor) -> Tensor:
        """Return the mean log p(x) of samples, in nats per sample."""
        total = x.new_zeros((), dtype=torch.float64)
        for part in torch.split(x, SCORE_ROWS):
            total += torch.logsumexp(self.log_joint(part)[0], 1).double().sum()
        return total / len(x)

    def step(self, batch: Batch) -> dict[str, Tensor]:
        """Learn from samples (n_samples, n_features), weighted or not.

        Weights have mean one over the data. Returns the losses.
        """
        x, sample_weight = (batch, None) if isinstance(batch, Tensor) else batch
        if self.excess and self.config.plan.merges(self.steps):
            self.merge(self.n_components - self.excess)
        log_joint, cache = self.log_joint(x)
        value, weights = self.objective(log_joint)
        if sample_weight is not None:
            weights = weights * sample_weight[:, None]
        self.move(self.gradient(x, cache, weights))
        share, losses = self._means(weights, value, log_joint, sample_weight)
        self.usage = self.usage.lerp(share, 1.0 - USAGE_MEMORY)
        self.steps += 1
        if self.steps % RESEED_EVERY == 0 and self.config.plan.may_reseed(self.steps):
            self.reseed_empty(x, log_joint, sample_weight)
        return losses

    def _means(
        self,
        weights: Tensor,
        value: Tensor,
        log_joint: Tensor,
        sample_weight: Tensor | None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the components' shares of the batch of all ranks, and its losses."""
        log_prob = torch.logsumexp(log_joint, 1)
        share, mass = weights.mean(0), float(len(value))
        if sample_weight is None:
            losses = torch.stack([-value.mean(), log_prob.mean()])
        else:
            mass = float(sample_weight.sum())
            each = sample_weight / sample_weight.sum().clamp_min(1e-30)
            losses = torch.stack([-(each @ value), each @ log_prob])
        if self.ranks is not None:
            self.ranks.mean_([len(value), mass], share, losses)
        return share, {"loss": losses[0], "log_likelihood": losses[1]}

    def objective(self, log_joint: Tensor) -> tuple[Tensor, Tensor]:
        """Return the present objective of every sample and its derivative."""
        if self.radius is None:
            return annealing.exact(log_joint)
        couple = annealing.coupling(self.distances, self.radius).to(log_joint)
        return self.config.objective(log_joint, couple)

    def gradient(self, x: Tensor, cache: Cache, weights: Tensor) -> Parameters:
        """Return the natural gradient; means and factor in whitened coordinates."""
        now = self.parameters
        weights = weights / len(x)
        mass, prior = weights.sum(0), torch.softmax(now.logits, 0)
        ridge = self.config.ridge
        if isinstance(cache, Tensor):
            means, factor = self.factors.directions(
                x, cache, weights, mass, now.means, now.factor, ridge
            )
        else:
            first, second = cache(weights.T.double())
            means, factor = self.factors.from_second(
                first, second, mass, now.factor, ridge
            )
        n_samples = float(len(x))
        if self.ranks is not None:
            means, factor = means.contiguous(), factor.contiguous()
            n_samples = self.ranks.mean_(n_samples, mass, means, factor)
        # Where a batch holds more of a component than its weight says, its own mass
        # keeps the step within reach of the batch's mean.
        normalizer = torch.maximum(prior, mass).clamp_min(0.5 / n_samples)
        if not self.shared:
            factor = factor / normalizer.reshape(-1, *[1] * (factor.ndim - 1))
        logits = (mass - prior) / normalizer
        if self.radius is not None:
            slower = min(1.0, ANNEALED_FEATURES / x.shape[1]) ** 2
            factor = factor * (ANNEALED_FACTOR_LR * slower)
        if not self.config.plan.frees_weights(self.steps):
            logits = torch.zeros_like(logits)
        return Parameters(logits, means / normalizer[:, None], factor)

    def move(self, gradient: Parameters) -> None:
        """Update the velocity, then the parameters."""
        now, velocity, memory = self.parameters, self.velocity, self.config.momentum
        for name, value in vars(gradient).items():
            getattr(velocity, name).mul_(memory).add_(value, alpha=1.0 - memory)
        lr = self.config.plan.lr(self.steps) * self.step_scale
        means = now.means + self.factors.unwhiten(lr * velocity.means, now.factor)
        factor = self.factors.move(now.factor, lr * velocity.factor, self.largest)
        logits = torch.log_softmax(now.logits + lr * velocity.logits, 0)
        self.parameters = Parameters(logits, means, factor)

    def mixture(self) -> MixtureDensity:
        """Return what has been learned as a mixture of the standardised data."""
        now = self.parameters
        weights = torch.softmax(now.logits.double(), 0)
        return MixtureDensity(weights, now.means.double(), self.covariance(now.factor))

    def merge(self, n_components: int) -> None:
        """Merge components until so many are left; they are at rest then."""
        less = merged(self.mixture(), n_components)
        values = less.weights.log(), less.means, less.covariance.to_sgd_factor()
        self.parameters = Parameters(
            *(value.to(self.usage).contiguous() for value in values)
        )
        self.velocity = self.parameters.zeros()
        self.usage = less.weights.to(self.usage)
        self.events = {}

    def reseed_empty(
        self, x: Tensor, log_joint: Tensor, sample_weight: Tensor | None = None
    ) -> None:
        """Re-seed empty components at samples that the mixture explains badly."""
        empty = self.usage * self.n_components < EMPTY_SHARE
        for k in empty.nonzero()[:, 0].tolist():
            if self.events.get(k, 0) >= MAX_RESEEDS:
                continue
            found = self._badly_explained(x, log_joint, sample_weight)
            if found is not None:
                self.events[k] = self.events.get(k, 0) + 1
                self.reseed(k, *found)

    def _badly_explained(
        self, x: Tensor, log_joint: Tensor, sample_weight: Tensor | None
    ) -> tuple[Tensor, int] | None:
        """Return a sample among the worse explained half, and its component.

        Of the first rank; None if no sample has weight.
        """

        def draw() -> tuple[Tensor, int] | None:
            worst = torch.logsumexp(log_joint, 1).argsort()
            if sample_weight is not None:
                worst = worst[sample_weight[worst] > 0.0]
            if not len(worst):
                return None
            row = worst[self._draw(max(1, len(worst) // 2))]
            return x[row].nan_to_num(0.0), int(log_joint[row].argmax())

        found = draw() if self.ranks is None else self.ranks.first(draw)
        return None if found is None else (found[0].to(x), found[1])

    def reseed(self, k: int, sample: Tensor, owner: int) -> None:
        """Split ``owner`` along the direction of one of its samples; k gets one half.

        A sample lies about sqrt(n_features) standard deviations from its mean, so each
        half moves by about one: a component put on the sample itself would hold that
        sample alone.
        """
        now, speed = self.parameters, self.velocity
        shift = (sample - now.means[owner]) / math.sqrt(len(sample))
        now.means[k], now.means[owner] = (
            now.means[owner] + shift,
            now.means[owner] - shift,
        )
        now.logits[owner] -= math.log(2.0)
        now.logits[k] = now.logits[owner]
        self.usage[[k, owner]] = 1.0 / self.n_components
        for half in (k, owner):
            speed.logits[half], speed.means[half] = 0.0, 0.0
        if not self.shared:
            now.factor[k] = now.factor[owner]
            speed.factor[k] = speed.factor[owner] = 0.0

    def _draw(self, size: int) -> int:
        return int(torch.randint(size, (1,), generator=self.generator))


def random_means(
    n_components: int, n_features: int, generator: torch.Generator
) -> Tensor:
    """Return means U(-0.1, 0.1) for standardised data: all near their mean."""
    uniform = torch.rand(
        n_components, n_features, generator=generator, dtype=torch.float64
    )
    return 0.2 * uniform - 0.1
