"""The one training loop: epochs, batches, finite checks, roll-back, early stopping."""

import copy
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from skdeepgmm._torch_backend.checkpoint import (
    check_like,
    generator_states,
    set_generator_states,
)


class DivergenceError(RuntimeError):
    """A loss stayed non-finite after every roll-back."""


class Trainable(Protocol):
    """What the loop needs of a model, whose weights an epoch changes.

    ``step_scale`` multiplies the model's learning rates; the loop halves it when it
    goes back to an earlier state. ``state_dict`` holds everything that a step
    changes (``step_scale`` excepted), so that a restored model repeats its past.
    """

    step_scale: float

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: Any) -> Any: ...


class Steppable(Protocol):
    """A model that learns from a batch and returns its losses."""

    def step(self, batch: Any) -> Mapping[str, Tensor]: ...


class Annealed(Protocol):
    """A model whose objective is not its score for a while."""

    @property
    def annealed(self) -> bool: ...


#: Trains a model for one epoch (or EM iteration) and returns its mean losses.
Epoch = Callable[[], Mapping[str, Tensor | float]]


@dataclass(frozen=True)
class TrainingConfig:
    """Settings of a run.

    Attributes
    ----------
    epochs : int
    tol : float
        The smallest gain of the score that counts as progress.
    patience : int
        Epochs without progress after which training stops.
    rollbacks : int
        How often a non-finite loss is answered by a smaller step.
    whole_epochs : bool
        Whether Ctrl-C undoes the epoch that it comes in.
    """

    epochs: int
    tol: float = 0.0
    patience: int = 10
    rollbacks: int = 8
    whole_epochs: bool = False


@dataclass
class Best:
    """The best scored state so far, and how long ago that was.

    Attributes
    ----------
    score, reference : float
        The best score, and the last one that counted as progress.
    state : dict or None
        Of the model with that score.
    waited : int
        Epochs without progress.
    """

    score: float = -math.inf
    state: Any = None
    reference: float = -math.inf
    waited: int = 0

    def update(self, score: float | None, state: Any, config: TrainingConfig) -> bool:
        """Count one epoch; True when patience is over."""
        if score is None:
            return False
        if score > self.score:
            self.score, self.state = score, state
        if score > self.reference + config.tol:
            self.reference, self.waited = score, 0
        else:
            self.waited += 1
        return self.waited >= config.patience


