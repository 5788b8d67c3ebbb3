"""GAN-EM: a generator and a discriminator for the M-step, an E-net for the E-step.

M-step: real samples, weighted by P(cluster | x), and generated ones train the
discriminator, and it the generator. E-step: the E-net learns from generated samples
which cluster they were made for; its softmax on real ones is the next P(cluster | x).

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
from skdeepgmm._torch_backend.clusterers.gan_em.losses import LOSSES, soften
from skdeepgmm._torch_backend.clusterers.gan_em.networks import (
    Architecture,
    Classifier,
    Generator,
)
from skdeepgmm._torch_backend.clusterers.gan_em.recipes import Recipe
from skdeepgmm._torch_backend.clusterers.weights import WeightAverage, load_arrays
from skdeepgmm._torch_backend.cuda_graphs import Step, recordable
from skdeepgmm._torch_backend.inference import in_batches
from skdeepgmm._torch_backend.training import Means

#: Samples whose assignments are followed from iteration to iteration.
MONITORED = 2048
#: Labelled samples of one E-step batch, and steps on them before the first M-step.
LABELLED_BATCH, LABEL_INIT_STEPS = 32, 300
#: Most steps on labelled samples at the end of an E-step.
MOST_LABEL_STEPS = 200


@dataclass(frozen=True)
class GANEMConfig:
    """A run: recipe, length and what departs from the recipe.

    Attributes
    ----------
    n_iter : int
        EM iterations of the whole run.
    hold : int
        Iterations in which the initial responsibilities are used.
    augmentation : Augmentation
        Of generated and labelled images in the E-step.
    temperature : float
        Exponent 1 / temperature of the responsibilities.
    label_tol : float
        Error of the labelled samples at which the E-net has learned them.
    fixed : bool
        Whether the E-net is trained already: what it is gives the initial
        responsibilities, which the M-step then uses all along.
    """

    recipe: Recipe
    n_iter: int
    hold: int = 1
    augmentation: Augmentation = NO_AUGMENTATION
    temperature: float = 1.0
    label_tol: float = 0.05
    fixed: bool = False


class GANEM(AdversarialTrainer):
    """The three networks and what a training needs beside them.

    Parameters
    ----------
    architecture : Architecture
    config : GANEMConfig
    data : TrainingData
        No initial responsibilities mean equal ones.
    seed : int
    """

    NETWORKS = ("generator", "discriminator", "classifier")
    TENSORS = ("prior", "assigned")
    average: WeightAverage[Classifier]

    def __init__(
        self,
        architecture: Architecture,
        config: GANEMConfig,
        data: TrainingData,
        seed: int,
    ) -> None:
        super().__init__(data, architecture.n_clusters, config.augmentation, seed)
        self.architecture, self.config = architecture, config
        self.recipe = config.recipe
        self.losses = LOSSES[self.recipe.losses]
        self._build()
        n_samples = len(data.rows)
        self._set_batches(
            torch.arange(n_samples),
            self.recipe.batch_size,
            self.recipe.steps(n_samples),
        )
        self.prior = self._uniform_weights()
        self.monitored = self._choose_monitored()
        self.assigned = torch.full((len(self.monitored),), -1, device=self.device)
        self.occupancy = self.prior.clone()
        self.labelled = self._labelled_rows()
        self._part_ways()

    def _build(self) -> None:
        made, std, gain = self.architecture, self.recipe.init_std, networks.TORCH_GAIN
        if not made.image:
            std, gain = None, networks.HE_GAIN
        settings = self.host_rng, self.device, std, gain
        self.generator: Generator = networks.build(made.generator, *settings)
        self.discriminator: Classifier = networks.build(made.discriminator, *settings)
        self.classifier: Classifier = networks.build(made.classifier, *settings)
        if self.data.weights is not None:
            load_arrays(self.classifier, self.data.weights)
        # In training mode within E-steps only: batch statistics are not for predicting.
        self.classifier.eval()
        self.average = WeightAverage(self.classifier, self.recipe.ema_decay)
        self._new_optimizers()

    def _new_optimizers(self) -> None:
        self.optimizers = {
            name: self._optimizer(network, self.recipe.lr(name))
            for name, network in self._networks().items()
        }
        self.recorder.forget()

    def _optimizer(self, module: nn.Module, lr: float) -> torch.optim.Optimizer:
        settings: Any = recordable(lr, self.device)
        if self.recipe.optimizer == "rmsprop":
            return torch.optim.RMSprop(module.parameters(), **settings)
        return torch.optim.Adam(
            module.parameters(), betas=(0.5, 0.999), fused=True, **settings
        )

    @property
    def _teacher(self) -> Classifier:
        """The E-net that gives the responsibilities of the M-step."""
        late = self.iteration >= self.recipe.ema_teacher_from * self.config.n_iter
        return self.predictor if late else self.classifier

    @property
    def predictor(self) -> Classifier:
        """The E-net that predicts."""
        averaged = self.recipe.ema_decay > 0.0 and self.average.updates > 0
        return self.average.module if averaged else self.classifier

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
        self._begin_iteration()
        if self._begins_with_labels():
            self._init_on_labels()
            self._begin_iteration()
        totals, generated = Means(), []
        for index in self._next_batches() if batches is None else batches:
            made = self._m_step(index)
            for name in ("discriminator", "generator"):
                totals.add(name, made[name])
            generated.append((made["images"], made["labels"]))
        for loss in self._e_step(generated):
            totals.add("classifier", loss)
        self.iteration += 1
        losses = self._come_together(totals.values())
        return losses | self._observe()

    def _e_step(self, generated: list[tuple[Tensor, Tensor]]) -> Iterator[Tensor]:
        """Train the E-net and yield its losses; one that is trained is measured."""
        if self.config.fixed:
            yield self._generated_loss(*generated[-1])
            return
        with self._training():
            for images, labels in self._e_batches(generated):
                yield self._train_classifier(self._classifier_step, images, labels)
            if len(self.labelled):
                self._learn_labels()

    def _generated_loss(self, images: Tensor, labels: Tensor) -> Tensor:
        with torch.no_grad():
            return F.cross_entropy(self.classifier(images), labels)

    @contextmanager
    def _training(self) -> Iterator[None]:
        """Put the E-net into training mode, until the end or Ctrl-C."""
        self.classifier.train()
        try:
            yield
        finally:
            self.classifier.eval()

    def _begin_iteration(self) -> None:
        """Set the learning rates, where asked for of new optimisers."""
        recipe = self.recipe
        if not recipe.persistent_optimizers:
            self._new_optimizers()
        factor = recipe.lr_factor(self.iteration, self.config.n_iter)
        self._set_lr({name: recipe.lr(name) * factor for name in self.NETWORKS})

    def _m_step(self, index: Tensor) -> dict[str, Tensor]:
        """Train discriminator, then generator; returns losses and generated batch."""
        index = at_least_two(index.to(self.device))
        held = self._is_held
        teacher = self.predictor if held else self._teacher
        return self.recorder(
            self._adversarial_step, index, variant=(held, teacher is self.classifier)
        )

    def _adversarial_step(self, index: Tensor) -> dict[str, Tensor]:
        rows = self.data.rows[index]
        resp = self.responsibilities(index, rows)
        labels = self.draw_labels(len(rows))
        images = self.generate(labels)
        real_or_fake = self._discriminator_loss(rows, resp, images.detach())
        self._descend(real_or_fake, "discriminator")
        self._clip_discriminator()
        # Saves the gradients of the discriminator's weights.
        self.discriminator.requires_grad_(False)
        loss = self.losses.generator(self.discriminator(images), labels)
        self._descend(loss, "generator")
        self.discriminator.requires_grad_(True)
        return {
            "discriminator": real_or_fake.detach(),
            "generator": loss.detach(),
            "images": images.detach(),
            "labels": labels,
        }

    def _discriminator_loss(self, rows: Tensor, resp: Tensor, images: Tensor) -> Tensor:
        # Apart, so that batch normalisation sees real and generated samples as the
        # generator's step does.
        loss = self.losses.real(self.discriminator(rows), resp)
        return loss + self.losses.fake(self.discriminator(images))

    def _clip_discriminator(self) -> None:
        if (bound := self.recipe.weight_clip) is not None:
            with torch.no_grad():
                for weight in self.discriminator.parameters():
                    weight.clamp_(-bound, bound)

    def generate(self, labels: Tensor) -> Tensor:
        """Return generated samples of these clusters."""
        shape = (len(labels), self.architecture.noise_dim)
        noise = torch.rand(
            shape, generator=self.rng, device=self.device, dtype=torch.float32
        )
        images: Tensor = self.generator(noise, labels)
        return images

    def draw_labels(self, size: int) -> Tensor:
        """Return clusters in the shares of the prior, as even as ``size`` allows."""
        return stratified_labels(self.prior, size, self.rng)

    def responsibilities(self, index: Tensor, rows: Tensor) -> Tensor:
        """Return P(cluster | x) of the M-step; known labels are certain."""
        if self._is_held:
            resp = self._init_resp(index)
        else:
            resp = self.probabilities(rows, self._teacher)
            resp = soften(resp, self.config.temperature)
        return self._with_labels(resp, index)

    @property
    def _is_held(self) -> bool:
        """Whether the M-step uses the initial responsibilities."""
        return self.config.fixed or self.iteration < self.config.hold

    def _init_resp(self, index: Tensor) -> Tensor:
        if self.data.init_resp is not None:
            return self.data.init_resp[index]
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
            labels = self.draw_labels(self.recipe.classifier_batch_size)
            with torch.no_grad():
                images = self.generate(labels)
            yield images, labels

    def _train_classifier(self, step: Step, *arguments: Tensor) -> Tensor:
        """Do a step of the E-net; returns its loss."""
        loss = self.recorder(step, *arguments)["loss"]
        if self.recipe.ema_decay:
            self.average.update(self.classifier)
        return loss

    def _classifier_step(self, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
        loss = F.cross_entropy(self.classifier(self._augmented(images)), labels)
        total = loss
        if len(self.labelled) and self.recipe.joint_labels:
            total = loss + self._label_loss(LABELLED_BATCH)
        self._descend(total, "classifier")
        return {"loss": loss.detach()}

    def _label_step(self) -> dict[str, Tensor]:
        loss = self._label_loss(2 * LABELLED_BATCH)
        self._descend(loss, "classifier")
        return {"loss": loss.detach()}

    # Labels ----------------------------------------------------------------------

    def _labelled_rows(self) -> Tensor:
        if self.data.labels is None:
            return torch.empty(0, dtype=torch.int64)
        return torch.nonzero(self.data.labels >= 0)[:, 0]

    def _label_loss(self, size: int) -> Tensor:
        """Cross-entropy of randomly drawn labelled samples."""
        assert self.data.labels is not None
        drawn = torch.randint(
            len(self.labelled), (size,), generator=self.rng, device=self.device
        )
        index = self.labelled[drawn]
        images = self._augmented(self.data.rows[index])
        return F.cross_entropy(self.classifier(images), self.data.labels[index])

    def _begins_with_labels(self) -> bool:
        """Tell whether the E-net is to be initialised on labels now."""
        wanted = self.recipe.joint_labels and not self.config.fixed
        return wanted and self.iteration == 0 and len(self.labelled) > 0

    def _init_on_labels(self) -> None:
        with self._training():
            for _ in range(LABEL_INIT_STEPS):
                self._train_classifier(self._label_step)

    def _learn_labels(self) -> None:
        """Train the E-net on the labelled samples until it knows them."""
        for step in range(MOST_LABEL_STEPS):
            if step % 10 == 0 and self._label_error() <= self.config.label_tol:
                return
            self._train_classifier(self._label_step)

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
        order = torch.randperm(size, generator=self.rng, device=self.device)
        return order[:MONITORED]

    def _observe(self) -> dict[str, Tensor]:
        """Measure the E-net on the monitored samples."""
        probabilities = in_batches(self.probabilities, self.data.rows[self.monitored])
        assigned = probabilities.argmax(1)
        self.occupancy = probabilities.mean(0)
        changed = (assigned != self.assigned).float().mean()
        self.assigned = assigned
        if self.recipe.learned_prior:
            # A cluster without generated samples would vanish for good.
            self.prior.copy_(0.9 * self.occupancy + 0.1 / self.n_clusters)
        entropy = -torch.special.xlogy(self.occupancy, self.occupancy).sum()
        return {
            "confidence": probabilities.amax(1).mean(),
            "changed": changed,
            "n_effective": entropy.exp(),
        }

    def mean_probabilities(self) -> Tensor:
        """Return the mean P(cluster | x) over all samples, float64, (n_clusters,)."""
        return in_batches(self.probabilities, self.data.rows).double().mean(0)
