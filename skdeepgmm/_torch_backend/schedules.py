"""Learning rate, annealing and re-seeding as functions of the step.

Two kinds of training follow them: a run of known length, in which everything is a
fraction of it, and a stream without end.
"""

import math
from dataclasses import dataclass

from skdeepgmm._torch_backend import annealing

#: Fraction of a run in which the mixture weights stay equal: a component that loses
#: weight loses samples, and so more weight.
EQUAL_WEIGHTS = 0.5
#: A component that gets less than this share of an equal part of the samples is empty.
EMPTY_SHARE = 0.02
#: How often one component is re-seeded.
MAX_RESEEDS = 3
#: Fractions of a run within which components are re-seeded: they need time to converge.
FIRST_RESEED, LAST_RESEED = 0.1, 0.8
#: How fast the learning rate of a stream falls; its sum is infinite.
STREAM_POWER = 0.6


@dataclass(frozen=True)
class RunPlan:
    """A run of known length, or the part of it in which a model learns.

    The learning rate falls linearly to zero, so that the last epochs average over the
    data.

    Attributes
    ----------
    learning_rate : float
    total_steps : int
    schedule : annealing.Schedule or None
        In fractions of the model's own part.
    fresh : bool
        False for a run that goes on from a fitted model.
    begin : float
        Fraction of the run before which the model does not learn.
    last_reseed : float
        Fraction of its part after which no component is re-seeded.
    """

    learning_rate: float
    total_steps: int
    schedule: annealing.Schedule | None = None
    fresh: bool = True
    begin: float = 0.0
    last_reseed: float = LAST_RESEED

    def progress(self, step: int) -> float:
        """Return the fraction of the model's own part, negative before it begins."""
        return (step / self.total_steps - self.begin) / (1.0 - self.begin)

    def lr(self, step: int) -> float:
        """Return the learning rate; 0 before the model's part."""
        progress = self.progress(step)
        if progress < 0.0:
            return 0.0
        return self.learning_rate * max(0.0, 1.0 - progress)

    def radius(self, step: int) -> float | None:
        """Return the coupling radius, None for the exact log-likelihood."""
        if self.schedule is None:
            return None
        return self.schedule.radius(self.progress(step))

    def frees_weights(self, step: int) -> bool:
        """Tell whether components may differ in weight."""
        return not self.fresh or self.progress(step) >= EQUAL_WEIGHTS

    def may_reseed(self, step: int) -> bool:
        """Tell whether empty components may be re-seeded."""
        early = FIRST_RESEED < self.progress(step) < self.last_reseed
        return early and self.radius(step) is None

    @property
    def size(self) -> int | None:
        """How many components there are in the end; None for as many as ever."""
        return None

    def merges(self, step: int) -> bool:
        """Tell whether there are no more than that from now on."""
        return False


@dataclass(frozen=True)
class MergingPlan:
    """A run with more components than wanted, which are merged on the way.

    Attributes
    ----------
    before, after : RunPlan
        Each with the number of its own steps.
    size : int
        Components after the merging.
    """

    before: RunPlan
    after: RunPlan
    size: int

    def at(self, step: int) -> tuple[RunPlan, int]:
        """Return the part of the run that a step is in, and the step of that part."""
        first = self.before.total_steps
        return (self.before, step) if step < first else (self.after, step - first)

    def lr(self, step: int) -> float:
        plan, step = self.at(step)
        return plan.lr(step)

    def radius(self, step: int) -> float | None:
        plan, step = self.at(step)
        return plan.radius(step)

    def frees_weights(self, step: int) -> bool:
        plan, step = self.at(step)
        return plan.frees_weights(step)

    def may_reseed(self, step: int) -> bool:
        plan, step = self.at(step)
        return plan.may_reseed(step)

    def merges(self, step: int) -> bool:
        return step >= self.before.total_steps


def stream_lr(learning_rate: float, step: int, n_steps: int) -> float:
    """Return a rate that begins to fall at about ``n_steps``, as step^-0.6."""
    return learning_rate * math.pow(1.0 + step / n_steps, -STREAM_POWER)
