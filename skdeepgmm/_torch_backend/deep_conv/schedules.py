"""When each layer of a deep mixture learns, how fast, and with what coupling."""

from dataclasses import dataclass
from typing import Protocol

from skdeepgmm._torch_backend import annealing, schedules

#: Share of the run for which each mixture waits for the one below, and the longest.
DELAY, LONGEST_DELAY = 0.1, 0.3
#: The same in a stream, in steps.
STREAM_DELAY = 60
#: Looks for empty components in a run, and steps between two of them in a stream.
LOOKS, STREAM_LOOK = 40, 25
#: Fraction of a layer's run after which no component is re-seeded.
LAST_RESEED = 0.85
#: Annealing of a stream, in steps.
STREAM_STEPS = 300


class LayerPlan(Protocol):
    """Learning rate and coupling of one layer as functions of the step count."""

    def lr(self, step: int) -> float:
        """Return the step size; 0 while the layer is frozen."""

    def radius(self, step: int) -> float | None:
        """Return the coupling radius, None for the exact log-likelihood."""

    def frees_weights(self, step: int) -> bool:
        """Tell whether components may differ in weight."""

    def may_reseed(self, step: int) -> bool:
        """Tell whether empty components may be re-seeded."""


@dataclass(frozen=True)
class RunPlan(schedules.RunPlan):
    """A layer's part of a run of known length."""

    last_reseed: float = LAST_RESEED

    def may_reseed(self, step: int) -> bool:
        looks = step % max(1, self.total_steps // LOOKS) == 0
        return looks and super().may_reseed(step)


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

    def lr(self, step: int) -> float:
        if step < self.opened:
            return 0.0
        waited = max(0, step - self.opened - STREAM_STEPS)
        return schedules.stream_lr(self.learning_rate, waited, STREAM_STEPS)

    def radius(self, step: int) -> float | None:
        first = annealing.start_radius(self.n_components)
        schedule = annealing.Schedule(0.5 * first if self.reopened else first, end=1.0)
        return schedule.radius((step - self.opened) / STREAM_STEPS)

    def frees_weights(self, step: int) -> bool:
        return self.radius(step) is None

    def may_reseed(self, step: int) -> bool:
        return step % STREAM_LOOK == 0 and self.radius(step) is None


def run_plans(
    sizes: list[int],
    learning_rate: float,
    total_steps: int,
    annealing_fraction: float | None,
) -> list[LayerPlan]:
    """Return the plans of layers with these numbers of components, from the image up.

    ``annealing_fraction`` is that of each layer's own part; None for no annealing.
    """
    plans: list[LayerPlan] = []
    for number, n_components in enumerate(sizes):
        schedule = None
        # The last step, where there is no other, is for all layers.
        begin = min(DELAY * number, LONGEST_DELAY, 1.0 - 1.0 / total_steps)
        if annealing_fraction is not None:
            schedule = annealing.schedule(n_components, annealing_fraction)
        plans.append(RunPlan(learning_rate, total_steps, schedule, begin=begin))
    return plans


def stream_plans(
    sizes: list[int], learning_rate: float, opened: int, reopened: bool
) -> list[LayerPlan]:
    """Return the plans of a stream whose annealing began at step ``opened``."""
    plans: list[LayerPlan] = []
    for number, n_components in enumerate(sizes):
        begin = opened if reopened else opened + number * STREAM_DELAY
        plans.append(StreamPlan(learning_rate, n_components, begin, reopened))
    return plans
