"""Features of images without labels: two changed copies of an image are alike.

References: Chen et al. (2020), "A simple framework for contrastive learning of visual
representations" (SimCLR), ICML.
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from skdeepgmm._torch_backend.clusterers import networks
from skdeepgmm._torch_backend.clusterers.image_changes import ImageChanges
from skdeepgmm._torch_backend.clusterers.weights import WeightAverage
from skdeepgmm._torch_backend.cuda_graphs import set_lr
from skdeepgmm._torch_backend.inference import in_batches
from skdeepgmm._torch_backend.rng import new_generator
from skdeepgmm._torch_backend.training import (
    EndlessBatches,
    Means,
    TrainingConfig,
    train,
)

#: Images of a step, width of the projection, and temperature of its similarities.
BATCH_SIZE, PROJECTION, TEMPERATURE = 128, 128, 0.2
LEARNING_RATE, EMA_DECAY = 1e-3, 0.99
#: Steps between two checks that the loss is finite.
CHECKED = 50


class Projected(nn.Module):
    """Features, and a projection of them for the loss alone."""

    def __init__(self, body: nn.Module, n_features: int) -> None:
        super().__init__()
        self.body = body
        hidden = networks.dense([n_features, PROJECTION])
        self.head = nn.Sequential(*hidden, nn.Linear(PROJECTION, PROJECTION))

    def forward(self, images: Tensor) -> Tensor:
        projected: Tensor = self.head(self.body(images))
        return projected


class ContrastiveTrainer:
    """Trains features that tell images apart, and not their changed copies.

    Parameters
    ----------
    rows : Tensor of shape (n, channels, height, width)
    change : ImageChanges
    n_steps : int
    seed : int

    Attributes
    ----------
    average : WeightAverage
        Whose body gives the features.
    """

    def __init__(
        self, rows: Tensor, change: ImageChanges, n_steps: int, seed: int
    ) -> None:
        self.rows, self.change, self.n_steps = rows, change, n_steps
        self.rng = new_generator(seed, rows.device)
        host_rng = new_generator(seed)

        def make() -> Projected:
            return Projected(*networks.photo_trunk(tuple(rows.shape[1:])))

        gain = networks.TORCH_GAIN
        self.network = networks.build(make, host_rng, rows.device, gain=gain)
        self.average = WeightAverage(self.network, EMA_DECAY)
        self.optimizer = torch.optim.AdamW(
            self.network.parameters(), LEARNING_RATE, fused=True
        )
        self.batches = EndlessBatches(len(rows), BATCH_SIZE, host_rng)
        self.step, self.step_scale = 0, 1.0

    def fit(self) -> None:
        """Do all steps."""
        train(self, self.epoch, TrainingConfig(math.ceil(self.n_steps / CHECKED)))

    def epoch(self) -> Mapping[str, Tensor]:
        """Do some steps and return their mean loss."""
        totals = Means()
        for _ in range(min(CHECKED, self.n_steps - self.step)):
            totals.add("contrast", self.do_step())
        return totals.values()

    def do_step(self) -> Tensor:
        """Do one step and return its loss."""
        progress = self.step / self.n_steps
        factor = 0.5 * (1.0 + math.cos(math.pi * progress)) * self.step_scale
        set_lr(self.optimizer, LEARNING_RATE * factor)
        images = self.rows[next(self.batches).to(self.rows.device)]
        both = torch.cat([self.change(images, self.rng) for _ in range(2)])
        loss = contrastive_loss(self.network(both), TEMPERATURE)
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        self.average.update(self.network)
        self.step += 1
        return loss.detach()

    def features(self) -> Tensor:
        """Return the features of all rows, (n, n_features)."""
        return in_batches(self.average.module.body, self.rows)

    def state_dict(self) -> dict[str, Any]:
        """Return everything that a step changes, weights at the top level."""
        return {
            **self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go back to a state."""
        others = ("average", "optimizer", "step")
        self.network.load_state_dict(
            {k: v for k, v in state.items() if k not in others}
        )
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step = state["step"]


def contrastive_loss(projected: Tensor, temperature: float) -> Tensor:
    """Return -log P(the other copy | all others), averaged over both copies.

    Row i and row i + n / 2 are copies of one image; P is the softmax of the cosine
    similarities over ``temperature``.
    """
    directions = F.normalize(projected, dim=1)
    similarity = directions @ directions.T / temperature
    similarity = similarity.masked_fill(
        torch.eye(len(projected), dtype=torch.bool, device=projected.device), -math.inf
    )
    half = len(projected) // 2
    other = torch.arange(len(projected), device=projected.device).roll(half)
    return F.cross_entropy(similarity, other)
