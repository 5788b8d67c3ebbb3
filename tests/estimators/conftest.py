"""Data that tests of the deep clusterers share."""

import numpy as np
import pytest


@pytest.fixture
def vectors(rng):
    """Two distinct clusters in the plane, and which is which."""
    y = np.repeat([0, 1], 30)
    return rng.normal(size=(60, 2)) + 6.0 * y[:, None], y


@pytest.fixture
def images(rng):
    """Noise of the shape of forty images."""
    return rng.uniform(size=(40, 8, 8))
