"""What the deep clusterers share: input, network tensors, predictions."""

from contextlib import contextmanager

import numpy as np
import torch
from sklearn.base import ClassNamePrefixFeaturesOutMixin, ClusterMixin, TransformerMixin
from sklearn.utils import check_array
from sklearn.utils.validation import check_is_fitted

from skdeepgmm._torch_backend import convert
from skdeepgmm._torch_backend.clusterers.network_tools import in_batches, restore
from skdeepgmm._torch_backend.clusterers.networks import is_image
from skdeepgmm.chunked import ChunkedArray
from skdeepgmm.estimators._base import TorchEstimator
from skdeepgmm.estimators._checks import check_integer, is_integer
from skdeepgmm.estimators._image_shape import (
    check_product,
    fitted_rows,
    rows_and_shape,
)
from skdeepgmm.estimators._sklearn_compat import Interval, InvalidParameterError

#: Rows that are converted at a time.
CHUNK_ROWS = 2**13
#: Largest values that networks see, in their units: squares of what they make of
#: larger ones would overflow.
FARTHEST = 1e9
#: Parameters that set how much memory networks need, and words of torch's errors where
#: there is too little.
SIZES = ("width", "noise_dim", "latent_dim", "embedding_dim", "batch_size")
TOO_LARGE = ("allocate memory", "out of memory", "storage size calculation")
#: Values that the last function of a generator reaches.
RANGES = {"sigmoid": (0.0, 1.0), "tanh": (-1.0, 1.0)}


class NetworkUnits:
    """The way from rows of X to tensors in the networks' range, and back.

    Images are scaled as a whole, vectors feature by feature: to mean zero and
    deviation one.

    Parameters
    ----------
    shape : tuple of int or None
        (height, width, channels), None for vector data.
    offset, scale : ndarray of shape (n_features,) or (1,)
        x = offset + scale * value of the network.
    """

    def __init__(self, shape, offset, scale):
        self.shape, self.offset, self.scale = shape, offset, scale

    @classmethod
    def of(cls, X, shape, output):
        """Measure the units on X.

        Parameters
        ----------
        X : ndarray or tensor of shape (n_samples, n_features)
        shape : tuple of int or None
        output : str
            Last function of the generator: a key of ``RANGES``, or "linear".
        """
        if output not in RANGES:
            return cls(shape, *_moments(X))
        low, high = RANGES[output]
        smallest, largest = float(X.min()), float(X.max())
        _check_range(np.array([smallest, largest]))
        scale = (largest - smallest) / (high - low) if largest > smallest else 1.0
        return cls(shape, np.array([smallest - low * scale]), np.array([scale]))

    @property
    def network_shape(self):
        """Shape of one row in the networks; a small image is a vector there."""
        if self.shape is None:
            return None
        height, width, channels = self.shape
        return (channels, height, width)

    @property
    def is_image(self):
        """Whether the networks see rows as images."""
        return self.shape is not None and is_image(self.network_shape)

    def to_network(self, X, device, dtype=torch.float32):
        """Return rows of X as (n, channels, height, width) or (n, features)."""
        parts = [
            self._convert(X[start : start + CHUNK_ROWS], device, dtype)
            for start in range(0, X.shape[0], CHUNK_ROWS)
        ]
        rows = torch.cat(parts)
        if not self.is_image:
            return rows
        # Channels stay last in memory, the order that convolutions are fast in.
        return rows.reshape(len(rows), *self.shape).permute(0, 3, 1, 2)

    def _convert(self, rows, device, dtype):
        # In float64: values far from zero lose their differences in float32.
        values = convert.rows_to_tensor(rows, device, torch.float64)
        offset = convert.float64_tensor(self.offset, device)
        scale = convert.float64_tensor(self.scale, device)
        return ((values - offset) / scale).clamp(-FARTHEST, FARTHEST).to(dtype)

    def from_network(self, tensor):
        """Return a tensor of the networks as float64 rows of X."""
        if tensor.ndim == 4:
            tensor = tensor.permute(0, 2, 3, 1)
        rows = tensor.reshape(len(tensor), -1).double()
        offset = convert.float64_tensor(self.offset, rows.device)
        return offset + convert.float64_tensor(self.scale, rows.device) * rows

    def log_volume(self, n_features):
        """Return the log of the volume of a unit cube of the networks, in nats."""
        logs = np.log(self.scale)
        return float(logs.sum() if len(logs) > 1 else n_features * logs[0])


def _moments(X):
    """Return mean and deviation of every feature; constant ones get deviation one."""
    if convert.is_tensor(X):
        X = convert.to_numpy(X)
    X = np.asarray(X, dtype=np.float64)
    _check_range(X)
    # Squares of values up to one are finite; a power of two loses no digits.
    _, exponent = np.frexp(np.abs(X).max(axis=0))
    small = np.ldexp(X, -exponent)
    mean, deviation = small.mean(axis=0), small.std(axis=0)
    # Rounding leaves a constant feature with a deviation near 1e-16 of its size.
    constant = deviation <= 1e-12 * np.abs(mean)
    deviation = np.ldexp(deviation, exponent)
    deviation = np.where(constant | (deviation == 0.0), 1.0, deviation)
    return np.ldexp(mean, exponent), deviation


