"""Sampling, unfitted and tiny fits as in scikit-learn, and where we differ on purpose.

All but the last section holds for sklearn.mixture.GaussianMixture too.
"""

import warnings

import numpy as np
import pytest
from sklearn.datasets import load_wine
from sklearn.exceptions import ConvergenceWarning, NotFittedError

from skdeepgmm import GaussianMixture
from skdeepgmm.exceptions import DegenerateComponentWarning
from tests.estimators.mixture.problems import make_problem, matrices_of, spaced_problem
from tests.oracles import COVARIANCE_TYPES, ORACLES, OWN_TYPES

each_type = pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)


@pytest.fixture
def spaced(rng):
    """Three groups far apart."""
    return spaced_problem(rng)


@pytest.fixture
def overlapping(rng):
    """400 rows of three groups that overlap."""
    return make_problem(rng, spread=1.5).draw("full", 400, rng)[0]


# Sampling ------------------------------------------------------------------------


@each_type
def test_samples_have_the_moments_of_their_components(spaced, rng, covariance_type):
    X, _ = spaced.draw(covariance_type, 600, rng)
    mixture = GaussianMixture(3, covariance_type=covariance_type, random_state=0)
    rows, labels = mixture.fit(X).sample(30_000)
    assert rows.shape == (30_000, 2)
    assert labels.shape == (30_000,)
    assert (np.diff(labels) >= 0).all()
    covariances = matrices_of(mixture)
    for k in range(3):
        mine = rows[labels == k]
        np.testing.assert_allclose(mine.mean(axis=0), mixture.means_[k], atol=0.1)
        np.testing.assert_allclose(np.cov(mine.T), covariances[k], atol=0.15)
        assert len(mine) / 30_000 == pytest.approx(mixture.weights_[k], abs=0.02)


def test_sample_returns_exactly_the_number_asked_for(overlapping):
    mixture = GaussianMixture(5, random_state=0).fit(overlapping)
    for n_samples in range(1, 40):
        rows, labels = mixture.sample(n_samples)
        assert rows.shape == (n_samples, 2)
        assert labels.shape == (n_samples,)
    assert mixture.sample()[0].shape == (1, 2)


def test_sample_draws_anew_only_from_a_generator(overlapping):
    seeded = GaussianMixture(3, random_state=0).fit(overlapping)
    np.testing.assert_array_equal(seeded.sample(9)[0], seeded.sample(9)[0])
    state = np.random.RandomState(0)
    moving = GaussianMixture(3, random_state=state).fit(overlapping)
    assert not np.array_equal(moving.sample(9)[0], moving.sample(9)[0])


def test_sample_rejects_less_than_one(overlapping):
    mixture = GaussianMixture(2)
    with pytest.raises(NotFittedError, match="GaussianMixture instance is not fitted"):
        mixture.sample(0)
    mixture.set_params(random_state=0).fit(overlapping)
    with pytest.raises(ValueError, match="Invalid value for 'n_samples'"):
        mixture.sample(0)


# Small and unfitted --------------------------------------------------------------


@pytest.mark.parametrize(
    "method", ["predict", "predict_proba", "score_samples", "score", "bic", "aic"]
)
def test_methods_of_an_unfitted_mixture(overlapping, method):
    message = (
        "This GaussianMixture instance is not fitted yet. Call 'fit' with appropriate "
        "arguments before using this estimator."
    )
    with pytest.raises(NotFittedError, match=message):
        getattr(GaussianMixture(), method)(overlapping)


@pytest.mark.filterwarnings("ignore::skdeepgmm.exceptions.DegenerateComponentWarning")
def test_single_component_on_three_rows(rng):
    rows, _ = GaussianMixture(random_state=0).fit(rng.normal(size=(3, 2))).sample()
    assert np.isfinite(rows).all()


def test_more_components_than_samples(rng):
    with pytest.raises(
        ValueError,
        match="Expected n_samples >= n_components but got n_components = 12, "
        "n_samples = 10",
    ):
        GaussianMixture(12).fit(rng.normal(size=(10, 2)))


