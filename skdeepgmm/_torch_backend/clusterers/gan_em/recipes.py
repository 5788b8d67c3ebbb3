"""How GAN-EM trains: losses, learning rates and numbers of steps, frozen."""

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Recipe:
    """Settings of a training run.

    Attributes
    ----------
    losses : str
        Key of ``gan_em.losses.LOSSES``.
    optimizer : {"adam", "rmsprop"}
    discriminator_lr, generator_lr, classifier_lr : float
        Learning rates at the beginning of training.
    persistent_optimizers : bool
        False resets the optimisers in every EM iteration.
    final_lr_fraction : float or None
        Fraction of the learning rates that is left at the end, reached linearly; None
        multiplies them by 0.98 in every EM iteration.
    constant_fraction : float
        Fraction of the run in which learning rates are constant, before they fall to
        ``final_lr_fraction``.
    gan_steps : int or None
        Steps of discriminator and generator in an EM iteration; None means
        ``gan_epochs`` passes over the data.
    gan_epochs : int
    classifier_steps : int or None
        Steps of the E-net on newly generated samples; None means one pass over the
        samples that the M-step generated.
    classifier_batch_size : int
        Samples of a step on newly generated ones.
    batch_size : int
        Real samples, and generated ones, of a step.
    weight_clip : float or None
        Bound of the discriminator's weights.
    learned_prior : bool
        Whether clusters are generated as often as they occur, not equally often.
    init_std : float or None
        Standard deviation of the initial weights of images' networks; None means by
        fan-in, with torch's default gain.
    discriminator_norm, classifier_norm : str
        Names of ``networks.norm``.
    joint_labels : bool
        Whether every E-step batch also holds labelled samples, and the E-net is
        initialised on them.
    ema_decay : float
        Decay a step of the averaged E-net (exponential moving average) that predicts;
        0 takes the E-net itself.
    ema_teacher_from : float
        Fraction of the run from which the averaged E-net is the teacher that gives the
        responsibilities of the M-step. Before, it would hold on to the first clusters
        it finds.
    """

    losses: str = "binary"
    optimizer: str = "adam"
    discriminator_lr: float = 4e-4
    generator_lr: float = 1e-3
    classifier_lr: float = 1e-3
    persistent_optimizers: bool = True
    final_lr_fraction: float | None = 0.1
    constant_fraction: float = 0.0
    gan_steps: int | None = 50
    gan_epochs: int = 5
    classifier_steps: int | None = None
    classifier_batch_size: int = 200
    batch_size: int = 70
    weight_clip: float | None = None
    learned_prior: bool = False
    init_std: float | None = None
    discriminator_norm: str = "batch"
    classifier_norm: str = "group"
    joint_labels: bool = True
    ema_decay: float = 0.99
    ema_teacher_from: float = 1.0

    def lr(self, network: str) -> float:
        """Return the learning rate of a network at the beginning of training."""
        value: float = getattr(self, f"{network}_lr")
        return value

    def scaled_lr(self, factor: float) -> "Recipe":
        """Return the recipe with its learning rates multiplied by ``factor``."""
        names = ("discriminator_lr", "generator_lr", "classifier_lr")
        return replace(self, **{name: getattr(self, name) * factor for name in names})

    def lr_factor(self, iteration: int, n_iter: int) -> float:
        """Return the factor of the learning rates in this EM iteration, from 0 on."""
        if self.final_lr_fraction is None:
            return 0.98**iteration
        constant = self.constant_fraction
        fallen = max(0.0, iteration / max(1, n_iter) - constant) / (1.0 - constant)
        return 1.0 - (1.0 - self.final_lr_fraction) * fallen

    def steps(self, n_samples: int) -> int:
        """Return the number of adversarial steps of an EM iteration."""
        if self.gan_steps is not None:
            return self.gan_steps
        return self.gan_epochs * -(-n_samples // self.batch_size)


_RELEASED = Recipe(
    discriminator_lr=2e-4,
    generator_lr=6e-4,
    classifier_lr=6e-5,
    persistent_optimizers=False,
    final_lr_fraction=None,
    gan_steps=None,
    classifier_steps=1000,
    init_std=0.02,
    classifier_norm="none",
    joint_labels=False,
    ema_decay=0.0,
)

RECIPES = {
    "fast": Recipe(),
    "released": _RELEASED,
    "paper": Recipe(
        losses="paper",
        optimizer="rmsprop",
        discriminator_lr=2e-4,
        generator_lr=2e-4,
        classifier_lr=2e-4,
        persistent_optimizers=True,
        final_lr_fraction=None,
        gan_steps=None,
        classifier_steps=1000,
        weight_clip=0.01,
        learned_prior=True,
        init_std=0.02,
        discriminator_norm="none",
        classifier_norm="none",
        joint_labels=False,
        ema_decay=0.0,
    ),
}
