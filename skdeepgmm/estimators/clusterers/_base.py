"""What the deep clusterers share: input, network tensors, predictions."""

from contextlib import contextmanager

import numpy as np
from sklearn.base import ClassNamePrefixFeaturesOutMixin, ClusterMixin, TransformerMixin
from sklearn.utils import check_array
from sklearn.utils.validation import check_is_fitted

from skdeepgmm._torch_backend import convert
from skdeepgmm._torch_backend.clusterers.preprocessing import (
    from_attribute,
    inference_dtype,
)
from skdeepgmm._torch_backend.clusterers.weights import restore
from skdeepgmm._torch_backend.device import SMALL_NETWORKS
from skdeepgmm._torch_backend.inference import in_batches
from skdeepgmm._torch_backend.training import DivergenceError
from skdeepgmm.chunked import ChunkedArray
from skdeepgmm.estimators._base import TorchEstimator
from skdeepgmm.estimators._checks import (
    check_integer,
    is_integer,
    missing_values_explained,
)
from skdeepgmm.estimators._image_shape import (
    check_product,
    fitted_rows,
    rows_and_shape,
)
from skdeepgmm.estimators._labels import check_labels, encoded, warn_ignored
from skdeepgmm.exceptions import TrainingDivergedError

#: Parameters that set how much memory networks need, and words of torch's errors where
#: there is too little.
SIZES = ("width", "noise_dim", "latent_dim", "embedding_dim", "batch_size")
TOO_LARGE = (
    "allocate memory",
    "out of memory",
    "storage size calculation",
    "overflow when unpacking",
)


class DeepClusterer(
    ClassNamePrefixFeaturesOutMixin, ClusterMixin, TransformerMixin, TorchEstimator
):
    """Template of the clusterers with networks; a subclass trains them.

    A subclass has the constructor parameters ``n_clusters``, ``image_shape``,
    ``semi_supervised``, ``random_state`` and ``device``, and the methods
    ``_proba(X)`` and ``_embed(X)``, which return functions of network tensors on the
    device for X. Fitted, it has ``image_shape_``, ``weights_``, ``means_``, ``labels_``
    and ``_standardization``.
    """

    # Input -----------------------------------------------------------------------

    def _check_rows(self, X, *, reset):
        """Return validated samples; a fit also sets ``image_shape_``."""
        if reset:
            _check_in_memory(X)
            X, shape = rows_and_shape(X, self.image_shape)
        else:
            X, shape = fitted_rows(X, self.image_shape_), self.image_shape_
        with missing_values_explained(self):
            X = self._check_X(X, reset=reset)
        check_product(shape, X.shape[1])
        if not reset:
            return X
        if X.shape[0] < self.n_clusters:
            raise ValueError(
                f"n_samples={X.shape[0]} should be >= n_clusters={self.n_clusters}."
            )
        self.image_shape_ = shape
        return X

    def _check_labels(self, y, n_samples):
        """Return known clusters, -1 elsewhere; None unless semi-supervised.

        Sets ``classes_``: integers are clusters, strings are numbered in their order.

        Raises
        ------
        ValueError
            If y is missing or holds anything but -1 and clusters, or classes of which
            there are more than clusters.
        """
        vars(self).pop("classes_", None)
        if not self.semi_supervised:
            warn_ignored(y)
            return None
        expected = (
            f"expected integers from -1 (unknown) to {self.n_clusters - 1}, or names "
            "of classes (strings) with -1 where they are unknown"
        )
        if y is None:
            raise ValueError(
                f"semi_supervised=True needs y, but it is None; {expected}. Set "
                "semi_supervised=False to cluster without labels."
            )
        y = check_labels(y, n_samples)
        if _has_names(y):
            self.classes_, y = encoded(y)
            if len(self.classes_) > self.n_clusters:
                raise ValueError(
                    f"y has {len(self.classes_)} classes, more than n_clusters="
                    f"{self.n_clusters}: {self.classes_.tolist()[:20]}."
                )
            return y
        if y.dtype.kind not in "iu" or y.min() < -1 or y.max() >= self.n_clusters:
            found = f"values of type {y.dtype}"
            if y.dtype.kind in "iuf":
                found += f" from {y.min()} to {y.max()}"
            raise ValueError(f"y holds {found}; {expected}.")
        self.classes_ = np.arange(self.n_clusters)
        return y.astype(np.int64)

    # Output ----------------------------------------------------------------------

    def _is_small(self):
        sizes = (
            array.size
            for network in getattr(self, "networks_", {}).values()
            for array in network.values()
        )
        return sum(sizes) <= SMALL_NETWORKS

    @property
    def _preprocessing(self):
        return from_attribute(self._standardization, self.image_shape_)

    def _apply(self, function, X):
        """Return a function of network tensors for the rows of X, as the caller's."""
        check_is_fitted(self)
        X = self._check_rows(X, reset=False)
        result = in_batches(function, self._tensor(X))
        dtype = convert.torch_dtype(X) if result.is_floating_point() else None
        return self._output(result, X, dtype)

    def _predictor(self, X):
        """Return the function of network tensors that gives clusters."""
        proba = self._proba(X)
        return lambda rows: proba(rows).argmax(1)

    def _labels(self, X):
        """Return the clusters of validated rows, as an ndarray."""
        return convert.to_numpy(in_batches(self._predictor(X), self._tensor(X)))

    def _tensor(self, X):
        made = self._preprocessing
        return made.to_network(X, self._device(X), made.inference_dtype)

    def _rows(self, tensor, like=None):
        """Return network output as rows in the range and type of the training data.

        In the container that the caller expects who gave ``like``.

        Raises
        ------
        ValueError
            If values are beyond that type.
        """
        dtype = convert.torch_dtype(self.means_)
        rows = self._preprocessing.from_network(tensor)
        if rows.numel() and not rows.abs().max() <= convert.largest_value(dtype):
            raise ValueError(
                f"Generated values are beyond {dtype}, the type of the data X of the "
                "fit. Fit on rescaled data, or on float64."
            )
        return self._output(rows, like, dtype)

    def _check_embedding(self, Z):
        """Return a validated embedding as a float64 tensor on the device."""
        values = convert.to_numpy(Z.double()) if convert.is_tensor(Z) else Z
        values = check_array(values, dtype=[np.float64, np.float32], input_name="Z")
        if values.shape[1] != self._n_features_out:
            raise ValueError(
                f"Z has {values.shape[1]} columns; expected those of transform, "
                f"{self._n_features_out}."
            )
        return convert.float64_tensor(values, self._device())

    def _draw_clusters(self, n_samples, cluster, random_state):
        """Return the cluster of each sample to draw, in order.

        Raises
        ------
        ValueError
            If ``n_samples`` is below one or there is no such cluster.
        """
        check_integer("n_samples", n_samples, 1)
        n_clusters = len(self.weights_)
        if cluster is None:
            counts = random_state.multinomial(n_samples, self.weights_)
            return np.repeat(np.arange(n_clusters), counts)
        if not is_integer(cluster) or not 0 <= cluster < n_clusters:
            raise ValueError(
                f"cluster must be None or an integer from 0 to {n_clusters - 1}, got "
                f"{cluster!r}."
            )
        return np.full(n_samples, cluster)

    def predict_proba(self, X):
        """Compute the probability of each cluster.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Data.

        Returns
        -------
        resp : ndarray of shape (n_samples, n_clusters)
            P(cluster | x); rows sum to one.
        """
        check_is_fitted(self)
        return self._apply(self._proba(X), X)

    def predict(self, X):
        """Find the most probable cluster of each sample.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Data.

        Returns
        -------
        labels : ndarray of shape (n_samples,)
            Cluster indices.
        """
        check_is_fitted(self)
        return self._apply(self._predictor(X), X)

    def predict_class(self, X):
        """Predict the class of each sample by name.

        Only after a fit with ``semi_supervised=True``.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Data.

        Returns
        -------
        y : ndarray of shape (n_samples,)
            The most probable of ``classes_``: cluster i is the i-th class. Clusters
            beyond the classes have no name and are left out.

        Raises
        ------
        AttributeError
            If the model was fitted without labels.
        """
        check_is_fitted(self)
        if not hasattr(self, "classes_"):
            raise AttributeError(
                "The model knows no classes. Set semi_supervised=True and give fit the "
                "labels y, with -1 for unlabelled samples."
            )
        X = self._check_rows(X, reset=False)
        resp = in_batches(self._proba(X), self._tensor(X))[:, : len(self.classes_)]
        return self.classes_[convert.to_numpy(resp.argmax(1))]

    def fit_predict(self, X, y=None):
        """Train on X and return the cluster of each sample.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Training data.

        y : array-like of shape (n_samples,), default=None
            As for ``fit``.

        Returns
        -------
        labels : ndarray of shape (n_samples,)
            Cluster indices: ``labels_``.
        """
        return self.fit(X, y).labels_

    def transform(self, X):
        """Map samples to the embedding.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Data.

        Returns
        -------
        Z : ndarray of shape (n_samples, n_embedding)
            Embedding.
        """
        check_is_fitted(self)
        return self._apply(self._embed(X), X)

    def score(self, X, y=None):
        """Compute the mean log-density of the samples.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Data.

        y : Ignored
            Not used, present for API consistency by convention.

        Returns
        -------
        log_likelihood : float
            Mean of ``score_samples``, in nats per sample; higher is better.
        """
        return float(self.score_samples(X).mean())

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


