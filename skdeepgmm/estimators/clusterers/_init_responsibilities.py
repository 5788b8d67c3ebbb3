"""Where both deep clusterers start: given, by k-means, or from a map."""

import numpy as np
from scipy.optimize import linear_sum_assignment
from sklearn.cluster import KMeans
from sklearn.model_selection import StratifiedKFold
from sklearn.utils import check_array

from skdeepgmm._torch_backend import convert
from skdeepgmm.estimators.clusterers._tsne_embedding import PARTS, map_of, n_mapped

#: Most rows that k-means is started on.
KMEANS_ROWS = 20_000
#: Labelled rows of every cluster that tell which parts of a map belong to it, and
#: labelled rows that every part has besides, spread evenly over the clusters: a part
#: without any belongs to all of them alike.
ENOUGH_LABELS, PART_PRIOR = 5, 0.25
#: Folds in which labelled rows are held out: no more than there are of each cluster.
N_FOLDS = ENOUGH_LABELS
#: Seed of the folds that choose parts: they must not move a fit's random numbers.
FOLD_SEED = 0


def first_responsibilities(estimator, kind, X, units, labels, random_state):
    """Return how a fit starts, and its first responsibilities.

    Parameters
    ----------
    estimator : GANEMClusterer or MinMaxEMClusterer
    kind : {"uniform", "array", "kmeans", "tsne"}
    X : ndarray or tensor of shape (n_samples, n_features)
    units : NetworkUnits
    labels : ndarray of shape (n_samples,) or None
        Known clusters, -1 elsewhere: what is found takes their names.
    random_state : RandomState instance

    Returns
    -------
    kind : {"uniform", "array", "kmeans", "tsne"}
        "kmeans" where there is nothing to make a map of.
    resp : ndarray of shape (n_samples, n_clusters) or None
        None for equal ones.

    Raises
    ------
    ValueError
        If an array has the wrong shape or its rows are no distributions.
    """
    kind, parts = first_parts(estimator, kind, X, units, labels, random_state)
    if parts is None or labels is None or kind == "array":
        return kind, parts
    return kind, named(parts, labels, estimator.n_clusters)


def first_parts(estimator, kind, X, units, labels, random_state):
    """Return how a fit starts, and responsibilities of parts of the rows.

    Parts are clusters, or with enough labels ``PARTS`` times as many if these make
    fewer mistakes on held-out labels: labels put parts together that a map has torn
    apart. Without them neighbours among the rows do. Otherwise as
    :func:`first_responsibilities`.
    """
    n_clusters = estimator.n_clusters
    if kind == "uniform":
        return kind, None
    if kind == "array":
        return kind, _checked(estimator.init, (X.shape[0], n_clusters))
    rows = convert.to_numpy(units.to_network(X, "cpu").flatten(1))
    if kind == "tsne":
        if estimator.verbose:
            print(f"Map of {n_mapped(len(rows))} rows by t-SNE")
        row_map = map_of(rows, random_state)
        if row_map is not None:
            return kind, _on_map(row_map, labels, n_clusters)
    return "kmeans", by_kmeans(rows, n_clusters, random_state)


def _on_map(row_map, labels, n_clusters):
    """Return clusters or, where labels say that they are better, smaller parts."""
    size = PARTS * n_clusters
    if labelled_rows(labels, n_clusters).min() < ENOUGH_LABELS:
        return row_map.clusters(n_clusters)
    found = [row_map.mixture(n_clusters)]
    if size <= row_map.n_mapped:
        found.append(row_map.mixture(size))
    folds = held_out(labels, np.random.RandomState(FOLD_SEED))
    return min(found, key=lambda parts: mistakes(parts, labels, n_clusters, folds))


def held_out(labels, random_state):
    """Return (labels but for a fold's, rows of that fold) of folds of labelled rows."""
    known = np.flatnonzero(labels >= 0)
    splits = StratifiedKFold(N_FOLDS, shuffle=True, random_state=random_state)
    folds = []
    for train, test in splits.split(known, labels[known]):
        seen = np.full_like(labels, -1)
        seen[known[train]] = labels[known[train]]
        folds.append((seen, known[test]))
    return folds


def mistakes(parts, labels, n_clusters, folds):
    """Return how many labels parts miss that the labels of the other folds name."""
    return sum(
        int((named(parts, seen, n_clusters)[rows].argmax(1) != labels[rows]).sum())
        for seen, rows in folds
    )


def labelled_rows(labels, n_clusters):
    """Return the number of labelled rows of each cluster."""
    if labels is None:
        return np.zeros(n_clusters, dtype=int)
    return np.bincount(labels[labels >= 0], minlength=n_clusters)


def by_kmeans(rows, n_clusters, random_state):
    """Return the responsibilities of k-means, the best of ten starts."""
    chosen = random_state.permutation(len(rows))[:KMEANS_ROWS]
    kmeans = KMeans(n_clusters, n_init=10, random_state=random_state).fit(rows[chosen])
    return np.eye(n_clusters)[kmeans.predict(rows)]


def named(parts, labels, n_clusters):
    """Return responsibilities of clusters from those of parts.

    As many parts as clusters are clusters that lack a name. Of more, each belongs to
    the clusters in the shares of the labelled rows in it, and one without any to all of
    them alike.

    Parameters
    ----------
    parts : ndarray of shape (n_samples, n_parts)
    labels : ndarray of shape (n_samples,)
        -1 where unknown.

    Returns
    -------
    ndarray of shape (n_samples, n_clusters)
    """
    if parts.shape[1] == n_clusters:
        return matched(parts, labels)
    known = labels >= 0
    counts = parts[known].T @ np.eye(n_clusters)[labels[known]]
    counts += PART_PRIOR / n_clusters
    return parts @ (counts / counts.sum(axis=1, keepdims=True))


def matched(resp, labels):
    """Return ``resp`` with columns in the order that agrees best with the labels."""
    known = labels >= 0
    agreement = np.eye(resp.shape[1])[labels[known]].T @ resp[known]
    _, columns = linear_sum_assignment(agreement, maximize=True)
    return resp[:, columns]


def _checked(init, shape):
    init = convert.to_numpy(init) if convert.is_tensor(init) else init
    expected = (
        f"responsibilities of shape {shape}, one row a sample, one column a cluster"
    )
    try:
        init = np.asarray(init, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"init must hold {expected}, got {init!r:.80}.") from error
    if init.shape != shape:
        raise ValueError(f"init has the shape {init.shape}; expected {expected}.")
    resp = check_array(init, dtype=np.float64, input_name="init")
    wrong = (resp < 0.0).any(axis=1) | (np.abs(resp.sum(axis=1) - 1.0) > 1e-4)
    if wrong.any():
        first = int(np.argmax(wrong))
        raise ValueError(
            "init must hold non-negative responsibilities whose rows sum to one, but "
            f"row {first} has the sum {resp[first].sum():.6g} and the smallest value "
            f"{resp[first].min():.6g}. Divide every row by its sum."
        )
    return resp
