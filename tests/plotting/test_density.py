"""Contours hold the mass that they name; ellipses are the components."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from sklearn.exceptions import NotFittedError
from sklearn.neighbors import KernelDensity

from skdeepgmm import GaussianMixture
from skdeepgmm.plotting import DensityDisplay
from skdeepgmm.plotting._density import SHARES
from skdeepgmm.plotting._style import color_of


def known(**params):
    covariance = [[[4.0, 0.0, 1.0], [0.0, 1.0, 0.0], [1.0, 0.0, 2.0]]]
    return GaussianMixture.from_parameters(
        [1.0], [[1.0, 2.0, 3.0]], covariance, **params
    )


def test_the_density_is_that_of_the_pair():
    gm = known()
    display = DensityDisplay.from_estimator(gm, features=(2, 0), grid_resolution=7)
    (made,) = display.pairs
    for i, j in [(0, 0), (3, 5)]:
        expected = gm.marginal([2, 0]).score_samples([[made.x[i], made.y[j]]])
        assert made.log_density[j, i] == pytest.approx(expected[0])
    assert made.names == ("feature 2", "feature 0")


def test_contours_hold_their_shares_of_the_mass(rng):
    display = DensityDisplay.from_estimator(known(), grid_resolution=200)
    X = known(random_state=0).sample(20000)[0][:, :2]
    density = np.exp(known().marginal([0, 1]).score_samples(X))
    peak = np.exp(display.pairs[0].log_density.max())
    levels = display.contours_[0].levels[:-1] * peak
    inside = [(density > level).mean() for level in levels]
    np.testing.assert_allclose(inside, SHARES[::-1], atol=0.02)


def test_ellipses_are_the_components():
    display = DensityDisplay.from_estimator(
        known(), features=(0, 2), grid_resolution=9, n_std=1.5
    )
    ((ellipse,),) = display.ellipses_
    assert tuple(ellipse.center) == (1.0, 3.0)
    path = ellipse.get_patch_transform().transform_path(ellipse.get_path())
    # Every second point of the Bezier curves lies on the ellipse.
    points = path.to_polygons()[0][::2] - [1.0, 3.0]
    precision = np.linalg.inv([[4.0, 1.0], [1.0, 2.0]])
    distances = np.sqrt(((points @ precision) * points).sum(axis=1))
    np.testing.assert_allclose(distances, 1.5, atol=0.01)
    assert plt.matplotlib.colors.to_hex(ellipse.get_edgecolor()) == color_of(0)


def test_names_pairs_and_samples(rng):
    frame = pd.DataFrame(rng.normal(size=(80, 3)), columns=["a", "b", "c"])
    gm = GaussianMixture(2, random_state=0).fit(frame)
    display = DensityDisplay.from_estimator(
        gm, frame, features=[("a", "c"), (1, 2)], grid_resolution=5, ellipses=False
    )
    assert [ax.get_xlabel() for ax in display.axes_] == ["a", "b"]
    shown = display.axes_[1].collections[-1].get_offsets()
    np.testing.assert_array_equal(shown, frame[["b", "c"]])
    assert display.ellipses_ == [[], []]


def test_any_density_of_two_features(rng):
    X = rng.normal(size=(50, 2))
    display = DensityDisplay.from_estimator(
        KernelDensity().fit(X), X, grid_resolution=5
    )
    assert display.pairs[0].means is None
    assert np.isfinite(display.pairs[0].log_density).all()


def test_what_cannot_be_drawn_is_refused(rng):
    X = rng.normal(size=(50, 3))
    kernels = KernelDensity().fit(X)
    with pytest.raises(ValueError, match="KernelDensity has no method marginal"):
        DensityDisplay.from_estimator(kernels, X)
    with pytest.raises(ValueError, match="X is None"):
        DensityDisplay.from_estimator(KernelDensity().fit(X[:, :2]))
    with pytest.raises(ValueError, match="expected 0 to 2"):
        DensityDisplay.from_estimator(known(), features=(0, 3))
    with pytest.raises(ValueError, match="expected one of"):
        DensityDisplay.from_estimator(known(), features=("a", "b"))
    with pytest.raises(ValueError, match="expected a pair of features"):
        DensityDisplay.from_estimator(known(), features=(0, 1, 2, 3, 4))
    with pytest.raises(NotFittedError):
        DensityDisplay.from_estimator(GaussianMixture(), X)
