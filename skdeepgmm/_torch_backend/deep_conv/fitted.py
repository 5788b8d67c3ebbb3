"""A trained network as NumPy arrays in units of the data, and back."""

from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from skdeepgmm._torch_backend import convert
from skdeepgmm._torch_backend.deep_conv.layers import (
    LowRankMixtureLayer,
    MixtureLayer,
)
from skdeepgmm._torch_backend.deep_conv.layers.folding import Shape
from skdeepgmm._torch_backend.deep_conv.layers.low_rank import with_factors
from skdeepgmm._torch_backend.standardization import Standardization

#: Names of a mixture's arrays by the layer's attributes.
NAMES = {"weights": "weights", "means": "means", "variances": "covariances"}
LOW_RANK_NAMES = {**NAMES, "variances": "noise_variance", "factors": "factors"}


def to_arrays(
    mixture: MixtureLayer, standardization: Standardization | None
) -> dict[str, NDArray[Any]]:
    """Return the parameters of a mixture.

    ``standardization`` is that of the first mixture's input; None for the others. The
    axis of positions is left out where they share a mixture.
    """
    low_rank = isinstance(mixture, LowRankMixtureLayer)
    names = LOW_RANK_NAMES if low_rank else NAMES
    values = {name: getattr(mixture, name) for name in names}
    values["variances"] = mixture.variances.clamp_min(mixture.floor)
    if standardization is not None:
        # In float64: an image far from zero has its differences in last digits.
        values = {name: value.double() for name, value in values.items()}
        _, scale = standardization.repeated(values["means"])
        values["means"] = standardization.inverse(values["means"])
        values["variances"] = values["variances"] * scale.square()
        if low_rank:
            values["factors"] = values["factors"] * scale[:, None]
        values["weights"] = mixture.weights
    arrays = {names[name]: convert.to_numpy(value) for name, value in values.items()}
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
    passes_factors: bool = False,
) -> MixtureLayer:
    """Return the mixture of :func:`to_arrays`."""
    low_rank = "factors" in arrays
    values = {
        name: convert.float64_tensor(arrays[key], device)
        for name, key in (LOW_RANK_NAMES if low_rank else NAMES).items()
    }
    if shared:
        values = {name: value[None] for name, value in values.items()}
    if standardization is not None:
        _, scale = standardization.repeated(values["means"])
        values["means"] = standardization(values["means"])
        values["variances"] = values["variances"] / scale.square()
        if low_rank:
            values["factors"] = values["factors"] / scale[:, None]
    values = {name: value.to(dtype).contiguous() for name, value in values.items()}
    weights, means, variances = (values[name] for name in NAMES)
    plain = MixtureLayer(input_shape, shared, weights, means, variances, floor)
    if not low_rank:
        return plain
    factors = values["factors"]
    return with_factors(plain, factors, passes_factors=passes_factors)


def noise_variances(arrays: dict[str, NDArray[Any]]) -> NDArray[Any]:
    """Return the variances of :func:`to_arrays` beside the factors, if any."""
    return arrays["noise_variance" if "factors" in arrays else "covariances"]


def data_rows(images: Tensor, standardization: Standardization) -> NDArray[Any]:
    """Return standardised images as rows of data, float64."""
    return convert.to_numpy(standardization.inverse(images.double()).flatten(1))
