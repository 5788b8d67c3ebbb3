"""Where a fit of MinMax+EM starts: on labels, on clusters of the rows, or as given."""

import numpy as np

from skdeepgmm.estimators.clusterers._init_responsibilities import (
    ENOUGH_LABELS,
    first_parts,
    held_out,
    labelled_rows,
    mistakes,
    named,
)
from skdeepgmm.estimators.clusterers.minmax_em._settings import has_many_labels


def start_of(estimator, X, units, labels, random_state, learned):
    """Return where a fit starts, and its first memberships.

    Parameters
    ----------
    estimator : MinMaxEMClusterer
    X : ndarray or tensor of shape (n_samples, n_features)
    units : NetworkUnits
    labels : ndarray of shape (n_samples,) or None
        -1 where unknown.
    random_state : RandomState instance
    learned : callable
        ``learned(labels, index)`` are the clusters of these rows by an encoder that has
        started on these labels alone.

    Returns
    -------
    kind : {"labels", "kmeans", "tsne", "array"}
    resp : ndarray of shape (n_samples, n_clusters) or None
        None with "labels": those of the labelled rows alone.

    Raises
    ------
    ValueError
        If an array does not fit, or ``init='labels'`` lacks rows of a cluster.
    """
    init, image = estimator.init, units.is_image
    counts = labelled_rows(labels, estimator.n_clusters)
    enough = counts.min() >= ENOUGH_LABELS
    automatic = isinstance(init, str) and init == "auto"
    if automatic and enough and (not image or has_many_labels(labels)):
        return "labels", None
    if isinstance(init, str) and init == "labels":
        _check_counts(counts)
        return "labels", None
    kind, parts = first_parts(
        estimator, blind_kind(init, image), X, units, labels, random_state
    )
    if labels is None or kind == "array":
        return kind, parts
    n_clusters = estimator.n_clusters
    if (
        automatic
        and enough
        and labels_lead(parts, labels, n_clusters, learned, random_state)
    ):
        return "labels", None
    return kind, named(parts, labels, n_clusters)


def _check_counts(counts):
    missing = np.flatnonzero(counts == 0)
    if len(missing):
        raise ValueError(
            "init='labels' needs semi_supervised=True and a labelled row of every "
            f"cluster, but clusters {', '.join(map(str, missing))} have none. Use "
            "init='auto', which then starts from the rows alone."
        )


def blind_kind(init, image):
    """Return "kmeans", "tsne" or "array": the start that no label leads."""
    if not isinstance(init, str):
        return "array"
    if init == "auto":
        return "tsne" if image else "kmeans"
    return init


def labels_lead(parts, labels, n_clusters, learned, random_state):
    """Tell whether labels are the better start, judged by held-out labelled rows.

    Each fold is predicted by an encoder that starts on the labels of the others, and
    by the parts under the names that these labels give them. EM corrects many of the
    encoder's mistakes, which are scattered, and fewer of the map's, which lie together:
    the parts lead where they make at most two thirds as many mistakes.
    """
    folds = held_out(labels, random_state)
    by_labels = sum((learned(*fold) != labels[fold[1]]).sum() for fold in folds)
    return 3 * mistakes(parts, labels, n_clusters, folds) > 2 * by_labels