# Deliberate differences ----------------------------------------------------------


@each_type
def test_singular_data_are_fitted_where_scikit_learn_raises(covariance_type):
    """Two points, five times each, no regularisation, ten components."""
    X = np.repeat([[0.0] * 5, [1.0] * 5], 5, axis=0)
    mixture = GaussianMixture(
        10, reg_covar=0, covariance_type=covariance_type, random_state=0
    )
    with warnings.catch_warnings(record=True) as record:
        warnings.simplefilter("always")
        mixture.fit(X)
    assert any(issubclass(w.category, DegenerateComponentWarning) for w in record)
    assert np.isfinite(mixture.score_samples(X)).all()
    for name in ("weights_", "means_", "covariances_", "precisions_cholesky_"):
        assert np.isfinite(getattr(mixture, name)).all()


@pytest.mark.parametrize("covariance_type", OWN_TYPES)
def test_empty_components_start_anew(rng, covariance_type):
    """No sample belongs to two of the components: they start anew."""
    X = rng.uniform(size=(40, 3))
    widths = np.array([1e-3, 1e-3, 0.3, 0.3])
    matrices = np.eye(3) / widths[:, None, None] ** 2
    mixture = GaussianMixture(
        4,
        covariance_type=covariance_type,
        reg_covar=0,
        max_iter=1,
        means_init=[[9.0] * 3, [-9.0] * 3, [0.2] * 3, [0.8] * 3],
        weights_init=[0.25] * 4,
        precisions_init=ORACLES[covariance_type].project(matrices, widths),
        random_state=0,
    )
    with (
        pytest.warns(ConvergenceWarning),
        pytest.warns(DegenerateComponentWarning, match="component 0: empty, re-seeded"),
    ):
        mixture.fit(X)
    assert not mixture.converged_
    assert np.isfinite(mixture.lower_bound_)
    assert (np.abs(mixture.means_) < 1.0).all()
    for name in ("weights_", "means_", "covariances_", "precisions_cholesky_"):
        assert np.isfinite(getattr(mixture, name)).all()


@pytest.mark.parametrize("n_samples", [8, 9, 40])
def test_what_reg_covar_sets_is_told(rng, n_samples):
    """n samples span n - 1 directions; what is left of 8 has the variance reg_covar."""
    X = rng.normal(size=(n_samples, 8))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        scores = [GaussianMixture(reg_covar=r).fit(X).score(X) for r in (1e-6, 1e-8)]
    told = [w for w in caught if "needs at least 9 each" in str(w.message)]
    set_by_reg_covar = abs(scores[0] - scores[1]) > 0.1
    assert set_by_reg_covar == (n_samples < 9)
    assert len(told) == (2 if set_by_reg_covar else 0)


def test_wine_is_determined():
    X, _ = load_wine(return_X_y=True)
    settings = {"n_components": 3, "random_state": 0, "reg_covar_relative": True}
    scores = [
        GaussianMixture(reg_covar=r, **settings).fit(X).score(X) for r in (0, 1e-9)
    ]
    assert scores[0] == pytest.approx(scores[1], abs=1e-4)


def test_shared_samples_count_for_every_component(rng):
    """Two equal components with 6 of 12 samples each: each has a share in all 12."""
    X = rng.normal(size=(12, 8))
    settings = {"means_init": np.zeros((2, 8)), "weights_init": [0.5, 0.5]}
    precisions = np.stack([np.eye(8)] * 2)
    GaussianMixture(2, precisions_init=precisions, **settings).fit(X)


def test_a_small_component_is_named(rng):
    X = np.concatenate([rng.normal(size=(60, 4)), 50.0 + rng.normal(size=(3, 4))])
    with pytest.warns(DegenerateComponentWarning, match=r"few samples: [01] \(3\)"):
        GaussianMixture(2, random_state=0).fit(X)
