"""The pictures are what ``sample`` returned."""

import numpy as np
import pytest
from sklearn.base import clone

from skdeepgmm import GaussianMixture
from skdeepgmm.plotting import SamplesDisplay


def test_pictures_are_the_samples(mixture):
    # The mixture has an integer random_state: each call draws the same samples.
    X, y = mixture.sample(7)
    display = SamplesDisplay.from_estimator(mixture, n_samples=7, image_shape=(2, 3))
    np.testing.assert_array_equal(display.samples, X)
    shown = np.stack([tile.get_images()[0].get_array() for tile in display.axes_])
    scaled = (X - X.min()) / (X.max() - X.min())
    np.testing.assert_allclose(shown, scaled.reshape(7, 2, 3))
    assert [tile.get_title() for tile in display.axes_] == [str(label) for label in y]


def test_samples_without_labels_have_no_titles(rng):
    display = SamplesDisplay(rng.uniform(size=(13, 4)), image_shape=(2, 2)).plot()
    assert display.axes_.shape == (13,)
    assert {tile.get_title() for tile in display.axes_} == {""}


def test_columns(rng):
    display = SamplesDisplay(rng.uniform(size=(6, 4)), image_shape=(2, 2))
    for n_columns in (2, 3):
        axes = display.plot(n_columns=n_columns).axes_
        lefts = {round(tile.get_position().x0, 6) for tile in axes}
        assert len(lefts) == n_columns


def test_bad_shapes_are_named(mixture):
    with pytest.raises(ValueError, match=r"image_shape == \(5, 5\) holds 25 values"):
        SamplesDisplay.from_estimator(mixture, image_shape=(5, 5))


def test_an_unfitted_estimator_is_refused(mixture):
    with pytest.raises(ValueError, match="not fitted"):
        SamplesDisplay.from_estimator(clone(mixture), image_shape=(2, 3))


def test_sample_params_reach_the_model(rng):
    mixture = GaussianMixture(3, random_state=0).fit(rng.normal(size=(60, 6)))
    display = SamplesDisplay.from_estimator(
        mixture,
        n_samples=4,
        sample_params={"component": 2, "random_state": 1},
        image_shape=(2, 3),
    )
    expected = mixture.sample(4, component=2, random_state=1)[0]
    np.testing.assert_array_equal(display.samples, expected)
    assert display.labels.tolist() == [2, 2, 2, 2]
