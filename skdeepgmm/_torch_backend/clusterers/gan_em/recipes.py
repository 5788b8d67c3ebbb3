"""How GAN-EM trains: losses, rates and lengths of the steps, as frozen settings."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Recipe:
    """Settings of a training run.

    Attributes
    ----------
    losses : str
        Key of ``gan_em_losses.LOSSES``.
    optimizer : {"adam", "rmsprop"}
    discriminator_rate, generator_rate, classifier_rate : float
    keeps_optimizers : bool
        False starts the optimisers anew in every EM iteration.
    last_rate : float or None
        Share of the rates that is left at the end, reached linearly; None multiplies
        them by 0.98 in every EM iteration.
    held : float
        Share of the run in which rates stay before they fall to ``last_rate``.
    gan_steps : int or None
        Steps of discriminator and generator in an EM iteration; None means
        ``gan_epochs`` passes over the data.
    gan_epochs : int
    classifier_steps : int or None
        Steps of the E-net on fresh generated rows; None means one pass over the rows
        that the M-step generated.
    classifier_batch : int
        Rows of a fresh step.
    batch_size : int
        Real rows, and generated rows, of a step.
    clip : float or None
        Bound of the discriminator's weights.
    learned_prior : bool
        Whether clusters are generated as often as they occur, not equally often.
    std : float or None
        Deviation of the first weights of images' networks; None means by fan-in, with
        the gain that torch starts with.
    discriminator_norm, classifier_norm : str
        Kinds of ``networks.norm``.
    joint_labels : bool
        Whether every E-step batch also holds labelled rows, and the E-net starts on
        them.
    average : float
        Decay a step of the averaged E-net that predicts; 0 takes the E-net itself.
    averaged_from : float
        Share of the run from which the averaged E-net also gives the responsibilities
        of the M-step. Before, it would hold on to the first clusters it finds.
    """

    losses: str = "binary"
    optimizer: str = "adam"
    discriminator_rate: float = 4e-4
    generator_rate: float = 1e-3
    classifier_rate: float = 1e-3
    keeps_optimizers: bool = True
    last_rate: float | None = 0.1
    held: float = 0.0
    gan_steps: int | None = 50
    gan_epochs: int = 5
    classifier_steps: int | None = None
    classifier_batch: int = 200
    batch_size: int = 70
    clip: float | None = None
    learned_prior: bool = False
    std: float | None = None
    discriminator_norm: str = "batch"
    classifier_norm: str = "group"
    joint_labels: bool = True
    average: float = 0.99
    averaged_from: float = 1.0

    def rate_factor(self, iteration: int, n_iter: int) -> float:
        """Return what the rates are multiplied by in this EM iteration, from 0 on."""
        if self.last_rate is None:
            return 0.98**iteration
        fallen = max(0.0, iteration / max(1, n_iter) - self.held) / (1.0 - self.held)
        return 1.0 - (1.0 - self.last_rate) * fallen

    def steps(self, n_samples: int) -> int:
        """Return the number of adversarial steps of an EM iteration."""
        if self.gan_steps is not None:
            return self.gan_steps
        return self.gan_epochs * -(-n_samples // self.batch_size)


_RELEASED = Recipe(
    discriminator_rate=2e-4,
    generator_rate=6e-4,
    classifier_rate=6e-5,
    keeps_optimizers=False,
    last_rate=None,
    gan_steps=None,
    classifier_steps=1000,
    std=0.02,
    classifier_norm="none",
    joint_labels=False,
    average=0.0,
)

RECIPES = {
    "fast": Recipe(),
    "released": _RELEASED,
    "paper": Recipe(
        losses="paper",
        optimizer="rmsprop",
        discriminator_rate=2e-4,
        generator_rate=2e-4,
        classifier_rate=2e-4,
        keeps_optimizers=True,
        last_rate=None,
        gan_steps=None,
        classifier_steps=1000,
        clip=0.01,
        learned_prior=True,
        std=0.02,
        discriminator_norm="none",
        classifier_norm="none",
        joint_labels=False,
        average=0.0,
    ),
}
