"""Exact EM against scikit-learn and SciPy, and the laws that any mixture obeys."""

import numpy as np
import pytest
import sklearn.mixture
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.special import logsumexp

from skdeepgmm import GaussianMixture
from tests.estimators.mixture.problems import make_problem, matrices_of
from tests.oracles import COVARIANCE_TYPES, ORACLES, SKLEARN_TYPES

# A fixed number of iterations is compared, so neither side may stop early.
FIXED_ITERATIONS = {"tol": 0.0, "max_iter": 8}
SHAPES = [(1, 1, 60), (2, 3, 200), (5, 2, 300), (3, 8, 500), (4, 20, 1500)]
FITTED = ("weights_", "means_", "covariances_", "precisions_", "precisions_cholesky_")

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def overlapping_data(n_components, n_features, n_samples, covariance_type, seed=0):
    """Return an overlapping mixture, data from it, and a start away from the truth."""
    rng = np.random.default_rng(seed)
    problem = make_problem(rng, n_components, n_features, spread=1.5)
    X, _ = problem.draw(covariance_type, n_samples, rng)
    start = problem.start(covariance_type)
    start["means_init"] = problem.means + rng.normal(size=problem.means.shape) * 0.3
    return X, start


def precision_matrices(mixture):
    oracle = ORACLES[mixture.covariance_type]
    return oracle.as_matrices(mixture.precisions_, *mixture.means_.shape)


@pytest.fixture(params=[None, 7], ids=["one_batch", "batches_of_7"])
def batch_size(request):
    return request.param


@pytest.fixture(params=COVARIANCE_TYPES)
def covariance_type(request):
    return request.param


@pytest.fixture(params=SKLEARN_TYPES)
def sklearn_type(request):
    return request.param


@pytest.fixture(params=SHAPES, ids=lambda shape: "K{}-D{}-N{}".format(*shape))
def pair(request, sklearn_type, batch_size):
    """Return data, our fit and scikit-learn's fit from equal start values."""
    X, start = overlapping_data(*request.param, sklearn_type)
    ours = GaussianMixture(**start, **FIXED_ITERATIONS, batch_size=batch_size).fit(X)
    theirs = sklearn.mixture.GaussianMixture(**start, **FIXED_ITERATIONS).fit(X)
    return X, ours, theirs


# Against scikit-learn ------------------------------------------------------------


def test_fit_equals_scikit_learn(pair):
    _, ours, theirs = pair
    assert ours.n_iter_ == theirs.n_iter_ == FIXED_ITERATIONS["max_iter"]
    for name in FITTED:
        value, expected = getattr(ours, name), getattr(theirs, name)
        # Off-diagonal zeros have no relative precision of their own.
        floor = 1e-9 * np.abs(expected).max()
        np.testing.assert_allclose(value, expected, rtol=1e-6, atol=floor, err_msg=name)
    np.testing.assert_allclose(ours.lower_bounds_, theirs.lower_bounds_, rtol=1e-6)
    np.testing.assert_allclose(ours.lower_bound_, theirs.lower_bound_, rtol=1e-6)


def test_scores_equal_scikit_learn(pair):
    X, ours, theirs = pair
    for method in ("score_samples", "score", "bic", "aic"):
        value, expected = getattr(ours, method)(X), getattr(theirs, method)(X)
        np.testing.assert_allclose(value, expected, rtol=1e-6, err_msg=method)
    np.testing.assert_allclose(
        ours.predict_proba(X), theirs.predict_proba(X), rtol=1e-6, atol=1e-12
    )
    np.testing.assert_array_equal(ours.predict(X), theirs.predict(X))


def test_far_away_points_score_as_in_scikit_learn(sklearn_type):
    X, start = overlapping_data(3, 2, 200, sklearn_type)
    ours = GaussianMixture(**start, **FIXED_ITERATIONS).fit(X)
    theirs = sklearn.mixture.GaussianMixture(**start, **FIXED_ITERATIONS).fit(X)
    far = np.array([[1e3, -1e3], [0.0, 1e5], [50.0, 50.0]])
    np.testing.assert_allclose(
        ours.score_samples(far), theirs.score_samples(far), rtol=1e-6
    )
    assert np.isfinite(ours.predict_proba(far)).all()


