"""Labels of a semi-supervised deep mixture."""

import numpy as np


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
        If the shape is wrong, a label is missing or none is given.
    """
    y = np.asarray(y)
    if y.shape != (n_samples,):
        raise ValueError(
            f"y must have shape ({n_samples},), one label a sample, got {y.shape}."
        )
    if y.dtype.kind in "US" and (y.astype(str) == "-1").any():
        # NumPy makes one type of a list of strings and numbers.
        raise ValueError(
            "y has the label '-1', a string. Give an object array of strings with the "
            "number -1 for unlabelled samples: np.array([...], dtype=object)."
        )
    if (y != y).any():
        raise ValueError("y has missing labels (NaN). Use -1 for unlabelled samples.")
    if not (y != -1).any():
        raise ValueError("y has no labelled sample: all are -1.")
    return y
