"""Restoring one image: in-painting, denoising, scales."""

import math

import pytest
import torch

from skdeepgmm._torch_backend.denoising import restoration
from tests._torch_backend.denoising.problems import make_image, make_prior


def test_inpainting_keeps_known_pixels_and_lowers_the_energy():
    prior, image = make_prior(5), make_image()
    missing = torch.rand(image.shape, generator=torch.Generator().manual_seed(0)) < 0.4
    start = torch.where(missing, 0.0, image)
    found = restoration.inpaint(prior, start, missing, restoration.Settings(n_iter=3))
    assert torch.equal(found[~missing], image[~missing])
    assert (found[missing] != 0).all()
    error = (found - image)[missing].square().mean()
    assert math.sqrt(error) < 0.3 * math.sqrt(image[missing].square().mean())


def test_denoising_keeps_a_constant_image():
    image = torch.full((20, 20), 0.3)
    found = restoration.denoise(
        make_prior(means=False), image, 0.1, restoration.Settings()
    )
    torch.testing.assert_close(found, image)


def test_half_size_keeps_constants_and_whiteness():
    image = torch.full((20, 31), 0.7, dtype=torch.float64)
    pyramid = restoration.HalfSize((20, 31), image)
    half = pyramid.down(image)
    assert half.shape == (10, 15)
    torch.testing.assert_close(half, torch.full_like(half, 0.7))
    impulses = torch.eye(20 * 31, dtype=torch.float64).reshape(-1, 20, 31)
    columns = torch.stack([pyramid.down(impulse).flatten() for impulse in impulses])
    gram = columns.T @ columns
    eye = torch.eye(150, dtype=torch.float64)
    torch.testing.assert_close(gram, pyramid.noise_gain**2 * eye)


def test_replacing_low_frequencies_by_their_own_changes_nothing():
    image = make_image((20, 31))
    pyramid = restoration.HalfSize((20, 31), image)
    found = pyramid.replace_low(image, pyramid.down(image))
    torch.testing.assert_close(found, image)
    other = make_image((20, 31), seed=8)
    moved = pyramid.replace_low(image, pyramid.down(other)) - image
    rows, cols = pyramid.full
    assert (rows.T @ moved @ cols)[5:, :].abs().max() < 1e-12
    assert float(moved.mean()) == pytest.approx(float((other - image).mean()))


def test_scales_matter_for_large_images_only():
    prior = make_prior(means=False)
    for shape, changes in (((32, 32), True), ((15, 40), False)):
        image = make_image(shape)
        one, two = (
            restoration.denoise(prior, image, 0.1, restoration.Settings(n_scales=n))
            for n in (1, 2)
        )
        assert torch.equal(one, two) != changes
