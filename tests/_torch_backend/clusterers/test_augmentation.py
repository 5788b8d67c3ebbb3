"""Augmentation of images: sizes and places of affine changes and of patches."""

import math

import pytest
import torch

from skdeepgmm._torch_backend.clusterers.augmentation import (
    random_affine,
    random_cutmix,
)
from skdeepgmm._torch_backend.rng import new_generator


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
    mixed = random_cutmix(images, new_generator(0), side)
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
    assert not torch.equal(random_cutmix(images, new_generator(0), 1.0), images)
    assert torch.equal(images, before)
    single = random_cutmix(square, new_generator(0), 1.0)
    assert torch.equal(single, square)


@pytest.mark.parametrize("shape", [(40, 20), (20, 40), (30, 30)])
def test_a_rotation_keeps_lengths_on_images_that_are_not_square(shape):
    """Centres of mass turn about the middle: their distance from it stays."""
    height, width = shape
    images = torch.zeros(200, 1, height, width, dtype=torch.float64)
    row, column = height // 2 - 6, width // 2 + 3
    images[:, :, row : row + 2, column : column + 2] = 1.0
    turned = random_affine(images, new_generator(0), 0.0, 30.0, 0.0)
    down = torch.arange(height).double()[:, None] - (height - 1) / 2
    across = torch.arange(width).double() - (width - 1) / 2

    def center(images):
        mass = images.sum((1, 2, 3))
        return torch.stack(
            [(images[:, 0] * axis).sum((1, 2)) / mass for axis in (down, across)], 1
        )

    radius = center(images).norm(dim=1)
    torch.testing.assert_close(center(turned).norm(dim=1), radius, rtol=0.03, atol=0.1)
    angles = torch.atan2(*center(turned).T) - torch.atan2(*center(images).T)
    assert float(angles.abs().max()) > math.radians(25.0)
    assert float(angles.abs().max()) < math.radians(32.0)


def test_turns_and_sizes_do_not_touch_each_other(square):
    many = square.expand(200, -1, -1, -1)

    def moved(rotation, scale):
        found = random_affine(many, new_generator(0), 0.0, rotation, scale)
        return centre(found) - torch.tensor([10.0, 15.0])

    both, turned, scaled = moved(40.0, 0.3), moved(40.0, 0.0), moved(0.0, 0.3)
    torch.testing.assert_close(both.norm(dim=1), scaled.norm(dim=1), rtol=0.05, atol=0)
    angles = [torch.atan2(*each.T) for each in (both, turned)]
    torch.testing.assert_close(*angles, rtol=0, atol=0.05)


def test_patches_are_everywhere_equally_often():
    images = torch.arange(40_000.0)[:, None, None, None].expand(-1, 1, 6, 6)
    changed = (random_cutmix(images, new_generator(0), 1 / 6) != images)[:, 0]
    for axis in (1, 2):
        found = changed.any(axis).float().sum(0)
        torch.testing.assert_close(
            found / found.mean(), torch.ones(6), rtol=0.04, atol=0
        )
