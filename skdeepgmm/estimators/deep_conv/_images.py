"""Units in which a deep mixture is trained, and batches of images in them."""

import numpy as np
import torch  # TODO

from skdeepgmm._torch_backend.standardization import from_arrays
from skdeepgmm.estimators.mixture._sgd_fit import merge_moments

#: Images are kept in memory, in the units of the training, below this size.
CACHE_BYTES = 512 * 2**20
#: Rows read at a time.
CHUNK_ROWS = 4096
#: Deviations below this share of the values are rounding errors, by type of the values.
ROUNDING = {torch.float32: 1e-7, torch.float64: 1e-12}


def measure(moments, shape, vector, dtype=torch.float64):
    """Return the units of data with these moments.

    Parameters
    ----------
    moments : tuple of ndarray of shape (n_features,)
        Mass, mean and variance of every feature.
    shape : tuple of int
        (height, width, channels).
    vector : bool
        Whether features have units of their own.
    dtype : torch.dtype
        Type of the data.

    Raises
    ------
    ValueError
        If the variance is too large for float64.
    """
    _, mean, variance = moments
    if not np.isfinite(variance).all():
        raise ValueError(
            "X has values too large: their variance overflows. Divide X by its largest "
            "value."
        )
    if vector:
        shift = mean
    else:
        planes = mean.reshape(-1, shape[2])
        shift = planes.mean(axis=0)
        spread = variance.reshape(-1, shape[2]) + (planes - shift) ** 2
        variance = np.full(shape[2], spread.mean())
    scale = np.sqrt(variance)
    constant = scale <= ROUNDING[dtype] * np.abs(shift)
    return from_arrays(shift, np.where(constant | (scale == 0.0), 1.0, scale), "cpu")


def moments_of(X, sample_weight=None, earlier=None):
    """Return mass, mean and variance of every feature, reading chunk by chunk.

    ``earlier`` holds those of earlier rows, None for none.
    """
    found = earlier
    with np.errstate(over="ignore", invalid="ignore"):  # ``measure`` tells
        for start in range(0, X.shape[0], CHUNK_ROWS):
            stop = start + CHUNK_ROWS
            weight = None if sample_weight is None else sample_weight[start:stop]
            found = merge_moments(found, X[start:stop], weight)
    return found
