"""MinMax+EM: a latent mixture, an encoder, a generator that inverts it, an adversary.

Minimised over the discriminator D, maximised over the weights omega, generator G and
encoder E, with y ~ sum_k omega_k N(mu_k, I) and gamma_nk = P(k | x_n):

    sum_nk gamma_nk (log omega_k + log N(E(x_n); mu_k, I))
    - lambda1 E_y ||y - E(G(y))||^2 - lambda2 (sum_n log D(x_n) - E_y log D(G(y)))

Known labels take the place of gamma. gamma and omega follow once an epoch, by an
averaged encoder; the networks step in turn.

References: Pande and Awate (2020), "Generative deep-neural-network mixture modeling
with semi-supervised MinMax+EM learning", ICPR.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from skdeepgmm._torch_backend.clusterers import networks
from skdeepgmm._torch_backend.clusterers.minmax_em import latent
from skdeepgmm._torch_backend.clusterers.minmax_em.losses import (
    ADVERSARIES,
    gradient_penalty,
)
from skdeepgmm._torch_backend.clusterers.minmax_em.networks import Architecture
from skdeepgmm._torch_backend.clusterers.network_tools import (
    Affine,
    WeightAverage,
    at_least_two,
    in_batches,
    random_affine,
)
from skdeepgmm._torch_backend.cuda_graphs import Recorder, recordable, set_rate
from skdeepgmm._torch_backend.rng import new_generator
from skdeepgmm._torch_backend.training import Means

NETWORKS = ("encoder", "generator", "discriminator")
#: Exponential averages of Adam's gradient and square, by network.
BETAS = {
    "encoder": (0.9, 0.999),
    "generator": (0.5, 0.99),
    "discriminator": (0.5, 0.99),
}
#: Draws on which ||y - E(G(y))|| is measured.
MEASURED = 256


@dataclass(frozen=True)
class Config:
    """Settings of a training run.

    Attributes
    ----------
    n_iter : int
        EM iterations of the whole run.
    consistency, adversarial : float
        lambda1 and lambda2.
    adversary : str
        Key of ``ADVERSARIES``.
    weight_prior : float
        Rows that the prior of omega adds to every cluster.
    warm_up : int
        EM iterations in which consistency moves the generator alone.
    label_batch : int
        Labelled rows of a step, drawn evenly from the classes.
    start_batch : int
        Rows of a step of the encoder's start.
    affine : Affine or None
        Random change of real rows where the encoder sees them.
    rate : float
        Learning rate.
    average : float
        Decay of the averaged encoder.
    refresh : int
        Steps after which the memberships of the rows that come next are renewed.
    """

    n_iter: int
    consistency: float = 0.5
    adversarial: float = 1.0
    adversary: str = "hinge"
    weight_prior: float = 10.0
    warm_up: int = 0
    label_batch: int = 25
    start_batch: int = 64
    affine: Affine | None = None
    rate: float = 1e-3
    average: float = 0.99
    refresh: int = 25


@dataclass(frozen=True)
class Data:
    """Rows in the range of the networks, on the device.

    Attributes
    ----------
    rows : Tensor of shape (n, channels, height, width) or (n, features)
    means : Tensor of shape (n_clusters, latent_dim)
    start : Tensor of shape (n, n_clusters) or None
        First memberships; None starts from the labelled rows alone.
    labels : Tensor of shape (n,) or None
        Known clusters, -1 where unknown.
    least : Tensor of shape (n_clusters,) or None
        Lower bounds of the mean memberships of rows without label; None for none.
    """

    rows: Tensor
    means: Tensor
    start: Tensor | None = None
    labels: Tensor | None = None
    least: Tensor | None = None


class MinMaxEM:
    """The three networks, the memberships and what a training needs beside them.

    Parameters
    ----------
    architecture : Architecture
    config : Config
    data : Data
    seed : int
        Starts the private generators ``draw`` and, on the CPU, ``host_draw``.

    Attributes
    ----------
    resp : Tensor of shape (n, n_clusters)
        gamma of the last E-step.
    weights : Tensor of shape (n_clusters,)
        omega.
    factors : Tensor of shape (n_clusters,)
        Logs of the factors that kept clusters at their lower bounds in the last E-step
        of all rows.
    """

    def __init__(
        self, architecture: Architecture, config: Config, data: Data, seed: int
    ) -> None:
        self.architecture, self.config, self.data = architecture, config, data
        self.adversary = ADVERSARIES[config.adversary]
        self.device, self.means = data.rows.device, data.means
        self.draw = new_generator(seed, self.device)
        # Of first weights and batches: these are drawn on the CPU.
        self.host_draw = new_generator(seed)
        self.recorder = Recorder(self.draw)
        self.labelled = Labelled(data.labels)
        self._build()
        self.step_scale = 1.0
        self.iteration = 0
        n_clusters = len(self.means)
        self.weights = torch.full(
            (n_clusters,), 1.0 / n_clusters, device=self.device, dtype=torch.float32
        )
        self.factors = torch.zeros_like(self.weights)
        start = data.start
        if start is None:
            start = self.weights.expand(len(data.rows), -1)
        self.resp = self._with_labels(start).clone()

    def _build(self) -> None:
        made, draw = self.architecture, self.host_draw
        # Of few labelled images an encoder with smaller first weights learns more.
        gain = networks.TORCH_GAIN if made.image else networks.HE_GAIN
        self.encoder: nn.Sequential = networks.build(
            made.encoder, draw, self.device, gain=gain
        )
        self.generator: nn.Sequential = networks.build(
            made.generator, draw, self.device
        )
        self.discriminator: nn.Sequential = networks.build(
            made.discriminator, draw, self.device
        )
        self.average = WeightAverage(self.encoder, self.config.average)
        # After the copy, which predicts: a generator cannot be copied.
        for layer in self.encoder.modules():
            if isinstance(layer, networks.Dropout):
                layer.generator = self.draw
        settings: Any = recordable(self.config.rate, self.device)
        self.optimizers = {
            name: torch.optim.Adam(
                getattr(self, name).parameters(),
                betas=BETAS[name],
                fused=True,
                **settings,
            )
            for name in NETWORKS
        }

    # Start -----------------------------------------------------------------------

    def start_step(self) -> Tensor:
        """Fit the encoder to the first memberships of a random batch."""
        self._set_rates(1.0)
        return self.recorder(self._encoder_step)["energy"]

    def init_encoder(self, n_steps: int) -> dict[str, Tensor]:
        """Do all steps of the encoder's initialisation, and the first E-step."""
        totals = Means()
        for _ in range(n_steps):
            totals.add("energy", self.start_step())
        # The average begins here: a mean over the start would lag behind it.
        self.average.update(self.encoder)
        return totals.values() | self.e_step()

    def _encoder_step(self) -> dict[str, Tensor]:
        index = self._start_index()
        found = self.encoder(self._changed(self.data.rows[index]))
        loss = self._energy(found, index)
        self.optimizers["encoder"].zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizers["encoder"].step()
        return {"energy": loss.detach()}

    def _start_index(self) -> Tensor:
        size = self.config.start_batch
        if self.data.start is None:
            return self.labelled.sample(size, self.draw)
        n_samples = len(self.data.rows)
        return torch.randint(
            n_samples, (size,), generator=self.draw, device=self.device
        )

    # One EM iteration ------------------------------------------------------------

    def em_iteration(self, batches: Iterable[Tensor]) -> dict[str, Tensor]:
        """Do one EM iteration over batches of row indices; returns its mean losses."""
        share = self.iteration / self.config.n_iter
        self._set_rates(0.5 * (1.0 + math.cos(math.pi * share)))
        totals, before = Means(), self.resp.argmax(1)
        for index in self._refreshed(index.to(self.device) for index in batches):
            for name, value in self._m_step(index).items():
                totals.add(name, value)
        self.iteration += 1
        found = self.e_step()
        changed = (self.resp.argmax(1) != before).float().mean()
        error = self._latent_error()
        return totals.values() | found | {"changed": changed, "latent_error": error}

    def _refreshed(self, batches: Iterator[Tensor]) -> Iterator[Tensor]:
        """Yield the batches, in blocks whose memberships are renewed first.

        An encoder that sees the same memberships for long learns their mistakes by
        heart. The first block has those of the last E-step.
        """
        yield from islice(batches, self.config.refresh)
        while block := list(islice(batches, self.config.refresh)):
            self.e_step(torch.cat(block))
            yield from block

    def _set_rates(self, encoder_factor: float) -> None:
        for name, optimizer in self.optimizers.items():
            factor = encoder_factor if name == "encoder" else 1.0
            set_rate(optimizer, self.config.rate * factor * self.step_scale)

    def _m_step(self, index: Tensor) -> dict[str, Tensor]:
        """Train discriminator, then encoder and generator; returns the losses."""
        made = self.recorder(
            self._adversarial_step,
            at_least_two(index),
            variant=self.iteration >= self.config.warm_up,
        )
        self.average.update(self.encoder)
        return made

    def _adversarial_step(self, index: Tensor) -> dict[str, Tensor]:
        known = self.labelled.sample(self.config.label_batch, self.draw)
        latents, _ = self.draw_latents(len(index))
        images = self.generator(latents)
        real = self.data.rows[torch.cat([index, known])]
        lost = {"discriminator": self._train_discriminator(real, images.detach())}
        # Saves the gradients of the discriminator's weights.
        self.discriminator.requires_grad_(False)
        terms = self.terms(index, known, latents, images)
        self._train_encoder_and_generator(terms)
        self.discriminator.requires_grad_(True)
        return lost | {name: value.detach() for name, value in terms.items()}

    def _train_discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        outputs = self.discriminator(torch.cat([real, fake]))
        loss = self.adversary.discriminator(outputs[: len(real)], outputs[len(real) :])
        total = loss
        if self.adversary.penalty:
            # Shuffled, so that labelled rows take part.
            order = torch.randperm(len(real), generator=self.draw, device=self.device)
            penalty = gradient_penalty(self.discriminator, real[order], fake, self.draw)
            total = loss + self.adversary.penalty * penalty
        self.optimizers["discriminator"].zero_grad()
        total.backward()  # type: ignore[no-untyped-call]
        self.optimizers["discriminator"].step()
        return loss.detach()

    def terms(
        self, index: Tensor, known: Tensor, latents: Tensor, images: Tensor
    ) -> dict[str, Tensor]:
        """Return the terms of the objective of encoder and generator.

        Parameters
        ----------
        index, known : Tensor of int64
            Rows without label and labelled rows.
        latents, images : Tensor
            Draws y and G(y).
        """
        both = torch.cat([index, known])
        # In one go, for there is no batch normalisation.
        outputs = self.encoder(self._changed(self.data.rows[both]))
        terms = {"energy": self._energy(outputs[: len(index)], index)}
        if len(known):
            terms["labelled_energy"] = self._energy(outputs[len(index) :], known)
        terms["consistency"] = latent.consistency(latents, self._found(images))
        terms["adversarial"] = self.adversary.generator(self.discriminator(images))
        return terms

    def _found(self, images: Tensor) -> Tensor:
        """Return E(images); in the warm-up no gradient reaches the encoder.

        A generator that has learned nothing yet would otherwise teach the encoder to
        find clusters where there are none.
        """
        if self.iteration >= self.config.warm_up:
            found: Tensor = self.encoder(images)
            return found
        fixed = {k: v.detach() for k, v in self.encoder.named_parameters()}
        found = functional_call(self.encoder, fixed, (images,))
        return found

    def _energy(self, outputs: Tensor, index: Tensor) -> Tensor:
        return latent.expected_energy(outputs, self.means, self.resp[index])

    def _train_encoder_and_generator(self, terms: dict[str, Tensor]) -> None:
        factors = {
            "consistency": self.config.consistency,
            "adversarial": self.config.adversarial,
        }
        total = sum(factors.get(name, 1.0) * value for name, value in terms.items())
        assert isinstance(total, Tensor)
        for name in ("encoder", "generator"):
            self.optimizers[name].zero_grad()
        total.backward()  # type: ignore[no-untyped-call]
        for name in ("encoder", "generator"):
            self.optimizers[name].step()

    def _changed(self, rows: Tensor) -> Tensor:
        affine = self.config.affine
        if affine is None:
            return rows
        return random_affine(
            rows, self.draw, affine.shift, affine.rotation, affine.scale
        )

    def draw_latents(self, size: int) -> tuple[Tensor, Tensor]:
        """Return draws from the latent mixture, stratified by omega, and clusters."""
        labels = latent.stratified_labels(self.weights, size, self.draw)
        shape = (size, self.means.shape[1])
        noise = torch.randn(
            shape, generator=self.draw, device=self.device, dtype=torch.float32
        )
        return self.means[labels] + noise, labels

    # E-step ----------------------------------------------------------------------

    def e_step(self, index: Tensor | None = None) -> dict[str, Tensor]:
        """Update gamma by the averaged encoder, and omega from gamma.

        Parameters
        ----------
        index : Tensor of int64 or None
            Rows whose gamma is renewed; None means all.
        """
        rows = slice(None) if index is None else index
        found = in_batches(self.average.module, self.data.rows[rows])
        joint = latent.log_joint(found, self.means, self.weights)
        free = self._is_free()[rows]
        if index is None:
            self.factors = self._bounding_factors(joint[free])
        placed = torch.softmax(joint + self.factors, 1)
        resp = self.resp.clone()
        resp[rows] = placed
        # In place: recorded steps read them.
        self.resp.copy_(self._with_labels(resp))
        self.weights.copy_(latent.expected_weights(self.resp, self.config.weight_prior))
        moved = free & (placed.argmax(1) != joint.argmax(1))
        return {
            "log_likelihood": torch.logsumexp(joint, 1).mean(),
            "moved": moved.float().mean(),
        }

    def _is_free(self) -> Tensor:
        """Return which rows have no label."""
        if self.data.labels is None:
            return torch.ones(len(self.resp), dtype=torch.bool, device=self.device)
        return self.data.labels < 0

    def _bounding_factors(self, joint: Tensor) -> Tensor:
        """Return the factors for the log-joint densities of the rows without label."""
        if self.data.least is None or not len(joint):
            return torch.zeros_like(self.factors)
        return latent.bounding_factors(joint, self.data.least)

    def _with_labels(self, resp: Tensor) -> Tensor:
        """Return ``resp`` with crisp memberships where the label is known."""
        if self.data.labels is None:
            return resp
        known = self.data.labels[:, None] >= 0
        one_hot = F.one_hot(self.data.labels.clamp_min(0), len(self.means))
        return torch.where(known, one_hot.to(resp.dtype), resp)

    def _latent_error(self) -> Tensor:
        """Return the mean of ||y - E(G(y))|| as the networks predict."""
        latents, _ = self.draw_latents(MEASURED)
        self.generator.eval()
        images = in_batches(self.generator, latents)
        self.generator.train()
        found = in_batches(self.average.module, images)
        return (latents - found).square().sum(1).sqrt().mean()

    # State -----------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Return everything that a step changes, weights at the top level."""
        state: dict[str, Any] = {
            f"{name}.{key}": value
            for name in NETWORKS
            for key, value in getattr(self, name).state_dict().items()
        }
        return state | {
            "average": self.average.state_dict(),
            "optimizers": {k: o.state_dict() for k, o in self.optimizers.items()},
            "iteration": self.iteration,
            "resp": self.resp,
            "weights": self.weights,
            "factors": self.factors,
        }

    def load_state_dict(self, state: Any) -> None:
        """Go back to a state."""
        for name in NETWORKS:
            weights = {
                key.removeprefix(f"{name}."): value
                for key, value in state.items()
                if key.startswith(f"{name}.")
            }
            getattr(self, name).load_state_dict(weights)
            self.optimizers[name].load_state_dict(state["optimizers"][name])
        self.average.load_state_dict(state["average"])
        self.iteration = state["iteration"]
        self.resp, self.weights = state["resp"], state["weights"]
        self.factors = state["factors"]
        self.recorder.forget()