def _check_range(X):
    """Raise unless all differences of values of a feature are finite."""
    half = X.max(axis=0) / 2.0 - X.min(axis=0) / 2.0
    if (half > np.finfo(np.float64).max / 2.0).any():
        raise ValueError(
            "X has features whose range is beyond float64; expected finite differences "
            "of values. Divide them by a constant."
        )


class DeepClusterer(
    ClassNamePrefixFeaturesOutMixin, ClusterMixin, TransformerMixin, TorchEstimator
):
    """Template of the clusterers with networks; a subclass trains them.

    A subclass has the constructor parameters ``n_clusters``, ``image_shape``,
    ``semi_supervised``, ``random_state`` and ``device``, and the methods
    ``_proba(X)`` and ``_embed(X)``, which return functions of network tensors on the
    device for X. Fitted, it has ``image_shape_``, ``weights_``, ``means_``, ``labels_``
    and ``_units``.
    """

    # Input -----------------------------------------------------------------------

    def _validate_params(self):
        """Check types and ranges; True and False are no numbers."""
        super()._validate_params()
        for name, value in self.get_params(deep=False).items():
            constraints = self._parameter_constraints[name]
            is_number = any(isinstance(kind, Interval) for kind in constraints)
            if is_number and isinstance(value, bool):
                raise InvalidParameterError(
                    f"The {name!r} parameter of {type(self).__name__} must be a number "
                    f"or another value that its documentation lists. Got {value!r} "
                    "instead."
                )

    def _check_rows(self, X, *, reset):
        """Return validated rows; a fit also sets ``image_shape_``."""
        if reset:
            _check_in_memory(X)
            X, shape = rows_and_shape(X, self.image_shape)
        else:
            X, shape = fitted_rows(X, self.image_shape_), self.image_shape_
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

        Raises
        ------
        ValueError
            If y is missing or holds anything but -1, 0, ..., n_clusters - 1.
        """
        if not self.semi_supervised:
            return None
        expected = f"expected integers from -1 (unknown) to {self.n_clusters - 1}"
        if y is None:
            raise ValueError(
                f"semi_supervised=True needs y, but it is None; {expected}. Set "
                "semi_supervised=False to cluster without labels."
            )
        y = _as_labels(y, expected)
        if y.shape != (n_samples,):
            raise ValueError(
                f"y has the shape {y.shape}; expected ({n_samples},), one class a row."
            )
        if y.dtype.kind not in "iu" or y.min() < -1 or y.max() >= self.n_clusters:
            found = f"values of type {y.dtype}"
            if y.dtype.kind in "iuf":
                found += f" from {y.min()} to {y.max()}"
            raise ValueError(
                f"y holds {found}; {expected}. Encode the classes, for example with "
                "sklearn.preprocessing.LabelEncoder."
            )
        return y.astype(np.int64)

    # Output ----------------------------------------------------------------------

    def _network_units(self):
        return NetworkUnits(self.image_shape_, **self._units)

    @property
    def _inference_dtype(self):
        shape = self._network_units().network_shape
        return inference_dtype(shape is not None and is_image(shape))

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
        device, dtype = self._device(X), self._inference_dtype
        return self._network_units().to_network(X, device, dtype)

    def _rows(self, tensor, like=None):
        """Return network output as rows in the units and type of the training data.

        In the container that the caller expects who gave ``like``.
        """
        dtype = convert.torch_dtype(self.means_)
        return self._output(self._network_units().from_network(tensor), like, dtype)

    def _check_embedding(self, Z):
        """Return validated rows of an embedding as a float64 tensor on the device."""
        values = convert.to_numpy(Z, torch.float64) if convert.is_tensor(Z) else Z
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


def _as_labels(y, expected):
    if convert.is_tensor(y):
        return convert.to_numpy(y)
    try:
        return np.asarray(y)
    except ValueError as error:
        raise ValueError(
            f"y has entries of several lengths; {expected}, one a row."
        ) from error


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


def inference_dtype(image):
    """Return float32 for images; the small networks of vectors can afford float64."""
    return torch.float32 if image else torch.float64


@contextmanager
def memory_errors(estimator):
    """Turn torch's errors of too large tensors into MemoryError naming parameters."""
    try:
        yield
    except RuntimeError as error:
        if not any(words in str(error).lower() for words in TOO_LARGE):
            raise
        values = estimator.get_params(deep=False)
        sizes = ", ".join(f"{n}={values[n]!r}" for n in SIZES if n in values)
        raise MemoryError(
            f"The networks or their batches need more memory than there is: {sizes}. "
            f"Lower these, or give smaller images. ({error})"
        ) from error
