"""Weak and strong changes of images: sizes, ranges, and what is never done."""

from dataclasses import replace

import pytest
import torch

from skdeepgmm._torch_backend.clusterers.image_changes import (
    N_DRAWN,
    ImageChanges,
    polarity_varies,
    strong,
    weak,
)
from skdeepgmm._torch_backend.rng import new_generator

GREY, RGB = (1, 12, 16), (3, 16, 12)
both = pytest.mark.parametrize("shape", [GREY, RGB])


def images(shape, size=40, low=0.0, high=1.0):
    values = torch.rand(size, *shape, generator=new_generator(0))
    return low + (high - low) * values


@both
def test_no_strength_is_identity(shape):
    X = images(shape)
    assert torch.equal(ImageChanges()(X, new_generator(1)), X)


@both
def test_moves_of_no_size_are_identity(shape):
    """Also where the interpolation runs."""
    X = images(shape)
    tiny = ImageChanges(rotation=1e-9, scale=1e-9, shift=1e-9, shear=1e-9)
    torch.testing.assert_close(tiny(X, new_generator(1)), X, rtol=0, atol=1e-4)


@both
@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (-1.0, 1.0)])
def test_changed_images_keep_shape_and_range(shape, low, high):
    X = images(shape, low=low, high=high)
    for change in (weak(low, high, True), strong(low, high, True, 0.3)):
        made = change(X, new_generator(1))
        assert made.shape == X.shape
        assert made.min() >= low
        assert made.max() <= high
        # Each image is changed, and by amounts of its own.
        assert ((made - X).abs().amax((1, 2, 3)) > 0.01).all()


@both
def test_a_batch_is_changed_like_its_images_one_by_one(shape):
    X = images(shape)
    drawn = torch.rand(len(X), N_DRAWN, generator=new_generator(1))
    change = strong(0.0, 1.0, True, 0.3)
    together = change.apply(X, drawn)
    pairs = zip(X, drawn, strict=True)
    alone = torch.cat([change.apply(x[None], d[None]) for x, d in pairs])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-5)


