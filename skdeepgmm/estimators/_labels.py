"""Known labels of semi-supervised fits; -1 marks a sample without one."""

import numpy as np

from skdeepgmm._torch_backend import convert
from skdeepgmm.estimators._warnings import warn_caller


def check_labels(y, n_samples):
    """Return labels, checked; -1 marks unlabelled samples.

    Parameters
    ----------
    y : array-like of shape (n_samples,)
        Numbers, or an object array of strings and -1.
    n_samples : int

    Raises
    ------
    ValueError
        If the shape is wrong or a label is missing.
    """
    y = _as_array(y)
    if y.shape != (n_samples,):
        raise ValueError(
            f"y has the shape {y.shape}; expected ({n_samples},), one label a sample."
        )
    if y.dtype.kind in "US" and (y.astype(str) == "-1").any():
        # NumPy makes one type of a list of strings and numbers.
        raise ValueError(
            "y has the label '-1', a string. Give an object array of strings with the "
            "number -1 for unlabelled samples: np.array([...], dtype=object)."
        )
    missing = np.flatnonzero(_missing(y))
    if len(missing):
        raise ValueError(
            f"y has missing labels (NaN or None), {len(missing)} of {n_samples}, the "
            f"first in row {missing[0]}. Use -1 for unlabelled samples."
        )
    return y


def encoded(y):
    """Return (classes in sorted order, codes of y with -1 where unlabelled)."""
    labelled = y != -1
    classes, known = np.unique(y[labelled], return_inverse=True)
    codes = np.full(len(y), -1)
    codes[labelled] = known
    return classes, codes


def warn_ignored(y):
    """Warn where y marks unlabelled samples, but the fit ignores y.

    Labels of -1 and 1 alone may be two classes.
    """
    try:
        labels = set(np.unique(_as_array(y)).tolist())
    except (TypeError, ValueError):  # whatever it is, it is ignored
        return
    if -1 in labels and labels != {-1, 1}:
        warn_caller(
            "y holds -1, which marks unlabelled samples, but semi_supervised=False: y "
            "is ignored. Set semi_supervised=True to learn from the other labels.",
            UserWarning,
        )


def _as_array(y):
    if convert.is_tensor(y):
        return convert.to_numpy(y)
    try:
        return np.asarray(y)
    except ValueError as error:
        raise ValueError(
            "y has entries of several lengths; expected one label a row."
        ) from error


def _missing(y):
    """Return where labels are NaN, None or pandas.NA."""
    if y.dtype.kind != "O":
        return y != y
    return np.array([_is_missing(label) for label in y.tolist()], dtype=bool)


def _is_missing(label):
    try:
        return label is None or bool(label != label)
    except TypeError:  # pandas.NA
        return True
