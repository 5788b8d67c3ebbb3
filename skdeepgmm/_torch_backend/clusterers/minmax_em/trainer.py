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
from torch import Tensor, nn
from torch.func import functional_call

from skdeepgmm._torch_backend.clusterers import networks
from skdeepgmm._torch_backend.clusterers.adversarial import (
    AdversarialTrainer,
    TrainingData,
    at_least_two,
    stratified_labels,
)
from skdeepgmm._torch_backend.clusterers.augmentation import (
    NO_AUGMENTATION,
    Augmentation,
)
from skdeepgmm._torch_backend.clusterers.minmax_em import latent
from skdeepgmm._torch_backend.clusterers.minmax_em.labelled import LabelledSampler
from skdeepgmm._torch_backend.clusterers.minmax_em.losses import (
    ADVERSARIES,
    gradient_penalty,
)
from skdeepgmm._torch_backend.clusterers.minmax_em.networks import Architecture
from skdeepgmm._torch_backend.clusterers.weights import WeightAverage, load_arrays
from skdeepgmm._torch_backend.cuda_graphs import recordable
from skdeepgmm._torch_backend.inference import in_batches
from skdeepgmm._torch_backend.training import Means

#: Networks, in the order in which a fitted estimator holds them.
NETWORKS = ("encoder", "generator", "discriminator")
#: Exponential averages of Adam's gradient and square, by network.
BETAS = {
    "encoder": (0.9, 0.999),
    "generator": (0.5, 0.99),
    "discriminator": (0.5, 0.99),
}
#: Random latents on which ||y - E(G(y))|| is measured.
MEASURED = 256


