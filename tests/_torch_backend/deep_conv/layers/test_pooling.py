"""Pooling layers: maxima against torch, and back by repetition."""

import pytest
import torch

from skdeepgmm._torch_backend.deep_conv.layers import (
    PoolingLayer,
)
from tests._torch_backend.deep_conv.layers.problems import images


@pytest.mark.parametrize(
    "shape, kernel, stride",
    [
        ((8, 10, 3), (2, 2), (2, 2)),
        ((7, 5, 2), (2, 3), (2, 3)),
        ((7, 9, 1), (3, 3), (2, 2)),
    ],
)
def test_pooling_is_max_pool(shape, kernel, stride):
    layer = PoolingLayer(shape, kernel, stride)
    x = images(shape)
    oracle = torch.nn.functional.max_pool2d(
        x.permute(0, 3, 1, 2), kernel, stride, ceil_mode=True
    )
    found = layer.forward(x)
    assert tuple(found.shape[1:]) == layer.output_shape
    torch.testing.assert_close(found, oracle.permute(0, 2, 3, 1), rtol=0, atol=0)


@pytest.mark.parametrize("shape", [(8, 6, 2), (7, 5, 2)])
def test_pooling_after_its_inverse_is_the_identity(shape):
    layer = PoolingLayer(shape, (2, 2), (2, 2))
    cells = images(layer.output_shape)
    wide = layer.inverse(cells)
    assert tuple(wide.shape[1:]) == shape
    torch.testing.assert_close(layer.forward(wide), cells, rtol=0, atol=0)


def test_the_last_of_overlapping_cells_counts():
    layer = PoolingLayer((1, 5, 1), (1, 3), (1, 2))
    wide = layer.inverse(torch.tensor([2.0, 7.0]).reshape(1, 1, 2, 1))
    assert wide.flatten().tolist() == [2.0, 2.0, 7.0, 7.0, 7.0]
