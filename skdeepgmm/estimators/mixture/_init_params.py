"""Initialization of the flat mixtures, with scikit-learn's draws."""

from functools import partial

import numpy as np
from sklearn.cluster import KMeans, kmeans_plusplus
from sklearn.utils.random import sample_without_replacement

from skdeepgmm._torch_backend import convert
from skdeepgmm._torch_backend.mixture import init
from skdeepgmm.estimators._collection import Collection, once

#: Samples a component from which thousands of them are initialized, and iterations of
#: k-means there.
SAMPLES_OF_COMPONENT, LEVEL_ITERATIONS = 50, 20
#: Larger data are initialized from a random subset of this many values.
MAX_INIT_VALUES = 2**23


def initial_responsibilities(
    init_params, X, n_components, random_state, standardization, sample_weight=None
):
    """Return a function that makes the initial responsibilities of one batch.

    Parameters
    ----------
    init_params : {"kmeans", "k-means++", "random", "random_from_data", "merge"}
        Same draws from ``random_state`` as scikit-learn, for data that need no
        subset. "merge" begins with more components.
    X : ndarray, memmap or tensor of shape (n_samples, n_features)
        Data.
    n_components : int
        Number of components.
    random_state : RandomState
        Source of randomness.
    standardization : Standardization
        Standardization of the batches.
    sample_weight : ndarray of shape (n_samples,) or None
        Weights; samples without weight are not drawn.
    """
    initialize = INITIALIZERS[init_params]
    return initialize(X, n_components, random_state, standardization, sample_weight)


def _from_kmeans(X, n_components, random_state, standardization, weight):
    rows, index = _host_samples(X, n_components, random_state)
    weight = _host_weights(weight, index)

    def clusters():
        kmeans = KMeans(n_clusters=n_components, n_init=1, random_state=random_state)
        kmeans.fit(rows, sample_weight=weight)
        return kmeans.labels_, kmeans.cluster_centers_

    labels, centers = once(X, clusters, random_state)
    if index is None:
        return init.labels_function(convert.index_tensor(labels), n_components)
    centers = convert.float64_tensor(centers, standardization.shift.device)
    return init.nearest_function(standardization(centers))


def _from_kmeans_plusplus(X, n_components, random_state, standardization, weight):
    rows, index = _host_samples(X, n_components, random_state)
    weight = _host_weights(weight, index)

    def seeds():
        return kmeans_plusplus(
            rows, n_components, sample_weight=weight, random_state=random_state
        )

    _, chosen = once(X, seeds, random_state)
    chosen = chosen if index is None else index[chosen]
    return init.samples_function(convert.index_tensor(chosen))


def _from_nearest_samples(X, n_components, random_state, standardization, weight):
    """Give each sample to the nearest of those that k-means++ has drawn."""
    rows, index = _host_samples(X, n_components, random_state)
    weight = _host_weights(weight, index)

    def seeds():
        return kmeans_plusplus(
            rows, n_components, sample_weight=weight, random_state=random_state
        )

    centers, _ = once(X, seeds, random_state)
    centers = convert.float64_tensor(centers, standardization.shift.device)
    return init.nearest_function(standardization(centers))


def _from_random_samples(X, n_components, random_state, standardization, weight):
    chance = None if weight is None else np.asarray(weight) / weight.sum()
    chosen = random_state.choice(X.shape[0], size=n_components, replace=False, p=chance)
    return init.samples_function(convert.index_tensor(chosen))


def _from_random_responsibilities(
    X, n_components, random_state, standardization, weight
):
    state = random_state.get_state()
    if isinstance(X, Collection):
        return partial(_random_of_part, int(random_state.randint(2**31)), n_components)

    def responsibilities(block):
        if block.number == 0:
            random_state.set_state(state)
        resp = random_state.uniform(size=(block.n_samples, n_components))
        return convert.float64_tensor(resp / resp.sum(axis=1, keepdims=True), "cpu")

    return responsibilities


