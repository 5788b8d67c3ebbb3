"""GAN-EM: a generator and a discriminator for the M-step, an E-net for the E-step.

M-step: real rows, weighted by P(cluster | row), and generated rows train the
discriminator, and it the generator. E-step: the E-net learns from generated rows which
cluster they were made for; its softmax on real rows is the next P(cluster | row).

References: Zhao et al. (2018), "GAN-EM: GAN based EM learning framework",
arXiv 1812.00335.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from skdeepgmm._torch_backend.clusterers import networks
from skdeepgmm._torch_backend.clusterers.gan_em.losses import LOSSES, soften
from skdeepgmm._torch_backend.clusterers.gan_em.networks import (
    Architecture,
    Classifier,
    Generator,
)
from skdeepgmm._torch_backend.clusterers.gan_em.recipes import Recipe
from skdeepgmm._torch_backend.clusterers.network_tools import (
    Affine,
    WeightAverage,
    at_least_two,
    in_batches,
    random_affine,
    random_patches,
)
from skdeepgmm._torch_backend.cuda_graphs import Recorder, Step, recordable, set_rate
from skdeepgmm._torch_backend.rng import new_generator
from skdeepgmm._torch_backend.training import Means

#: Rows whose assignments are followed from iteration to iteration.
MONITORED = 2048
#: Labelled rows of one E-step batch, and steps on them before the first M-step.
LABELLED_ROWS, LABEL_START_STEPS = 32, 300
#: Most steps on labelled rows at the end of an E-step.
MOST_LABEL_STEPS = 200


@dataclass(frozen=True)
class Config:
    """A run: recipe, length and what departs from the recipe.

    Attributes
    ----------
    n_iter : int
        EM iterations of the whole run.
    hold : int
        Iterations in which the start's responsibilities are used.
    affine : Affine or None
        Change of generated and labelled images in the E-step.
    cutmix : float or None
        Largest sides of what half of these take from one another, as shares.
    temperature : float
        Exponent 1 / temperature of the responsibilities.
    label_tol : float
        Error of the labelled rows at which the E-net has learned them.
    """

    recipe: Recipe
    n_iter: int
    hold: int = 1
    affine: Affine | None = None
    cutmix: float | None = None
    temperature: float = 1.0
    label_tol: float = 0.05


@dataclass(frozen=True)
class Data:
    """Rows in the range of the networks, on the device.

    Attributes
    ----------
    rows : Tensor of shape (n, channels, height, width) or (n, features)
    start : Tensor of shape (n, n_clusters) or None
        Responsibilities of the first iterations; None means equal ones.
    labels : Tensor of shape (n,) or None
        Known clusters, -1 where unknown.
    """

    rows: Tensor
    start: Tensor | None = None
    labels: Tensor | None = None


class GANEM:
    """The three networks and what a training needs beside them.

    Parameters
    ----------
    architecture : Architecture
    config : Config
    data : Data
    seed : int
        Starts the private generators ``draw`` and, on the CPU, ``host_draw``.
    """

    def __init__(
        self, architecture: Architecture, config: Config, data: Data, seed: int
    ) -> None:
        self.architecture, self.config, self.data = architecture, config, data
        self.recipe = config.recipe
        self.losses = LOSSES[self.recipe.losses]
        self.device = data.rows.device
        self.draw = new_generator(seed, self.device)
        # Of first weights and batches: these are drawn on the CPU.
        self.host_draw = new_generator(seed)
        self.recorder = Recorder(self.draw)
        self._build(self.host_draw)
        self.step_scale = 1.0
        self.iteration = 0
        n_clusters = architecture.n_clusters
        self.prior = torch.full(
            (n_clusters,), 1.0 / n_clusters, device=self.device, dtype=torch.float32
        )
        self.monitored = self._choose_monitored()
        self.assigned = torch.full((len(self.monitored),), -1, device=self.device)
        self.occupancy = self.prior.clone()
        self.labelled = self._labelled_rows()

    def _build(self, draw: torch.Generator) -> None:
        made, std, gain = self.architecture, self.recipe.std, networks.TORCH_GAIN
        if not made.image:
            std, gain = None, networks.HE_GAIN
        self.generator: Generator = networks.build(
            made.generator, draw, self.device, std, gain
        )
        self.discriminator: Classifier = networks.build(
            made.discriminator, draw, self.device, std, gain
        )
        self.classifier: Classifier = networks.build(
            made.classifier, draw, self.device, std, gain
        )
        # In training mode within E-steps only: batch statistics are not for predicting.
        self.classifier.eval()
        self.average = WeightAverage(self.classifier, self.recipe.average)
        self._new_optimizers()

    def _new_optimizers(self) -> None:
        recipe = self.recipe
        self.rates = {
            "discriminator": recipe.discriminator_rate,
            "generator": recipe.generator_rate,
            "classifier": recipe.classifier_rate,
        }
        self.optimizers = {
            name: self._optimizer(getattr(self, name), rate)
            for name, rate in self.rates.items()
        }
        self.recorder.forget()

    def _optimizer(self, module: nn.Module, rate: float) -> torch.optim.Optimizer:
        settings: Any = recordable(rate, self.device)
        if self.recipe.optimizer == "rmsprop":
            return torch.optim.RMSprop(module.parameters(), **settings)
        return torch.optim.Adam(
            module.parameters(), betas=(0.5, 0.999), fused=True, **settings
        )

    @property
    def n_clusters(self) -> int:
        return self.architecture.n_clusters

    @property
    def _teacher(self) -> Classifier:
        """The E-net that the M-step believes."""
        late = self.iteration >= self.recipe.averaged_from * self.config.n_iter
        return self.predictor if late else self.classifier

    @property
    def predictor(self) -> Classifier:
        """The E-net that predicts."""
        averaged = self.recipe.average > 0.0 and self.average.updates > 0
        return self.average.module if averaged else self.classifier

    # One EM iteration ------------------------------------------------------------

    def em_iteration(self, batches: Iterable[Tensor]) -> dict[str, Tensor]:
        """Do one EM iteration over batches of row indices; returns its mean losses."""
        self._set_rates()
        if self.iteration == 0 and len(self.labelled) and self.recipe.joint_labels:
            self._start_on_labels()
            self._set_rates()
        totals = Means()
        generated = [self._m_step(index, totals) for index in batches]
        with self._training():
            for images, labels in self._e_batches(generated):
                totals.add("classifier", self._e_step(images, labels))
            if len(self.labelled):
                self._learn_labels()
        self.iteration += 1
        return totals.values() | self._observe()

    @contextmanager
    def _training(self) -> Iterator[None]:
        """Put the E-net into training mode, until the end or Ctrl-C."""
        self.classifier.train()
        try:
            yield
        finally:
            self.classifier.eval()

    def _set_rates(self) -> None:
        if not self.recipe.keeps_optimizers:
            self._new_optimizers()
        factor = self.recipe.rate_factor(self.iteration, self.config.n_iter)
        for name, optimizer in self.optimizers.items():
            set_rate(optimizer, self.rates[name] * factor * self.step_scale)

    def _m_step(self, index: Tensor, totals: Means) -> tuple[Tensor, Tensor]:
        """Train discriminator, then generator; returns the generated batch."""
        index = at_least_two(index.to(self.device))
        held = self.iteration < self.config.hold
        believed = self.predictor if held else self._teacher
        made = self.recorder(
            self._adversarial_step, index, variant=(held, believed is self.classifier)
        )
        for name in ("discriminator", "generator"):
            totals.add(name, made[name])
        return made["images"], made["labels"]

    def _adversarial_step(self, index: Tensor) -> dict[str, Tensor]:
        rows = self.data.rows[index]
        weights = self.responsibilities(index, rows)
        labels = self.draw_labels(len(rows))
        images = self.generate(labels)
        return {
            "discriminator": self._train_discriminator(rows, weights, images),
            "generator": self._train_generator(images, labels),
            "images": images.detach(),
            "labels": labels,
        }

    def _train_discriminator(
        self, rows: Tensor, weights: Tensor, images: Tensor
    ) -> Tensor:
        # Apart, so that batch normalisation sees real and generated rows as the
        # generator's step does.
        loss = self.losses.real(self.discriminator(rows), weights)
        loss = loss + self.losses.fake(self.discriminator(images.detach()))
        self._descend("discriminator", loss)
        if self.recipe.clip is not None:
            with torch.no_grad():
                for weight in self.discriminator.parameters():
                    weight.clamp_(-self.recipe.clip, self.recipe.clip)
        return loss.detach()

    def _train_generator(self, images: Tensor, labels: Tensor) -> Tensor:
        # Saves the gradients of the discriminator's weights.
        self.discriminator.requires_grad_(False)
        loss = self.losses.generator(self.discriminator(images), labels)
        self._descend("generator", loss)
        self.discriminator.requires_grad_(True)
        return loss.detach()

    def _descend(self, name: str, loss: Tensor) -> None:
        optimizer = self.optimizers[name]
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    def generate(self, labels: Tensor) -> Tensor:
        """Return generated rows of these clusters."""
        shape = (len(labels), self.architecture.noise_dim)
        noise = torch.rand(
            shape, generator=self.draw, device=self.device, dtype=torch.float32
        )
        images: Tensor = self.generator(noise, labels)
        return images

    def draw_labels(self, size: int) -> Tensor:
        """Return clusters in the shares of the prior, as even as ``size`` allows."""
        start = torch.rand(
            1, generator=self.draw, device=self.device, dtype=torch.float32
        )
        levels = (torch.arange(size, device=self.device) + start) / size
        edges = self.prior.cumsum(0)[:-1].contiguous()
        return torch.searchsorted(edges, levels, right=True)

    def responsibilities(self, index: Tensor, rows: Tensor) -> Tensor:
        """Return P(cluster | row) of the M-step; known labels are certain."""
        if self.iteration < self.config.hold:
            weights = self._start(index)
        else:
            weights = self.probabilities(rows, self._teacher)
            weights = soften(weights, self.config.temperature)
        if self.data.labels is None:
            return weights
        known = self.data.labels[index]
        one_hot = F.one_hot(known.clamp_min(0), self.n_clusters).to(weights.dtype)
        return torch.where((known >= 0)[:, None], one_hot, weights)

    def _start(self, index: Tensor) -> Tensor:
        if self.data.start is not None:
            return self.data.start[index]
        if len(self.labelled) and self.recipe.joint_labels:
            return self.probabilities(self.data.rows[index])
        return self.prior.expand(len(index), -1)

    def probabilities(self, rows: Tensor, net: Classifier | None = None) -> Tensor:
        """Return the softmax of an E-net, by default of the one that predicts."""
        net = self.predictor if net is None else net
        with torch.no_grad():
            return torch.softmax(net(rows), 1)

    # E-step ----------------------------------------------------------------------

    def _e_batches(
        self, generated: list[tuple[Tensor, Tensor]]
    ) -> Iterator[tuple[Tensor, Tensor]]:
        if self.recipe.classifier_steps is None:
            yield from generated
            return
        for _ in range(self.recipe.classifier_steps):
            labels = self.draw_labels(self.recipe.classifier_batch)
            with torch.no_grad():
                images = self.generate(labels)
            yield images, labels

    def _e_step(self, images: Tensor, labels: Tensor) -> Tensor:
        return self._learn(self._classifier_step, images, labels)

    def _learn(self, step: Step, *arguments: Tensor) -> Tensor:
        """Do a step of the E-net; returns its loss."""
        loss = self.recorder(step, *arguments)["loss"]
        if self.recipe.average:
            self.average.update(self.classifier)
        return loss

    def _classifier_step(self, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
        loss = F.cross_entropy(self.classifier(self._changed(images)), labels)
        total = loss
        if len(self.labelled) and self.recipe.joint_labels:
            total = loss + self._label_loss(LABELLED_ROWS)
        self._descend("classifier", total)
        return {"loss": loss.detach()}

    def _label_step(self) -> dict[str, Tensor]:
        loss = self._label_loss(2 * LABELLED_ROWS)
        self._descend("classifier", loss)
        return {"loss": loss.detach()}

    def _changed(self, images: Tensor) -> Tensor:
        affine, cutmix = self.config.affine, self.config.cutmix
        if affine is not None:
            images = random_affine(
                images, self.draw, affine.shift, affine.rotation, affine.scale
            )
        return images if cutmix is None else random_patches(images, self.draw, cutmix)

    # Labels ----------------------------------------------------------------------

    def _labelled_rows(self) -> Tensor:
        if self.data.labels is None:
            return torch.empty(0, dtype=torch.int64)
        return torch.nonzero(self.data.labels >= 0)[:, 0]

    def _label_loss(self, size: int) -> Tensor:
        """Cross-entropy of randomly drawn labelled rows."""
        assert self.data.labels is not None
        drawn = torch.randint(
            len(self.labelled), (size,), generator=self.draw, device=self.device
        )
        index = self.labelled[drawn]
        images = self._changed(self.data.rows[index])
        return F.cross_entropy(self.classifier(images), self.data.labels[index])

    def _start_on_labels(self) -> None:
        with self._training():
            for _ in range(LABEL_START_STEPS):
                self._learn(self._label_step)

    def _learn_labels(self) -> None:
        """Train the E-net on the labelled rows until it knows them."""
        for step in range(MOST_LABEL_STEPS):
            if step % 10 == 0 and self._label_error() <= self.config.label_tol:
                return
            self._learn(self._label_step)

    def _label_error(self) -> float:
        assert self.data.labels is not None
        rows = self.data.rows[self.labelled]
        self.classifier.eval()
        found = in_batches(self.classifier, rows).argmax(1)
        self.classifier.train()
        return float((found != self.data.labels[self.labelled]).float().mean())

    # What is reported ------------------------------------------------------------

    def _choose_monitored(self) -> Tensor:
        size = len(self.data.rows)
        order = torch.randperm(size, generator=self.draw, device=self.device)
        return order[:MONITORED]

    def _observe(self) -> dict[str, Tensor]:
        """Measure the E-net on the monitored rows."""
        probabilities = in_batches(self.probabilities, self.data.rows[self.monitored])
        assigned = probabilities.argmax(1)
        self.occupancy = probabilities.mean(0)
        changed = (assigned != self.assigned).float().mean()
        self.assigned = assigned
        if self.recipe.learned_prior:
            # No cluster may vanish for want of generated rows.
            self.prior.copy_(0.9 * self.occupancy + 0.1 / self.n_clusters)
        entropy = -torch.special.xlogy(self.occupancy, self.occupancy).sum()
        return {
            "confidence": probabilities.amax(1).mean(),
            "changed": changed,
            "n_effective": entropy.exp(),
        }

    # State -----------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Return everything that a step changes, weights at the top level."""
        state: dict[str, Any] = {
            f"{name}.{key}": value
            for name in ("generator", "discriminator", "classifier")
            for key, value in getattr(self, name).state_dict().items()
        }
        return state | {
            "average": self.average.state_dict(),
            "optimizers": {k: o.state_dict() for k, o in self.optimizers.items()},
            "iteration": self.iteration,
            "prior": self.prior,
            "assigned": self.assigned,
        }

    def load_state_dict(self, state: Any) -> None:
        """Go back to a state."""
        for name in ("generator", "discriminator", "classifier"):
            weights = {
                key.removeprefix(f"{name}."): value
                for key, value in state.items()
                if key.startswith(f"{name}.")
            }
            getattr(self, name).load_state_dict(weights)
            self.optimizers[name].load_state_dict(state["optimizers"][name])
        self.average.load_state_dict(state["average"])
        self.iteration = state["iteration"]
        self.prior, self.assigned = state["prior"], state["assigned"]
        self.recorder.forget()
