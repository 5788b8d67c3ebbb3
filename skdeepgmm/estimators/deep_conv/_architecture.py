"""From the ``layers`` parameter to a network, and from a network to attributes."""

import math
from dataclasses import replace

import numpy as np

from skdeepgmm._torch_backend.deep_conv import fitted
from skdeepgmm._torch_backend.deep_conv.layers import FoldingLayer, PoolingLayer
from skdeepgmm._torch_backend.deep_conv.layers.low_rank import low_rank
from skdeepgmm._torch_backend.deep_conv.layers.mixture import random_init
from skdeepgmm._torch_backend.deep_conv.network import Network
from skdeepgmm._torch_backend.rng import drawn_seed
from skdeepgmm.layers import (
    Folding,
    Mixture,
    Pooling,
    _check_passed_factors,
    preset,
)

#: Top components that ``layers="auto"`` takes for images and for vectors.
AUTO_IMAGE_COMPONENTS, AUTO_VECTOR_COMPONENTS = 36, 5
#: Images below this side get few, small patches.
SMALL_SIDE = 14


def resolve_layers(layers, n_components, shape):
    """Return the stack for images of a shape, checked.

    Parameters
    ----------
    layers : str or list of layers
        'auto', the name of a preset, or the stack itself.
    n_components : int or None
        Replaces the top mixture's number.
    shape : tuple of int
        (height, width, channels).

    Raises
    ------
    ValueError
        If a layer does not fit, naming it, its place and the sizes.
    """
    if isinstance(layers, str):
        stack = automatic(shape) if layers == "auto" else preset(layers)
    else:
        stack = _check_stack(layers)
    if n_components is not None:
        stack[-1] = replace(stack[-1], n_components=int(n_components))
    grid = shapes(stack, shape)[-1][:2]
    if grid != (1, 1):
        raise ValueError(
            f"The last layer {stack[-1]!r} has a grid of {grid[0]} x {grid[1]} "
            "positions, but the top mixture must see the whole image. Put Folding() "
            "before it."
        )
    return stack


def _check_stack(layers):
    """Return a list of layers that ends with a mixture."""
    known = (Folding, Pooling, Mixture)
    valid = isinstance(layers, (list, tuple)) and len(layers)
    if not valid or not all(isinstance(layer, known) for layer in layers):
        raise ValueError(
            "layers must be 'auto', the name of a preset or a list of Folding, Pooling "
            f"and Mixture from skdeepgmm.layers, got {layers!r}."
        )
    if not isinstance(layers[-1], Mixture):
        raise ValueError(
            f"The last of the layers must be a Mixture, got {layers[-1]!r}."
        )
    _check_passed_factors(layers)
    for layer in layers[:-1]:
        if isinstance(layer, Mixture) and layer.n_components < 2:
            raise ValueError(
                f"{layer!r} below the top needs at least 2 components: one alone gives "
                "responsibilities of 1 whatever the image."
            )
    return list(layers)


def shapes(stack, shape):
    """Return the input's shape and that of every layer's output."""
    found = [tuple(shape)]
    for number, layer in enumerate(stack):
        try:
            found.append(layer.output_shape(found[-1]))
        except ValueError as error:
            raise ValueError(f"layers[{number}] for {_what(shape)}: {error}") from error
    return found


def _what(shape):
    """Say what the layers see, and how vectors become images."""
    height, width, n_features = shape
    if height * width > 1:
        return f"images of shape {tuple(shape)}"
    side = math.isqrt(n_features)
    square = f"({side}, {side})" if side**2 == n_features else "(height, width)"
    return (
        f"vectors of {n_features} features (image_shape is None; if the rows of X are "
        f"images, set image_shape={square})"
    )


def automatic(shape):
    """Return the stack of ``layers="auto"``: one mixture of patches below the top.

    Vectors, and images too small for patches, get a single mixture.
    """
    height, width, _ = shape
    if min(height, width) < 6:
        vector = height == width == 1
        top = AUTO_VECTOR_COMPONENTS if vector else AUTO_IMAGE_COMPONENTS
        return [Mixture(top)] if vector else [Folding(), Mixture(top)]
    stride = tuple(max(1, size // SMALL_SIDE) for size in (height, width))
    patch = tuple(map(_patch_size, (height, width), stride))
    first = 25 if min(height, width) < SMALL_SIDE else 49
    return [
        *(Folding(patch, stride), Mixture(first)),
        *(Folding(), Mixture(AUTO_IMAGE_COMPONENTS)),
    ]


def _patch_size(size, stride):
    """Return a patch of about 8 pixels, half the side of small images."""
    wanted = max(min(8, size // 2), stride)
    return wanted + (size - wanted) % stride


def build(stack, shape, floors, generator, dtype):
    """Return an untrained network.

    Parameters
    ----------
    stack : list of layers
    shape : tuple of int
        (height, width, channels).
    floors : tuple of float
        Smallest variance of the first mixture, and of the others.
    generator : torch.Generator
    dtype : torch.dtype
    """
    floors = iter((floors[0], *[floors[1]] * len(stack)))
    layers = []
    for layer, input_shape in zip(stack, shapes(stack, shape), strict=False):
        if isinstance(layer, Mixture):
            size, shared = layer.n_components, layer.shared
            mixture = random_init(
                input_shape, size, shared, next(floors), generator, dtype
            )
            if layer.has_factors:
                seed = drawn_seed(generator)
                mixture = low_rank(mixture, layer.rank, seed, layer.passes_factors)
            layers.append(mixture)
        else:
            layers.append(_geometry(layer, input_shape))
    return Network(layers)


def _geometry(layer, input_shape):
    if isinstance(layer, Folding):
        return FoldingLayer(input_shape, layer.patch(input_shape), layer.stride)
    return PoolingLayer(input_shape, layer.kernel_size, layer.stride)


def to_attributes(network, standardization):
    """Return the mixtures as dicts of NumPy arrays, the first in units of the data."""
    first, *others = network.mixtures
    return [
        fitted.to_arrays(first, standardization),
        *(fitted.to_arrays(mixture, None) for mixture in others),
    ]


def from_attributes(stack, shape, mixtures, floors, standardization, device, dtype):
    """Return the network that ``to_attributes`` stored."""
    layers, number = [], 0
    for layer, input_shape in zip(stack, shapes(stack, shape), strict=False):
        if not isinstance(layer, Mixture):
            layers.append(_geometry(layer, input_shape))
            continue
        arrays = {name: np.asarray(value) for name, value in mixtures[number].items()}
        scaling, floor = (None, floors[1]) if number else (standardization, floors[0])
        layers.append(
            fitted.from_arrays(
                *(arrays, scaling, input_shape, layer.shared, floor, device, dtype),
                layer.passes_factors,
            )
        )
        number += 1
    return Network(layers)
