"""The digits are scikit-learn's, scaled and shaped."""

import numpy as np
from sklearn.datasets import load_digits

from skdeepgmm.datasets import load_digits_images


def test_scaled_digits_lie_in_the_unit_interval():
    digits, original = load_digits_images(), load_digits()
    assert digits.data.min() == 0
    assert digits.data.max() == 1
    np.testing.assert_allclose(digits.data * 16, original.data)
    np.testing.assert_array_equal(digits.target, original.target)


def test_images_are_the_rows():
    digits = load_digits_images()
    assert digits.images.shape == (1797, *digits.image_shape)
    assert np.shares_memory(digits.images, digits.data)
    np.testing.assert_array_equal(digits.images[5, 2, 3], digits.data[5, 2 * 8 + 3])


def test_unscaled_and_plain():
    X, y = load_digits_images(return_X_y=True, scaled=False)
    assert X.max() == 16
    assert X.shape == (1797, 64)
    assert y.shape == (1797,)
    assert len(load_digits_images().target_names) == 10
