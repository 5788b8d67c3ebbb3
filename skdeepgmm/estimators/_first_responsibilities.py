"""Where both deep clusterers start: given, by k-means, or from a map."""

import warnings

import numpy as np
from scipy.optimize import linear_sum_assignment
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from sklearn.model_selection import StratifiedKFold
from sklearn.neighbors import KNeighborsRegressor
from sklearn.utils import check_array

from skdeepgmm._torch_backend import convert
from skdeepgmm.estimators._gaussian_mixture import GaussianMixture

#: Most rows that k-means is started on.
KMEANS_ROWS = 20_000
#: Most rows of a map, and fewest.
MAP_ROWS, FEWEST_MAP_ROWS = 10_000, 50
#: Principal components that a map is made of, and its effective number of neighbours.
MAP_COMPONENTS, PERPLEXITY = 50, 30.0
#: Rows of the map whose mean responsibilities a row beside it gets.
NEIGHBORS = 10
#: Labelled rows of every cluster that tell which parts of a map belong to it, the parts
#: of a cluster, and labelled rows that every part has besides, spread evenly over the
#: clusters: a part without any belongs to all of them alike.
ENOUGH_LABELS, PARTS, PART_PRIOR = 5, 3, 0.25
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
    apart. Otherwise as :func:`first_responsibilities`.
    """
    sizes = [estimator.n_clusters]
    if kind == "uniform":
        return kind, None
    if kind == "array":
        return kind, _checked(estimator.init, (X.shape[0], estimator.n_clusters))
    rows = convert.to_numpy(units.to_network(X, "cpu").flatten(1))
    found = None
    if kind == "tsne":
        if estimator.verbose:
            print(f"Map of {min(len(rows), MAP_ROWS)} rows by t-SNE")
        enough = labelled_rows(labels, sizes[0]).min() >= ENOUGH_LABELS
        if enough and PARTS * sizes[0] <= min(len(rows), MAP_ROWS):
            sizes.append(PARTS * sizes[0])
        found = parts_of_map(rows, sizes, random_state)
    if found is None:
        return "kmeans", by_kmeans(rows, sizes[0], random_state)
    if len(found) == 1:
        return kind, found[0]
    folds = held_out(labels, np.random.RandomState(FOLD_SEED))
    return kind, min(found, key=lambda parts: mistakes(parts, labels, sizes[0], folds))


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


def parts_of_map(rows, sizes, random_state):
    """Return the responsibilities of mixtures of Gaussians on one t-SNE map.

    The map has two dimensions and keeps neighbourhoods of the first principal
    components of the rows, ``MAP_ROWS`` at most; a row beside it gets the mean
    responsibilities of its nearest rows there.

    Parameters
    ----------
    sizes : list of int
        Number of Gaussians of each mixture.

    Returns
    -------
    list of ndarray of shape (n_samples, size) or None
        None for fewer than ``FEWEST_MAP_ROWS`` rows, and for rows that are all equal.

    References: van der Maaten and Hinton (2008), "Visualizing data using t-SNE", JMLR
    9; McConville et al. (2021), "N2D: (not too) deep clustering via clustering the
    local manifold of an autoencoded embedding", ICPR.
    """
    order = random_state.permutation(len(rows))
    mapped, beside = order[:MAP_ROWS], order[MAP_ROWS:]
    centered = rows[mapped].astype(np.float64)
    center = centered.mean(axis=0)
    centered -= center
    largest = np.abs(centered).max()
    if len(mapped) < FEWEST_MAP_ROWS or largest == 0.0:
        return None
    n_components = min(MAP_COMPONENTS, rows.shape[1])
    components = PCA(n_components, random_state=random_state).fit(centered / largest)
    places = components.transform(centered / largest)
    tsne = TSNE(
        perplexity=min(PERPLEXITY, (len(mapped) - 1) / 3),
        init="pca" if n_components > 1 else "random",
        random_state=random_state,
    )
    points = tsne.fit_transform(places)
    found, state = [], random_state.get_state()
    for size in sizes:
        # Each mixture as if it were the only one.
        random_state.set_state(state)
        resp = np.empty((len(rows), size))
        resp[mapped] = _mixture(points, size, random_state)
        nearest = KNeighborsRegressor(NEIGHBORS).fit(places, resp[mapped])
        # In parts: the rows beside the map may be nearly all of them.
        for start in range(0, len(beside), MAP_ROWS):
            part = beside[start : start + MAP_ROWS]
            placed = components.transform((rows[part] - center) / largest)
            resp[part] = nearest.predict(placed)
        found.append(resp)
    return found


def _mixture(points, n_clusters, random_state):
    """Return the responsibilities of the best of ten mixtures on a map."""
    mixture = GaussianMixture(
        n_clusters, n_init=10, random_state=random_state, device="cpu"
    )
    points = points.astype(np.float64)
    # It would warn of parameters that are not the user's; what becomes of such
    # clusters is told after the fit.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return mixture.fit(points).predict_proba(points)


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
    if np.shape(init) != shape:
        raise ValueError(
            f"init has the shape {np.shape(init)}; expected responsibilities of shape "
            f"{shape}, one row a sample and one column a cluster."
        )
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
