"""A t-SNE embedding of samples, mixtures on it, and clusters made of their Gaussians.

References: van der Maaten and Hinton (2008), "Visualizing data using t-SNE", JMLR 9;
McConville et al. (2021), "N2D: (not too) deep clustering via clustering the local
manifold of an autoencoded embedding", ICPR.
"""

import warnings

import numpy as np
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from sklearn.neighbors import KNeighborsRegressor, kneighbors_graph

from skdeepgmm._torch_backend import convert
from skdeepgmm._torch_backend.device import resolve_device
from skdeepgmm._torch_backend.standardization import from_arrays
from skdeepgmm.estimators._interruption import part_of_another
from skdeepgmm.estimators.clusterers._normalized_cut import merged_components

#: Most samples of an embedding, and fewest.
MOST_EMBEDDED, FEWEST_EMBEDDED = 10_000, 50
#: Principal components that are embedded, and t-SNE's effective number of neighbours.
PCA_COMPONENTS, PERPLEXITY = 50, 30.0
#: Neighbours of a sample, in principal components: in the graph that puts Gaussians
#: together, and of a sample that is not embedded, which gets their mean
#: responsibilities.
NEIGHBORS = 10
#: Over-clustering: Gaussians of a cluster.
OVER_CLUSTERING = 3


def n_embedded(n_samples):
    """Return how many of so many samples are embedded."""
    return min(n_samples, MOST_EMBEDDED)


def tsne_embedding(X, random_state):
    """Embed samples in the plane so that their neighbourhoods are kept.

    The first principal components of ``MOST_EMBEDDED`` samples at most are embedded.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
    random_state : RandomState instance

    Returns
    -------
    TSNEEmbedding or None
        None for fewer than ``FEWEST_EMBEDDED`` samples, and for samples that are all
        equal.
    """
    order = random_state.permutation(len(X))
    size = n_embedded(len(X))
    scale = _scaler(X[order[:size]])
    if size < FEWEST_EMBEDDED or scale is None:
        return None
    scaled = scale(X[order[:size]])
    n_components = min(PCA_COMPONENTS, X.shape[1])
    pca = PCA(n_components, random_state=random_state).fit(scaled)
    components = pca.transform(scaled)
    tsne = TSNE(
        perplexity=min(PERPLEXITY, (size - 1) / 3),
        init="pca" if n_components > 1 else "random",
        random_state=random_state,
    )
    points = tsne.fit_transform(components).astype(np.float64)
    # In chunks: the samples that are not embedded may be nearly all.
    others = [
        pca.transform(scale(X[order[start : start + MOST_EMBEDDED]]))
        for start in range(size, len(X), MOST_EMBEDDED)
    ]
    components = np.concatenate([components, *others])
    return TSNEEmbedding(order, points, components, random_state)


def _scaler(X):
    """Return what centres samples and divides by the largest value of ``X``.

    None if its samples are all equal.
    """
    values = X.astype(np.float64)
    center = values.mean(axis=0)
    largest = np.abs(values - center).max()
    if largest == 0.0:
        return None
    cpu = resolve_device("cpu")
    standardize = from_arrays(center, np.full_like(center, largest), cpu)
    return lambda rows: convert.to_numpy(standardize(convert.float64_tensor(rows, cpu)))


class TSNEEmbedding:
    """Some samples in the plane, and the principal components of all.

    Parameters
    ----------
    order : ndarray of shape (n_samples,)
        The samples, embedded ones first.
    points : ndarray of shape (n_embedded, 2)
        Their places in the plane.
    components : ndarray of shape (n_samples, n_components)
        Principal components of all samples, in this order.
    random_state : RandomState instance
        Every mixture draws from its state at this moment, as if it were the only one.
    """

    def __init__(self, order, points, components, random_state):
        self._order, self._points, self._components = order, points, components
        self._random_state, self._state = random_state, random_state.get_state()

    @property
    def n_embedded(self):
        """Number of embedded samples."""
        return len(self._points)

    def mixture(self, n_components):
        """Return the responsibilities of a mixture of Gaussians in the plane.

        Samples that are not embedded get the mean of their nearest neighbours that are.

        Parameters
        ----------
        n_components : int
            Number of Gaussians.

        Returns
        -------
        ndarray of shape (n_samples, n_components)
        """
        return self._spread(self._mixture(n_components))

    def clusters(self, n_clusters):
        """Return the responsibilities of clusters of several Gaussians.

        There are ``OVER_CLUSTERING`` of them a cluster on average, put together by
        :func:`merged_components` on the graph of the samples with their nearest
        neighbours: an embedding tears apart what belongs together. Where samples are
        too few for so many, each cluster is one Gaussian.

        Returns
        -------
        ndarray of shape (n_samples, n_clusters)
        """
        n_components = OVER_CLUSTERING * n_clusters
        if n_components > self.n_embedded:
            return self.mixture(n_clusters)
        resp = self._mixture(n_components)
        graph = kneighbors_graph(self._embedded_components, NEIGHBORS)
        affinity = resp.T @ (graph @ resp)
        found = merged_components(
            0.5 * (affinity + affinity.T), n_clusters, self._random_state
        )
        return self._spread(resp @ np.eye(n_clusters)[found])

    @property
    def _embedded_components(self):
        return self._components[: self.n_embedded]

    def _mixture(self, n_components):
        """Return the responsibilities of the best of ten mixtures, embedded samples."""
        from skdeepgmm import GaussianMixture

        self._random_state.set_state(self._state)
        mixture = GaussianMixture(
            n_components, n_init=10, random_state=self._random_state, device="cpu"
        )
        # It would warn of parameters that are not the user's; what becomes of such
        # clusters is reported after the fit.
        with warnings.catch_warnings(), part_of_another():
            warnings.simplefilter("ignore")
            return mixture.fit(self._points).predict_proba(self._points)

    def _spread(self, found):
        """Return responsibilities of all samples from those of the embedded ones."""
        size = len(found)
        resp = np.empty((len(self._order), found.shape[1]))
        resp[self._order[:size]] = found
        if size < len(self._order):
            nearest = KNeighborsRegressor(NEIGHBORS)
            nearest.fit(self._embedded_components, found)
            resp[self._order[size:]] = nearest.predict(self._components[size:])
        return resp