def test_changes_follow_the_generator():
    X, change = images(RGB), strong(0.0, 1.0)
    first, again, other = (change(X, new_generator(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_mirrored_only_where_asked():
    X = images(RGB, 400)
    made = ImageChanges(mirror=True)(X, new_generator(1))
    flipped = (made - X.flip(3)).abs().amax((1, 2, 3)) < 1e-4
    kept = (made - X).abs().amax((1, 2, 3)) < 1e-4
    assert torch.equal(flipped, ~kept)
    assert 150 < flipped.sum() < 250


@pytest.mark.parametrize("make", [weak, strong])
def test_left_stays_left_by_default(make):
    """The brighter half of an image: no angle, shift or shear turns it round."""
    X = torch.zeros(300, 1, 32, 32)
    X[..., :16] = 1.0
    change = replace(make(0.0, 1.0), square=0.0)
    made = change(X, new_generator(0))
    assert (made[..., :16].mean((1, 2, 3)) > made[..., 16:].mean((1, 2, 3))).all()


def test_rotation_keeps_distances_in_pixels():
    """Also in images that are no squares: a spot stays round, and where it was."""
    height, width = 24, 36
    down, across = torch.meshgrid(
        torch.arange(height) - (height - 1) / 2,
        torch.arange(width) - (width - 1) / 2,
        indexing="ij",
    )
    spot = torch.exp(-((across - 6.0).square() + down.square()) / (2 * 1.5**2))
    X = spot.expand(50, 1, -1, -1)
    made = ImageChanges(rotation=25.0)(X, new_generator(0))[:, 0]
    mass = made.sum((1, 2))
    x, y = ((made * place).sum((1, 2)) / mass for place in (across, down))
    torch.testing.assert_close(
        torch.hypot(x, y), torch.full((50,), 6.0), rtol=0.02, atol=0
    )
    assert y.abs().max() > 2.0
    spread = [
        (made * (place - center[:, None, None]).square()).sum((1, 2)) / mass
        for place, center in ((across, x), (down, y))
    ]
    torch.testing.assert_close(*spread, rtol=0.15, atol=0)


def test_contrast_and_brightness_are_about_the_mean():
    X = 0.4 + 0.1 * images(GREY)
    mean = X.mean((1, 2, 3))
    contrast = ImageChanges(contrast=0.6)(X, new_generator(0))
    torch.testing.assert_close(contrast.mean((1, 2, 3)), mean)
    ratio = contrast.std((1, 2, 3)) / X.std((1, 2, 3))
    assert 0.4 <= ratio.min() < 0.55
    assert 1.45 < ratio.max() <= 1.6
    brightness = ImageChanges(brightness=0.2)(X, new_generator(0))
    offset = brightness.mean((1, 2, 3)) - mean
    torch.testing.assert_close(brightness - offset[:, None, None, None], X)
    assert 0.15 < offset.abs().max() <= 0.2 + 1e-6
    # A share of the range.
    wide = ImageChanges(-1.0, 1.0, brightness=0.2)(X, new_generator(0))
    torch.testing.assert_close(wide.mean((1, 2, 3)) - mean, 2.0 * offset)


def test_colour_leaves_grey_images_alone():
    X = images(GREY)
    assert torch.equal(ImageChanges(colour=0.4)(X, new_generator(0)), X)


def test_colour_scales_differences_of_channels_and_moves_each():
    X = 0.1 * images(RGB)
    change = ImageChanges(-1.0, 1.0, colour=0.4)
    made = change(X, new_generator(0))
    factors = []
    for one, other in ((0, 1), (1, 2)):
        before, after = X[:, one] - X[:, other], made[:, one] - made[:, other]
        centered = [v - v.mean((1, 2), keepdim=True) for v in (before, after)]
        factor = (centered[0] * centered[1]).sum((1, 2)) / centered[0].square().sum(
            (1, 2)
        )
        torch.testing.assert_close(centered[1], factor[:, None, None] * centered[0])
        factors.append(factor)
    torch.testing.assert_close(*factors)
    assert 0.6 <= factors[0].min() < 0.7
    assert 1.3 < factors[0].max() <= 1.4
    # What has no colour only moves, by a tenth of the range at most.
    grey = X[:, :1].expand(-1, 3, -1, -1)
    moved = change(grey, new_generator(0)) - grey
    assert moved.std((2, 3)).max() < 1e-6
    assert 0.17 < moved.abs().max() <= 0.2 + 1e-6


def test_a_share_is_inverted():
    X = images(GREY, 1000, -1.0, 1.0)
    made = ImageChanges(-1.0, 1.0, invert=0.3)(X, new_generator(0))
    inverted = (made == -X).all(3).all(2).all(1)
    assert torch.equal(made[~inverted], X[~inverted])
    assert 0.25 < inverted.float().mean() < 0.35


def test_the_square_has_its_size_and_any_place():
    X = torch.ones(2000, 1, 10, 15)
    made = ImageChanges(square=0.4)(X, new_generator(0))
    covered = made[:, 0] == 0.5
    assert (covered.sum((1, 2)) == 16).all()
    assert (covered.any(1).sum(1) == 4).all()
    assert covered.any(0).all()


def test_polarity():
    ground = torch.zeros(10, 1, 16, 16)
    ground[:, :, 5:11, 5:11] = 1.0
    assert not polarity_varies(ground)
    ground[:5] = 1.0 - ground[:5]
    assert polarity_varies(ground)
    # Means are compared, however close.
    ground[:5], ground[5:] = 1.0, 1.2
    ground[:5, :, 4:12, 4:12], ground[5:, :, 4:12, 4:12] = 1.2, 1.0
    assert polarity_varies(ground)
    # All four sides are rim.
    ground = torch.zeros(10, 1, 16, 16)
    ground[:, :, 5:11, 5:11] = 1.0
    for side in range(4):
        edge = torch.zeros(10, 1, 16, 16)
        edge[..., :4] = 1.0
        edge = edge.rot90(side, (2, 3))
        edge[:5] = ground[5:]
        assert polarity_varies(edge)


@pytest.mark.cuda
def test_changes_on_cuda():
    X = images(RGB).cuda()
    made = strong(0.0, 1.0, True)(X, new_generator(0, "cuda"))
    drawn = torch.rand(len(X), N_DRAWN, generator=new_generator(1))
    change = strong(0.0, 1.0, True)
    assert made.device.type == "cuda"
    torch.testing.assert_close(
        change.apply(X, drawn.cuda()).cpu(),
        change.apply(X.cpu(), drawn),
        rtol=0,
        atol=1e-4,
    )
