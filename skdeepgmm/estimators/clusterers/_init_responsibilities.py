"""Initial responsibilities of both deep clusterers: k-means, t-SNE, user-supplied."""

import numpy as np
from scipy.optimize import linear_sum_assignment
from sklearn.cluster import KMeans
from sklearn.model_selection import StratifiedKFold
from sklearn.utils import check_array

from skdeepgmm._torch_backend import convert
from skdeepgmm.estimators.clusterers._self_supervised import (
    self_supervised_components,
)
from skdeepgmm.estimators.clusterers._settings import label_counts
from skdeepgmm.estimators.clusterers._tsne_embedding import (
    OVER_CLUSTERING,
    n_embedded,
    tsne_embedding,
)

#: Most samples that k-means is fitted to.
KMEANS_SAMPLES = 20_000
#: Labelled samples of every cluster that tell which components belong to it, and
#: labelled samples that every component has besides, spread evenly over the clusters: a
#: component without any belongs to all of them alike.
ENOUGH_LABELS, COMPONENT_PRIOR = 5, 0.25
#: Folds in which labelled samples are held out: no more than there are of each cluster.
N_FOLDS = ENOUGH_LABELS
#: Seed of the folds that choose components: they must not move a fit's random numbers.
FOLD_SEED = 0


def initial_responsibilities(estimator, method, X, preprocessing, labels, random_state):
    """Return how a fit is initialised, and its initial responsibilities.

    Parameters
    ----------
    estimator : GANEMClusterer or MinMaxEMClusterer
    method : {"uniform", "array", "kmeans", "tsne", "self-supervised"}
    X : ndarray or tensor of shape (n_samples, n_features)
    preprocessing : Preprocessing
    labels : ndarray of shape (n_samples,) or None
        Known clusters, -1 elsewhere: what is found takes their names.
    random_state : RandomState instance

    Returns
    -------
    method : {"uniform", "array", "kmeans", "tsne", "self-supervised"}
        "kmeans" where there is nothing to embed.
    resp : ndarray of shape (n_samples, n_clusters) or None
        None for equal ones.

    Raises
    ------
    ValueError
        If an array has the wrong shape or its rows are no distributions.
    """
    method, resp = initial_components(
        estimator, method, X, preprocessing, labels, random_state
    )
    if resp is None or labels is None or method == "array":
        return method, resp
    return method, named(resp, labels, estimator.n_clusters)


def initial_components(estimator, method, X, preprocessing, labels, random_state):
    """Return how a fit is initialised, and responsibilities of components.

    Components are clusters, or with enough labels ``OVER_CLUSTERING`` times as many if
    these make fewer mistakes on held-out labels: labels put together what an embedding
    has torn apart. Without labels, neighbours among the samples do. Otherwise as
    :func:`initial_responsibilities`.
    """
    n_clusters = estimator.n_clusters
    if method == "uniform":
        return method, None
    if method == "array":
        return method, _checked(estimator.init, (X.shape[0], n_clusters))
    if method == "self-supervised":
        return method, self_supervised_components(
            estimator, X, preprocessing, random_state
        )
    rows = preprocessing.flat(X)
    if method == "tsne":
        if estimator.verbose:
            print(f"t-SNE embedding of {n_embedded(len(rows))} samples")
        embedding = tsne_embedding(rows, random_state)
        if embedding is not None:
            return method, _embedded_components(embedding, labels, n_clusters)
    return "kmeans", kmeans_responsibilities(rows, n_clusters, random_state)


def _embedded_components(embedding, labels, n_clusters):
    """Return clusters or, where labels say that they are better, more components."""
    if label_counts(labels, n_clusters).min() < ENOUGH_LABELS:
        return embedding.clusters(n_clusters)
    found = [embedding.mixture(n_clusters)]
    if OVER_CLUSTERING * n_clusters <= embedding.n_embedded:
        found.append(embedding.mixture(OVER_CLUSTERING * n_clusters))
    folds = held_out(labels, np.random.RandomState(FOLD_SEED))
    return min(found, key=lambda resp: mistakes(resp, labels, n_clusters, folds))


def held_out(labels, random_state):
    """Return (labels but for a fold's, index of that fold) of folds of known labels."""
    known = np.flatnonzero(labels >= 0)
    splits = StratifiedKFold(N_FOLDS, shuffle=True, random_state=random_state)
    folds = []
    for train, test in splits.split(known, labels[known]):
        seen = np.full_like(labels, -1)
        seen[known[train]] = labels[known[train]]
        folds.append((seen, known[test]))
    return folds


def mistakes(resp, labels, n_clusters, folds):
    """Return how many labels components miss that those of the other folds name."""
    return sum(
        int((named(resp, seen, n_clusters)[index].argmax(1) != labels[index]).sum())
        for seen, index in folds
    )


def kmeans_responsibilities(rows, n_clusters, random_state):
    """Return the responsibilities of k-means, the best of ten initializations."""
    chosen = random_state.permutation(len(rows))[:KMEANS_SAMPLES]
    kmeans = KMeans(n_clusters, n_init=10, random_state=random_state).fit(rows[chosen])
    return np.eye(n_clusters)[kmeans.predict(rows)]


def named(resp, labels, n_clusters):
    """Return responsibilities of clusters from those of components.

    As many components as clusters are clusters that lack a name. Of more, each belongs
    to the clusters in the shares of the labelled samples in it, and one without any to
    all of them alike.

    Parameters
    ----------
    resp : ndarray of shape (n_samples, n_components)
    labels : ndarray of shape (n_samples,)
        -1 where unknown.

    Returns
    -------
    ndarray of shape (n_samples, n_clusters)
    """
    if resp.shape[1] == n_clusters:
        return matched(resp, labels)
    known = labels >= 0
    counts = resp[known].T @ np.eye(n_clusters)[labels[known]]
    counts += COMPONENT_PRIOR / n_clusters
    return resp @ (counts / counts.sum(axis=1, keepdims=True))


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
