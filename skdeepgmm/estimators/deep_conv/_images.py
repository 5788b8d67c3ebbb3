"""Units in which a deep mixture is trained, and batches of images in them."""

from dataclasses import dataclass

import numpy as np
import torch

from skdeepgmm._torch_backend import convert
from skdeepgmm.estimators.mixture._sgd_fit import merge_moments

#: Images are kept in memory, in the units of the training, below this size.
CACHE_BYTES = 512 * 2**20
#: Rows read at a time.
CHUNK_ROWS = 4096
#: Deviations below this share of the values are rounding errors, by type of the values.
ROUNDING = {torch.float32: 1e-7, torch.float64: 1e-12}


@dataclass(frozen=True)
class Units:
    """The affine map x -> (x - shift) / scale of every channel (feature of vectors).

    Patches share their mixture, so all pixels of a channel share their units, and one
    scale serves all channels: colours keep their proportions.

    Attributes
    ----------
    shift, scale : ndarray of shape (n_channels,)
    """

    shift: np.ndarray
    scale: np.ndarray

    def channels(self, like):
        """Return shift and scale as tensors that fit the last axis of ``like``.

        That axis holds whole pixels: patches, in the order (row, column, channel).
        """
        repeats = like.shape[-1] // len(self.shift)
        return tuple(
            convert.float64_tensor(np.tile(value, repeats), like.device).to(like.dtype)
            for value in (self.shift, self.scale)
        )

    def log_scale(self, n_features):
        """Return what the log-density of that many values gains in these units."""
        return float(np.log(self.scale).sum()) * (n_features // len(self.scale))


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
    return Units(shift, np.where(constant | (scale == 0.0), 1.0, scale))


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


class Images:
    """Images of X in the units of the training, by index.

    Parameters
    ----------
    X : ndarray or tensor of shape (n_samples, n_features)
    shape : tuple of int
        (height, width, channels).
    units : Units
    device : torch.device
    dtype : torch.dtype
    sample_weight : ndarray of shape (n_samples,) or None
        Weights, scaled here to mean one.
    keep : bool
        Whether to convert all images at once, if they are not too large.
    """

    def __init__(self, X, shape, units, device, dtype, sample_weight=None, keep=True):
        self.X, self.shape, self.units = X, shape, units
        self.device, self.dtype = device, dtype
        self.weight = None
        if sample_weight is not None:
            scaled = sample_weight / max(sample_weight.mean(), 1e-300)
            self.weight = convert.float64_tensor(scaled, device).to(dtype)
        n_bytes = X.shape[0] * X.shape[1] * torch.finfo(dtype).bits // 8
        small = keep and n_bytes <= CACHE_BYTES
        self.kept = self._everything() if small else None

    def __len__(self):
        return self.X.shape[0]

    def __call__(self, index):
        """Return the images at ``index``, (n, height, width, channels)."""
        if self.kept is not None:
            return self.kept[index.to(self.device)]
        where = index.to(self.X.device) if convert.is_tensor(self.X) else index.numpy()
        return self._convert(self.X[where])

    def batch(self, index):
        """Return the images and their weights (None for no weights)."""
        weight = self.weight
        return self(index), None if weight is None else weight[index.to(self.device)]

    def _everything(self):
        """Return all images, converted chunk by chunk."""
        kept = torch.empty(
            (len(self), *self.shape), dtype=self.dtype, device=self.device
        )
        for start in range(0, len(self), CHUNK_ROWS):
            part = self.X[start : start + CHUNK_ROWS]
            kept[start : start + CHUNK_ROWS] = self._convert(part)
        return kept

    def _convert(self, rows):
        # Differences are taken in the wider type: X may lie far from zero.
        rows = convert.rows_to_tensor(rows, self.device, convert.torch_dtype(rows))
        rows = rows.reshape(-1, *self.shape)
        shift, scale = self.units.channels(rows)
        return ((rows - shift) / scale).to(self.dtype)
