"""A fitted mixture of tiny images, and figures closed after each test."""

import numpy as np
import pytest
from sklearn.mixture import GaussianMixture


@pytest.fixture(autouse=True)
def close_figures():
    plt = pytest.importorskip("matplotlib.pyplot")
    yield
    plt.close("all")


@pytest.fixture
def mixture(rng):
    """Three components of images of 2 x 3 pixels, with weights about 1, 2, 3 sixths."""
    y = np.repeat([0, 1, 2], [50, 100, 150])
    X = 5 * rng.normal(size=(3, 6))[y] + rng.normal(size=(300, 6))
    return GaussianMixture(3, random_state=0).fit(X)
