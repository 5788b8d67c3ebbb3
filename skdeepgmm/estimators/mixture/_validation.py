"""Checks of user-supplied parameters, with scikit-learn's messages."""

import numpy as np
from sklearn.utils import check_array

from skdeepgmm._torch_backend import convert

#: Standard deviations from the data at which initial means are refused.
FARTHEST = 1e15


def check_weights(weights, n_components, name="weights"):
    """Return mixture weights, checked to be a distribution.

    Parameters
    ----------
    weights : array-like of shape (n_components,)
    name : str, default="weights"
        Of the parameter, for messages that are not scikit-learn's.

    Raises
    ------
    ValueError
        If the shape is wrong, a weight lies outside [0, 1] or the sum is not one.
    """
    weights = _parameter(weights, name)
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


def check_means(means, n_components, n_features, name="means"):
    """Return means, checked for their shape.

    Parameters
    ----------
    means : array-like of shape (n_components, n_features)
    name : str, default="means"
        Of the parameter, for messages that are not scikit-learn's.

    Raises
    ------
    ValueError
        If the shape is wrong.
    """
    means = _parameter(means, name)
    _check_shape(means, (n_components, n_features), "means")
    return means


def check_reg_covar(estimator, ridge, dtype):
    """Raise where ``reg_covar`` makes variances that overflow the data's type.

    Parameters
    ----------
    estimator : GaussianMixture or SGDGaussianMixture
    ridge : tensor of shape (n_features,)
        What it adds to the variances of the standardised data.
    dtype : torch.dtype
    """
    largest = max(estimator.reg_covar, float(ridge.max()))
    if not largest < 0.5 * convert.largest_value(dtype):
        raise ValueError(
            f"reg_covar={estimator.reg_covar:g} is too large for data of type {dtype}: "
            "variances overflow. Lower reg_covar, or give X as float64."
        )


def check_precisions(precisions, covariance_class, n_components, n_features):
    """Return precisions, checked by their covariance type.

    Parameters
    ----------
    precisions : array-like
        In the shape of ``precisions_``.
    covariance_class : type
        Covariance class.

    Raises
    ------
    ValueError
        If the type has no precisions, the shape is wrong or a matrix is not symmetric
        and positive-definite.
    """
    precisions = _parameter(precisions, "precisions_init")
    values = convert.float64_tensor(precisions, "cpu")
    covariance_class.check_precisions(values, n_components, n_features)
    return precisions


def check_covariances(covariances, covariance_class, n_components, n_features):
    """Return user-supplied covariances as a tuple of tensors, checked by their type.

    Parameters
    ----------
    covariances : array-like or tuple of array-like
        In the shape of the fitted attributes that ``covariance_class.supplied`` names;
        a tuple where these are several.
    covariance_class : type
        Covariance class.

    Raises
    ------
    ValueError
        If there is no array for every name, a shape is wrong or the covariances are
        not positive (definite).
    """
    names = covariance_class.supplied
    if len(names) == 1:
        covariances = (covariances,)
    elif not isinstance(covariances, (tuple, list)) or len(covariances) != len(names):
        raise ValueError(
            f"covariances of covariance_type={covariance_class.name!r} should be the "
            f"tuple ({', '.join(names)})."
        )
    arrays = map(_parameter, covariances, names)
    tensors = tuple(convert.float64_tensor(array, "cpu") for array in arrays)
    covariance_class.check_supplied(tensors, n_components, n_features)
    return tensors


def check_features(features, n_features, names=None):
    """Return feature indices, checked to be distinct and in range.

    Parameters
    ----------
    features : int, str or array-like of int or str
        Indices or names.
    n_features : int
    names : ndarray of shape (n_features,) or None
        Names of the features, if they are known.

    Raises
    ------
    ValueError
        If a feature is no integer or known name, out of range or given twice.
    """
    index = np.atleast_1d(np.asarray(features))
    if index.ndim == 1 and len(index) and index.dtype.kind in "UO":
        index = _indices_of(index.tolist(), names)
    if index.ndim != 1 or not len(index) or index.dtype.kind not in "iu":
        raise ValueError(
            f"features must be a list of feature indices or names, got {features!r}."
        )
    if (index < 0).any() or (index >= n_features).any():
        raise ValueError(
            f"features must lie in 0..{n_features - 1}, got {index.tolist()}."
        )
    if len(np.unique(index)) != len(index):
        raise ValueError(f"features must be distinct, got {index.tolist()}.")
    return index


def _indices_of(wanted, names):
    """Return the indices of named features."""
    if names is None:
        raise ValueError(
            f"features holds names, {wanted}, but the mixture knows none: it was not "
            "fitted to a data frame with string column names. Give indices."
        )
    known = {name: index for index, name in enumerate(names)}
    unknown = [name for name in wanted if name not in known]
    if unknown:
        raise ValueError(
            f"features has {unknown}, which the mixture was not fitted to; expected "
            f"some of {list(known)}."
        )
    return np.array([known[name] for name in wanted])


def check_near(means, name="means_init"):
    """Raise unless squared distances from the data's mean can be computed.

    Parameters
    ----------
    means : tensor of shape (n_components, n_features)
        In standard deviations of the data.
    name : str, default="means_init"
    """
    if float(means.abs().max()) > FARTHEST:
        raise ValueError(
            f"{name} lies more than {FARTHEST:g} standard deviations from the mean of "
            "X: the density underflows. Give means in the units of X."
        )


def _parameter(value, name):
    if convert.is_tensor(value):
        value = convert.to_numpy(value)
    try:
        return check_array(
            value,
            dtype=[np.float64, np.float32],
            ensure_2d=False,
            allow_nd=True,
            ensure_min_samples=0,
            input_name=name,
        )
    except TypeError as error:
        raise TypeError(f"{name} must be an array of numbers: {error}.") from error


def _check_shape(array, shape, name):
    if array.shape != shape:
        raise ValueError(
            f"The parameter '{name}' should have the shape of {shape}, but got "
            f"{array.shape}"
        )
