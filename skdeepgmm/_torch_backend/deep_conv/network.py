"""Deep convolutional Gaussian mixtures: layers that learn side by side.

Every Mixture layer maximises its own annealed log-likelihood of its own input, all in
the same step. Its output, the responsibilities, is the input of the layers above.

Reference: Gepperth & Pfülb (2021), "Image modeling with deep convolutional Gaussian
mixture models", IJCNN.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import torch
from torch import Tensor

from skdeepgmm._torch_backend import annealing
from skdeepgmm._torch_backend.deep_conv.layers import (
    FoldingLayer,
    MixtureLayer,
    PoolingLayer,
)
from skdeepgmm._torch_backend.deep_conv.layers.mixture import (
    init_from_batch,
    posterior,
    split_heaviest,
)
from skdeepgmm._torch_backend.deep_conv.schedules import LayerPlan
from skdeepgmm._torch_backend.ranks import Ranks
from skdeepgmm._torch_backend.schedules import EMPTY_SHARE, MAX_RESEEDS

Layer: TypeAlias = FoldingLayer | PoolingLayer | MixtureLayer
Batch: TypeAlias = tuple[Tensor, Tensor | None]

#: Rows of a batch from which a mixture learns, at most, for each component.
ROWS_PER_COMPONENT = 100
#: Couplings are kept while the radius changes by less.
RADIUS_RATIO = 1.02


@dataclass
class Network:
    """A stack of layers, from the pixels up.

    Attributes
    ----------
    layers : list of layers
        Each takes what the one before gives; the last is a mixture.
    """

    layers: list[Layer]

    @property
    def mixtures(self) -> list[MixtureLayer]:
        return [layer for layer in self.layers if isinstance(layer, MixtureLayer)]

    @property
    def places(self) -> list[int]:
        """Indices of the mixtures among the layers."""
        found = enumerate(self.layers)
        return [i for i, layer in found if isinstance(layer, MixtureLayer)]

    def up_to(self, x: Tensor, index: int) -> Tensor:
        """Return the input of layer ``index`` for images x, (n, h, w, channels)."""
        for layer in self.layers[:index]:
            x = layer.forward(x)
        return x

    def expect(self, resp: Tensor) -> Tensor:
        """Return mean images, top-down, for top responsibilities (n, 1, 1, K)."""
        precision: Tensor | None = None
        for layer in reversed(self.layers):
            if isinstance(layer, MixtureLayer):
                prob, z = layer.parts(resp)
                found = layer.expect(as_distribution(prob), layer.given(z))
                resp, precision = found
            else:
                resp, precision = invert(layer, resp, precision), None
        return resp

    def component_images(self) -> Tensor:
        """Return the mean image of each component of the top mixture."""
        top = self.mixtures[-1]
        size = top.n_components
        one_hot = torch.eye(size, device=top.means.device)
        return self.expect(one_hot.reshape(size, 1, 1, size).to(top.means.dtype))

    def log_prob(self, x: Tensor) -> list[Tensor]:
        """Return the mean log-density over positions for every mixture, (n,)."""
        found = []
        for layer in self.layers:
            if isinstance(layer, MixtureLayer):
                found.append(layer.log_prob(x).mean((1, 2)))
            x = layer.forward(x)
        return found


@dataclass
class Learner:
    """A network that learns from batches; ``training.train`` drives it.

    Attributes
    ----------
    network : Network
    plans : sequence of LayerPlan
        One for each mixture.
    generator : torch.Generator
        Draws how empty components are re-seeded.
    objective : callable
        Annealed objective (``annealing``).
    initialized : list of bool
        Which mixtures have seen data.
    events : dict of (int, int) to int
        How often a component (mixture, index) was re-seeded.
    ranks : Ranks or None
        Processes that make each batch together.
    """

    network: Network
    plans: Sequence[LayerPlan]
    generator: torch.Generator
    objective: annealing.Objective = annealing.maximum
    initialized: list[bool] = field(default_factory=list)
    steps: int = 0
    step_scale: float = 1.0
    events: dict[tuple[int, int], int] = field(default_factory=dict)
    couplings: dict[int, tuple[float, Tensor]] = field(default_factory=dict)
    ranks: Ranks | None = None

    def __post_init__(self) -> None:
        self.mixtures = self.network.mixtures
        self.initialized = self.initialized or [False] * len(self.mixtures)
        self.distances = [
            annealing.torus_distances(mixture.n_components) for mixture in self.mixtures
        ]

    @property
    def annealed(self) -> bool:
        """Whether an objective is not yet the log-likelihood."""
        return any(plan.radius(self.steps) is not None for plan in self.plans)

    def state_dict(self) -> dict[str, Any]:
        """Return everything that a step changes."""
        tensors = {
            f"{i}.{name}": getattr(mixture, name)
            for i, mixture in enumerate(self.mixtures)
            for name in mixture.names
        }
        counts = {"steps": self.steps, "events": dict(self.events)}
        return {**tensors, **counts, "initialized": list(self.initialized)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to a state."""
        for i, mixture in enumerate(self.mixtures):
            for name in mixture.names:
                setattr(mixture, name, state[f"{i}.{name}"].clone())
        self.steps, self.events = state["steps"], dict(state["events"])
        self.initialized = list(state["initialized"])

    def step(self, batch: Batch) -> dict[str, Tensor]:
        """Learn from images (n, height, width, channels), weighted or not.

        Weights have mean one over the data. Returns the losses of every mixture that
        learns already.
        """
        x, sample_weight = batch
        losses: dict[str, Tensor] = {}
        number = 0
        for layer in self.network.layers:
            if not isinstance(layer, MixtureLayer):
                x = layer.forward(x)
                continue
            lr = self.plans[number].lr(self.steps) * self.step_scale
            if lr == 0.0:
                break  # the mixtures above start later still
            value, bound, x = self._learn(number, layer, x, sample_weight, lr)
            losses[f"loss_{number}"] = -bound
            losses[f"log_likelihood_{number}"] = value
            number += 1
        self.steps += 1
        self.reseed_empty()
        return losses

    def reseed_empty(self) -> None:
        """Let empty components take half of the heaviest one at their site."""
        for number, (mixture, plan) in enumerate(
            zip(self.mixtures, self.plans, strict=True)
        ):
            if not plan.may_reseed(self.steps):
                continue
            empty = mixture.weights * mixture.n_components < EMPTY_SHARE
            for site, k in empty.nonzero().tolist():
                if self.events.get((number, k), 0) < MAX_RESEEDS * mixture.n_sites:
                    self.events[number, k] = self.events.get((number, k), 0) + 1
                    split_heaviest(mixture, site, k, self.generator)

    def _coupling(self, number: int, radius: float) -> Tensor:
        """Return the coupling of a mixture, anew when its radius changed by 2 %."""
        radius = RADIUS_RATIO ** round(math.log(radius, RADIUS_RATIO))
        key, couple = self.couplings.get(number, (0.0, None))
        if couple is None or key != radius:
            couple = annealing.coupling(self.distances[number], radius)
            self.couplings[number] = radius, couple
        return couple

    def _learn(
        self,
        number: int,
        layer: MixtureLayer,
        x: Tensor,
        sample_weight: Tensor | None,
        lr: float,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Move one mixture; return its log-likelihood, objective and output."""
        each = _row_weights(layer, sample_weight)
        if not self.initialized[number]:
            self._initialize(layer, x, each)
            self.initialized[number] = True
        plan = self.plans[number]
        rows = layer.rows(x)
        square = rows.square()
        free = plan.frees_weights(self.steps)
        if free and plan.radius(self.steps) is None:
            layer.open_factors()
        natural = layer.natural(tempered=not free)
        log_joint, scores = layer.log_joint(natural, rows, square)
        out = layer.output(torch.softmax(log_joint, 2), scores)
        thin = self._thin(layer, rows)
        rows, square, log_joint = rows[:, thin], square[:, thin], log_joint[:, thin]
        scores = None if scores is None else scores[:, thin]
        exact, value, weights = self._objective(number, log_joint)
        total: Tensor | float = float(rows.shape[1])
        if each is not None:
            each = each[:, thin]
            weights = weights * each
            exact, value = exact * each[..., 0], value * each[..., 0]
            total = each.sum().clamp_min(1e-30)
            # Weights have mean one over the data: a light batch moves less.
            lr = lr * min(1.0 / lr, self._mean(rows.shape[1], each.mean()))
        moments = layer.moments(rows, square, weights, total, scores)
        scale = layer.n_sites * total
        losses = torch.stack([exact.sum() / scale, value.sum() / scale])
        if self.ranks is not None:
            self.ranks.mean_(float(total), *vars(moments).values(), losses)
        layer.move(moments, lr)
        found = losses + natural.offset.mean()
        return found[0], found[1], out

    def _initialize(self, layer: MixtureLayer, x: Tensor, each: Tensor | None) -> None:
        """Put a mixture around a first batch; of several ranks, the first one's."""
        init_from_batch(layer, x, each)
        if self.ranks is not None:
            found = self.ranks.first(lambda: (layer.means, layer.variances))
            layer.means, layer.variances = (value.to(layer.means) for value in found)

    def _mean(self, mass: float, value: Tensor) -> float:
        """Return a mean over the rows of all ranks; this one has a part of them."""
        if self.ranks is not None:
            self.ranks.mean_(mass, value)
        return float(value)

    def _thin(self, layer: MixtureLayer, rows: Tensor) -> slice:
        """Return which rows to learn from: positions of one image are much alike."""
        n_positions = math.prod(layer.input_shape[:2]) if layer.shared else 1
        wanted = rows.shape[1] // (ROWS_PER_COMPONENT * layer.n_components)
        stride = max(1, min(wanted, n_positions))
        while math.gcd(stride, n_positions) > 1:
            stride -= 1  # else it would meet the same positions in every image
        start = int(torch.randint(stride, (1,), generator=self.generator))
        return slice(start, None, stride)

    def _objective(
        self, number: int, log_joint: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return log-likelihood and objective of every row, and the weights."""
        resp, exact = posterior(log_joint)
        radius = self.plans[number].radius(self.steps)
        if radius is None:
            return exact, exact, resp
        couple = self._coupling(number, radius).to(log_joint)
        value, weights = self.objective(log_joint.flatten(0, 1), couple)
        return exact, value.view_as(exact), weights.view_as(log_joint)


def compute_dtype(vectors: bool) -> torch.dtype:
    """Return the type to compute in: float64 for vectors, float32 for images."""
    return torch.float64 if vectors else torch.float32


def invert(layer: Layer, signal: Tensor, precision: Tensor | None) -> Tensor:
    """Return the input of a Folding or Pooling layer for a signal from above.

    ``precision`` is that of the mixture just above; None for equal weights.
    """
    if isinstance(layer, FoldingLayer):
        return layer.inverse(signal, precision)
    assert isinstance(layer, PoolingLayer)
    return layer.inverse(signal)


def as_distribution(signal: Tensor) -> Tensor:
    """Return a top-down signal as probabilities of components, along the last axis."""
    positive = signal.clamp_min(0.0)
    total = positive.sum(-1, keepdim=True)
    uniform = torch.full_like(positive, 1.0 / signal.shape[-1])
    return torch.where(total > 0.0, positive / total.clamp_min(1e-30), uniform)


def _row_weights(layer: MixtureLayer, sample_weight: Tensor | None) -> Tensor | None:
    """Return the weights of rows, (1, n_rows, 1)."""
    if sample_weight is None:
        return None
    if layer.shared:
        height, width, _ = layer.input_shape
        sample_weight = sample_weight.repeat_interleave(height * width)
    return sample_weight[None, :, None]