def _random_of_part(seed, n_components, block):
    """Return the random responsibilities of a block, the same on every worker."""
    draw = np.random.RandomState([seed, block.part, block.number])
    resp = draw.uniform(size=(block.n_samples, n_components))
    return convert.float64_tensor(resp / resp.sum(axis=1, keepdims=True), "cpu")


INITIALIZERS = {
    "kmeans": _from_kmeans,
    "k-means++": _from_kmeans_plusplus,
    "random": _from_random_responsibilities,
    "random_from_data": _from_random_samples,
    "merge": _from_nearest_samples,
}


INIT_PARAMS = tuple(INITIALIZERS)


def initial_centers(init_params, X, n_components, random_state, weight=None):
    """Return centres of thousands of components, (n_components, n_features).

    Parameters
    ----------
    init_params : {"kmeans", "k-means++", "random_from_data"}
        k-means is done twice: its clusters are divided by k-means again.
    X : ndarray, memmap or tensor of shape (n_samples, n_features)
    n_components : int
    random_state : RandomState
    weight : ndarray of shape (n_samples,) or None
        Samples are drawn in proportion.
    """
    size = n_components
    if init_params != "random_from_data":
        size = min(X.shape[0], SAMPLES_OF_COMPONENT * n_components)
    chance = None
    if weight is not None:
        chance = np.asarray(weight, dtype=np.float64) / weight.sum()
        size = min(size, np.count_nonzero(chance))
    index = np.sort(random_state.choice(X.shape[0], size, replace=False, p=chance))
    rows = X[index.tolist()] if convert.is_tensor(X) else X[index]
    rows = _filled(convert.to_numpy(rows) if convert.is_tensor(X) else rows)
    if init_params == "random_from_data":
        return rows
    if init_params == "k-means++":
        return kmeans_plusplus(rows, n_components, random_state=random_state)[0]
    return _two_levels(rows, n_components, random_state)


def _two_levels(rows, n_clusters, random_state):
    """Return the centres of k-means within the clusters of a coarse k-means."""
    settings = {"n_init": 1, "max_iter": LEVEL_ITERATIONS, "random_state": random_state}
    n_coarse = max(1, round(n_clusters**0.5))
    labels = KMeans(n_coarse, **settings).fit(rows).labels_
    counts = np.bincount(labels, minlength=n_coarse)
    centers = [
        KMeans(size, **settings).fit(rows[labels == number]).cluster_centers_
        for number, size in enumerate(_shares(counts, n_clusters))
        if size
    ]
    return np.concatenate(centers)


def _shares(counts, total):
    """Divide ``total`` in proportion to ``counts``, no share above its count."""
    exact = counts * (total / counts.sum())
    shares = np.minimum(np.floor(exact).astype(int), counts)
    order = np.argsort(shares - exact, kind="stable")
    shares[order[: total - shares.sum()]] += 1
    return shares


def _host_samples(X, n_components, random_state):
    """Return samples for k-means, and their indices if they are a subset."""
    n_samples, n_features = X.shape
    most = max(MAX_INIT_VALUES // n_features, 20 * n_components)
    if n_samples <= most:
        return _filled(convert.to_numpy(X) if convert.is_tensor(X) else X[:]), None
    if isinstance(X, Collection):  # in less memory than a permutation of all rows
        index = sample_without_replacement(n_samples, most, random_state=random_state)
    else:
        index = random_state.choice(n_samples, size=most, replace=False)
    index = np.sort(index)
    rows = X[index.tolist()] if convert.is_tensor(X) else X[index]
    return _filled(convert.to_numpy(rows) if convert.is_tensor(X) else rows), index


def _host_weights(weight, index):
    if weight is None:
        return None
    return np.asarray(weight) if index is None else weight[index]


def _filled(rows):
    """Return float64 ``rows`` with the features' means for missing entries.

    k-means in float32 mixes clusters that are close beside their offset.
    """
    rows = np.asarray(rows, dtype=np.float64)
    missing = np.isnan(rows)
    if not missing.any():
        return rows
    return np.where(missing, np.nanmean(rows, axis=0), rows)
