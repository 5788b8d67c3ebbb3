"""Moments: those of all rows, however they come in parts."""

import numpy as np
import pytest
import torch

from skdeepgmm._torch_backend.moments import Moments
from skdeepgmm.chunked import ChunkedArray

CPU = torch.device("cpu")


@pytest.fixture
def rows():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(5000, 3)) * [1.0, 100.0, 1e-3] + [0.0, 1e4, 5.0]
    return X, rng.gamma(2.0, size=5000)


def check(found, X, weight):
    seen = ~np.isnan(X)
    mass = (weight[:, None] * seen).sum(axis=0)
    mean = np.nansum(weight[:, None] * X, axis=0) / mass
    variance = np.nansum(weight[:, None] * (X - mean) ** 2, axis=0) / mass
    for value, expected in zip(found.to_arrays(), (mass, mean, variance), strict=True):
        np.testing.assert_allclose(value, expected, rtol=1e-10)


@pytest.mark.parametrize("missing", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
def test_parts_have_the_moments_of_the_whole(rows, weighted, missing):
    X, weight = rows
    if missing:
        X[np.random.default_rng(1).random(X.shape) < 0.2] = np.nan
    given = weight if weighted else None
    expected = weight if weighted else np.ones(len(X))
    check(Moments.of(X, given, CPU), X, expected)
    found = None
    for part in np.array_split(np.arange(len(X)), 7):
        own = None if given is None else given[part]
        found = Moments.of(X[part], own, CPU, found).to_arrays()
    check(Moments.from_arrays(*found, CPU), X, expected)


def test_containers_agree(rows):
    X, _ = rows
    expected = Moments.of(X, None, CPU).to_arrays()
    chunks = ChunkedArray([X[:100], X[100:4500], X[4500:]])
    for container in (torch.from_numpy(X), chunks):
        found = Moments.of(container, None, CPU).to_arrays()
        np.testing.assert_array_equal(found, expected)


def test_features_that_nobody_observed_have_no_mass():
    X = np.array([[1.0, np.nan], [3.0, np.nan]])
    mass, mean, variance = Moments.of(X, None, CPU).to_arrays()
    np.testing.assert_array_equal(mass, [2.0, 0.0])
    np.testing.assert_array_equal(mean, [2.0, 0.0])
    np.testing.assert_array_equal(variance, [1.0, 0.0])


def test_rows_of_weight_zero_may_be_anything(rows):
    X, weight = rows
    weight[::2] = 0.0
    spoiled = np.where(weight[:, None] == 0.0, 1e50, X)
    expected = Moments.of(X[1::2], weight[1::2], CPU).to_arrays()
    np.testing.assert_allclose(Moments.of(spoiled, weight, CPU).to_arrays(), expected)


def test_a_constant_far_from_zero_has_no_variance():
    found = Moments.of(np.full((8, 1), 1e200), None, CPU)
    assert float(found.variance) == 0.0
