"""The pictures are the means, in the order of the weights."""

import sys

import matplotlib.pyplot as plt
import numpy as np
import pytest
from sklearn.exceptions import NotFittedError
from sklearn.mixture import GaussianMixture

from skdeepgmm.plotting import ComponentsDisplay


def pictures(display):
    return [tile.get_images()[0].get_array() for tile in display.axes_]


def test_pictures_are_the_means_by_falling_weight(mixture):
    display = ComponentsDisplay.from_estimator(mixture, image_shape=(2, 3))
    order = np.argsort(-mixture.weights_)
    means = mixture.means_[order]
    scaled = (means - means.min()) / (means.max() - means.min())
    np.testing.assert_allclose(np.stack(pictures(display)), scaled.reshape(3, 2, 3))
    titles = [tile.get_title() for tile in display.axes_]
    assert titles == [f"{weight:.3f}" for weight in mixture.weights_[order]]


def test_the_range_is_clipped(mixture):
    display = ComponentsDisplay.from_estimator(
        mixture, image_shape=(2, 3), vmin=-1, vmax=1
    )
    means = mixture.means_[display.order].reshape(3, 2, 3)
    expected = np.clip((means + 1) / 2, 0, 1)
    np.testing.assert_allclose(np.stack(pictures(display)), expected)


def test_colour_images_keep_their_channels(rng):
    means = rng.uniform(size=(2, 12))
    display = ComponentsDisplay(means, np.array([0.6, 0.4]), image_shape=(2, 2, 3))
    display.plot(vmin=0, vmax=1)
    np.testing.assert_allclose(pictures(display)[0], means[0].reshape(2, 2, 3))


def test_one_channel_is_drawn_in_grey(rng):
    display = ComponentsDisplay(
        rng.uniform(size=(2, 4)), np.array([0.6, 0.4]), image_shape=(2, 2, 1)
    ).plot()
    assert pictures(display)[0].shape == (2, 2)


def test_equal_values_draw_without_a_warning():
    display = ComponentsDisplay(np.ones((2, 4)), np.ones(2) / 2, image_shape=(2, 2))
    assert np.all(np.isfinite(pictures(display.plot())))


def test_the_estimator_may_know_the_shape(mixture):
    mixture.image_shape = (3, 2)
    assert ComponentsDisplay.from_estimator(mixture).image_shape == (3, 2)
    display = ComponentsDisplay.from_estimator(mixture, image_shape=(1, 6))
    assert display.image_shape == (1, 6)


def test_tiles_lie_apart_inside_the_given_axes(mixture):
    figure, axes = plt.subplots(1, 2)
    display = ComponentsDisplay.from_estimator(
        mixture, image_shape=(2, 3), ax=axes[1], n_columns=2
    )
    assert display.ax_ is axes[1]
    assert display.figure_ is figure
    assert axes[0].child_axes == []
    figure.canvas.draw()
    boxes = [tile.get_position() for tile in display.axes_]
    outer = axes[1].get_position()
    for i, box in enumerate(boxes):
        assert outer.x0 <= box.x0 < box.x1 <= outer.x1
        assert outer.y0 <= box.y0 < box.y1 <= outer.y1
        assert not any(box.overlaps(other) for other in boxes[i + 1 :])


@pytest.mark.parametrize(
    "image_shape, message",
    [
        (None, r"image_shape is None.*product of 6.*\(1, 6\)"),
        ((2, 2), r"image_shape == \(2, 2\) holds 4 values; expected.*6"),
        ((6,), r"expected 2 or 3 sizes"),
        ((1, 3, 2), "only images of 1 or 3 channels"),
    ],
)
def test_bad_shapes_are_named(mixture, image_shape, message):
    with pytest.raises(ValueError, match=message):
        ComponentsDisplay.from_estimator(mixture, image_shape=image_shape)


def test_an_unfitted_estimator_is_refused():
    with pytest.raises(NotFittedError):
        ComponentsDisplay.from_estimator(GaussianMixture(), image_shape=(2, 3))


def test_without_matplotlib_the_extra_is_named(monkeypatch):
    for name in ("matplotlib", "matplotlib.pyplot"):
        monkeypatch.setitem(sys.modules, name, None)  # importing it now fails
    display = ComponentsDisplay(np.ones((1, 4)), np.ones(1), image_shape=(2, 2))
    with pytest.raises(ImportError, match=r"pip install 'skdeepgmm\[plot\]'"):
        display.plot()


def test_latent_means_are_drawn_as_rows(mixture):
    rows = mixture.means_
    mixture.means_ = np.eye(3)[:, :2]
    mixture.inverse_transform = lambda Z: rows[(Z @ [1, 2] - 1).astype(int)]
    display = ComponentsDisplay.from_estimator(mixture, image_shape=(2, 3))
    np.testing.assert_array_equal(display.means, rows[[0, 1, -1]])
