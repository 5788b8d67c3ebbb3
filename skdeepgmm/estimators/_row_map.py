"""A t-SNE map of rows, mixtures on it, and clusters made of their Gaussians."""

import warnings

import numpy as np
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from sklearn.neighbors import KNeighborsRegressor, kneighbors_graph

from skdeepgmm.estimators._gaussian_mixture import GaussianMixture
from skdeepgmm.estimators._graph_cut import merged_parts

#: Most rows of a map, and fewest.
MAP_ROWS, FEWEST_MAP_ROWS = 10_000, 50
#: Principal components that a map is made of, and its effective number of neighbours.
MAP_COMPONENTS, PERPLEXITY = 50, 30.0
#: Neighbours of a row, in principal components: in the graph that puts parts together,
#: and of a row beside the map, which gets their mean responsibilities.
NEIGHBORS = 10
#: Gaussians of a cluster.
PARTS = 3


class RowMap:
    """Rows on a map of two dimensions that keeps their neighbourhoods.

    The map is made of the first principal components of ``MAP_ROWS`` rows at most.

    Parameters
    ----------
    rows : ndarray of shape (n_samples, n_features)
    random_state : RandomState instance

    Attributes
    ----------
    is_possible : bool
        False for fewer than ``FEWEST_MAP_ROWS`` rows, and for rows that are all equal:
        these have no map.

    References: van der Maaten and Hinton (2008), "Visualizing data using t-SNE", JMLR
    9; McConville et al. (2021), "N2D: (not too) deep clustering via clustering the
    local manifold of an autoencoded embedding", ICPR.
    """

    def __init__(self, rows, random_state):
        order = random_state.permutation(len(rows))
        self.rows, self._random_state = rows, random_state
        self.mapped, self.beside = order[:MAP_ROWS], order[MAP_ROWS:]
        centered = rows[self.mapped].astype(np.float64)
        self._center = centered.mean(axis=0)
        centered -= self._center
        self._largest = np.abs(centered).max()
        self.is_possible = (
            len(self.mapped) >= FEWEST_MAP_ROWS and self._largest > 0.0
        )
        if self.is_possible:
            self._build(centered / self._largest)

    def _build(self, scaled):
        n_components = min(MAP_COMPONENTS, scaled.shape[1])
        self._components = PCA(n_components, random_state=self._random_state)
        self._places = self._components.fit_transform(scaled)
        tsne = TSNE(
            perplexity=min(PERPLEXITY, (len(self.mapped) - 1) / 3),
            init="pca" if n_components > 1 else "random",
            random_state=self._random_state,
        )
        self._points = tsne.fit_transform(self._places)
        # Each mixture as if it were the only one.
        self._state = self._random_state.get_state()

    def mixture(self, size):
        """Return the responsibilities of a mixture of ``size`` Gaussians.

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
        if size > len(self.mapped):
            return self.mixture(n_clusters)
        resp = self._mixture(size)
        graph = kneighbors_graph(self._places, NEIGHBORS)
        affinity = resp.T @ (graph @ resp)
        found = merged_parts(0.5 * (affinity + affinity.T), n_clusters, self._random_state)
        return self._spread(resp @ np.eye(n_clusters)[found])

    def _mixture(self, size):
        """Return the responsibilities of the best of ten mixtures, of mapped rows."""
        self._random_state.set_state(self._state)
        mixture = GaussianMixture(
            size, n_init=10, random_state=self._random_state, device="cpu"
        )
        points = self._points.astype(np.float64)
        # It would warn of parameters that are not the user's; what becomes of such
        # clusters is told after the fit.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return mixture.fit(points).predict_proba(points)

    def _spread(self, found):
        """Return responsibilities of all rows from those of the mapped ones."""
        resp = np.empty((len(self.rows), found.shape[1]))
        resp[self.mapped] = found
        nearest = KNeighborsRegressor(NEIGHBORS).fit(self._places, found)
        # In parts: the rows beside the map may be nearly all of them.
        for start in range(0, len(self.beside), MAP_ROWS):
            part = self.beside[start : start + MAP_ROWS]
            placed = self._components.transform(
                (self.rows[part] - self._center) / self._largest
            )
            resp[part] = nearest.predict(placed)
        return resp