@dataclass(frozen=True)
class MinMaxEMConfig:
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
        Samples that the prior of omega adds to every cluster.
    warm_up : int
        EM iterations in which consistency moves the generator alone.
    batch_size, n_steps : int
        Unlabelled samples of a step, and steps of an EM iteration.
    label_batch_size : int
        Labelled samples of a step, drawn evenly from the classes.
    init_batch_size : int
        Samples of a step of the encoder's initialization.
    augmentation : Augmentation
        Of real samples where the encoder sees them.
    learning_rate : float
        At the beginning of training; the encoder's falls to zero by a cosine.
    ema_decay : float
        Decay a step of the averaged encoder (exponential moving average).
    refresh : int
        Steps after which the responsibilities of the samples that come next are
        renewed.
    min_resp : tuple of float or None
        Of each cluster, the lower bound of the mean responsibility over samples
        without label; None for none.
    fixed : bool
        Whether the encoder is trained already, and stays as it is.
    """

    n_iter: int
    consistency: float = 0.5
    adversarial: float = 1.0
    adversary: str = "hinge"
    weight_prior: float = 10.0
    warm_up: int = 0
    batch_size: int = 50
    n_steps: int = 10
    label_batch_size: int = 25
    init_batch_size: int = 64
    augmentation: Augmentation = NO_AUGMENTATION
    learning_rate: float = 1e-3
    ema_decay: float = 0.99
    refresh: int = 25
    min_resp: tuple[float, ...] | None = None
    fixed: bool = False


class MinMaxEM(AdversarialTrainer):
    """The three networks, the responsibilities and what a training needs beside them.

    Parameters
    ----------
    architecture : Architecture
    config : MinMaxEMConfig
    data : TrainingData
        Without initial responsibilities the encoder is initialised on the labelled
        samples alone.
    seed : int
    """

    NETWORKS = NETWORKS
    TENSORS = ("resp", "weights", "factors")
    average: WeightAverage[nn.Sequential]

    def __init__(
        self,
        architecture: Architecture,
        config: MinMaxEMConfig,
        data: TrainingData,
        seed: int,
    ) -> None:
        super().__init__(data, architecture.n_clusters, config.augmentation, seed)
        self.architecture, self.config = architecture, config
        self.adversary = ADVERSARIES[config.adversary]
        self.means = architecture.latent_means().to(self.device)
        self.labelled = LabelledSampler(data.labels)
        self._build()
        self._set_batches(self._unlabelled(), config.batch_size, config.n_steps)
        self.weights = self._uniform_weights()
        self.factors = torch.zeros_like(self.weights)
        init_resp = data.init_resp
        if init_resp is None:
            init_resp = self.weights.expand(len(data.rows), -1)
        self.resp = self._with_labels(init_resp, slice(None)).clone()
        self._part_ways()

    def _build(self) -> None:
        made, rng = self.architecture, self.host_rng
        # Of few labelled images an encoder with smaller initial weights learns more.
        gain = networks.TORCH_GAIN if made.image else networks.HE_GAIN
        self.encoder: nn.Sequential = networks.build(
            made.encoder, rng, self.device, gain=gain
        )
        self.generator: nn.Sequential = networks.build(made.generator, rng, self.device)
        self.discriminator: nn.Sequential = networks.build(
            made.discriminator, rng, self.device
        )
        if self.data.weights is not None:
            load_arrays(self.encoder, self.data.weights)
        if self.config.fixed:
            self.encoder.eval().requires_grad_(False)
        self.average = WeightAverage(self.encoder, self.config.ema_decay)
        # After the copy, which predicts: a random generator cannot be copied.
        for layer in self.encoder.modules():
            if isinstance(layer, networks.Dropout):
                layer.rng = self.rng
        settings: Any = recordable(self.config.learning_rate, self.device)
        self.optimizers = {
            name: torch.optim.Adam(
                network.parameters(), betas=BETAS[name], fused=True, **settings
            )
            for name, network in self._networks().items()
        }

    def _unlabelled(self) -> Tensor:
        """Return the rows without a label, on the CPU; all, if every one has one."""
        free = self._is_free().cpu()
        return (free if free.any() else ~free).nonzero()[:, 0]

    # Initialization --------------------------------------------------------------

    def init_step(self) -> Tensor:
        """Fit the encoder to the initial responsibilities of a random batch."""
        self._set_encoder_lr(1.0)
        return self.recorder(self._encoder_step)["energy"]

    def init_encoder(self, n_steps: int) -> dict[str, Tensor]:
        """Do all steps of the encoder's initialization, and the first E-step."""
        totals = Means()
        for _ in range(n_steps):
            totals.add("energy", self.init_step())
        # The average begins here: a mean over these steps would lag behind it.
        self.average.update(self.encoder)
        return self._come_together(totals.values() | self.e_step())

    def predict_by_init(self, n_steps: int, index: Tensor) -> Tensor:
        """Initialise the encoder and return the clusters of these rows by it."""
        for _ in range(n_steps):
            self.init_step()
        found = in_batches(self.encoder.eval(), self.data.rows[index])
        return latent.log_joint(found, self.means, self.weights).argmax(1)

    def _encoder_step(self) -> dict[str, Tensor]:
        index = self._init_index()
        found = self.encoder(self._augmented(self.data.rows[index]))
        loss = self._energy(found, index)
        self._descend(loss, "encoder")
        return {"energy": loss.detach()}

    def _init_index(self) -> Tensor:
        size = self.config.init_batch_size
        if self.data.init_resp is None:
            return self.labelled.sample(size, self.rng)
        n_samples = len(self.data.rows)
        return torch.randint(n_samples, (size,), generator=self.rng, device=self.device)

    # One EM iteration ------------------------------------------------------------

    def em_iteration(
        self, batches: Iterable[Tensor] | None = None
    ) -> dict[str, Tensor]:
        """Do one EM iteration and return its mean losses.

        Parameters
        ----------
        batches : iterable of Tensor of int64, default=None
            Row indices of each M-step; None takes the next of the trainer's own.
        """
        progress = self.iteration / self.config.n_iter
        self._set_encoder_lr(0.5 * (1.0 + math.cos(math.pi * progress)))
        totals, before = Means(), self.resp.argmax(1)
        batches = self._next_batches() if batches is None else batches
        for index in self._refreshed(index.to(self.device) for index in batches):
            for name, value in self._m_step(index).items():
                totals.add(name, value)
        self.iteration += 1
        found = self.e_step()
        changed = (self.resp.argmax(1) != before).float().mean()
        error = self._latent_error()
        found |= {"changed": changed, "latent_error": error}
        return self._come_together(totals.values() | found)

    def _refreshed(self, batches: Iterator[Tensor]) -> Iterator[Tensor]:
        """Yield the batches, in blocks whose responsibilities are renewed first.

        An encoder that sees the same responsibilities for long learns their mistakes
        by heart. The first block has those of the last E-step.
        """
        if self.config.fixed:
            yield from batches
        yield from islice(batches, self.config.refresh)
        while block := list(islice(batches, self.config.refresh)):
            self.e_step(torch.cat(block))
            yield from block

    def _set_encoder_lr(self, factor: float) -> None:
        """Set the learning rates, the encoder's times ``factor``."""
        rates = dict.fromkeys(NETWORKS, self.config.learning_rate)
        self._set_lr(rates | {"encoder": self.config.learning_rate * factor})

    def _m_step(self, index: Tensor) -> dict[str, Tensor]:
        """Train discriminator, then encoder and generator; returns the losses."""
        made = self.recorder(
            self._adversarial_step,
            at_least_two(index),
            variant=self.iteration >= self.config.warm_up,
        )
        if not self.config.fixed:
            self.average.update(self.encoder)
        return made

    def _adversarial_step(self, index: Tensor) -> dict[str, Tensor]:
        known = self.labelled.sample(self.config.label_batch_size, self.rng)
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
            # Shuffled, so that labelled samples take part.
            order = torch.randperm(len(real), generator=self.rng, device=self.device)
            penalty = gradient_penalty(self.discriminator, real[order], fake, self.rng)
            total = loss + self.adversary.penalty * penalty
        self._descend(total, "discriminator")
        return loss.detach()

    def terms(
        self, index: Tensor, known: Tensor, latents: Tensor, images: Tensor
    ) -> dict[str, Tensor]:
        """Return the terms of the objective of encoder and generator.

        Parameters
        ----------
        index, known : Tensor of int64
            Rows without label and labelled ones.
        latents, images : Tensor
            Random latents y and G(y).
        """
        both = torch.cat([index, known])
        # In one go, for there is no batch normalisation.
        outputs = self.encoder(self._augmented(self.data.rows[both]))
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
        learners = ("generator",) if self.config.fixed else ("encoder", "generator")
        self._descend(total, *learners)

    def draw_latents(self, size: int) -> tuple[Tensor, Tensor]:
        """Return samples of the latent mixture, stratified by omega, and clusters."""
        labels = stratified_labels(self.weights, size, self.rng)
        shape = (size, self.means.shape[1])
        noise = torch.randn(
            shape, generator=self.rng, device=self.device, dtype=torch.float32
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
        self.resp.copy_(self._with_labels(resp, slice(None)))
        self.weights.copy_(latent.expected_weights(self.resp, self.config.weight_prior))
        moved = free & (placed.argmax(1) != joint.argmax(1))
        return {
            "log_likelihood": torch.logsumexp(joint, 1).mean(),
            "moved": moved.float().mean(),
        }

    def _is_free(self) -> Tensor:
        """Return which rows have no label."""
        if self.data.labels is None:
            n_samples = len(self.data.rows)
            return torch.ones(n_samples, dtype=torch.bool, device=self.device)
        return self.data.labels < 0

    def _bounding_factors(self, joint: Tensor) -> Tensor:
        """Return the factors for the log-joint densities of the rows without label."""
        if self.config.min_resp is None or not len(joint):
            return torch.zeros_like(self.factors)
        bounds = joint.new_tensor(self.config.min_resp)
        return latent.bounding_factors(joint, bounds)

    def _latent_error(self) -> Tensor:
        """Return the mean of ||y - E(G(y))|| as the networks predict."""
        latents, _ = self.draw_latents(MEASURED)
        self.generator.eval()
        images = in_batches(self.generator, latents)
        self.generator.train()
        found = in_batches(self.average.module, images)
        return (latents - found).square().sum(1).sqrt().mean()
