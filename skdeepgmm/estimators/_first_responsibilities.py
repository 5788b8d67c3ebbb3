"""Where both deep clusterers start: given, by k-means, or from a map."""

import numpy as np
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from sklearn.neighbors import KNeighborsRegressor
from sklearn.utils import check_array

from skdeepgmm._torch_backend import convert
from skdeepgmm.estimators._gaussian_mixture import GaussianMixture

#: Most rows that k-means is started on.
KMEANS_ROWS = 20_000
#: Most rows of a map, and fewest: k-means takes fewer ones.
MAP_ROWS, FEWEST_MAP_ROWS = 10_000, 50
#: Principal components that a map is made of, and its effective number of neighbours.
MAP_COMPONENTS, PERPLEXITY = 50, 30.0
#: Rows of the map whose mean responsibilities a row beside it gets.
NEIGHBORS = 10


def first_responsibilities(estimator, kind, X, units, random_state):
    """Return the first responsibilities, (n_samples, n_clusters); None for equal ones.

    Parameters
    ----------
    estimator : GANEMClusterer or MinMaxEMClusterer
    kind : {"uniform", "array", "kmeans", "tsne"}
    X : ndarray or tensor of shape (n_samples, n_features)
    units : NetworkUnits
    random_state : RandomState instance

    Raises
    ------
    ValueError
        If an array has the wrong shape or its rows are no distributions.
    """
    if kind == "uniform":
        return None
    if kind == "array":
        return _checked(estimator.init, (X.shape[0], estimator.n_clusters))
    rows = convert.to_numpy(units.to_network(X, "cpu").flatten(1))
    return STARTS[kind](rows, estimator.n_clusters, random_state)


def by_kmeans(rows, n_clusters, random_state):
    """Return the responsibilities of k-means, the best of ten starts."""
    chosen = random_state.permutation(len(rows))[:KMEANS_ROWS]
    kmeans = KMeans(n_clusters, n_init=10, random_state=random_state).fit(rows[chosen])
    return np.eye(n_clusters)[kmeans.predict(rows)]


def by_tsne(rows, n_clusters, random_state):
    """Return the responsibilities of a mixture of Gaussians on a t-SNE map.

    The map has two dimensions and keeps neighbourhoods of the first principal
    components of the rows, ``MAP_ROWS`` at most; a row beside it gets the mean
    responsibilities of its nearest rows there.

    References: van der Maaten and Hinton (2008), "Visualizing data using t-SNE", JMLR
    9; McConville et al. (2021), "N2D: (not too) deep clustering via clustering the
    local manifold of an autoencoded embedding", ICPR.
    """
    order = random_state.permutation(len(rows))
    mapped, beside = order[:MAP_ROWS], order[MAP_ROWS:]
    # No map can show rows that are all equal.
    if len(mapped) < FEWEST_MAP_ROWS or (rows[mapped] == rows[mapped[0]]).all():
        return by_kmeans(rows, n_clusters, random_state)
    size = min(MAP_COMPONENTS, rows.shape[1], len(mapped))
    components = PCA(size, random_state=random_state).fit(rows[mapped])
    places = components.transform(rows[mapped])
    tsne = TSNE(
        perplexity=min(PERPLEXITY, (len(mapped) - 1) / 3),
        init="pca" if size > 1 else "random",
        random_state=random_state,
    )
    points = tsne.fit_transform(places).astype(np.float64)
    mixture = GaussianMixture(n_clusters, n_init=10, random_state=random_state)
    resp = np.empty((len(rows), n_clusters))
    resp[mapped] = mixture.fit(points).predict_proba(points)
    if len(beside):
        nearest = KNeighborsRegressor(NEIGHBORS).fit(places, resp[mapped])
        resp[beside] = nearest.predict(components.transform(rows[beside]))
    return resp


#: Ways to start from the rows alone.
STARTS = {"kmeans": by_kmeans, "tsne": by_tsne}


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