@dataclass
class TrainingState:
    """What a run has reached; ``on_epoch`` sees it, the caller gets it.

    Attributes
    ----------
    history : list of dict of str to float
        Mean losses of every epoch, with ``"score"`` where one was measured.
    converged : bool
        The score made no progress for ``patience`` epochs.
    stopped : bool
        ``on_epoch`` asked to stop.
    rollbacks : int
        How often a non-finite loss was answered by a smaller step.
    best : Best
    """

    history: list[dict[str, float]] = field(default_factory=list)
    converged: bool = False
    stopped: bool = False
    rollbacks: int = 0
    best: Best = field(default_factory=Best)

    @property
    def epoch(self) -> int:
        return len(self.history)

    @property
    def is_over(self) -> bool:
        return self.converged or self.stopped

    def state_dict(self) -> dict[str, Any]:
        """Return all of it; the history by names, with the epochs that have them."""
        names = dict.fromkeys(name for entry in self.history for name in entry)
        history = {
            name: (
                [n for n, entry in enumerate(self.history) if name in entry],
                [entry[name] for entry in self.history if name in entry],
            )
            for name in names
        }
        return vars(self) | {
            "history": (self.epoch, history),
            "best": dict(vars(self.best)),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Become what the state of another one says."""
        n_epochs, columns = state["history"]
        history: list[dict[str, float]] = [{} for _ in range(n_epochs)]
        for name, (epochs, values) in columns.items():
            for n, value in zip(epochs, values, strict=True):
                # A held-out score alone may be infinite.
                is_loss = isinstance(value, float) and math.isfinite(value)
                if not (is_loss or (name == "score" and isinstance(value, float))):
                    raise ValueError(f"is damaged: its losses {name!r} are no numbers")
                history[n][name] = value
        vars(self).update(state, history=history, best=Best(**state["best"]))


def train(
    model: Trainable,
    epoch: Epoch,
    config: TrainingConfig,
    on_epoch: Callable[[TrainingState], bool] = lambda state: False,
    score: Callable[[], float | None] = lambda: None,
    state: TrainingState | None = None,
    save: Callable[[TrainingState], None] | None = None,
) -> TrainingState:
    """Train ``model`` by calls of ``epoch`` and return what was reached.

    ``state`` is what an earlier call has reached; training goes on from there until
    ``config.epochs`` in all. ``save`` is called after an epoch that others follow.

    ``score()`` measures the model on held-out data after every epoch, higher is
    better; None means not yet. When it makes no progress, training ends with the
    best state. An epoch with a non-finite loss or state is undone and repeated with
    half the step; DivergenceError after ``config.rollbacks`` of those. Ctrl-C in such
    an epoch undoes it too.
    """
    state = TrainingState() if state is None else state
    good = copy.deepcopy(model.state_dict())
    try:
        while state.epoch < config.epochs and not state.is_over:
            losses = {name: float(value) for name, value in epoch().items()}
            if not is_finite(losses, model.state_dict()):
                _go_back(model, good, state, config, losses)
                continue
            reached = copy.deepcopy(model.state_dict())
            value = score()
            entry = losses if value is None else {**losses, "score": value}
            # In one go: Ctrl-C must not find half of it.
            good, state.history = reached, [*state.history, entry]
            state.converged = state.best.update(value, good, config)
            state.stopped = on_epoch(state)
            if save and state.epoch < config.epochs and not state.is_over:
                save(state)
    except KeyboardInterrupt:
        if config.whole_epochs or not is_finite({}, model.state_dict()):
            model.load_state_dict(good)
        if state.best.state is not None:
            model.load_state_dict(state.best.state)
        raise
    if state.best.state is not None:
        model.load_state_dict(state.best.state)
    return state


def _go_back(
    model: Trainable,
    good: Any,
    state: TrainingState,
    config: TrainingConfig,
    losses: Mapping[str, float],
) -> None:
    """Undo an epoch, for another one with half the step."""
    if state.rollbacks == config.rollbacks:
        raise DivergenceError(describe(state.epoch + 1, losses))
    state.rollbacks += 1
    model.load_state_dict(copy.deepcopy(good))
    model.step_scale *= 0.5


def snapshot(
    model: Trainable, state: TrainingState, generators: Mapping[str, torch.Generator]
) -> dict[str, Any]:
    """Return all that a run needs to go on: model, progress, random generators."""
    return {
        "model": model.state_dict(),
        "step_scale": model.step_scale,
        "training": state.state_dict(),
        "generators": generator_states(generators),
    }


def restore(
    found: Mapping[str, Any],
    model: Trainable,
    state: TrainingState,
    generators: Mapping[str, torch.Generator],
) -> None:
    """Go on where a snapshot was taken, with a model of the same settings."""
    check_like(found["model"], model.state_dict())
    model.load_state_dict(found["model"])
    model.step_scale = found["step_scale"]
    state.load_state_dict(found["training"])
    if state.best.state is not None:
        check_like(state.best.state, model.state_dict())
    set_generator_states(generators, found["generators"])


def batched(model: Steppable, batches: Callable[[], Iterator[Any]]) -> Epoch:
    """Return the epoch of a model that steps through ``batches()``."""

    def epoch() -> Mapping[str, Tensor]:
        means = Means()
        for batch in batches():
            for name, value in model.step(batch).items():
                means.add(name, value)
        return means.values()

    return epoch


def after_annealing(
    model: Annealed, score: Callable[[], float]
) -> Callable[[], float | None]:
    """Return a score that waits for the end of the model's annealing."""
    return lambda: None if model.annealed else score()


class Means:
    """Means of losses, each over the steps that gave it.

    Summed where they live: no wait for a device between two steps.
    """

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.counts: dict[str, int] = {}

    def add(self, name: str, value: Tensor) -> None:
        self.sums[name] = self.sums[name] + value if name in self.sums else value
        self.counts[name] = self.counts.get(name, 0) + 1

    def values(self) -> dict[str, Tensor]:
        return {name: total / self.counts[name] for name, total in self.sums.items()}


def is_finite(losses: Mapping[str, float], state: Mapping[str, Any]) -> bool:
    """Tell whether the losses and all tensors of the state are finite."""
    tensors = (value for value in state.values() if isinstance(value, Tensor))
    return all(map(math.isfinite, losses.values())) and all(
        bool(torch.isfinite(tensor).all()) for tensor in tensors
    )


def describe(epoch: int, losses: Mapping[str, float]) -> str:
    """Say where the loss was lost."""
    values = ", ".join(f"{name} is {value}" for name, value in losses.items())
    return (
        f"training diverged in epoch {epoch} ({values}) although the step was halved "
        "again and again. Lower learning_rate, or check the data and the other "
        "parameters for extreme values."
    )


def shuffled(
    n_samples: int,
    batch_size: int,
    generator: torch.Generator,
    n_batches: int | None = None,
) -> Iterator[Tensor]:
    """Yield the row indices of one epoch in random order, batch by batch.

    Batches differ by at most one row, so that none is tiny. ``n_batches`` asks for so
    many, none empty: some rows come again where there are not enough.
    """
    order = torch.randperm(n_samples, generator=generator)
    if n_batches is None:
        n_batches = max(1, -(-n_samples // batch_size))
    elif n_samples < n_batches:
        order = order.repeat(-(-n_batches // n_samples))
    yield from torch.tensor_split(order, n_batches)


class EndlessBatches:
    """Batches of exactly min(batch_size, n_samples) row indices for ever.

    Every row comes once in a pass over the data; a rest that fills no batch goes to
    the next pass.

    Attributes
    ----------
    rest : Tensor of int64
        What is left of the present pass.
    """

    def __init__(self, n_samples: int, batch_size: int, draw: torch.Generator) -> None:
        self.n_samples, self.draw = n_samples, draw
        self.size = min(batch_size, n_samples)
        self.rest = torch.empty(0, dtype=torch.int64)

    def __iter__(self) -> "EndlessBatches":
        return self

    def __next__(self) -> Tensor:
        if len(self.rest) < self.size:
            order = torch.randperm(self.n_samples, generator=self.draw)
            self.rest = torch.cat([self.rest, order])
        batch, self.rest = self.rest[: self.size], self.rest[self.size :]
        return batch
