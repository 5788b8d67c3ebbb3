"""When each layer of a deep mixture learns, how fast, and with what coupling."""

import math
from dataclasses import dataclass
from typing import Protocol

from skdeepgmm._torch_backend import annealing

#: Share of a layer's own run in which its mixture weights stay equal, and its
#: variances too: see ``sgd`` on why components starve otherwise.
EQUAL_WEIGHTS = 0.5
#: Looks for dead components in a run, and steps between two of them in a stream.
LOOKS, STREAM_LOOK = 40, 25
#: Fraction of a run after which a re-seeded component could no longer settle.
LAST_RESEED = 0.85
#: Annealing of a stream, in steps, and how the rate falls after it.
STREAM_STEPS = 300
STREAM_POWER = 0.6


class LayerPlan(Protocol):
    """Rate and coupling of one layer as functions of the step count."""

    def rate(self, step: int) -> float:
        """Return the step size; 0 while the layer is frozen."""

    def radius(self, step: int) -> float | None:
        """Return the coupling radius, None for the exact log-likelihood."""

    def frees_weights(self, step: int) -> bool:
        """Tell whether components may differ in weight."""

    def may_reseed(self, step: int) -> bool:
        """Tell whether dead components may start anew."""


@dataclass(frozen=True)
class RunPlan:
    """A layer's share of a run of known length, from ``start`` to the end.

    Attributes
    ----------
    learning_rate : float
    total_steps : int
    start : float
        Fraction of the run before which the layer is frozen.
    schedule : annealing.Schedule or None
        In fractions of the layer's own share.
    fresh : bool
        False for a run that goes on from a fitted model.
    """

    learning_rate: float
    total_steps: int
    start: float = 0.0
    schedule: annealing.Schedule | None = None
    fresh: bool = True

    def progress(self, step: int) -> float:
        """Return the fraction of the layer's own run, negative before its start."""
        return (step / self.total_steps - self.start) / (1.0 - self.start)

    def rate(self, step: int) -> float:
        progress = self.progress(step)
        if progress < 0.0:
            return 0.0
        return self.learning_rate * max(0.0, 1.0 - progress)

    def radius(self, step: int) -> float | None:
        if self.schedule is None:
            return None
        return self.schedule.radius(self.progress(step))

    def frees_weights(self, step: int) -> bool:
        return not self.fresh or self.progress(step) >= EQUAL_WEIGHTS

    def may_reseed(self, step: int) -> bool:
        looks = step % max(1, self.total_steps // LOOKS) == 0
        early = 0.1 < self.progress(step) < LAST_RESEED
        return looks and early and self.radius(step) is None


@dataclass(frozen=True)
class StreamPlan:
    """A stream without end, annealed over its first steps after ``opened``.

    Attributes
    ----------
    learning_rate : float
    n_components : int
    opened : int
        Step at which the annealing began (again).
    reopened : bool
        Whether that was not the beginning: components keep near their neighbours, at
        half the first radius.
    """

    learning_rate: float
    n_components: int
    opened: int = 0
    reopened: bool = False

    def rate(self, step: int) -> float:
        if step < self.opened:
            return 0.0
        waited = max(0, step - self.opened - STREAM_STEPS)
        return self.learning_rate * math.pow(1.0 + waited / STREAM_STEPS, -STREAM_POWER)

    def radius(self, step: int) -> float | None:
        first = annealing.start_radius(self.n_components)
        schedule = annealing.Schedule(0.5 * first if self.reopened else first, end=1.0)
        return schedule.radius((step - self.opened) / STREAM_STEPS)

    def frees_weights(self, step: int) -> bool:
        return self.radius(step) is None

    def may_reseed(self, step: int) -> bool:
        return step % STREAM_LOOK == 0 and self.radius(step) is None
