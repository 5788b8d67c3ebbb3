"""What parameters of both deep clusterers mean for the training."""

import math
from numbers import Real

import numpy as np
from sklearn.cluster import KMeans
from sklearn.utils import check_array

from skdeepgmm._torch_backend import convert
from skdeepgmm._torch_backend.network_tools import Affine

#: Changes of images that ``affine='auto'`` means: share of the side, degrees, share of
#: the size.
AFFINE = (1 / 14, 9.0, 0.1)
#: Images with sides of at least so many pixels are large.
LARGE_SIDE = 16
#: Most rows that k-means is started on.
KMEANS_ROWS = 20_000


def is_large_image(shape):
    """Tell whether rows of this shape in the networks are images, and large ones."""
    return len(shape) == 3 and min(shape[1:]) >= LARGE_SIDE


def checked_affine(affine, architecture, auto=AFFINE):
    """Return the largest random changes of images, None for none.

    Parameters
    ----------
    affine : None, "auto" or tuple of (pixels, degrees, share of the size)
    auto : tuple of (share of the side, degrees, share of the size)
        What "auto" means.

    Raises
    ------
    ValueError
        If ``affine`` is no triple of non-negative numbers, or the rows are no images.
    """
    if affine is None:
        return None
    if isinstance(affine, str) and architecture.image:
        share, degrees, scale = auto
        affine = (share * min(architecture.shape[1:]), degrees, scale)
    if not architecture.image or not _is_affine(affine):
        raise ValueError(
            "affine must be None or, for images, 'auto' or a tuple of non-negative "
            "numbers (pixels, degrees, share of the size below one), got "
            f"{affine!r} for {'images' if architecture.image else 'vectors'}."
        )
    return Affine(*map(float, affine))


def _is_affine(values):
    """Tell whether these are three finite numbers in their ranges."""
    if len(values) != 3 or not all(isinstance(value, Real) for value in values):
        return False
    return all(0.0 <= value < math.inf for value in values) and values[2] < 1.0


def first_responsibilities(estimator, kind, X, units, random_state):
    """Return the first responsibilities, (n_samples, n_clusters); None for equal ones.

    Raises
    ------
    ValueError
        If an array has the wrong shape or its rows are no distributions.
    """
    if kind == "uniform":
        return None
    if kind == "array":
        return _checked(estimator.init, (X.shape[0], estimator.n_clusters))
    rows = units.to_network(X, "cpu").flatten(1)
    chosen = random_state.permutation(len(rows))[:KMEANS_ROWS]
    kmeans = KMeans(estimator.n_clusters, n_init=10, random_state=random_state)
    kmeans.fit(convert.to_numpy(rows[convert.index_tensor(chosen)]))
    return np.eye(estimator.n_clusters)[kmeans.predict(convert.to_numpy(rows))]


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
