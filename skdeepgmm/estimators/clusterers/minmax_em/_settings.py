"""What the parameters of ``MinMaxEMClusterer`` mean for the training."""

import math

import numpy as np

from skdeepgmm._torch_backend.clusterers.augmentation import Augmentation
from skdeepgmm._torch_backend.clusterers.minmax_em.losses import ADVERSARIES
from skdeepgmm._torch_backend.clusterers.minmax_em.networks import Architecture
from skdeepgmm._torch_backend.clusterers.minmax_em.trainer import MinMaxEMConfig
from skdeepgmm._torch_backend.clusterers.networks import (
    SMALLEST_SIDE,
    is_image,
    is_large_image,
)
from skdeepgmm._torch_backend.clusterers.preprocessing import network_shape
from skdeepgmm.estimators.clusterers._settings import checked_affine

#: From this share of labelled samples on, labels dominate the training: a longer
#: initialization, more labelled samples a step, and less weight of consistency.
MANY_LABELS = 0.08
CONSISTENCY = {False: 0.5, True: 0.2}
LABEL_BATCH_SIZE = {False: 25, True: 50}
INIT_STEPS = {False: 150, True: 500}
#: Steps of an unsupervised initialization on images. k-means is often wrong, and more
#: steps would learn its mistakes by heart.
UNSUPERVISED_STEPS = {"tsne": 300, "self-supervised": 300, "kmeans": 50, "array": 50}
#: ... with sides below 16 pixels, which have too few details for that.
SMALL_UNSUPERVISED_STEPS = 300
#: Default length of a run, in steps, and its fewest EM iterations.
STEPS, FEWEST_ITERATIONS = {"image": 1000, "vector": 400}, 10
#: Decay of the averaged encoder: responsibilities of images follow it closely.
EMA_DECAY = {"image": 0.95, "vector": 0.99}
#: Fewest steps of an EM iteration.
FEWEST_STEPS = 10
BATCH_SIZE = 50
#: Share of a run in which consistency moves the generator alone.
WARM_UP = 0.1
#: A cluster below these shares of the samples, and of its even share, is nearly empty.
EMPTY_SHARE, EMPTY_EVEN_SHARE = 0.02, 0.2
#: Default prior of the weights, as a share of the samples of an even cluster.
PRIOR_SHARE = 0.01


def architecture_of(estimator, image_shape, n_features, consistent=False):
    """Return the networks for images of this shape, or for vectors.

    Parameters
    ----------
    image_shape : tuple of int or None
        (height, width, channels).
    consistent : bool
        Whether the encoder is trained by consistency on real images.

    Raises
    ------
    ValueError
        If ``networks`` is that of photographs and the data are no images.
    """
    shape, table = network_shape(image_shape, n_features), estimator.networks
    if table == "auto":
        table = "photo" if consistent else "small"
    if table == "photo" and not is_image(shape):
        raise ValueError(
            f"networks='photo' needs images of at least {SMALLEST_SIDE} x "
            f"{SMALLEST_SIDE} pixels, but image_shape is {image_shape}. Set "
            "image_shape, or networks='auto'."
        )
    return Architecture(
        shape,
        estimator.n_clusters,
        # Fewer features than latent dimensions could not be inverted.
        estimator.latent_dim or min(estimator.n_clusters, n_features),
        float(estimator.separation),
        table,
        float(estimator.width),
        ADVERSARIES[estimator.adversary].spectral,
    )


def has_many_labels(labels):
    """Tell whether so many samples are labelled that labels dominate the training."""
    return labels is not None and (labels >= 0).mean() >= MANY_LABELS


def init_steps_of(estimator, shape, method, labels):
    """Return the steps of the encoder's initialization.

    Parameters
    ----------
    shape : tuple of int
        Of a sample in the networks.
    method : {"labels", "kmeans", "tsne", "array"}
        Where the initial responsibilities come from.
    labels : ndarray of shape (n_samples,) or None
    """
    if estimator.init_steps is not None:
        return estimator.init_steps
    if is_image(shape) and method != "labels":
        large = is_large_image(shape)
        return UNSUPERVISED_STEPS[method] if large else SMALL_UNSUPERVISED_STEPS
    return INIT_STEPS[has_many_labels(labels)]


def config_of(estimator, architecture, labels, n_samples, consistent=False):
    """Return the settings of the run.

    Parameters
    ----------
    labels : ndarray of shape (n_samples,) or None
    consistent : bool
        Whether the encoder is trained by consistency on real images, before the run.
    """
    many = has_many_labels(labels)
    kind = "image" if architecture.image else "vector"
    batch_size = estimator.batch_size or BATCH_SIZE
    n_steps = steps_of(labels, n_samples, batch_size)
    n_iter = estimator.max_iter
    if n_iter is None:
        n_iter = max(FEWEST_ITERATIONS, math.ceil(STEPS[kind] / n_steps))
    weight, prior = estimator.consistency_weight, estimator.weight_prior
    bounds = min_resp(estimator, labels)
    return MinMaxEMConfig(
        n_iter,
        consistency=CONSISTENCY[many] if weight is None else weight,
        adversarial=estimator.adversarial_weight,
        adversary=estimator.adversary,
        weight_prior=default_prior(estimator, n_samples) if prior is None else prior,
        warm_up=math.ceil(WARM_UP * n_iter),
        batch_size=batch_size,
        n_steps=n_steps,
        label_batch_size=LABEL_BATCH_SIZE[many],
        augmentation=Augmentation(checked_affine(estimator.affine, architecture)),
        learning_rate=estimator.learning_rate,
        ema_decay=EMA_DECAY[kind],
        min_resp=None if bounds is None else tuple(bounds.tolist()),
        fixed=consistent,
    )


def default_prior(estimator, n_samples):
    """Return what ``weight_prior=None`` means."""
    return PRIOR_SHARE * n_samples / estimator.n_clusters


def steps_of(labels, n_samples, batch_size):
    """Return the steps of an EM iteration: a pass over the unlabelled samples, or more.

    Where all samples are labelled, it is a pass over all.
    """
    n_labelled = 0 if labels is None else int((labels >= 0).sum())
    n_passed = n_samples - n_labelled or n_samples
    return max(FEWEST_STEPS, -(-n_passed // batch_size))


def empty_share(n_clusters):
    """Return the share of the samples below which a cluster is nearly empty."""
    return min(EMPTY_SHARE, EMPTY_EVEN_SHARE / n_clusters)


def min_resp(estimator, labels):
    """Return lower bounds of the mean responsibilities, (n_clusters,); None for none.

    Parameters
    ----------
    labels : ndarray of shape (n_samples,) or None
        -1 where unknown.
    """
    if not estimator.balance:
        return None
    known = np.empty(0, dtype=int) if labels is None else labels[labels >= 0]
    # One label more of each: even sizes without labels, none of zero with few.
    sizes = np.bincount(known, minlength=estimator.n_clusters) + 1.0
    return estimator.balance * sizes / sizes.sum()
