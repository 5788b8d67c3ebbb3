"""Layers, trunks and generators: shapes, initial weights, private random generators."""

import math

import pytest
import torch
from torch import nn

from skdeepgmm._torch_backend.clusterers import networks
from skdeepgmm._torch_backend.inference import in_batches
from skdeepgmm._torch_backend.rng import new_generator

SHAPES = [(1, 8, 8), (1, 9, 14), (1, 28, 28), (3, 32, 32), (3, 64, 64), (1, 30, 64)]


def rand(*shape):
    return torch.rand(shape, generator=new_generator(5))


def trunk(shape, norm="group", spectral=False):
    channels = [8 * 2**level for level in range(networks.n_halvings(shape))]
    return networks.strided_trunk(shape, channels, norm, spectral)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("norm", ["none", "batch", "group", "layer"])
def test_strided_trunk_gives_the_announced_features(shape, norm):
    size = []

    def make():
        module, n_features = trunk(shape, norm)
        size.append(n_features)
        return module

    module = networks.build(make, new_generator(0))
    assert module(rand(3, *shape)).shape == (3, size[0])


@pytest.mark.parametrize("shape", SHAPES)
def test_pooled_trunk_gives_the_announced_features(shape):
    size = []

    def make():
        module, n_features = networks.pooled_trunk(shape, (4, 8, 8), dropout=0.5)
        size.append(n_features)
        return module

    module = networks.build(make, new_generator(0))
    assert module(rand(3, *shape)).shape == (3, size[0])


@pytest.mark.parametrize("shape", SHAPES)
def test_generator_makes_images_of_the_shape(shape):
    channels = [8] * networks.n_doublings(shape)
    module = networks.build(
        lambda: networks.deconv_generator(5, shape, [16], channels), new_generator(0)
    )
    images = module(rand(4, 5))
    assert images.shape == (4, *shape)
    assert 0.0 <= images.min() < images.max() <= 1.0


def test_dense_networks():
    module = networks.build(
        lambda: networks.dense([3, 5, 7], "layer"), new_generator(0)
    )
    assert module(rand(2, 3)).shape == (2, 7)
    module = networks.build(
        lambda: networks.dense_generator(3, 6, [8], output="tanh"), new_generator(0)
    )
    assert module(rand(2, 3)).abs().max() <= 1.0


@pytest.mark.parametrize("std", [0.02, None])
def test_initial_weights_have_the_standard_deviation_and_depend_on_the_seed_alone(std):
    make = lambda: nn.Sequential(nn.Linear(400, 300), nn.ConvTranspose2d(64, 32, 4, 2))  # noqa: E731
    first, second = (networks.build(make, new_generator(0), std=std) for _ in range(2))
    other = networks.build(make, new_generator(1), std=std)
    assert torch.equal(first[0].weight, second[0].weight)
    assert not torch.equal(first[0].weight, other[0].weight)
    gain = 2.0 / (1.0 + networks.SLOPE**2)
    fans = (400, 64 * 16 / 4)
    for layer, fan in zip(first, fans, strict=True):
        expected = math.sqrt(gain / fan) if std is None else std
        assert layer.weight.std().item() == pytest.approx(expected, rel=0.03)
        assert not layer.bias.any()


def test_layers_without_a_known_initialization_are_refused():
    with pytest.raises(TypeError, match="PReLU"):
        networks.build(nn.PReLU, new_generator(0))


@pytest.mark.parametrize("kind", ["linear", "conv"])
def test_spectral_norm_is_one(kind):
    make = (
        (lambda: networks.SpectralLinear(6, 5))
        if kind == "linear"
        else (lambda: networks.SpectralConv2d(2, 5, 3, 1, 1))
    )
    layer = networks.build(make, new_generator(0), std=3.0)
    shape = (4, 6) if kind == "linear" else (4, 2, 8, 8)
    for _ in range(100):
        layer(rand(*shape))
    norm = torch.linalg.matrix_norm(layer._normalized().flatten(1), 2)
    assert norm.item() == pytest.approx(1.0, abs=1e-5)
    before = layer.direction.clone()
    layer.eval()(rand(*shape))
    assert torch.equal(layer.direction, before)


def test_dropout_draws_from_its_own_generator():
    layer = networks.Dropout(0.25)
    x = torch.ones(4000)
    assert torch.equal(layer(x), x)
    layer.rng = new_generator(0)
    dropped = layer(x)
    assert dropped.unique().tolist() == [0.0, pytest.approx(4 / 3)]
    assert dropped.mean().item() == pytest.approx(1.0, abs=0.05)
    assert torch.equal(layer.eval()(x), x)


@pytest.mark.parametrize("n_rows", [1, 7, 8, 9, 20])
def test_results_do_not_depend_on_the_number_of_rows(n_rows):
    module = networks.build(lambda: trunk((1, 28, 28))[0], new_generator(0))
    images = rand(20, 1, 28, 28)
    everything = in_batches(module, images, 8)
    assert len(everything) == 20
    part = in_batches(module, images[20 - n_rows :], 8)
    torch.testing.assert_close(part, everything[20 - n_rows :], rtol=0, atol=1e-7)


@pytest.mark.parametrize("side", [9, 16, 17, 28, 32, 33, 64, 100, 128])
def test_generators_begin_with_a_side_of_four_to_eight(side):
    first = side / 2 ** networks.n_doublings((1, side, side + 5))
    assert 4.0 < first <= 8.0
