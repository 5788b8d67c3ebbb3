"""What the parameters of ``GANEMClusterer`` mean for the training."""

import dataclasses
import math
from numbers import Integral, Real

from skdeepgmm._torch_backend.clusterers.augmentation import Augmentation
from skdeepgmm._torch_backend.clusterers.gan_em.losses import LOSSES
from skdeepgmm._torch_backend.clusterers.gan_em.networks import TABLES, Architecture
from skdeepgmm._torch_backend.clusterers.gan_em.recipes import RECIPES
from skdeepgmm._torch_backend.clusterers.gan_em.trainer import GANEMConfig
from skdeepgmm._torch_backend.clusterers.networks import (
    SMALLEST_SIDE,
    is_large_image,
)
from skdeepgmm._torch_backend.clusterers.preprocessing import network_shape
from skdeepgmm.estimators._sklearn_compat import (
    Interval,
    StrOptions,
    validate_parameter_constraints,
)
from skdeepgmm.estimators.clusterers._consistency import (
    has_every_cluster,
    is_consistent,
)
from skdeepgmm.estimators.clusterers._settings import checked_affine

_POSITIVE = Interval(Real, 0, None, closed="neither")
_COUNT = Interval(Integral, 1, None, closed="left")
_SHARE = Interval(Real, 0, 1, closed="both")
#: What the settings of a recipe may be.
RECIPE_CONSTRAINTS = {
    "losses": [StrOptions(set(LOSSES))],
    "optimizer": [StrOptions({"adam", "rmsprop"})],
    "discriminator_lr": [_POSITIVE],
    "generator_lr": [_POSITIVE],
    "classifier_lr": [_POSITIVE],
    "persistent_optimizers": ["boolean"],
    "final_lr_fraction": [_SHARE, None],
    "constant_fraction": [Interval(Real, 0, 1, closed="left")],
    "gan_steps": [_COUNT, None],
    "gan_epochs": [_COUNT],
    "classifier_steps": [_COUNT, None],
    # Batch normalisation needs two samples.
    "classifier_batch_size": [Interval(Integral, 2, None, closed="left")],
    "batch_size": [_COUNT],
    "weight_clip": [_POSITIVE, None],
    "learned_prior": ["boolean"],
    "init_std": [_POSITIVE, None],
    "discriminator_norm": [StrOptions({"none", "batch", "group", "layer"})],
    "classifier_norm": [StrOptions({"none", "batch", "group", "layer"})],
    "joint_labels": ["boolean"],
    "ema_decay": [Interval(Real, 0, 1, closed="left")],
    "ema_teacher_from": [_SHARE],
}
#: Most steps of a run by default.
MOST_STEPS = 25_000


@dataclasses.dataclass(frozen=True)
class TrainingDefaults:
    """How data of a kind are trained by default.

    Attributes
    ----------
    passes : int
        Over the data in a run that begins with equal responsibilities.
    supervised_passes : int
        ... that begins with labels or initial responsibilities: it has no restarts.
    fewest_steps : int
        Of a run, however few the data.
    lr_factor : float
        Factor of the learning rates of the recipe "fast".
    n_init : int
        Of runs that are not short.
    init_fraction : float
        Fraction of a run that each restart gets before one is chosen.
    """

    passes: int
    supervised_passes: int
    fewest_steps: int
    lr_factor: float
    n_init: int
    init_fraction: float


#: Early, runs that have found their clusters fast are not yet told from good ones, and
#: with small images they are told only at the end.
LARGE_IMAGES = TrainingDefaults(36, 50, 3000, 1.0, 3, 0.3)
SMALL_IMAGES = TrainingDefaults(50, 50, 2500, 2.0, 1, 1.0)
#: Vectors are initialised by k-means, and any number of them is trained for as long.
VECTORS = TrainingDefaults(0, 0, 1000, 1.0, 1, 0.3)
#: An E-net that was trained on real images leaves the generative part to train.
CONSISTENT = TrainingDefaults(25, 25, 2500, 1.0, 1, 0.3)
#: Runs of fewer EM iterations have one initialization.
FEWEST_ITERATIONS = 50
#: Most EM iterations of each of several restarts before one is chosen.
MOST_INIT_ITERATIONS = 50
#: Augmentation of generated images that ``affine='auto'`` means: share of the side,
#: degrees, share of the size. Kinds of handwriting differ by more than half of this.
GENERATED_AFFINE = (1 / 11, 18.0, 0.15)
#: Largest sides, as shares of the image's, that ``cutmix='auto'`` means: an E-net that
#: misses part of an image goes by the whole and not by one stroke.
GENERATED_CUTMIX = 3 / 7
#: Fewest images of less than 16 x 16 pixels that begin with an embedding by default.
ENOUGH_TO_EMBED = 1000
#: Default number of EM iterations of the recipes with long ones.
LONG_ITERATIONS = 30
#: Share of a run in which initial responsibilities stand in for the E-net's.
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


def architecture_of(estimator, image_shape, n_features, recipe, consistent=False):
    """Return the networks for images of this shape, or for vectors.

    Parameters
    ----------
    image_shape : tuple of int or None
        (height, width, channels).
    consistent : bool
        Whether the E-net is trained by consistency on real images.

    Raises
    ------
    ValueError
        If ``networks`` names convolutions for data that are no images, or for
        images too small to be halved as often as they do.
    """
    shape = network_shape(image_shape, n_features)
    image = len(shape) == 3
    photo = estimator.networks == "photo" or (
        consistent and estimator.networks == "auto"
    )
    if estimator.networks != "auto":
        least = least_side(estimator.networks)
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
        photo=photo,
    )


