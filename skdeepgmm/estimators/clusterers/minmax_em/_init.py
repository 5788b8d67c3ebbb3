"""How a fit of MinMax+EM is initialised: by labels, by clusters, user-supplied."""

import numpy as np

from skdeepgmm.estimators.clusterers._init_responsibilities import (
    ENOUGH_LABELS,
    held_out,
    initial_components,
    mistakes,
    named,
)
from skdeepgmm.estimators.clusterers._settings import label_counts
from skdeepgmm.estimators.clusterers.minmax_em._settings import has_many_labels


def supervised_init(estimator, image, labels):
    """Tell whether labels alone initialise the fit: True, False, or None if they may.

    Parameters
    ----------
    estimator : MinMaxEMClusterer
    image : bool
        Whether the networks see samples as images.
    labels : ndarray of shape (n_samples,) or None

    Raises
    ------
    ValueError
        If ``init='labels'`` lacks samples of a cluster.
    """
    counts = label_counts(labels, estimator.n_clusters)
    if not isinstance(estimator.init, str):
        return False
    if estimator.init == "labels":
        _check_counts(counts)
        return True
    if estimator.init != "auto" or counts.min() < ENOUGH_LABELS:
        return False
    return True if not image or has_many_labels(labels) else None


def init_of(estimator, X, preprocessing, labels, random_state, learned):
    """Return how a fit is initialised, and its initial responsibilities.

    Parameters
    ----------
    estimator : MinMaxEMClusterer
    X : ndarray or tensor of shape (n_samples, n_features)
    preprocessing : Preprocessing
    labels : ndarray of shape (n_samples,) or None
        -1 where unknown.
    random_state : RandomState instance
    learned : callable
        ``learned(labels, index)`` are the clusters of these samples by an encoder that
        has been initialised on these labels alone.

    Returns
    -------
    method : {"labels", "kmeans", "tsne", "array"}
    resp : ndarray of shape (n_samples, n_clusters) or None
        None with "labels": those of the labelled samples alone.

    Raises
    ------
    ValueError
        If an array does not fit, or ``init='labels'`` lacks samples of a cluster.
    """
    supervised = supervised_init(estimator, preprocessing.image, labels)
    if supervised:
        return "labels", None
    method, resp = initial_components(
        estimator,
        unsupervised_method(estimator.init, preprocessing.image),
        X,
        preprocessing,
        labels,
        random_state,
    )
    if labels is None or method == "array":
        return method, resp
    n_clusters = estimator.n_clusters
    # None: labels and components compete.
    if supervised is None and labels_win(
        resp, labels, n_clusters, learned, random_state
    ):
        return "labels", None
    return method, named(resp, labels, n_clusters)


def _check_counts(counts):
    missing = np.flatnonzero(counts == 0)
    if len(missing):
        raise ValueError(
            "init='labels' needs semi_supervised=True and a labelled sample of every "
            f"cluster, but clusters {', '.join(map(str, missing))} have none. Use "
            "init='auto', which then goes by the samples alone."
        )


def unsupervised_method(init, image):
    """Return "kmeans", "tsne" or "array": what initialises a fit without labels."""
    if not isinstance(init, str):
        return "array"
    if init == "auto":
        return "tsne" if image else "kmeans"
    return init


def labels_win(resp, labels, n_clusters, learned, random_state):
    """Tell whether labels are the better initialization, by held-out labels.

    Each fold is predicted by an encoder that is initialised on the labels of the
    others, and by the components under the names that these labels give them. EM
    corrects many of the encoder's mistakes, which are scattered, and fewer of the
    embedding's, which lie together: the components win where they make at most two
    thirds as many mistakes.
    """
    folds = held_out(labels, random_state)
    by_labels = sum((learned(*fold) != labels[fold[1]]).sum() for fold in folds)
    return 3 * mistakes(resp, labels, n_clusters, folds) > 2 * by_labels
