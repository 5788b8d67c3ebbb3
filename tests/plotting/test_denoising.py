"""What is drawn is what the denoiser returned."""

import numpy as np
import pytest
from sklearn.base import BaseEstimator

from skdeepgmm.metrics import psnr
from skdeepgmm.plotting import DenoisingDisplay


class Halver(BaseEstimator):
    """A denoiser that needs no fit: half of every value."""

    def __sklearn_is_fitted__(self):
        return True

    def fit(self, X, y=None):
        return self

    def transform(self, images):
        return [0.5 * image for image in images]


def drawn(ax):
    return np.asarray(ax.get_images()[0].get_array())


def test_columns_and_figures(rng):
    true = [rng.uniform(size=(5, 7)), rng.uniform(size=(3, 4))]
    noisy = [image + 0.1 for image in true]
    display = DenoisingDisplay.from_estimator(Halver(), noisy, true, data_range=1.0)
    assert display.axes_.shape == (2, 4)
    for row, clean, image in zip(display.axes_, true, noisy, strict=True):
        expected = [image, 0.5 * image, clean, 0.5 * image - clean]
        for ax, picture in zip(row, expected, strict=True):
            np.testing.assert_allclose(drawn(ax), picture)
        db = psnr(clean, 0.5 * image, data_range=1.0)
        assert row[1].get_title() == f"denoised, {db:.1f} dB"
    norm = display.axes_[0, 3].get_images()[0].norm
    assert norm.vmin == -norm.vmax


def test_without_the_truth_the_difference_is_what_was_removed(rng):
    noisy = rng.uniform(size=(5, 7))
    display = DenoisingDisplay.from_estimator(Halver(), noisy)
    assert display.axes_.shape == (1, 3)
    np.testing.assert_allclose(drawn(display.axes_[0, 2]), 0.5 * noisy)


def test_colour_images_of_bytes(rng):
    true = rng.integers(0, 256, size=(5, 7, 3), dtype=np.uint8)
    display = DenoisingDisplay.from_estimator(Halver(), true, true, vmin=0, vmax=255)
    np.testing.assert_allclose(drawn(display.axes_[0, 2]), true / 255)
    assert drawn(display.axes_[0, 3]).shape == (5, 7)
    db = psnr(true / 255, true / 510, data_range=1.0)
    assert display.axes_[0, 1].get_title() == f"denoised, {db:.1f} dB"


def test_other_shapes_are_refused():
    with pytest.raises(ValueError, match="expected the same"):
        DenoisingDisplay.from_estimator(Halver(), np.zeros((4, 4)), np.zeros((4, 5)))
