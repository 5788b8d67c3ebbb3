"""What the parameters of ``GANEMClusterer`` mean for the training."""

import dataclasses
import math
from numbers import Integral, Real

from skdeepgmm._torch_backend.clusterers.gan_em.losses import LOSSES
from skdeepgmm._torch_backend.clusterers.gan_em.networks import TABLES, Architecture
from skdeepgmm._torch_backend.clusterers.gan_em.recipes import RECIPES
from skdeepgmm._torch_backend.clusterers.gan_em.trainer import Config
from skdeepgmm._torch_backend.clusterers.networks import is_image
from skdeepgmm.estimators._sklearn_compat import (
    Interval,
    StrOptions,
    validate_parameter_constraints,
)
from skdeepgmm.estimators.clusterers._settings import checked_affine, is_large_image

_POSITIVE = Interval(Real, 0, None, closed="neither")
_COUNT = Interval(Integral, 1, None, closed="left")
_SHARE = Interval(Real, 0, 1, closed="both")
#: What the settings of a recipe may be.
RECIPE_CONSTRAINTS = {
    "losses": [StrOptions(set(LOSSES))],
    "optimizer": [StrOptions({"adam", "rmsprop"})],
    "discriminator_rate": [_POSITIVE],
    "generator_rate": [_POSITIVE],
    "classifier_rate": [_POSITIVE],
    "keeps_optimizers": ["boolean"],
    "last_rate": [_SHARE, None],
    "held": [Interval(Real, 0, 1, closed="left")],
    "gan_steps": [_COUNT, None],
    "gan_epochs": [_COUNT],
    "classifier_steps": [_COUNT, None],
    # Batch normalisation needs two rows.
    "classifier_batch": [Interval(Integral, 2, None, closed="left")],
    "batch_size": [_COUNT],
    "clip": [_POSITIVE, None],
    "learned_prior": ["boolean"],
    "std": [_POSITIVE, None],
    "discriminator_norm": [StrOptions({"none", "batch", "group", "layer"})],
    "classifier_norm": [StrOptions({"none", "batch", "group", "layer"})],
    "joint_labels": ["boolean"],
    "average": [Interval(Real, 0, 1, closed="left")],
    "averaged_from": [_SHARE],
}
#: Most steps of a run by default.
MOST_STEPS = 25_000


@dataclasses.dataclass(frozen=True)
class Habits:
    """How data of a kind are trained by default.

    Attributes
    ----------
    passes : int
        Over the data in a run that chance begins.
    led_passes : int
        ... that labels or responsibilities begin: it has one start.
    fewest_steps : int
        Of a run, however few the data.
    rate_factor : float
        Factor of the rates of the recipe "fast".
    starts : int
        Of runs that are not short.
    start_share : float
        Share of a run that each start gets.
    """

    passes: int
    led_passes: int
    fewest_steps: int
    rate_factor: float
    starts: int
    start_share: float


#: Early, runs that have found their clusters fast are not yet told from good ones, and
#: with small images they are told only at the end.
LARGE_IMAGES = Habits(36, 50, 3000, 1.0, 3, 0.3)
SMALL_IMAGES = Habits(50, 50, 2500, 2.0, 1, 1.0)
#: Vectors start from k-means, and any number of them is trained for as long.
VECTORS = Habits(0, 0, 1000, 1.0, 1, 0.3)
#: Runs of fewer EM iterations have one start.
FEWEST_ITERATIONS = 50
#: Most EM iterations of each of several starts.
MOST_START_ITERATIONS = 50
#: Changes of generated images that ``affine='auto'`` means: share of the side, degrees,
#: share of the size. Kinds of handwriting differ by more than half of this.
GENERATED_AFFINE = (1 / 11, 18.0, 0.15)
#: Largest sides, as shares of the image's, that ``cutmix='auto'`` means: an E-net that
#: misses part of an image goes by the whole and not by one stroke.
GENERATED_CUTMIX = 3 / 7
#: Default number of EM iterations of the recipes with long ones.
LONG_ITERATIONS = 30
#: Share of a run in which given responsibilities stand in for the E-net's.
HOLD_SHARE = 0.3
#: Default noise of large images, and of all else.
NOISE_DIM, SMALL_NOISE_DIM = 62, 16


def recipe_of(estimator):
    """Return the recipe with the estimator's changes.

    Raises
    ------
    ValueError
        If ``recipe`` is a dict with an unknown name or a value out of range.
    """
    is_dict = isinstance(estimator.recipe, dict)
    changes = dict(estimator.recipe) if is_dict else {}
    unknown = sorted(map(str, set(changes) - set(RECIPE_CONSTRAINTS)))
    if unknown:
        raise ValueError(
            f"recipe has the unknown settings {unknown}; expected some of "
            f"{sorted(RECIPE_CONSTRAINTS)}."
        )
    validate_parameter_constraints(RECIPE_CONSTRAINTS, changes, "recipe")
    if estimator.batch_size is not None:
        changes["batch_size"] = estimator.batch_size
    recipe = RECIPES["fast" if is_dict else estimator.recipe]
    return dataclasses.replace(recipe, **changes)