def least_side(table):
    """Return the smallest side of images for these networks, in pixels."""
    return 2 ** len(TABLES[table].channels) if table in TABLES else SMALLEST_SIDE


def default_noise_dim(shape):
    """Return what ``noise_dim=None`` means for data of this shape."""
    return NOISE_DIM if is_large_image(shape) else SMALL_NOISE_DIM


def defaults_of(shape):
    """Return the TrainingDefaults for samples of this shape in the networks."""
    if len(shape) < 3:
        return VECTORS
    return LARGE_IMAGES if is_large_image(shape) else SMALL_IMAGES


def config_of(estimator, architecture, recipe, n_samples, consistent=False):
    """Return the length of the run and what departs from the recipe."""
    defaults = CONSISTENT if consistent else defaults_of(architecture.shape)
    n_iter = estimator.max_iter
    if n_iter is None:
        supervised = is_supervised(estimator, architecture.shape, n_samples)
        n_iter = default_iterations(defaults, recipe, n_samples, supervised)
    known = init_method(estimator, architecture.shape, n_samples) != "uniform"
    return GANEMConfig(
        recipe.scaled_lr(lr_factor_of(estimator, recipe, defaults)),
        n_iter,
        hold=max(1, round(HOLD_SHARE * n_iter)) if known and not consistent else 1,
        augmentation=Augmentation(
            affine_of(estimator, architecture), cutmix_of(estimator, architecture)
        ),
        temperature=estimator.temperature,
        label_tol=estimator.label_tol,
        fixed=consistent,
    )


def lr_factor_of(estimator, recipe, defaults):
    """Return the factor of the recipe's learning rates: the generator's sets it."""
    if estimator.learning_rate is not None:
        return estimator.learning_rate / recipe.generator_lr
    return defaults.lr_factor if is_fast(estimator) else 1.0


def is_fast(estimator):
    """Tell whether the recipe is "fast", or a change of it."""
    return estimator.recipe not in ("released", "paper")


def default_iterations(defaults, recipe, n_samples, supervised):
    """Return the EM iterations that ``max_iter=None`` means."""
    if recipe.gan_steps is None:
        return LONG_ITERATIONS
    passes = defaults.supervised_passes if supervised else defaults.passes
    wanted = passes * n_samples / recipe.batch_size
    steps = min(max(wanted, defaults.fewest_steps), MOST_STEPS)
    return math.ceil(steps / recipe.gan_steps)


def n_init_of(estimator, shape, n_iter):
    """Return the number of initializations."""
    if estimator.n_init != "auto":
        return estimator.n_init
    alone = is_supervised(estimator, shape) or not is_fast(estimator)
    return 1 if alone or n_iter < FEWEST_ITERATIONS else defaults_of(shape).n_init


def init_iterations(estimator, shape, n_iter):
    """Return the EM iterations of each restart before one is chosen."""
    if estimator.init_iter is not None:
        return min(estimator.init_iter, n_iter)
    fraction = defaults_of(shape).init_fraction
    return min(max(1, round(fraction * n_iter)), MOST_INIT_ITERATIONS)


def affine_of(estimator, architecture):
    """Return the affine augmentation of generated images, None for none."""
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
        If ``cutmix`` is a number, but the samples are no images.
    """
    cutmix = estimator.cutmix
    if isinstance(cutmix, str):
        large = is_large_image(architecture.shape)
        return GENERATED_CUTMIX if large and is_fast(estimator) else None
    if cutmix is not None and not architecture.image:
        raise ValueError(
            f"cutmix must be None or 'auto' for vectors, got {cutmix!r}. Set "
            "image_shape if the samples are images of at least 8 x 8 pixels."
        )
    return cutmix


def is_supervised(estimator, shape, n_samples=0):
    """Tell whether labels or initial responsibilities begin a run, and not chance."""
    method = init_method(estimator, shape, n_samples)
    return estimator.semi_supervised or method != "uniform"


def uses_consistency(estimator, X, labels):
    """Tell whether the E-net is trained by consistency on real images.

    Raises
    ------
    ValueError
        If asked for with a recipe of the paper, or without labels of every cluster or
        initial clusters.
    """
    asked = estimator.consistency
    if isinstance(asked, str) and not is_fast(estimator):
        return False
    if not is_consistent(estimator, X, labels):
        return False
    if not is_fast(estimator):
        raise ValueError(
            f"consistency must be None or 'auto' with recipe={estimator.recipe!r}, got "
            f"{asked!r}: it is no part of the paper."
        )
    without_labels = not has_every_cluster(estimator, labels)
    shape = network_shape(estimator.image_shape_, X.shape[1])
    if without_labels and init_method(estimator, shape, X.shape[0]) == "uniform":
        raise ValueError(
            "consistency needs labels of every cluster or initial clusters, where its "
            "targets begin, but there are none. Set init='self-supervised', "
            "'tsne' or 'kmeans', or consistency=None."
        )
    return True


def init_method(estimator, shape, n_samples=0):
    """Return "uniform", "kmeans", "tsne", "self-supervised" or "array".

    Parameters
    ----------
    shape : tuple of int
        Of a sample in the networks.
    """
    if not isinstance(estimator.init, str):
        return "array"
    if estimator.init != "auto":
        return estimator.init
    if len(shape) < 3:
        return "kmeans"
    # Labels are a better beginning than an embedding.
    small = not is_large_image(shape) and not estimator.semi_supervised
    enough = n_samples >= ENOUGH_TO_EMBED and is_fast(estimator)
    return "tsne" if small and enough else "uniform"