class Labelled:
    """Rows of known clusters, drawn evenly from the clusters.

    Parameters
    ----------
    labels : Tensor of shape (n,) or None
        -1 where unknown.
    """

    def __init__(self, labels: Tensor | None) -> None:
        if labels is None:
            labels = torch.empty(0, dtype=torch.int64)
        order = labels.argsort(stable=True)
        self.rows = order[labels[order] >= 0]
        _, self.counts = torch.unique_consecutive(labels[self.rows], return_counts=True)
        self.first = self.counts.cumsum(0) - self.counts

    def __len__(self) -> int:
        return len(self.rows)

    def sample(self, size: int, draw: torch.Generator) -> Tensor:
        """Return ``size`` row indices, none if no row is labelled."""
        device = self.rows.device
        if not len(self.rows):
            return torch.empty(0, dtype=torch.int64, device=draw.device)
        drawn = torch.rand(size + 1, generator=draw, device=device, dtype=torch.float32)
        turn = (drawn[-1] * len(self.counts)).long()
        cluster = (torch.arange(size, device=device) + turn) % len(self.counts)
        place = (drawn[:-1] * self.counts[cluster]).long()
        # A product may be rounded up to the count.
        place = torch.minimum(place, self.counts[cluster] - 1)
        return self.rows[self.first[cluster] + place]
