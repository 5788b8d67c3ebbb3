"""Folding layers: patches against torch, and back by averages."""

import pytest
import torch

from skdeepgmm._torch_backend.deep_conv.layers import (
    FoldingLayer,
)
from tests._torch_backend.deep_conv.layers.problems import images

FOLDINGS = [
    FoldingLayer((8, 10, 1), (3, 4), (1, 2)),
    FoldingLayer((7, 7, 3), (3, 3), (2, 2)),
    FoldingLayer((6, 4, 2), (2, 2), (2, 2)),
    FoldingLayer((5, 6, 2), (5, 6), (1, 1)),
]


@pytest.mark.parametrize("layer", FOLDINGS)
def test_folding_is_unfold(layer):
    x = images(layer.input_shape)
    unfolded = torch.nn.functional.unfold(
        x.permute(0, 3, 1, 2), layer.patch, stride=layer.stride
    )
    rows, cols, _ = layer.output_shape
    # torch has the channel outermost within a patch.
    oracle = unfolded.reshape(4, layer.input_shape[2], *layer.patch, rows, cols)
    oracle = oracle.permute(0, 4, 5, 2, 3, 1).reshape(4, *layer.output_shape)
    torch.testing.assert_close(layer.forward(x), oracle, rtol=0, atol=0)


@pytest.mark.parametrize("layer", FOLDINGS)
def test_averaging_patches_of_an_image_gives_the_image(layer):
    x = images(layer.input_shape)
    torch.testing.assert_close(layer.inverse(layer.forward(x)), x)


def test_overlaps_are_averaged():
    layer = FoldingLayer((1, 3, 1), (1, 2), (1, 1))
    patches = torch.tensor([[[[1.0, 2.0], [4.0, 8.0]]]])
    expected = torch.tensor([1.0, 3.0, 8.0]).reshape(1, 1, 3, 1)
    torch.testing.assert_close(layer.inverse(patches), expected)


def test_overlaps_are_weighted_by_precision():
    layer = FoldingLayer((1, 3, 1), (1, 2), (1, 1))
    patches = torch.tensor([[[[1.0, 2.0], [4.0, 8.0]]]])
    precision = torch.tensor([[[[1.0, 3.0], [1.0, 5.0]]]])
    expected = torch.tensor([1.0, 2.5, 8.0]).reshape(1, 1, 3, 1)
    torch.testing.assert_close(layer.inverse(patches, precision), expected)
