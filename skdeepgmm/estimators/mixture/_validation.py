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


def check_precisions(precisions, kind, n_components, n_features, what="precision"):
    """Return precisions or covariances, checked to be positive (definite).

    Parameters
    ----------
    precisions : array-like
        In the shape of ``kind``.
    kind : type
        Covariance class.
    what : {"precision", "covariance"}
        Word for the messages.

    Raises
    ------
    ValueError
        If the shape is wrong or a matrix is not symmetric and positive.
    """
    if kind.name == "low_rank":
        raise ValueError(
            "precisions_init does not apply to covariance_type='low_rank'. Give "
            "means_init and weights_init, or start from from_parameters(...) with "
            "warm_start=True."
        )
    precisions = _parameter(precisions)
    shape = kind.values_shape(n_components, n_features)
    _check_shape(precisions, shape, f"{kind.name} {what}")
    if kind.name in ("diag", "spherical"):
        if (precisions <= 0.0).any():
            raise ValueError(f"'{kind.name} {what}' should be positive")
        return precisions
    matrices = precisions.reshape(-1, n_features, n_features)
    symmetric = np.allclose(matrices, np.swapaxes(matrices, 1, 2))
    if not symmetric or (np.linalg.eigvalsh(matrices) <= 0.0).any():
        raise ValueError(f"'{kind.name} {what}' should be symmetric, positive-definite")
    return precisions


def check_factors(covariances, n_components, n_features):
    """Return the factors and noise variances of low-rank covariances.

    Parameters
    ----------
    covariances : tuple
        (factors, noise_variance).

    Raises
    ------
    ValueError
        If this is no such pair, shapes are wrong or a variance is not positive.
    """
    if not (isinstance(covariances, (tuple, list)) and len(covariances) == 2):
        raise ValueError(
            "covariances of covariance_type='low_rank' should be the tuple (factors, "
            "noise_variance)."
        )
    factors, noise = (_parameter(part) for part in covariances)
    if factors.ndim != 3:
        raise ValueError(
            "factors should have the shape of (n_components, n_features, rank), but "
            f"got {factors.shape}"
        )
    _check_shape(factors, (n_components, n_features, factors.shape[2]), "factors")
    _check_shape(noise, (n_components, n_features), "noise_variance")
    if (noise <= 0.0).any():
        raise ValueError("'noise_variance' should be positive")
    return factors, noise


def check_features(features, n_features):
    """Return feature indices, checked to be distinct and in range.

    Raises
    ------
    ValueError
        If an index is no integer, out of range or given twice.
    """
    index = np.atleast_1d(np.asarray(features))
    if index.ndim != 1 or not len(index) or index.dtype.kind not in "iu":
        raise ValueError(f"features must be a list of feature indices, got {features}.")
    if (index < 0).any() or (index >= n_features).any():
        raise ValueError(
            f"features must lie in 0..{n_features - 1}, got {index.tolist()}."
        )
    if len(np.unique(index)) != len(index):
        raise ValueError(f"features must be distinct, got {index.tolist()}.")
    return index


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
