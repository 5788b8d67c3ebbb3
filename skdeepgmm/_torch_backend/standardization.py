"""The affine map from the units of the data to those in which models are trained."""

from dataclasses import dataclass

import torch
from torch import Tensor

from skdeepgmm._torch_backend.moments import Moments

#: Standard deviations below this share of the mean are rounding errors, by the type of
#: the data.
ROUNDING = {torch.float32: 1e-7, torch.float64: 1e-12}


@dataclass(frozen=True)
class Standardization:
    """The map x -> (x - shift) / scale, along the last axis.

    Attributes
    ----------
    shift, scale : Tensor of shape (n_units,), float64
        One of each feature; or of each channel of an image, or a single one, which
        then repeat along rows of pixels in the order (row, column, channel).
    """

    shift: Tensor
    scale: Tensor

    def repeated(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """Return shift and scale with the last axis, type and device of ``like``."""
        repeats = like.shape[-1] // len(self.shift)
        shift, scale = (value.to(like) for value in (self.shift, self.scale))
        return (
            (shift, scale)
            if repeats == 1
            else (shift.repeat(repeats), scale.repeat(repeats))
        )

    def __call__(self, values: Tensor) -> Tensor:
        """Return ``values`` in the units of the training."""
        shift, scale = self.repeated(values)
        return (values - shift) / scale

    def columns(self, rows: Tensor) -> Tensor:
        """Return rows in the units of the training, as columns in memory.

        One pass over them, where a transposed copy would follow two more.
        """
        shift, scale = self.repeated(rows)
        out = rows.new_empty(rows.shape[1], rows.shape[0])
        return torch.sub(rows.T, shift[:, None], out=out).div_(scale[:, None])

    def inverse(self, values: Tensor) -> Tensor:
        """Return ``values`` of the training in the units of the data."""
        shift, scale = self.repeated(values)
        return values * scale + shift

    def log_volume(self, n_features: int) -> float:
        """Return what a log-density of so many features gains in these units (nats)."""
        return float(self.scale.log().sum()) * (n_features // len(self.scale))

    @property
    def log_scale(self) -> float:
        """What a log-density of all features gains (in nats) in these units."""
        return self.log_volume(len(self.scale))

    @property
    def variance(self) -> Tensor:
        """The squares of the scale."""
        return self.scale.square()


def from_arrays(shift: object, scale: object, device: torch.device) -> Standardization:
    """Return the standardization of fitted attributes."""
    return Standardization(
        *(
            torch.tensor(value, dtype=torch.float64, device=device)
            for value in (shift, scale)
        )
    )


def without_rounding(mean: Tensor, variance: Tensor) -> Tensor:
    """Return variances, 0 for constant features.

    These have the variance of their mean's rounding error, if any.
    """
    rounding = (100 * torch.finfo(torch.float64).eps * mean).square()
    return torch.where(variance > rounding, variance, 0.0)


def from_moments(moments: Moments, isotropic: bool = False) -> Standardization:
    """Return the standardization of each feature; isotropic by one common scale."""
    variance = without_rounding(moments.mean, moments.variance)
    if isotropic:
        variance = torch.full_like(variance, float(variance.mean()))
    scale = torch.where(variance > 0.0, variance, 1.0).sqrt()
    return Standardization(moments.mean, scale)


def from_image_moments(
    moments: Moments, n_channels: int | None, dtype: torch.dtype
) -> Standardization:
    """Return the standardization of images, or of vectors, that may be constant.

    Patches share their mixture, so all pixels of a channel share their units, and one
    scale serves all channels: colours keep their proportions.

    Parameters
    ----------
    moments : Moments
        Of every pixel and channel, or every feature.
    n_channels : int or None
        None for vectors, whose features have units of their own.
    dtype : torch.dtype
        Type of the data.

    Raises
    ------
    ValueError
        If the variance is too large for float64.
    """
    shift, variance = moments.mean, moments.variance
    if not bool(torch.isfinite(variance).all()):
        raise ValueError(
            "X has values too large: their variance overflows. Divide X by its largest "
            "value."
        )
    if n_channels is not None:
        pixels = shift.reshape(-1, n_channels)
        shift = pixels.mean(0)
        spread = variance.reshape(-1, n_channels) + (pixels - shift).square()
        variance = spread.mean().expand_as(shift).contiguous()
    scale = variance.sqrt()
    constant = (scale <= ROUNDING[dtype] * shift.abs()) | (scale == 0.0)
    return Standardization(shift, torch.where(constant, 1.0, scale))