@pytest.mark.parametrize("reg_covar", [0.0, 0.3])
def test_reg_covar_acts_as_in_scikit_learn(sklearn_type, reg_covar, batch_size):
    X, _ = overlapping_data(3, 3, 300, sklearn_type)
    X = X * [1.0, 100.0, 0.01] + [0.0, 1e3, 5.0]
    settings_ = {
        "n_components": 3,
        "covariance_type": sklearn_type,
        "reg_covar": reg_covar,
        "random_state": 0,
        **FIXED_ITERATIONS,
    }
    ours = GaussianMixture(**settings_, batch_size=batch_size).fit(X)
    theirs = sklearn.mixture.GaussianMixture(**settings_).fit(X)
    scale = np.abs(theirs.covariances_).max()
    np.testing.assert_allclose(
        ours.covariances_, theirs.covariances_, rtol=1e-6, atol=1e-10 * scale
    )
    np.testing.assert_allclose(ours.score(X), theirs.score(X), rtol=1e-6)


# Against SciPy -------------------------------------------------------------------


def scipy_score_samples(mixture, X):
    """Return log sum_k pi_k N(x; mu_k, Sigma_k) from SciPy's normal density."""
    matrices = matrices_of(mixture)
    joint = [
        np.log(weight) + stats.multivariate_normal(mean, matrix).logpdf(X)
        for weight, mean, matrix in zip(
            mixture.weights_, mixture.means_, matrices, strict=True
        )
    ]
    return logsumexp(joint, axis=0)


@pytest.mark.parametrize("n_features", [1, 4, 12])
def test_score_samples_is_the_mixture_density(covariance_type, batch_size, n_features):
    X, start = overlapping_data(3, n_features, 400, covariance_type)
    mixture = GaussianMixture(**start, max_iter=5, tol=0, batch_size=batch_size).fit(X)
    expected = scipy_score_samples(mixture, X)
    np.testing.assert_allclose(mixture.score_samples(X), expected, rtol=1e-8, atol=1e-8)


def test_density_integrates_to_one(covariance_type):
    X, start = overlapping_data(3, 2, 400, covariance_type)
    mixture = GaussianMixture(**start, max_iter=5, tol=0).fit(X)
    axis = np.linspace(-25, 25, 801)
    grid = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    mass = np.exp(mixture.score_samples(grid)).sum() * (axis[1] - axis[0]) ** 2
    assert mass == pytest.approx(1.0, abs=1e-6)


# Laws ----------------------------------------------------------------------------

MIXTURES = {
    "covariance_type": st.sampled_from(COVARIANCE_TYPES),
    "n_components": st.integers(1, 5),
    "n_features": st.integers(1, 5),
    "batch_size": st.one_of(st.none(), st.integers(1, 400)),
    "seed": st.integers(0, 2**16),
}
PROPERTY = settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@PROPERTY
@given(**MIXTURES)
def test_likelihood_never_falls(
    covariance_type, n_components, n_features, batch_size, seed
):
    X, start = overlapping_data(n_components, n_features, 300, covariance_type, seed)
    mixture = GaussianMixture(
        **start, reg_covar=0.0, tol=0.0, max_iter=15, batch_size=batch_size
    ).fit(X)
    bounds = np.array(mixture.lower_bounds_)
    assert (np.diff(bounds) >= -1e-10 * np.abs(bounds).max()).all()
    assert mixture.score(X) >= bounds[-1] - 1e-10 * np.abs(bounds).max()


@PROPERTY
@given(**MIXTURES)
def test_responsibilities_sum_to_one(
    covariance_type, n_components, n_features, batch_size, seed
):
    X, start = overlapping_data(n_components, n_features, 300, covariance_type, seed)
    mixture = GaussianMixture(**start, tol=0.0, max_iter=3, batch_size=batch_size)
    resp = mixture.fit(X).predict_proba(X)
    assert ((resp >= 0) & (resp <= 1)).all()
    np.testing.assert_allclose(resp.sum(axis=1), 1.0, rtol=1e-12)
    assert mixture.weights_.sum() == pytest.approx(1.0, rel=1e-12)


@PROPERTY
@given(**MIXTURES)
def test_batch_size_does_not_change_the_fit(
    covariance_type, n_components, n_features, batch_size, seed
):
    X, start = overlapping_data(n_components, n_features, 300, covariance_type, seed)
    whole = GaussianMixture(**start, tol=0.0, max_iter=5, batch_size=300).fit(X)
    parts = GaussianMixture(**start, tol=0.0, max_iter=5, batch_size=batch_size).fit(X)
    for name in FITTED:
        value, expected = getattr(parts, name), getattr(whole, name)
        floor = 1e-9 * np.abs(expected).max()
        np.testing.assert_allclose(value, expected, rtol=1e-7, atol=floor)


def test_covariance_times_precision_is_the_identity(pair):
    _, ours, _ = pair
    n_features = ours.n_features_in_
    product = matrices_of(ours) @ precision_matrices(ours)
    np.testing.assert_allclose(
        product, np.broadcast_to(np.eye(n_features), product.shape), atol=1e-8
    )


