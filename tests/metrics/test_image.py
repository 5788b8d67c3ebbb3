"""PSNR and SSIM against their definitions written out pixel by pixel."""

import numpy as np
import pytest

from skdeepgmm.metrics import psnr, ssim


@pytest.fixture
def images():
    rng = np.random.default_rng(0)
    clean = rng.uniform(size=(15, 18))
    return clean, clean + 0.1 * rng.normal(size=clean.shape)


def gaussian_window():
    offset = np.arange(-5, 6)
    window = np.exp(-(offset[:, None] ** 2 + offset**2) / (2 * 1.5**2))
    return window / window.sum()


def ssim_at(x, y, data_range):
    """Wang et al. (2004), equation 13, at one 11 x 11 window."""
    window = gaussian_window()
    m_x, m_y = np.sum(window * x), np.sum(window * y)
    v_x = np.sum(window * (x - m_x) ** 2)
    v_y = np.sum(window * (y - m_y) ** 2)
    cov = np.sum(window * (x - m_x) * (y - m_y))
    c_1, c_2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    upper = (2 * m_x * m_y + c_1) * (2 * cov + c_2)
    return upper / ((m_x**2 + m_y**2 + c_1) * (v_x + v_y + c_2))


def ssim_by_loops(x, y, data_range):
    values = [
        ssim_at(x[i : i + 11, j : j + 11], y[i : i + 11, j : j + 11], data_range)
        for i in range(x.shape[0] - 10)
        for j in range(x.shape[1] - 10)
    ]
    return np.mean(values)


@pytest.mark.parametrize("data_range", [1.0, 4.0])
def test_ssim_equals_the_definition(images, data_range):
    expected = ssim_by_loops(*images, data_range)
    value = ssim(*images, data_range=data_range)
    assert value == pytest.approx(expected, rel=1e-9)
    assert value < 0.99


def test_ssim_averages_channels(images):
    clean, noisy = images
    clean_rgb = np.stack([clean, clean, clean], axis=-1)
    noisy_rgb = np.stack([noisy, clean, noisy], axis=-1)
    expected = (2 * ssim(clean, noisy) + 1) / 3
    assert ssim(clean_rgb, noisy_rgb) == pytest.approx(expected)


@pytest.mark.parametrize("measure", [psnr, ssim])
def test_symmetric_and_worse_with_more_noise(measure, images):
    clean, noisy = images
    assert measure(clean, noisy) == pytest.approx(measure(noisy, clean, data_range=1.0))
    noisier = clean + 2 * (noisy - clean)
    assert measure(clean, noisier) < measure(clean, noisy)


def test_psnr_of_a_known_error():
    clean = np.full((3, 5), 0.5)
    assert psnr(clean, clean + 0.01) == pytest.approx(40.0)
    assert psnr(clean, clean + 0.01, data_range=10) == pytest.approx(60.0)
    assert psnr(clean, clean) == np.inf


@pytest.mark.parametrize("measure", [psnr, ssim])
def test_uint8_equals_the_same_image_in_unit_range(measure):
    rng = np.random.default_rng(1)
    first, second = rng.integers(256, size=(2, 12, 12)).astype(np.uint8)
    expected = measure(first / 255, second / 255)
    assert measure(first, second) == pytest.approx(expected)


@pytest.mark.parametrize("measure", [psnr, ssim])
@pytest.mark.parametrize(
    "image_true, image_test, message",
    [
        (np.zeros((12, 12)), np.zeros((12, 13)), "expected the shape of image_true"),
        (np.zeros(12), np.zeros(12), "expected \\(height, width\\)"),
        (np.zeros((2, 3, 4, 5)), np.zeros((2, 3, 4, 5)), "one image at a time"),
        (np.full((12, 12), 200.0), np.zeros((12, 12)), "Pass data_range"),
        (np.full((12, 12), np.inf), np.zeros((12, 12)), "image_true contains inf"),
    ],
)
def test_bad_images_are_named(measure, image_true, image_test, message):
    with pytest.raises(ValueError, match=message):
        measure(image_true, image_test)


@pytest.mark.parametrize("data_range", [0.0, -1.0, np.inf])
def test_bad_data_range_is_named(images, data_range):
    with pytest.raises(ValueError, match="data_range =="):
        psnr(*images, data_range=data_range)


def test_ssim_of_a_small_image_says_what_to_do():
    with pytest.raises(ValueError, match="at least 11 x 11 pixels"):
        ssim(np.zeros((8, 8)), np.zeros((8, 8)))
