"""Data that tests of deep mixtures share."""

import numpy as np
import pytest

from tests.estimators.deep_conv.problems import SHAPE


@pytest.fixture(scope="module")
def pictures():
    """Images (200, 6, 8) with a bright square in one of four corners, and labels."""
    rng = np.random.default_rng(0)
    y = rng.integers(4, size=200)
    X = 0.1 * rng.normal(size=(200, *SHAPE))
    for image, label in zip(X, y, strict=True):
        row, col = 3 * (label % 2), 4 * (label // 2)
        image[row : row + 3, col : col + 4] += 1.0
    return X, y
