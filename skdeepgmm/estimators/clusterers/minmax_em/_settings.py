"""What the parameters of ``MinMaxEMClusterer`` mean for the training."""

import math

import numpy as np

from skdeepgmm._torch_backend.clusterers.minmax_em.losses import ADVERSARIES
from skdeepgmm._torch_backend.clusterers.minmax_em.networks import Architecture
from skdeepgmm._torch_backend.clusterers.minmax_em.trainer import Config
from skdeepgmm._torch_backend.clusterers.networks import is_image
from skdeepgmm.estimators.clusterers._settings import checked_affine, is_large_image

#: From this share of labelled rows on, labels lead: a longer start, more labelled rows
#: a step, and less weight of consistency.
MANY_LABELS = 0.08
CONSISTENCY = {False: 0.5, True: 0.2}
LABEL_BATCH = {False: 25, True: 50}
START_STEPS = {False: 150, True: 500}
#: Steps of a start on images whose memberships come from no label. k-means is often
#: wrong, and more steps would learn its mistakes by heart.
BLIND_STEPS = {"tsne": 300, "kmeans": 50, "array": 50}
#: ... with sides below 16 pixels, which have too few details for that.
SMALL_BLIND_STEPS = 300
#: Default length of a run, in steps, and its fewest EM iterations.
STEPS, FEWEST_ITERATIONS = {"image": 1000, "vector": 400}, 10
#: Decay of the averaged encoder: memberships of images follow it closely.
AVERAGE = {"image": 0.95, "vector": 0.99}
#: Fewest steps of an EM iteration.
FEWEST_STEPS = 10
BATCH_SIZE = 50
#: Share of a run in which consistency moves the generator alone.
WARM_UP = 0.1
#: A cluster below these shares of the rows, and of its even share, is dying.
DYING_SHARE, DYING_EVEN_SHARE = 0.02, 0.2
#: Default prior of the weights, as a share of the rows of an even cluster.
PRIOR_SHARE = 0.01


def architecture_of(estimator, image_shape, n_features):
    """Return the networks for images of this shape, or for vectors.

    Parameters
    ----------
    image_shape : tuple of int or None
        (height, width, channels).
    """
    shape = (n_features,)
    if image_shape is not None and is_image((1, *image_shape[:2])):
        shape = (image_shape[2], *image_shape[:2])
    return Architecture(
        shape,
        estimator.n_clusters,
        # Fewer features than latent dimensions could not be inverted.
        estimator.latent_dim or min(estimator.n_clusters, n_features),
        float(estimator.separation),
        estimator.networks,
        float(estimator.width),
        ADVERSARIES[estimator.adversary].spectral,
    )


def steps_of(estimator, n_rows):
    """Return the steps of an EM iteration over ``n_rows`` rows: a pass, or more."""
    return max(FEWEST_STEPS, -(-n_rows // batch_size_of(estimator)))


def batch_size_of(estimator):
    """Return the rows of a step."""
    return estimator.batch_size or BATCH_SIZE


def has_many_labels(labels):
    """Tell whether enough rows are labelled to lead the training."""
    return labels is not None and (labels >= 0).mean() >= MANY_LABELS


def start_steps_of(estimator, shape, kind, labels):
    """Return the steps of the encoder's start.

    Parameters
    ----------
    shape : tuple of int
        Of a row in the networks.
    kind : {"labels", "kmeans", "tsne", "array"}
        Where the first memberships come from.
    labels : ndarray of shape (n_samples,) or None
    """
    if estimator.init_steps is not None:
        return estimator.init_steps
    if is_image(shape) and kind != "labels":
        return BLIND_STEPS[kind] if is_large_image(shape) else SMALL_BLIND_STEPS
    return START_STEPS[has_many_labels(labels)]


def config_of(estimator, architecture, labels, n_samples, n_steps):
    """Return the settings of the run.

    Parameters
    ----------
    labels : ndarray of shape (n_samples,) or None
    n_steps : int
        Steps of an EM iteration.
    """
    many = has_many_labels(labels)
    n_iter = estimator.max_iter
    kind = "image" if architecture.image else "vector"
    if n_iter is None:
        wanted = STEPS[kind]
        n_iter = max(FEWEST_ITERATIONS, math.ceil(wanted / n_steps))
    weight = estimator.consistency_weight
    prior = estimator.weight_prior
    return Config(
        n_iter,
        CONSISTENCY[many] if weight is None else weight,
        estimator.adversarial_weight,
        estimator.adversary,
        PRIOR_SHARE * n_samples / estimator.n_clusters if prior is None else prior,
        math.ceil(WARM_UP * n_iter),
        LABEL_BATCH[many],
        affine=checked_affine(estimator.affine, architecture),
        rate=estimator.learning_rate,
        average=AVERAGE[kind],
    )


def least_share(n_clusters):
    """Return the share of the rows below which a cluster is dying."""
    return min(DYING_SHARE, DYING_EVEN_SHARE / n_clusters)


def least_means(estimator, labels):
    """Return the lower bounds of the mean memberships, (n_clusters,); None for none.

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
