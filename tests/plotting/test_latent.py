"""Embedded samples, and what is generated between two of them."""

import numpy as np
import pytest
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA, TruncatedSVD

from skdeepgmm.plotting import InterpolationDisplay, LatentSpaceDisplay
from skdeepgmm.plotting._style import color_of


def test_points_are_the_embedding_in_the_colours_of_the_classes(rng):
    X, y = rng.normal(size=(40, 5)), np.repeat(["b", "a"], 20)
    model = PCA(2).fit(X)
    display = LatentSpaceDisplay.from_estimator(model, X, y)
    drawn = np.concatenate([p.get_offsets() for p in display.points_])
    expected = model.transform(X)
    np.testing.assert_allclose(np.sort(drawn, axis=0), np.sort(expected, axis=0))
    sets = {points.get_label(): points.get_offsets() for points in display.points_}
    np.testing.assert_allclose(
        np.sort(sets["a"], axis=0), np.sort(expected[20:], axis=0)
    )
    from matplotlib.colors import to_hex

    found = [to_hex(p.get_facecolor()[0]) for p in display.points_]
    assert found == [color_of(0), color_of(1)]


def test_more_dimensions_are_projected(rng):
    X = rng.normal(size=(40, 5)) * [9, 3, 1, 0.1, 0.1]
    display = LatentSpaceDisplay.from_estimator(
        TruncatedSVD(4, random_state=0).fit(X), X
    )
    assert display.embedding.shape == (40, 2)
    assert "principal component 1 (8" in display.ax_.get_xlabel()
    assert display.labels is None


def test_clusters_stand_in_for_classes(rng):
    X = rng.normal(size=(60, 3))
    kmeans = KMeans(3, n_init=1, random_state=0).fit(X)
    display = LatentSpaceDisplay.from_estimator(kmeans, X, max_samples=50)
    assert display.ax_.get_legend().get_title().get_text() == "cluster"
    assert sum(len(p.get_offsets()) for p in display.points_) == 50


def test_bad_input_is_refused(rng):
    X = rng.normal(size=(40, 3))
    with pytest.raises(ValueError, match="y has 3 labels; expected one a sample, 40"):
        LatentSpaceDisplay.from_estimator(PCA(2).fit(X), X, [1, 2, 3])
    with pytest.raises(ValueError, match="at least two columns"):
        LatentSpaceDisplay.from_estimator(PCA(1).fit(X), X)


def test_the_line_between_two_samples(rng):
    X = rng.normal(size=(40, 6))
    model = PCA(6).fit(X)  # loses nothing: the line in X itself
    display = InterpolationDisplay.from_estimator(
        model, X[:2], X[2:4], n_samples=3, image_shape=(2, 3)
    )
    expected = np.stack([X[:2], (X[:2] + X[2:4]) / 2, X[2:4]], axis=1)
    np.testing.assert_allclose(display.samples, expected)
    shown = [tile.get_images()[0].get_array() for tile in display.axes_]
    scaled = (expected - expected.min()) / (expected.max() - expected.min())
    np.testing.assert_allclose(np.stack(shown), scaled.reshape(6, 2, 3))


def test_the_models_own_line_comes_first(rng):
    X = rng.normal(size=(40, 6))
    model = PCA(2).fit(X)
    model.interpolate = lambda a, b, n_samples: np.full((n_samples, 6), a[0])
    display = InterpolationDisplay.from_estimator(
        model, X[0], X[1], n_samples=4, image_shape=(2, 3)
    )
    np.testing.assert_array_equal(display.samples, np.full((1, 4, 6), X[0, 0]))


def test_what_cannot_be_interpolated_is_refused(rng):
    X = rng.normal(size=(40, 6))
    kmeans = KMeans(3, n_init=1, random_state=0).fit(X)
    with pytest.raises(TypeError, match="neither interpolate nor inverse_transform"):
        InterpolationDisplay.from_estimator(kmeans, X[0], X[1])
    with pytest.raises(ValueError, match=r"a has the shape \(1, 6\) and b \(2, 6\)"):
        InterpolationDisplay.from_estimator(PCA(2).fit(X), X[0], X[:2])