def architecture_of(estimator, image_shape, n_features, recipe):
    """Return the networks for images of this shape, or for vectors.

    Parameters
    ----------
    image_shape : tuple of int or None
        (height, width, channels).

    Raises
    ------
    ValueError
        If ``networks`` names convolutions for data that are no images, or for
        images too small to be halved as often as they do.
    """
    shape = (n_features,)
    if image_shape is not None and is_image((1, *image_shape[:2])):
        shape = (image_shape[2], *image_shape[:2])
    image = len(shape) == 3
    if estimator.networks != "auto":
        least = 2 ** len(TABLES[estimator.networks].channels)
        if not image or min(shape[1:]) < least:
            raise ValueError(
                f"networks={estimator.networks!r} needs images of at least {least} x "
                f"{least} pixels, but image_shape is {image_shape}. Set image_shape, "
                "or networks='auto'."
            )
    return Architecture(
        shape,
        estimator.n_clusters,
        estimator.noise_dim or default_noise_dim(shape),
        estimator.embedding_dim,
        estimator.networks,
        estimator.width,
        recipe.discriminator_norm,
        recipe.classifier_norm,
    )


def default_noise_dim(shape):
    """Return what ``noise_dim=None`` means for data of this shape."""
    return NOISE_DIM if is_large_image(shape) else SMALL_NOISE_DIM


def habits_of(shape):
    """Return the Habits for rows of this shape in the networks."""
    if len(shape) < 3:
        return VECTORS
    return LARGE_IMAGES if is_large_image(shape) else SMALL_IMAGES


def config_of(estimator, architecture, recipe, n_samples):
    """Return the length of the run and what departs from the recipe."""
    habits = habits_of(architecture.shape)
    n_iter = estimator.max_iter
    if n_iter is None:
        led = is_led(estimator, architecture.image)
        n_iter = default_iterations(habits, recipe, n_samples, led)
    given = start_kind(estimator, architecture.image) != "uniform"
    hold = max(1, round(HOLD_SHARE * n_iter)) if given else 1
    return Config(
        with_rates(recipe, rate_factor_of(estimator, habits)),
        n_iter,
        hold,
        affine_of(estimator, architecture),
        cutmix_of(estimator, architecture),
        estimator.temperature,
        estimator.label_tol,
    )


def rate_factor_of(estimator, habits):
    """Return what the rates of the recipe are multiplied by."""
    if estimator.learning_rate is not None:
        return estimator.learning_rate
    return habits.rate_factor if is_fast(estimator) else 1.0


def with_rates(recipe, factor):
    """Return the recipe with its rates multiplied by ``factor``."""
    rates = {
        name: getattr(recipe, name) * factor
        for name in ("discriminator_rate", "generator_rate", "classifier_rate")
    }
    return dataclasses.replace(recipe, **rates)


def is_fast(estimator):
    """Tell whether the recipe is "fast", or a change of it."""
    return estimator.recipe not in ("released", "paper")


def default_iterations(habits, recipe, n_samples, led):
    """Return the EM iterations that ``max_iter=None`` means."""
    if recipe.gan_steps is None:
        return LONG_ITERATIONS
    passes = habits.led_passes if led else habits.passes
    wanted = passes * n_samples / recipe.batch_size
    steps = min(max(wanted, habits.fewest_steps), MOST_STEPS)
    return math.ceil(steps / recipe.gan_steps)


def starts_of(estimator, shape, n_iter):
    """Return the number of starts."""
    if estimator.n_init != "auto":
        return estimator.n_init
    alone = is_led(estimator, len(shape) == 3) or not is_fast(estimator)
    return 1 if alone or n_iter < FEWEST_ITERATIONS else habits_of(shape).starts


def start_iterations(estimator, shape, n_iter):
    """Return the EM iterations of each start."""
    if estimator.start_iter is not None:
        return min(estimator.start_iter, n_iter)
    share = habits_of(shape).start_share
    return min(max(1, round(share * n_iter)), MOST_START_ITERATIONS)


def affine_of(estimator, architecture):
    """Return the change of generated images, None for none."""
    if isinstance(estimator.affine, str) and not (
        architecture.image and is_fast(estimator)
    ):
        return None
    return checked_affine(estimator.affine, architecture, GENERATED_AFFINE)


def cutmix_of(estimator, architecture):
    """Return the largest sides of a pasted rectangle as shares, None for none.

    Raises
    ------
    ValueError
        If ``cutmix`` is a number, but the rows are no images.
    """
    cutmix = estimator.cutmix
    if isinstance(cutmix, str):
        large = is_large_image(architecture.shape)
        return GENERATED_CUTMIX if large and is_fast(estimator) else None
    if cutmix is not None and not architecture.image:
        raise ValueError(
            f"cutmix must be None or 'auto' for vectors, got {cutmix!r}. Set "
            "image_shape if the rows are images of at least 8 x 8 pixels."
        )
    return cutmix


def is_led(estimator, image):
    """Tell whether anything but chance begins a run."""
    return estimator.semi_supervised or start_kind(estimator, image) != "uniform"


def start_kind(estimator, image):
    """Return "uniform", "kmeans", "tsne" or "array"."""
    if not isinstance(estimator.init, str):
        return "array"
    if estimator.init == "auto":
        return "uniform" if image else "kmeans"
    return estimator.init
