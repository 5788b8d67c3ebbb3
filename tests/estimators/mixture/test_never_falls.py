"""The likelihood never falls, however badly conditioned and incomplete the data are."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skdeepgmm import GaussianMixture
from skdeepgmm.exceptions import DegenerateComponentWarning


def bounds(X, covariance_type, n_components):
    """Return the bounds of 25 iterations, None where a component was repaired."""
    model = GaussianMixture(
        n_components,
        covariance_type=covariance_type,
        rank=2,
        tol=0.0,
        max_iter=25,
        reg_covar=0.0,
        random_state=0,
    )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.fit(X)
    repaired = any(w.category is DegenerateComponentWarning for w in caught)
    return None if repaired else np.array(model.lower_bounds_)


@settings(deadline=None, max_examples=30, derandomize=True)
@given(
    seed=st.integers(0, 10_000),
    covariance_type=st.sampled_from(["full", "tied", "low_rank", "diag", "spherical"]),
    n_components=st.integers(1, 2),
    noise=st.sampled_from([1e-1, 1e-3, 1e-4, 1e-5]),
    share_missing=st.sampled_from([0.0, 0.05, 0.3]),
    offset=st.sampled_from([0.0, 1e6]),
    n_samples=st.sampled_from([80, 400]),
)
def test_the_likelihood_never_falls(
    seed, covariance_type, n_components, noise, share_missing, offset, n_samples
):
    """Net, tax and gross amounts, nearly collinear, with entries missing."""
    rng = np.random.default_rng(seed)
    net = 1000 * rng.normal(size=n_samples) + 4000 * rng.integers(2, size=n_samples)
    tax = 0.2 * net + 1000 * noise * rng.normal(size=n_samples)
    gross = net + tax + 1000 * noise * rng.normal(size=n_samples)
    X = offset + np.column_stack([net, tax, gross, rng.normal(size=n_samples)])
    X[rng.uniform(size=X.shape) < share_missing] = np.nan
    found = bounds(X, covariance_type, n_components)
    if n_components == 1:  # there is nothing to repair
        assert found is not None
    if found is not None:
        assert np.diff(found).min() > -1e-6
        assert found[-1] >= found[0]


@pytest.mark.parametrize("covariance_type", ["full", "tied"])
def test_the_end_is_that_of_complete_arithmetic(rng, covariance_type):
    """In coordinates in which nothing is collinear, EM ends at the same likelihood."""
    n = 600
    net, noise = rng.normal(size=n), rng.normal(size=n)
    turn = np.array([[1.0, 0.2], [0.0, 1e-4]])
    plain = np.column_stack([net, noise, rng.normal(size=n)])
    lost = rng.uniform(size=n) < 0.3
    near = np.column_stack([plain[:, :2] @ turn, plain[:, 2]])
    # Missing pairs are the same information in both coordinates.
    plain[lost, 0:2] = np.nan
    near[lost, 0:2] = np.nan
    expected = bounds(plain, covariance_type, 1)
    found = bounds(near, covariance_type, 1)
    volume = np.log(1e-4) * np.mean(~lost)
    np.testing.assert_allclose(found[-1] + volume, expected[-1], atol=1e-6)
