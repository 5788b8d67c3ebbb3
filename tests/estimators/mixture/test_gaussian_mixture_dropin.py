"""What a user of sklearn.mixture.GaussianMixture relies on: fitting and results.

Each test states a behaviour of scikit-learn's class and holds for that class too.
"""

import warnings

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import adjusted_rand_score

from skdeepgmm import GaussianMixture
from tests.estimators.mixture.problems import make_problem, matrices_of, spaced_problem
from tests.oracles import COVARIANCE_TYPES, ORACLES

NOT_CONVERGED = (
    "Best performing initialization did not converge. Try different init parameters, "
    "or increase max_iter, tol, or check for degenerate data."
)
FITTED = ("weights_", "means_", "covariances_", "precisions_", "precisions_cholesky_")
ignore_convergence = pytest.mark.filterwarnings(
    "ignore::sklearn.exceptions.ConvergenceWarning"
)
each_type = pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
each_dtype = pytest.mark.parametrize("dtype", [np.float32, np.float64])


@pytest.fixture
def spaced(rng):
    """Three groups far apart."""
    return spaced_problem(rng)


@pytest.fixture
def overlapping(rng):
    """400 rows of three groups that overlap."""
    return make_problem(rng, spread=1.5).draw("full", 400, rng)[0]


# Results -------------------------------------------------------------------------


@each_type
@each_dtype
def test_fit_recovers_the_truth(spaced, rng, covariance_type, dtype):
    X, labels = spaced.draw(covariance_type, 4000, rng, dtype)
    mixture = GaussianMixture(3, covariance_type=covariance_type, random_state=0)
    mixture.fit(X)
    order = mixture.means_[:, 0].argsort()
    np.testing.assert_allclose(mixture.weights_[order], spaced.weights, atol=0.02)
    np.testing.assert_allclose(mixture.means_[order], spaced.means, atol=0.15)
    found = matrices_of(mixture)
    truth = spaced.matrices(covariance_type)
    np.testing.assert_allclose(found[order], truth, atol=0.25)
    assert adjusted_rand_score(labels, mixture.predict(X)) > 0.95


@each_type
@each_dtype
def test_dtype_of_results_follows_the_data(spaced, rng, covariance_type, dtype):
    X, _ = spaced.draw(covariance_type, 300, rng, dtype)
    mixture = GaussianMixture(3, covariance_type=covariance_type, random_state=0)
    labels = mixture.fit_predict(X)
    for name in (
        "weights",
        "means",
        "covariances",
        "precisions",
        "precisions_cholesky",
    ):
        assert getattr(mixture, f"{name}_").dtype == dtype
    assert mixture.score_samples(X).dtype == dtype
    assert mixture.predict_proba(X).dtype == dtype
    assert labels.dtype == np.int64
    assert isinstance(mixture.score(X), float)
    assert isinstance(mixture.converged_, bool)
    assert isinstance(mixture.n_iter_, int)


@each_type
def test_shapes_of_fitted_attributes(spaced, rng, covariance_type):
    X, _ = spaced.draw(covariance_type, 300, rng)
    mixture = GaussianMixture(3, covariance_type=covariance_type, random_state=0)
    assert mixture.fit(X) is mixture
    shape = ORACLES[covariance_type].shape(3, 2)
    for name in ("covariances_", "precisions_", "precisions_cholesky_"):
        assert getattr(mixture, name).shape == shape
    assert mixture.weights_.shape == (3,)
    assert mixture.means_.shape == (3, 2)
    assert mixture.n_features_in_ == 2
    assert len(mixture.lower_bounds_) == mixture.n_iter_
    assert mixture.lower_bounds_[-1] == mixture.lower_bound_


