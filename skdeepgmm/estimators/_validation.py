"""Checks of start values, with scikit-learn's messages."""

import numpy as np
from sklearn.utils import check_array

from skdeepgmm._torch_backend import convert


def check_weights(weights, n_components):
    """Return the start weights, checked to be a distribution.

    Parameters
    ----------
    weights : array-like of shape (n_components,)

    Raises
    ------
    ValueError
        If the shape is wrong, a weight lies outside [0, 1] or the sum is not one.
    """
    weights = _parameter(weights)
    _check_shape(weights, (n_components,), "weights")
    if (weights < 0.0).any() or (weights > 1.0).any():
        raise ValueError(
            "The parameter 'weights' should be in the range [0, 1], but got max value "
            f"{weights.max():.5f}, min value {weights.min():.5f}"
        )
    atol = 1e-6 if weights.dtype == np.float32 else 1e-8
    if abs(1.0 - weights.sum()) > atol:
        raise ValueError(
            "The parameter 'weights' should be normalized, but got sum(weights) = "
            f"{weights.sum():.5f}"
        )
    return weights


def check_means(means, n_components, n_features):
    """Return the start means, checked for their shape.

    Parameters
    ----------
    means : array-like of shape (n_components, n_features)

    Raises
    ------
    ValueError
        If the shape is wrong.
    """
    means = _parameter(means)
    _check_shape(means, (n_components, n_features), "means")
    return means


def check_precisions(precisions, kind, n_components, n_features):
    """Return the start precisions, checked to be positive (definite).

    Parameters
    ----------
    precisions : array-like
        In the shape of ``kind``.
    kind : type
        Covariance class.

    Raises
    ------
    ValueError
        If the shape is wrong or a precision is not symmetric and positive.
    """
    precisions = _parameter(precisions)
    shape = kind.values_shape(n_components, n_features)
    _check_shape(precisions, shape, f"{kind.name} precision")
    if kind.name in ("diag", "spherical"):
        if (precisions <= 0.0).any():
            raise ValueError(f"'{kind.name} precision' should be positive")
        return precisions
    matrices = precisions.reshape(-1, n_features, n_features)
    symmetric = np.allclose(matrices, np.swapaxes(matrices, 1, 2))
    if not symmetric or (np.linalg.eigvalsh(matrices) <= 0.0).any():
        raise ValueError(
            f"'{kind.name} precision' should be symmetric, positive-definite"
        )
    return precisions


def _parameter(value):
    if convert.is_tensor(value):
        value = convert.to_numpy(value)
    return check_array(
        value, dtype=[np.float64, np.float32], ensure_2d=False, allow_nd=True
    )


def _check_shape(array, shape, name):
    if array.shape != shape:
        raise ValueError(
            f"The parameter '{name}' should have the shape of {shape}, but got "
            f"{array.shape}"
        )