def test_translation_and_scale_shift_the_score(covariance_type):
    """log p(a x + b) = log p(x) - D log a, and labels stay."""
    X, start = overlapping_data(3, 4, 500, covariance_type)
    moved = 1e-3 * X + 7.0
    start_moved = {
        **start,
        "means_init": 1e-3 * start["means_init"] + 7.0,
        "precisions_init": 1e6 * start["precisions_init"],
    }
    fixed = {"reg_covar": 0.0, "tol": 0.0, "max_iter": 10}
    plain = GaussianMixture(**start, **fixed).fit(X)
    other = GaussianMixture(**start_moved, **fixed).fit(moved)
    np.testing.assert_allclose(
        other.score_samples(moved),
        plain.score_samples(X) + 4 * np.log(1e3),
        rtol=1e-7,
        atol=1e-7,
    )


# Sampling fits the density -------------------------------------------------------

N_DRAWS = 20_000
#: With fixed seeds the tests are deterministic; a wrong sampler gives p < 1e-30.
SIGNIFICANCE = 1e-3


@pytest.fixture
def sampled(covariance_type):
    """Return a fitted mixture and a large sample from it."""
    X, start = overlapping_data(3, 3, 600, covariance_type, seed=4)
    mixture = GaussianMixture(**start, max_iter=5, tol=0, random_state=11).fit(X)
    return mixture, *mixture.sample(N_DRAWS)


def test_sample_counts_follow_the_weights(sampled):
    mixture, _, labels = sampled
    counts = np.bincount(labels, minlength=mixture.n_components)
    p_value = stats.chisquare(counts, mixture.weights_ * N_DRAWS).pvalue
    assert p_value > SIGNIFICANCE


def test_sample_distances_are_chi_square_per_component(sampled):
    mixture, rows, labels = sampled
    for k, precision in enumerate(precision_matrices(mixture)):
        delta = rows[labels == k] - mixture.means_[k]
        distance = np.einsum("ni,ij,nj->n", delta, precision, delta)
        assert stats.kstest(distance, stats.chi2(3).cdf).pvalue > SIGNIFICANCE


def test_whitened_samples_are_standard_normal(sampled):
    mixture, rows, labels = sampled
    factors = np.linalg.cholesky(matrices_of(mixture))
    white = np.stack(
        [
            np.linalg.solve(factors[k], row - mixture.means_[k])
            for k, row in zip(labels[:4000], rows[:4000], strict=True)
        ]
    )
    for column in white.T:
        assert stats.kstest(column, "norm").pvalue > SIGNIFICANCE
    np.testing.assert_allclose(np.corrcoef(white.T), np.eye(3), atol=0.08)


def test_sample_scores_have_the_rank_of_independent_draws(sampled):
    """log p of our samples is distributed as log p of SciPy's samples."""
    mixture, rows, _ = sampled
    rng = np.random.default_rng(5)
    matrices = matrices_of(mixture)
    counts = rng.multinomial(N_DRAWS, mixture.weights_)
    parts = [
        rng.multivariate_normal(mean, matrix, size)
        for mean, matrix, size in zip(mixture.means_, matrices, counts, strict=True)
    ]
    independent = mixture.score_samples(np.concatenate(parts))
    result = stats.ks_2samp(mixture.score_samples(rows), independent)
    assert result.pvalue > SIGNIFICANCE


# Reproducibility -----------------------------------------------------------------


@pytest.mark.parametrize("init_params", ["kmeans", "k-means++", "random"])
def test_fit_and_sample_are_reproducible(covariance_type, init_params):
    X, _ = overlapping_data(3, 3, 300, covariance_type)
    first, second = (
        GaussianMixture(
            3,
            covariance_type=covariance_type,
            init_params=init_params,
            random_state=3,
            max_iter=6,
        ).fit(X)
        for _ in range(2)
    )
    for name in FITTED:
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))
    np.testing.assert_array_equal(first.sample(20)[0], second.sample(20)[0])


def test_random_state_matters():
    X, _ = overlapping_data(5, 3, 300, "full")
    bounds = {
        GaussianMixture(
            5, init_params="random_from_data", random_state=seed, max_iter=3
        )
        .fit(X)
        .lower_bound_
        for seed in range(5)
    }
    assert len(bounds) > 1


# Global random state and settings are guarded around every test by conftest.py.
def test_unseeded_fit_and_sample_leave_global_state_alone():
    X, _ = overlapping_data(2, 2, 100, "full")
    mixture = GaussianMixture(2, random_state=np.random.RandomState(0), max_iter=2)
    mixture.fit(X).sample(5)
