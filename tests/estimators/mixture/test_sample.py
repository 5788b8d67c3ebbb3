"""Draws of one component, and seeds of single draws."""

import numpy as np
import pytest
from scipy.stats import kstest
from sklearn.mixture import GaussianMixture as SklearnMixture

from skdeepgmm import GaussianMixture, SGDGaussianMixture

each_class = pytest.mark.parametrize("cls", [GaussianMixture, SGDGaussianMixture])


def mixture(cls, **params):
    return cls.from_parameters(
        [0.9, 0.1], [[0.0], [50.0]], [4.0, 1.0], covariance_type="spherical", **params
    )


@each_class
def test_one_component_alone(cls):
    X, y = mixture(cls, random_state=0).sample(2000, component=1)
    assert (y == 1).all()
    assert kstest(X[:, 0], "norm", args=(50.0, 1.0)).pvalue > 0.01


@each_class
def test_the_argument_overrides_the_parameter(cls):
    gm = mixture(cls, random_state=0)
    np.testing.assert_array_equal(gm.sample(9)[0], gm.sample(9)[0])
    other = gm.sample(9, random_state=1)[0]
    assert (other != gm.sample(9)[0]).any()
    np.testing.assert_array_equal(other, mixture(cls).sample(9, random_state=1)[0])
    stream = np.random.RandomState(1)
    first, second = (gm.sample(9, random_state=stream)[0] for _ in range(2))
    np.testing.assert_array_equal(first, other)
    assert (first != second).any()


def test_counts_are_those_of_scikit_learn():
    gm = mixture(GaussianMixture, random_state=3)
    peer = SklearnMixture(2, covariance_type="spherical", random_state=3)
    for name in ("weights_", "means_", "covariances_", "precisions_cholesky_"):
        setattr(peer, name, getattr(gm, name))
    np.testing.assert_array_equal(gm.sample(200)[1], peer.sample(200)[1])


@pytest.mark.parametrize("component", [2, -1, 0.5, True, "a"])
def test_unknown_components_are_refused(component):
    with pytest.raises(ValueError, match="component must be an integer from 0 to 1"):
        mixture(GaussianMixture).sample(component=component)


def test_conditional_draws_take_a_seed():
    gm = mixture(GaussianMixture, random_state=0)
    holed = np.full((5, 1), np.nan)
    first, again = (gm.sample_conditional(holed, 2, random_state=1) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert (first != gm.sample_conditional(holed, 2)).any()