@each_type
@each_dtype
def test_precisions_invert_the_covariances(spaced, rng, covariance_type, dtype):
    X, _ = spaced.draw(covariance_type, 500, rng, dtype)
    mixture = GaussianMixture(
        3, covariance_type=covariance_type, random_state=0, n_init=3
    ).fit(X)
    inverse = np.linalg.inv(matrices_of(mixture))
    precisions = ORACLES[covariance_type].as_matrices(mixture.precisions_, 3, 2)
    rtol = 1e-4 if dtype == np.float32 else 1e-9
    np.testing.assert_allclose(precisions, inverse, rtol=rtol, atol=rtol)


def test_precisions_cholesky_is_an_upper_factor(spaced, rng):
    X, _ = spaced.draw("full", 500, rng)
    mixture = GaussianMixture(3, random_state=0).fit(X)
    factors = mixture.precisions_cholesky_
    np.testing.assert_array_equal(factors, np.triu(factors))
    assert (np.diagonal(factors, axis1=1, axis2=2) > 0).all()
    np.testing.assert_allclose(
        factors @ np.swapaxes(factors, 1, 2), mixture.precisions_, rtol=1e-9
    )


@each_type
@each_dtype
@ignore_convergence
@pytest.mark.parametrize("max_iter, tol", [(2, 1e-7), (2, 0.1), (300, 1e-7)])
def test_fit_predict_is_fit_then_predict(
    spaced, rng, covariance_type, dtype, max_iter, tol
):
    X, _ = spaced.draw(covariance_type, 300, rng, dtype)
    start = spaced.start(covariance_type)
    mixture = GaussianMixture(**start, max_iter=max_iter, tol=tol)
    labels = clone(mixture).fit_predict(X)
    np.testing.assert_array_equal(labels, mixture.fit(X).predict(X))
    np.testing.assert_array_equal(labels, mixture.predict_proba(X).argmax(axis=1))


def test_fit_predict_with_several_starts(overlapping):
    mixture = GaussianMixture(5, n_init=5, random_state=0)
    labels = mixture.fit_predict(overlapping)
    np.testing.assert_array_equal(labels, mixture.predict(overlapping))


@ignore_convergence
def test_score_is_the_mean_of_score_samples_and_grows(overlapping):
    short = GaussianMixture(3, max_iter=1, random_state=0).fit(overlapping)
    long = GaussianMixture(3, random_state=0).fit(overlapping)
    samples = short.score_samples(overlapping)
    assert samples.shape == (400,)
    assert short.score(overlapping) == pytest.approx(samples.mean(), rel=1e-12)
    assert long.score(overlapping) > short.score(overlapping)


# Information criteria ------------------------------------------------------------


@each_type
def test_bic_and_aic_count_the_free_parameters(rng, covariance_type):
    # Five features, two components: 1 weight, 10 means and the covariances.
    n_parameters = 11 + ORACLES[covariance_type].n_parameters(2, 5)
    X = rng.normal(size=(200, 5))
    mixture = GaussianMixture(2, covariance_type=covariance_type, random_state=0)
    deviance = -2 * mixture.fit(X).score_samples(X).sum()
    assert mixture.aic(X) == pytest.approx(deviance + 2 * n_parameters)
    assert mixture.bic(X) == pytest.approx(deviance + np.log(200) * n_parameters)


def test_one_feature_one_component_is_the_same_in_every_type(rng):
    X = rng.normal(size=(100, 1))
    mixtures = [
        GaussianMixture(covariance_type=name, random_state=0)
        for name in COVARIANCE_TYPES
    ]
    bics = [mixture.fit(X).bic(X) for mixture in mixtures]
    np.testing.assert_allclose(bics, bics[0], rtol=1e-10)


@each_type
def test_criteria_are_near_the_entropy_of_a_single_gaussian(rng, covariance_type):
    X = rng.normal(size=(500, 3))
    log_det = np.linalg.slogdet(np.cov(X.T, bias=True))[1]
    entropy = 0.5 * (log_det + 3 * (1 + np.log(2 * np.pi)))
    mixture = GaussianMixture(2, covariance_type=covariance_type, random_state=0)
    mixture.fit(X)
    log_likelihood_gain = mixture.score(X) + entropy
    assert -0.05 < log_likelihood_gain < 3 / np.sqrt(500)