def _has_names(y):
    """Tell whether the labels are strings."""
    return y.dtype.kind in "US" or any(isinstance(label, str) for label in y.tolist())


def _check_in_memory(X):
    if isinstance(X, ChunkedArray):
        raise TypeError(
            "X is a ChunkedArray, but this clusterer trains on one array. Give it an "
            "array, or a memory map of one file (numpy.load with mmap_mode='r')."
        )


def restored(architecture, attributes, name, device):
    """Return one of the networks of fitted attributes, for inference.

    Parameters
    ----------
    architecture : type
        Of the settings in ``attributes["_architecture"]``.
    attributes : dict
    name : str
        Of the network, in ``networks_`` and as a method of the architecture.
    device : torch.device
    """
    made = architecture(**attributes["_architecture"])
    dtype = inference_dtype(made.image)
    return restore(getattr(made, name), attributes["networks_"][name], device, dtype)


@contextmanager
def training_errors(estimator):
    """Turn errors of torch and of the training loop into those that users can act on.

    MemoryError names parameters where torch's tensors are too large.
    """
    try:
        yield
    except DivergenceError as error:
        raise TrainingDivergedError(str(error)) from error
    except (RuntimeError, TypeError) as error:
        if not any(words in str(error).lower() for words in TOO_LARGE):
            raise
        values = estimator.get_params(deep=False)
        sizes = ", ".join(f"{n}={values[n]!r}" for n in SIZES if n in values)
        raise MemoryError(
            f"The networks or their batches need more memory than there is: {sizes}. "
            f"Lower these, or give smaller images. ({str(error).splitlines()[0]})"
        ) from error
