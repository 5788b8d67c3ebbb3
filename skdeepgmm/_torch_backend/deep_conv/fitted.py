"""A trained network as NumPy arrays in units of the data, and back."""

from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from skdeepgmm._torch_backend import convert
from skdeepgmm._torch_backend.deep_conv.layers import MixtureLayer
from skdeepgmm._torch_backend.deep_conv.layers.folding import Shape
from skdeepgmm._torch_backend.standardization import Standardization

#: Names of a mixture's arrays.
NAMES = ("weights", "means", "covariances")


def to_arrays(
    mixture: MixtureLayer, standardization: Standardization | None
) -> dict[str, NDArray[Any]]:
    """Return the parameters of a mixture.

    ``standardization`` is that of the first mixture's input; None for the others. The
    axis of positions is left out where they share a mixture.
    """
    means, variances = mixture.means, mixture.variances.clamp_min(mixture.floor)
    if standardization is not None:
        # In float64: an image far from zero has its differences in last digits.
        means, variances = means.double(), variances.double()
        _, scale = standardization.repeated(means)
        means = standardization.inverse(means)
        variances = variances * scale.square()
    values = (mixture.weights, means, variances)
    arrays = dict(zip(NAMES, map(convert.to_numpy, values), strict=True))
    if not mixture.shared:
        return arrays
    return {name: value[0] for name, value in arrays.items()}


def from_arrays(
    arrays: dict[str, NDArray[Any]],
    standardization: Standardization | None,
    input_shape: Shape,
    shared: bool,
    floor: float,
    device: torch.device,
    dtype: torch.dtype,
) -> MixtureLayer:
    """Return the mixture of :func:`to_arrays`."""
    weights, means, variances = (
        convert.float64_tensor(arrays[name], device) for name in NAMES
    )
    if shared:
        weights, means, variances = weights[None], means[None], variances[None]
    if standardization is not None:
        _, scale = standardization.repeated(means)
        means = standardization(means)
        variances = variances / scale.square()
    weights, means, variances = (
        value.to(dtype).contiguous() for value in (weights, means, variances)
    )
    return MixtureLayer(input_shape, shared, weights, means, variances, floor)


def data_rows(images: Tensor, standardization: Standardization) -> NDArray[Any]:
    """Return standardised images as rows of data, float64."""
    return convert.to_numpy(standardization.inverse(images.double()).flatten(1))
