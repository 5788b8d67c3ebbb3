"""The way from rows of X to tensors in the networks' range, and back."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from skdeepgmm._torch_backend import convert
from skdeepgmm._torch_backend.clusterers.networks import Shape, is_image
from skdeepgmm._torch_backend.moments import Moments
from skdeepgmm._torch_backend.standardization import Standardization, from_arrays

#: Rows that are converted at a time.
CHUNK_ROWS = 2**13
#: Largest values that networks see: squares of what they make of larger ones would
#: overflow.
FARTHEST = 1e9
#: Values that the last function of a generator reaches.
RANGES = {"sigmoid": (0.0, 1.0), "tanh": (-1.0, 1.0)}
CPU = torch.device("cpu")


def network_shape(image_shape: tuple[int, ...] | None, n_features: int) -> Shape:
    """Return the shape of a sample in the networks; a small image is a vector there.

    Parameters
    ----------
    image_shape : tuple of int or None
        (height, width, channels), None for vectors.
    """
    if image_shape is None:
        return (n_features,)
    height, width, channels = image_shape
    shape = (channels, height, width)
    return shape if is_image(shape) else (n_features,)


def inference_dtype(image: bool) -> torch.dtype:
    """Return float32 for images; the small networks of vectors can afford float64."""
    return torch.float32 if image else torch.float64


@dataclass(frozen=True)
class Preprocessing:
    """Standardization and layout of the samples.

    Attributes
    ----------
    standardization : Standardization
        Of an image as a whole, of a vector feature by feature.
    image_shape : tuple of int or None
        (height, width, channels), None for vectors.
    """

    standardization: Standardization
    image_shape: tuple[int, ...] | None

    @property
    def image(self) -> bool:
        """Whether the networks see samples as images."""
        return len(network_shape(self.image_shape, 1)) == 3

    @property
    def inference_dtype(self) -> torch.dtype:
        return inference_dtype(self.image)

    def to_network(
        self,
        X: convert.ArrayLike2D,
        device: torch.device,
        dtype: torch.dtype = torch.float32,
    ) -> Tensor:
        """Return rows of X as (n, channels, height, width) or (n, features)."""
        chunks = [
            self._convert(X[start : start + CHUNK_ROWS], device, dtype)
            for start in range(0, X.shape[0], CHUNK_ROWS)
        ]
        rows = torch.cat(chunks)
        if not self.image:
            return rows
        assert self.image_shape is not None
        # Channels stay last in memory, the order that convolutions are fast in.
        return rows.reshape(len(rows), *self.image_shape).permute(0, 3, 1, 2)

    def _convert(
        self, rows: convert.ArrayLike2D, device: torch.device, dtype: torch.dtype
    ) -> Tensor:
        # In float64: values far from zero lose their differences in float32.
        values = convert.rows_to_tensor(rows, device, torch.float64)
        return self.standardization(values).clamp(-FARTHEST, FARTHEST).to(dtype)

    def flat(self, X: convert.ArrayLike2D) -> NDArray[np.float32]:
        """Return rows of X in the range of the networks, as vectors on the CPU."""
        return convert.to_numpy(self.to_network(X, CPU).flatten(1))

    def from_network(self, tensor: Tensor) -> Tensor:
        """Return a tensor of the networks as float64 rows of X."""
        if tensor.ndim == 4:
            tensor = tensor.permute(0, 2, 3, 1)
        rows = tensor.reshape(len(tensor), -1).double()
        return self.standardization.inverse(rows)

    def log_volume(self, n_features: int) -> float:
        """Return the log of the volume of a unit cube of the networks, in nats."""
        return self.standardization.log_volume(n_features)

    def to_arrays(self) -> dict[str, NDArray[np.float64]]:
        """Return the standardization as a fitted attribute."""
        shift, scale = self.standardization.shift, self.standardization.scale
        return {"shift": convert.to_numpy(shift), "scale": convert.to_numpy(scale)}


def from_attribute(
    arrays: dict[str, NDArray[np.float64]], image_shape: tuple[int, ...] | None
) -> Preprocessing:
    """Return the preprocessing of fitted attributes."""
    return Preprocessing(from_arrays(**arrays, device=CPU), image_shape)


def measured(
    X: convert.ArrayLike2D, image_shape: tuple[int, ...] | None, output: str
) -> Preprocessing:
    """Measure the preprocessing on X.

    Images are moved into the range of the generator, vectors to mean zero and standard
    deviation one.

    Parameters
    ----------
    X : ndarray or Tensor of shape (n_samples, n_features)
    image_shape : tuple of int or None
    output : str
        Last function of the generator: a key of ``RANGES``, or "linear".

    Raises
    ------
    ValueError
        If differences of values of a feature are not finite.
    """
    if output not in RANGES:
        standardization = _of_features(X)
    else:
        standardization = _of_range(float(X.min()), float(X.max()), *RANGES[output])
    return Preprocessing(standardization, image_shape)


def _of_range(
    smallest: float, largest: float, low: float, high: float
) -> Standardization:
    """Return what moves values from ``smallest`` to ``largest`` between two others."""
    ends = torch.tensor([smallest, largest], dtype=torch.float64)
    _check_range(*ends)
    scale = (largest - smallest) / (high - low) if largest > smallest else 1.0
    return from_arrays([smallest - low * scale], [scale], CPU)


def _of_features(X: convert.ArrayLike2D) -> Standardization:
    """Return what gives features mean zero and standard deviation one.

    Constant features keep their scale.
    """
    chunks = [X[start : start + CHUNK_ROWS] for start in range(0, len(X), CHUNK_ROWS)]
    device = X.device if isinstance(X, Tensor) else CPU

    def rows() -> Iterator[Tensor]:
        for chunk in chunks:
            yield convert.rows_to_tensor(chunk, device, torch.float64)

    low = torch.stack([chunk.amin(0) for chunk in rows()]).amin(0)
    high = torch.stack([chunk.amax(0) for chunk in rows()]).amax(0)
    _check_range(low, high)
    unit = _power_of_two(torch.maximum(low.abs(), high.abs()))
    # Squares of values up to two are finite; a power of two loses no digits.
    moments = Moments.none(X.shape[1], device)
    for chunk in rows():
        moments = moments.merged(chunk / unit)
    mean, std = moments.mean, moments.variance.sqrt()
    # Rounding leaves a constant feature with a spread near 1e-16 of its size.
    constant = (std <= 1e-12 * mean.abs()) | (std * unit == 0.0)
    std = torch.where(constant, 1.0, std * unit)
    return Standardization((mean * unit).cpu(), std.cpu())


def _power_of_two(values: Tensor) -> Tensor:
    """Return the largest powers of two that are at most ``values``, one for zeros."""
    mantissa, _ = torch.frexp(values)
    # Exact: mantissas of the quotients are powers of two.
    powers = values / (2.0 * mantissa)
    return torch.where(values > 0.0, powers, 1.0)


def _check_range(low: Tensor, high: Tensor) -> None:
    """Raise unless all differences of values of a feature are finite."""
    if bool((high / 2.0 - low / 2.0 > torch.finfo(torch.float64).max / 2.0).any()):
        raise ValueError(
            "X has features whose range is beyond float64; expected finite differences "
            "of values. Divide them by a constant."
        )
