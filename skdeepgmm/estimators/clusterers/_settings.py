"""What parameters of both deep clusterers mean for the training."""

import math
from numbers import Real

import numpy as np

from skdeepgmm._torch_backend.clusterers.augmentation import Affine

#: What ``affine='auto'`` means: share of the side, degrees, share of the size.
AFFINE = (1 / 14, 9.0, 0.1)


def label_counts(labels, n_clusters):
    """Return the number of labelled samples of each cluster."""
    if labels is None:
        return np.zeros(n_clusters, dtype=int)
    return np.bincount(labels[labels >= 0], minlength=n_clusters)


def checked_affine(affine, architecture, auto=AFFINE):
    """Return the largest random affine changes of images, None for none.

    Parameters
    ----------
    affine : None, "auto" or tuple of (pixels, degrees, share of the size)
    auto : tuple of (share of the side, degrees, share of the size)
        What "auto" means.

    Raises
    ------
    ValueError
        If ``affine`` is no triple of non-negative numbers, or the samples no images.
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
