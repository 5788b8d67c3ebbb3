"""Patches: round trip, coverage, transposes, basis and noise level."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from skdeepgmm._torch_backend.denoising import patches

SIZES = [(8, 8), (3, 5), (1, 4)]
each_size = pytest.mark.parametrize("size", SIZES, ids=str)


def random_image(shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(shape, generator=generator)


def summed(image, size, stride, max_patches):
    total = torch.zeros(image.shape, dtype=torch.float64)
    for tile in patches.tiles(tuple(image.shape), size, stride, max_patches):
        part = patches.extract(image, size, tile)
        patches.add_patches(total, part, size, tile)
    return total


@settings(max_examples=40, deadline=None)
@given(
    height=st.integers(8, 30),
    width=st.integers(8, 30),
    stride=st.integers(1, 9),
    max_patches=st.integers(1, 300),
)
@each_size
def test_float32_images_come_back_bit_by_bit(size, height, width, stride, max_patches):
    image = random_image((height, width))
    cover = patches.coverage((height, width), size, stride, torch.device("cpu"))
    mean = summed(image, size, stride, max_patches) / cover
    assert cover.min() >= 1
    assert torch.equal(mean.float(), image)


@each_size
def test_extract_takes_the_windows_of_numpy(size):
    image = random_image((20, 17))
    windows = np.lib.stride_tricks.sliding_window_view(image.numpy(), size)
    rows, cols = windows.shape[:2]
    found = patches.extract(image, size, (range(rows), range(cols)))
    expected = windows.reshape(rows * cols, -1).T
    np.testing.assert_array_equal(found.numpy(), expected)


@pytest.mark.parametrize("stride", [1, 2, 5])
def test_tiles_hold_every_place_once_and_are_small(stride):
    places = []
    for rows, cols in patches.tiles((31, 23), (8, 5), stride, 20):
        assert len(rows) * len(cols) <= 20
        places += [(row, col) for row in rows for col in cols]
    assert len(places) == len(set(places))
    assert len(places) == patches.n_patches((31, 23), (8, 5), stride)
    assert max(places) == (31 - 8, 23 - 5)


def test_adding_is_the_transpose_of_extracting():
    """<E x, p> = <x, E^T p>."""
    image = random_image((19, 16)).double()
    tile = range(0, 12, 3), range(0, 9, 2)
    part = patches.extract(image, (8, 8), tile)
    other = random_image(part.shape, seed=1).double()
    total = torch.zeros_like(image)
    patches.add_patches(total, other, (8, 8), tile)
    assert float((part * other).sum()) == pytest.approx(float((image * total).sum()))


@each_size
def test_basis_is_orthonormal_and_orthogonal_to_the_constant(size):
    basis = patches.dct_basis(size)
    n_pixels = math.prod(size)
    assert basis.shape == (n_pixels, n_pixels - 1)
    eye = torch.eye(n_pixels - 1, dtype=torch.float64)
    torch.testing.assert_close(basis.T @ basis, eye)
    assert basis.sum(0).abs().max() < 1e-12


def test_basis_is_the_discrete_cosine_transform_of_scipy():
    scipy_fft = pytest.importorskip("scipy.fft")
    patch = random_image((8, 8)).double()
    expected = scipy_fft.dctn(patch.numpy(), norm="ortho").ravel()[1:]
    found = patches.dct_basis((8, 8)).T @ patch.flatten()
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-13)


@pytest.mark.parametrize("sigma", [0.02, 0.1, 0.3])
def test_noise_of_a_smooth_image_is_found(sigma):
    y, x = torch.meshgrid(torch.arange(128.0), torch.arange(96.0), indexing="ij")
    noise = torch.randn((128, 96), generator=torch.Generator().manual_seed(0))
    noisy = 0.5 + 0.3 * torch.sin(x / 15) * torch.cos(y / 11) + sigma * noise
    assert patches.noise_level(noisy, (8, 8)) == pytest.approx(sigma, rel=0.05)


@pytest.mark.parametrize("shape", [(64, 64), (5, 5), (1, 3), (1, 1)])
def test_constant_images_have_no_noise(shape):
    assert patches.noise_level(torch.full(shape, 0.7), (8, 8)) == pytest.approx(0)


def test_noise_of_small_images_comes_from_differences():
    generator = torch.Generator().manual_seed(0)
    signals = [torch.randn((1, 9), generator=generator) for _ in range(400)]
    levels = [patches.noise_level(signal, (1, 8)) for signal in signals]
    assert np.mean(levels) == pytest.approx(1, abs=0.2)
