"""Checks of single values that scikit-learn's parameter constraints do not reach."""

from contextlib import contextmanager
from numbers import Integral

import numpy as np


def is_integer(value):
    """Tell whether ``value`` is an integer; True and False are none."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def check_integer(name, value, least, most=None):
    """Raise ValueError unless ``value`` is an integer from ``least`` to ``most``.

    Parameters
    ----------
    name : str
        The parameter, for the message.
    value : object
    least : int or None
        None for no lower bound.
    most : int, default=None
        None for no upper bound.
    """
    large = is_integer(value) and (least is None or least <= value)
    if large and (most is None or value <= most):
        return
    wanted = f" from {least} to {most}"
    if most is None:
        wanted = "" if least is None else f" of at least {least}"
    raise ValueError(f"{name} must be an integer{wanted}, got {value!r}.")


@contextmanager
def missing_values_explained(estimator):
    """Name our ways out where the validation of X refuses NaN."""
    try:
        yield
    except ValueError as error:
        if "contains NaN" not in str(error):
            raise
        raise ValueError(
            f"Input X contains NaN. {type(estimator).__name__} does not accept missing "
            "values. Fill them with skdeepgmm.MixtureImputer, for example in a "
            "Pipeline, or use GaussianMixture or SGDGaussianMixture, which take NaN as "
            "missing."
        ) from error


def check_finite(estimator):
    """Raise ValueError if what an estimator has learned is not finite.

    ``lower_bound_`` is -inf before the first iteration, and what the class names in
    ``_attributes_with_gaps`` has NaN where there was nothing to measure.
    """
    free = {*estimator.get_params(deep=False), *estimator._attributes_with_gaps}
    for name, value in vars(estimator).items():
        is_unknown = name == "lower_bound_" and value == -np.inf
        if not (name in free or is_unknown or _is_finite(value)):
            raise ValueError(
                f"{name} of this {type(estimator).__name__} would not be finite: "
                "numbers have overflowed in the fit. Rescale X, for example with "
                "sklearn.preprocessing.StandardScaler, give it as float64, or choose "
                "parameters that are less extreme."
            )


def _is_finite(value):
    if isinstance(value, dict):
        return all(map(_is_finite, value.values()))
    if isinstance(value, (list, tuple)):
        return all(map(_is_finite, value))
    if isinstance(value, (float, np.floating, np.ndarray)):
        value = np.asarray(value)
        return value.dtype.kind != "f" or bool(np.isfinite(value).all())
    return True
