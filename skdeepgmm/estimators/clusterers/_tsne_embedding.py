"""A t-SNE map of rows, mixtures on it, and clusters made of their Gaussians."""

import warnings

import numpy as np
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from sklearn.neighbors import KNeighborsRegressor, kneighbors_graph

from skdeepgmm.estimators.clusterers._normalized_cut import merged_parts
from skdeepgmm.estimators.mixture._gaussian_mixture import GaussianMixture

#: Most rows of a map, and fewest.
MAP_ROWS, FEWEST_MAP_ROWS = 10_000, 50
#: Principal components that a map is made of, and its effective number of neighbours.
MAP_COMPONENTS, PERPLEXITY = 50, 30.0
#: Neighbours of a row, in principal components: in the graph that puts Gaussians
#: together, and of a row beside the map, which gets their mean responsibilities.
NEIGHBORS = 10
#: Gaussians of a cluster.
PARTS = 3


def n_mapped(n_samples):
    """Return how many of so many rows a map has."""
    return min(n_samples, MAP_ROWS)


def map_of(rows, random_state):
    """Return a map of rows that keeps their neighbourhoods.

    It is made of the first principal components of ``MAP_ROWS`` rows at most.

    Parameters
    ----------
    rows : ndarray of shape (n_samples, n_features)
    random_state : RandomState instance

    Returns
    -------
    RowMap or None
        None for fewer than ``FEWEST_MAP_ROWS`` rows, and for rows that are all equal.

    References: van der Maaten and Hinton (2008), "Visualizing data using t-SNE", JMLR
    9; McConville et al. (2021), "N2D: (not too) deep clustering via clustering the
    local manifold of an autoencoded embedding", ICPR.
    """
    order = random_state.permutation(len(rows))
    size = n_mapped(len(rows))
    scale = Scale(rows[order[:size]])
    if size < FEWEST_MAP_ROWS or scale.largest == 0.0:
        return None
    scaled = scale(rows[order[:size]])
    n_components = min(MAP_COMPONENTS, rows.shape[1])
    components = PCA(n_components, random_state=random_state).fit(scaled)
    places = components.transform(scaled)
    tsne = TSNE(
        perplexity=min(PERPLEXITY, (size - 1) / 3),
        init="pca" if n_components > 1 else "random",
        random_state=random_state,
    )
    points = tsne.fit_transform(places).astype(np.float64)
    # In parts: the rows beside the map may be nearly all of them.
    beside = [
        components.transform(scale(rows[order[start : start + MAP_ROWS]]))
        for start in range(size, len(rows), MAP_ROWS)
    ]
    return RowMap(order, points, np.concatenate([places, *beside]), random_state)


class Scale:
    """Centres rows at the mean of some and divides by the largest value of these."""

    def __init__(self, rows):
        rows = rows.astype(np.float64)
        self.center = rows.mean(axis=0)
        self.largest = np.abs(rows - self.center).max()

    def __call__(self, rows):
        return (rows.astype(np.float64) - self.center) / self.largest


class RowMap:
    """Some rows on a map, and all rows before it.

    Parameters
    ----------
    order : ndarray of shape (n_samples,)
        The rows, those on the map first.
    points : ndarray of shape (n_mapped, 2)
        Their places on the map.
    places : ndarray of shape (n_samples, n_components)
        Principal components of all rows, in this order.
    random_state : RandomState instance
        Every mixture draws from its state at this moment, as if it were the only one.
    """

    def __init__(self, order, points, places, random_state):
        self._order, self._points, self._places = order, points, places
        self._random_state, self._state = random_state, random_state.get_state()

    @property
    def n_mapped(self):
        """Number of rows on the map."""
        return len(self._points)

    def mixture(self, size):
        """Return the responsibilities of a mixture of Gaussians on the map.

        Rows beside the map get the mean of their nearest rows on it.

        Parameters
        ----------
        size : int
            Number of Gaussians.

        Returns
        -------
        ndarray of shape (n_samples, size)
        """
        return self._spread(self._mixture(size))

    def clusters(self, n_clusters):
        """Return the responsibilities of clusters of ``PARTS`` Gaussians on average.

        The Gaussians are put together by :func:`merged_parts`, on the graph of the rows
        with their nearest neighbours: a map tears apart what belongs together. Where
        rows are too few for so many, each cluster is one Gaussian.

        Returns
        -------
        ndarray of shape (n_samples, n_clusters)
        """
        size = PARTS * n_clusters
        if size > self.n_mapped:
            return self.mixture(n_clusters)
        resp = self._mixture(size)
        graph = kneighbors_graph(self._mapped_places, NEIGHBORS)
        affinity = resp.T @ (graph @ resp)
        found = merged_parts(
            0.5 * (affinity + affinity.T), n_clusters, self._random_state
        )
        return self._spread(resp @ np.eye(n_clusters)[found])

    @property
    def _mapped_places(self):
        return self._places[: self.n_mapped]

    def _mixture(self, size):
        """Return the responsibilities of the best of ten mixtures, of mapped rows."""
        self._random_state.set_state(self._state)
        mixture = GaussianMixture(
            size, n_init=10, random_state=self._random_state, device="cpu"
        )
        # It would warn of parameters that are not the user's; what becomes of such
        # clusters is told after the fit.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return mixture.fit(self._points).predict_proba(self._points)

    def _spread(self, found):
        """Return responsibilities of all rows from those of the mapped ones."""
        size = len(found)
        resp = np.empty((len(self._order), found.shape[1]))
        resp[self._order[:size]] = found
        if size < len(self._order):
            nearest = KNeighborsRegressor(NEIGHBORS).fit(self._mapped_places, found)
            resp[self._order[size:]] = nearest.predict(self._places[size:])
        return resp