# Iterations and convergence ------------------------------------------------------


@each_type
def test_convergence_warning_names_the_cure(overlapping, covariance_type):
    mixture = GaussianMixture(3, covariance_type=covariance_type, max_iter=1)
    mixture.set_params(random_state=0)
    with pytest.warns(ConvergenceWarning) as record:
        mixture.fit(overlapping)
    assert [str(warning.message) for warning in record] == [NOT_CONVERGED]
    assert not mixture.converged_
    assert mixture.n_iter_ == 1


def test_converged_fit_is_silent_and_stops_by_tol(overlapping):
    mixture = GaussianMixture(3, tol=1e-4, max_iter=1000, random_state=0)
    bounds = np.array(mixture.fit(overlapping).lower_bounds_)
    steps = np.abs(np.diff(bounds))
    assert mixture.converged_
    assert steps[-1] < 1e-4
    assert (steps[:-1] >= 1e-4).all()


@each_type
@ignore_convergence
def test_each_iteration_raises_the_likelihood(overlapping, covariance_type):
    mixture = GaussianMixture(
        3,
        covariance_type=covariance_type,
        reg_covar=0,
        warm_start=True,
        max_iter=1,
        random_state=0,
        tol=1e-6,
    )
    scores = []
    for _ in range(1000):
        scores.append(mixture.fit(overlapping).score(overlapping))
        if mixture.converged_:
            break
    assert mixture.converged_
    assert (np.diff(scores) >= -1e-12).all()


def test_lower_bounds_are_the_scores_before_each_step(overlapping):
    """The bound of iteration i is the score of the parameters after i - 1 steps."""
    mixture = GaussianMixture(3, random_state=0, reg_covar=0).fit(overlapping)
    for n_steps in (0, 1, 2):
        earlier = GaussianMixture(
            3, random_state=0, reg_covar=0, max_iter=n_steps, tol=0
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            score = earlier.fit(overlapping).score(overlapping)
        assert mixture.lower_bounds_[n_steps] == pytest.approx(score, rel=1e-9)


# Warm start ----------------------------------------------------------------------


@ignore_convergence
@each_type
def test_warm_start_continues_a_fit(overlapping, covariance_type):
    common = {"n_components": 3, "covariance_type": covariance_type, "random_state": 0}
    long = GaussianMixture(**common, max_iter=6, tol=0).fit(overlapping)
    parts = GaussianMixture(**common, max_iter=3, tol=0, warm_start=True)
    bounds = parts.fit(overlapping).lower_bounds_ + parts.fit(overlapping).lower_bounds_
    np.testing.assert_allclose(bounds, long.lower_bounds_, rtol=1e-9)
    for name in ("weights_", "means_", "precisions_"):
        np.testing.assert_allclose(
            getattr(parts, name), getattr(long, name), rtol=1e-7, atol=1e-9
        )


@ignore_convergence
@pytest.mark.parametrize("max_iter", [1, 2, 50])
def test_convergence_is_detected_across_warm_starts(spaced, rng, max_iter):
    X, _ = spaced.draw("full", 300, rng)
    mixture = GaussianMixture(3, warm_start=True, max_iter=max_iter, random_state=0)
    for _ in range(100):
        if mixture.fit(X).converged_:
            break
    assert mixture.converged_
    assert mixture.n_iter_ <= max_iter


def test_without_warm_start_a_fit_forgets_the_last(overlapping):
    mixture = GaussianMixture(3, random_state=0)
    first = mixture.fit(overlapping).means_.copy()
    mixture.fit(overlapping[::-1] + 100.0)
    np.testing.assert_array_equal(mixture.fit(overlapping).means_, first)
