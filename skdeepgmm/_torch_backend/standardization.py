"""The affine map from the units of the data to those in which models are trained."""

from dataclasses import dataclass

import torch
from torch import Tensor


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
