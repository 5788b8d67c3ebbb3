"""The range of images, by their type and most of their values, or refused."""

import numpy as np
import pytest

from skdeepgmm import PatchGMMDenoiser
from skdeepgmm.exceptions import DegenerateComponentWarning
from skdeepgmm.metrics import psnr
from tests.estimators.denoising.test_patch_denoiser import scene


@pytest.fixture(scope="module")
def clean():
    return scene((48, 48), seed=0)


def restored(image, **settings):
    return PatchGMMDenoiser.pretrained(**settings).transform([image])[0]


@pytest.mark.parametrize("low", [-1.1, -3.0, 5.0])
def test_one_noisy_pixel_does_not_change_the_range(low, clean, rng):
    noisy = clean + rng.normal(scale=0.1, size=clean.shape)
    noisy[20, 20] = low
    known = restored(noisy, sigma=0.1, data_range=1.0)
    np.testing.assert_array_equal(restored(noisy, sigma=0.1), known)
    gain = psnr(clean, known, data_range=1) - psnr(clean, noisy, data_range=1)
    assert gain > 3.0


def test_strong_noise_does_not_change_the_range(clean, rng):
    noisy = clean + rng.normal(scale=0.4, size=clean.shape)
    assert noisy.min() < -1.0
    known = restored(noisy, sigma=0.4, data_range=1.0)
    np.testing.assert_array_equal(restored(noisy, sigma=0.4), known)


@pytest.mark.parametrize("dtype", ["uint8", "int64", "float32", "float64"])
def test_grey_levels_range_to_255_however_dark(dtype):
    image = np.zeros((24, 24), dtype)
    image[4:6, 4:6] = 3
    known = restored(image, sigma=2.0, data_range=255.0)
    np.testing.assert_array_equal(restored(image, sigma=2.0), known)


def stars(rng):
    image = rng.uniform(0.0, 1.5, size=(24, 24))
    image[3, 3] = 200.0
    return image


@pytest.mark.parametrize(
    "make",
    [
        stars,
        lambda rng: rng.uniform(0.0, 6.5, size=(24, 24)),
        lambda rng: rng.integers(0, 300, size=(24, 24)),
        lambda rng: rng.integers(0, 300, size=(24, 24)).astype(np.uint16),
        lambda rng: rng.uniform(0.0, 5e4, size=(24, 24)),
    ],
    ids=["stars", "dark", "int64", "uint16", "large"],
)
def test_two_readings_are_refused(make, rng):
    image = make(rng)
    with pytest.raises(ValueError, match="data_range"):
        restored(image, sigma=0.1)
    assert np.isfinite(restored(image, sigma=0.1, data_range=255.0)).all()


# A matrix ------------------------------------------------------------------------


def test_an_image_taken_as_signals_is_told(clean):
    denoiser = PatchGMMDenoiser(2, patch_size=4, random_state=0)
    with pytest.warns(UserWarning, match=r"one image. Give a single image in a list"):
        denoiser.fit(clean)
    denoiser.fit([clean])
    denoiser.set_params(image_shape=(6, 8)).fit(clean)


def test_signals_are_not_told(rng):
    denoiser = PatchGMMDenoiser(2, patch_size=4, random_state=0)
    signals = np.cumsum(rng.normal(size=(40, 64)), axis=1)
    denoiser.fit(0.1 * signals)
    denoiser.fit(0.1 * rng.normal(size=(40, 64)))


# Extremes ------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.filterwarnings("ignore::skdeepgmm.exceptions.DegenerateComponentWarning")
def test_scores_are_finite_where_patches_do_not_determine_the_mixture():
    for seed in range(8):
        rng = np.random.RandomState(seed)
        X = np.cumsum(rng.randn(6, 64), axis=1) * 1000
        denoiser = PatchGMMDenoiser(
            3, patch_size=8, sigma=500.0, n_patches=60, random_state=0
        ).fit(X)
        assert np.isfinite(denoiser.score_samples(X)).all()
        assert np.isfinite(denoiser.transform(X)).all()


def test_undetermined_mixtures_are_told():
    X = np.cumsum(np.random.RandomState(0).randn(6, 64), axis=1)
    with pytest.warns(DegenerateComponentWarning, match="set by reg_covar"):
        PatchGMMDenoiser(3, n_patches=12, random_state=0).fit(X)


@pytest.mark.parametrize("sigma", [1e-300, 1e-120])
def test_noise_whose_variance_underflows_is_named(sigma, clean):
    with pytest.raises(ValueError, match=f"sigma={sigma:g} is too small"):
        restored(clean, sigma=sigma)
    np.testing.assert_array_equal(restored(clean, sigma=0), clean)
    with pytest.raises(ValueError, match="data_range"):
        restored(clean, sigma=0.1, data_range=1e300)


def test_any_search_stride_is_at_most_the_image(clean):
    coarse = restored(clean, sigma=0.1, search_stride=64)
    np.testing.assert_array_equal(
        restored(clean, sigma=0.1, search_stride=10**6), coarse
    )


def test_reg_covar_beyond_float32_is_named(clean):
    with pytest.raises(ValueError, match=r"reg_covar=1e\+39"):
        PatchGMMDenoiser(2, reg_covar=1e39).fit([clean])
