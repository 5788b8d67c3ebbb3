"""Layers, trunks and generators: shapes, first weights, privacy of the generator."""

import math

import pytest
import torch
from torch import nn

from skdeepgmm._torch_backend.clusterers import networks
from skdeepgmm._torch_backend.clusterers.network_tools import (
    WeightAverage,
    in_batches,
    load_arrays,
    random_affine,
    random_patches,
    to_arrays,
)
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
def test_first_weights_have_the_deviation_and_depend_on_the_seed_alone(std):
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


def test_layers_without_a_known_start_are_refused():
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
    layer.generator = new_generator(0)
    dropped = layer(x)
    assert dropped.unique().tolist() == [0.0, pytest.approx(4 / 3)]
    assert dropped.mean().item() == pytest.approx(1.0, abs=0.05)
    assert torch.equal(layer.eval()(x), x)


def test_weights_survive_the_way_through_arrays():
    make = lambda: trunk((1, 8, 8), "batch")[0]  # noqa: E731
    first, second = (networks.build(make, new_generator(seed)) for seed in (0, 1))
    first(rand(5, 1, 8, 8))  # moves the running statistics
    load_arrays(second, to_arrays(first))
    images = rand(3, 1, 8, 8)
    assert torch.equal(first.eval()(images), second.eval()(images))


def test_weight_average_is_the_weighted_sum():
    module = networks.build(lambda: nn.Linear(1, 1, bias=False), new_generator(0))
    average = WeightAverage(module, decay=0.9)
    expected = None
    for step in range(1, 120):
        with torch.no_grad():
            module.weight.fill_(step**2)
        average.update(module)
        keep = min(0.9, (step - 1) / (step + 8))
        old = 0.0 if expected is None else expected
        expected = keep * old + (1.0 - keep) * step**2
    assert average.module.weight.item() == pytest.approx(expected, rel=1e-5)
    restored = WeightAverage(module, decay=0.9)
    restored.load_state_dict(average.state_dict())
    assert torch.equal(restored.module.weight, average.module.weight)
    assert restored.updates == average.updates


@pytest.mark.parametrize("n_rows", [1, 7, 8, 9, 20])
def test_results_do_not_depend_on_the_number_of_rows(n_rows):
    module = networks.build(lambda: trunk((1, 28, 28))[0], new_generator(0))
    images = rand(20, 1, 28, 28)
    everything = in_batches(module, images, 8)
    assert len(everything) == 20
    part = in_batches(module, images[20 - n_rows :], 8)
    torch.testing.assert_close(part, everything[20 - n_rows :], rtol=0, atol=1e-7)


# Augmentation --------------------------------------------------------------------


@pytest.fixture
def square():
    """One bright square away from the middle of an image of 21 x 31 pixels."""
    image = torch.zeros(1, 1, 21, 31)
    image[..., 12:16, 18:22] = 1.0
    return image


def centre(images):
    """Return the centres of mass as (down, across), in pixels."""
    mass = images.sum((1, 2, 3))
    rows = torch.arange(images.shape[2])[:, None]
    columns = torch.arange(images.shape[3])
    moments = ((images[:, 0] * axis).sum((1, 2)) for axis in (rows, columns))
    return torch.stack([moment / mass for moment in moments], 1)


def test_no_change_without_amounts(square):
    same = random_affine(square, new_generator(0), 0.0, 0.0, 0.0)
    torch.testing.assert_close(same, square, rtol=0, atol=1e-5)


def test_shifts_are_uniform_in_pixels(square):
    many = square.expand(4000, -1, -1, -1)
    moved = random_affine(many, new_generator(0), shift=2.0, rotation=0.0, scale=0.0)
    offset = centre(moved) - centre(square)
    assert offset.abs().max() <= 2.0 + 1e-3
    torch.testing.assert_close(
        offset.std(0), torch.full((2,), 2.0 / math.sqrt(3.0)), rtol=0.04, atol=0
    )


def test_rotation_keeps_distances_in_pixels(square):
    """Also in images that are no squares."""
    many = square.expand(500, -1, -1, -1)
    turned = random_affine(many, new_generator(0), shift=0.0, rotation=40.0, scale=0.0)
    middle = torch.tensor([10.0, 15.0])
    radius = (centre(square) - middle).norm()
    found = centre(turned) - middle
    torch.testing.assert_close(
        found.norm(dim=1), radius.expand(500), rtol=0.02, atol=0.0
    )
    start = centre(square) - middle
    angle = torch.atan2(found[:, 0], found[:, 1]) - torch.atan2(
        start[0, 0], start[0, 1]
    )
    assert 36.0 < math.degrees(angle.abs().max()) <= 40.5
    torch.testing.assert_close(
        turned.sum((1, 2, 3)), square.sum().expand(500), rtol=0.03, atol=0
    )


def test_scale_is_relative_to_the_middle(square):
    many = square.expand(500, -1, -1, -1)
    grown = random_affine(many, new_generator(0), shift=0.0, rotation=0.0, scale=0.2)
    middle = torch.tensor([10.0, 15.0])
    ratio = (centre(grown) - middle).norm(dim=1) / (centre(square) - middle).norm()
    assert 0.79 < ratio.min() < 0.82
    assert 1.18 < ratio.max() < 1.21


@pytest.mark.parametrize("side", [0.01, 0.5, 1.0])
def test_patches_are_rectangles_of_another_image(side):
    height, width, size = 10, 7, 3000
    numbers = torch.arange(size, dtype=torch.float32)[:, None, None, None]
    place = torch.arange(height * width).reshape(height, width) / 128.0
    images = numbers + place
    mixed = random_patches(images, new_generator(0), side)
    # Whatever image a pixel is from, it keeps its place.
    assert torch.equal(mixed - mixed.floor(), images - images.floor())
    foreign = (mixed.floor() != numbers)[:, 0]
    found = foreign.flatten(1).any(1)
    assert float(found.float().mean()) == pytest.approx(0.5, abs=0.04)
    down, across = foreign[found].any(2), foreign[found].any(1)
    # Rectangles, each of one other image.
    filled = down[:, :, None] & across[:, None, :]
    assert torch.equal(filled, foreign[found])
    inside = torch.where(foreign, mixed[:, 0].floor(), -1.0).flatten(1)
    for rectangle in inside[found]:
        assert len(rectangle[rectangle >= 0].unique()) == 1
    # Sides are uniform, and so are places.
    for covered, length in ((down, height), (across, width)):
        longest = max(1, round(side * length))
        sides = covered.sum(1)
        shares = torch.bincount(sides, minlength=longest + 1)[1:] / len(sides)
        torch.testing.assert_close(
            shares, torch.full((longest,), 1.0 / longest), rtol=0, atol=0.04
        )
        alone = covered[sides == 1].float()
        torch.testing.assert_close(
            alone.mean(0), torch.full((length,), 1.0 / length), rtol=0, atol=0.1
        )


def test_patches_leave_the_images_themselves_alone(square):
    images = square.repeat(20, 1, 1, 1) * torch.arange(1.0, 21.0)[:, None, None, None]
    before = images.clone()
    assert not torch.equal(random_patches(images, new_generator(0), 1.0), images)
    assert torch.equal(images, before)
    single = random_patches(square, new_generator(0), 1.0)
    assert torch.equal(single, square)
