"""NaN is a missing entry: marginal likelihoods, imputation, conditional draws."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment
from scipy.special import logsumexp
from scipy.stats import kstest, multivariate_normal, norm
from sklearn.impute import SimpleImputer
from sklearn.utils import get_tags

from skdeepgmm import GaussianMixture
from tests.estimators.mixture.problems import make_problem, matrices_of, spaced_problem
from tests.oracles import ALL_TYPES, COVARIANCE_TYPES, ORACLES

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

all_types = pytest.mark.parametrize("covariance_type", ALL_TYPES)


def delete(X, rng, share=0.3):
    """Return X with a share of its entries missing at random."""
    return np.where(rng.random(X.shape) < share, np.nan, X)


def groups(rng, n_samples=300, n_features=4):
    problem = make_problem(rng, 3, n_features, spread=3.0)
    return problem.draw("full", n_samples, rng)[0]


def fit(X, covariance_type, **parameters):
    settings = {"n_components": 3, "max_iter": 20, "rank": 2, "random_state": 0}
    settings |= {"covariance_type": covariance_type, **parameters}
    return GaussianMixture(**settings).fit(X)


def dense_row(gm, row):
    """Return log-joints and conditional means of one row by dense algebra."""
    seen, log_joint, filled = ~np.isnan(row), np.log(gm.weights_), []
    for k, (mean, matrix) in enumerate(zip(gm.means_, matrices_of(gm), strict=True)):
        block = matrix[np.ix_(seen, seen)]
        if seen.any():
            log_joint[k] += multivariate_normal(mean[seen], block).logpdf(row[seen])
        gain = matrix[:, seen] @ np.linalg.inv(block)
        filled.append(np.where(seen, row, mean + gain @ (row - mean)[seen]))
    return log_joint, np.array(filled)


# Fitting -------------------------------------------------------------------------


@all_types
def test_the_likelihood_never_falls(rng, covariance_type):
    X = delete(groups(rng), rng)
    gm = fit(X, covariance_type, tol=0.0, max_iter=40, reg_covar=1e-10)
    assert np.diff(gm.lower_bounds_).min() > -1e-8
    assert gm.lower_bounds_[-1] > gm.lower_bounds_[0] + 0.05


@all_types
def test_the_lower_bound_is_the_score(rng, covariance_type):
    X = delete(groups(rng), rng)
    gm = fit(X, covariance_type)
    before = gm.score(X)
    gm.set_params(warm_start=True, max_iter=1).fit(X)
    assert gm.lower_bound_ == pytest.approx(before, abs=1e-8)


def parameter_error(gm, problem, covariance_type):
    """Return the root mean square error of each parameter, components matched."""
    distance = np.linalg.norm(gm.means_[:, None] - problem.means, axis=2)
    order = linear_sum_assignment(distance.T)[1]
    pairs = [
        (gm.weights_[order], problem.weights),
        (gm.means_[order], problem.means),
        (matrices_of(gm)[order], problem.matrices(covariance_type)),
    ]
    return np.array([np.sqrt(np.mean((a - b) ** 2)) for a, b in pairs])


@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
def test_a_known_mixture_is_recovered_within_twice_the_error(covariance_type):
    errors = []
    for seed in range(4):
        rng = np.random.default_rng(seed)
        problem = spaced_problem(rng, 3, 4)
        X, _ = problem.draw(covariance_type, 2000, rng)
        parameters = {"tol": 1e-6, "max_iter": 100}
        pair = [X, delete(X, rng)]
        fits = [fit(rows, covariance_type, **parameters) for rows in pair]
        errors.append([parameter_error(gm, problem, covariance_type) for gm in fits])
    complete, missing = np.mean(errors, axis=0)
    assert (complete > 0).all()
    assert (missing < 2 * complete).all()


def test_known_factors_are_recovered_within_twice_the_error():
    errors = []
    for seed in range(3):
        rng = np.random.default_rng(seed)
        factors = rng.normal(size=(6, 2))
        X = rng.normal(size=(1000, 2)) @ factors.T + 0.5 * rng.normal(size=(1000, 6))
        expected = factors @ factors.T + 0.25 * np.eye(6)
        settings = {"covariance_type": "low_rank", "rank": 2, "max_iter": 60}
        fits = [
            GaussianMixture(1, tol=1e-5, **settings).fit(rows)
            for rows in (X, delete(X, rng))
        ]
        errors.append([np.abs(matrices_of(gm) - expected).mean() for gm in fits])
    complete, missing = np.mean(errors, axis=0)
    assert missing < 2 * complete


def test_one_gaussian_beats_complete_rows_and_mean_filling():
    rng = np.random.default_rng(0)
    covariance = np.array([[1.0, 0.8], [0.8, 1.0]])
    X = rng.multivariate_normal([0, 0], covariance, 4000)
    # Only rows with a small first entry show the second one: missing at random.
    X[X[:, 0] > 0, 1] = np.nan
    gm = GaussianMixture(1, tol=1e-9, max_iter=1000).fit(X)
    np.testing.assert_allclose(gm.means_[0], 0, atol=0.1)
    np.testing.assert_allclose(gm.covariances_[0], covariance, atol=0.15)
    filled = SimpleImputer().fit_transform(X)
    assert abs(filled[:, 1].mean()) > 0.5


@all_types
def test_rows_without_any_entry_do_not_move_a_fit(rng, covariance_type):
    X = delete(groups(rng, 150), rng)
    empty = np.full((30, X.shape[1]), np.nan)
    n_components = 1 if ORACLES[covariance_type].latent else 3
    settings = {"n_components": n_components, "tol": 1e-10, "max_iter": 500}
    gm = fit(X, covariance_type, **settings)
    before, score = matrices_of(gm), gm.score(X)
    gm.set_params(warm_start=True, tol=0.0, max_iter=3).fit(np.r_[X, empty])
    np.testing.assert_allclose(matrices_of(gm), before, rtol=1e-2, atol=1e-3)
    assert gm.score(X) == pytest.approx(score, abs=1e-4)


@all_types
def test_batches_do_not_change_the_fit(rng, covariance_type):
    X = delete(groups(rng, 150), rng)
    settings = {"tol": 0.0, "max_iter": 5}
    whole = fit(X, covariance_type, **settings)
    parts = fit(X, covariance_type, batch_size=11, **settings)
    np.testing.assert_allclose(parts.means_, whole.means_, rtol=1e-7, atol=1e-8)
    np.testing.assert_allclose(
        matrices_of(parts), matrices_of(whole), rtol=1e-6, atol=1e-8
    )
    for method in ("score_samples", "predict_proba", "impute"):
        first, second = getattr(parts, method)(X), getattr(whole, method)(X)
        np.testing.assert_allclose(first, second, rtol=1e-6, atol=1e-6)


@all_types
def test_few_and_many_patterns_score_the_same(rng, covariance_type):
    X = delete(groups(rng, 100), rng)
    gm = fit(X, covariance_type)
    together = gm.score_samples(X)
    alone = [gm.score_samples(X[i : i + 1])[0] for i in range(100)]
    repeated = gm.score_samples(np.repeat(X[:5], 200, axis=0))
    np.testing.assert_allclose(together, alone, rtol=0, atol=1e-8)
    np.testing.assert_allclose(repeated, np.repeat(alone[:5], 200), rtol=0, atol=1e-8)


@all_types
def test_tight_components_far_away_keep_their_digits(rng, covariance_type):
    X = 1e-4 * rng.normal(size=(120, 4)) * [1, 2, 3, 4]
    X += np.repeat([[0.0], [1.0], [5.0]], 40, axis=0)
    holed = delete(X, rng, 0.2)
    holed[:2] = X[:2]
    gm = fit(holed, covariance_type, reg_covar=1e-14)
    assert np.diff(gm.lower_bounds_).min() > -1e-6
    expected = [logsumexp(dense_row(gm, row)[0]) for row in holed]
    np.testing.assert_allclose(gm.score_samples(holed), expected, rtol=0, atol=1e-6)
    labels = gm.predict(holed)
    assert len({*labels[:40]} | {*labels[40:80]} | {*labels[80:]}) == 3


def test_float32(rng):
    X = delete(groups(rng), rng)
    narrow, wide = fit(X.astype(np.float32), "full"), fit(X, "full")
    assert narrow.means_.dtype == np.float32
    assert narrow.impute(X.astype(np.float32)).dtype == np.float32
    assert narrow.score(X.astype(np.float32)) == pytest.approx(wide.score(X), abs=1e-3)


def test_memory_maps_and_read_only_arrays(rng, tmp_path):
    X = delete(groups(rng), rng)
    np.save(tmp_path / "rows.npy", X)
    mapped = np.load(tmp_path / "rows.npy", mmap_mode="r")
    gm, expected = fit(mapped, "diag", batch_size=40), fit(X, "diag", batch_size=40)
    np.testing.assert_allclose(gm.means_, expected.means_, rtol=1e-9)
    filled = gm.impute(mapped)
    assert not np.isnan(filled).any()
    np.testing.assert_array_equal(np.isnan(mapped), np.isnan(X))


def test_a_feature_that_is_never_seen_is_refused(rng):
    X = groups(rng)
    X[:, 2] = np.nan
    with pytest.raises(ValueError, match=r"Features \[2\]"):
        fit(X, "full")


def test_infinity_is_not_missing(rng):
    X = groups(rng)
    X[3, 1] = np.inf
    with pytest.raises(ValueError, match="infinity"):
        fit(X, "full")


def test_the_estimator_says_that_it_takes_nan():
    assert get_tags(GaussianMixture()).input_tags.allow_nan


# Scores --------------------------------------------------------------------------


@all_types
def test_scores_equal_the_dense_marginal(rng, covariance_type):
    X = groups(rng, 200)
    gm = fit(X, covariance_type)
    holed = delete(X[:50], rng, 0.5)
    rows = np.array([dense_row(gm, row)[0] for row in holed])
    log_prob = logsumexp(rows, axis=1)
    np.testing.assert_allclose(gm.score_samples(holed), log_prob, rtol=0, atol=1e-8)
    resp = np.exp(rows - log_prob[:, None])
    np.testing.assert_allclose(gm.predict_proba(holed), resp, rtol=0, atol=1e-8)
    np.testing.assert_array_equal(gm.predict(holed), resp.argmax(axis=1))
    assert gm.score(holed) == pytest.approx(log_prob.mean())


@all_types
def test_a_row_without_entries_has_density_one(rng, covariance_type):
    gm = fit(groups(rng, 200), covariance_type)
    empty = np.full((3, 4), np.nan)
    np.testing.assert_allclose(gm.score_samples(empty), 0.0, rtol=0, atol=1e-12)
    expected = np.broadcast_to(gm.weights_, (3, 3))
    np.testing.assert_allclose(gm.predict_proba(empty), expected, rtol=1e-10)
    mean = gm.weights_ @ gm.means_
    np.testing.assert_allclose(gm.impute(empty), np.broadcast_to(mean, (3, 4)))


@settings(max_examples=20, deadline=None)
@given(
    mask=st.lists(st.lists(st.booleans(), min_size=3, max_size=3), min_size=1),
    covariance_type=st.sampled_from(ALL_TYPES),
)
def test_any_pattern_has_the_dense_marginal(mask, covariance_type):
    rng = np.random.default_rng(0)
    gm = fit(groups(rng, 90, 3), covariance_type, max_iter=3)
    X = np.where(np.array(mask), np.nan, rng.normal(size=(len(mask), 3)))
    expected = [logsumexp(dense_row(gm, row)[0]) for row in X]
    np.testing.assert_allclose(gm.score_samples(X), expected, rtol=0, atol=1e-8)


# Imputation ----------------------------------------------------------------------


@all_types
def test_impute_equals_the_closed_form(rng, covariance_type):
    X = groups(rng, 200)
    gm = fit(X, covariance_type)
    holed = delete(X[:40], rng, 0.5)
    for row, filled in zip(holed, gm.impute(holed), strict=True):
        log_joint, means = dense_row(gm, row)
        expected = np.exp(log_joint - logsumexp(log_joint)) @ means
        np.testing.assert_allclose(filled, expected, rtol=1e-8, atol=1e-8)
        np.testing.assert_array_equal(filled[~np.isnan(row)], row[~np.isnan(row)])


def test_impute_returns_complete_rows_as_they_are(rng):
    X = groups(rng, 100)
    gm = fit(X, "full")
    filled = gm.impute(X)
    np.testing.assert_array_equal(filled, X)
    assert not np.shares_memory(filled, X)


def test_impute_leaves_its_input_alone(rng):
    X = delete(groups(rng, 100), rng)
    before = X.copy()
    X.flags.writeable = False
    fit(X, "full").impute(X)
    np.testing.assert_array_equal(X, before)


# Conditional draws ---------------------------------------------------------------


@all_types
def test_conditional_draws_follow_the_conditional_distribution(rng, covariance_type):
    gm = fit(groups(rng, 300), covariance_type)
    row = np.array([gm.means_[0, 0], np.nan, gm.means_[0, 2], np.nan])
    draws = gm.sample_conditional(row[None], n_samples=3000)
    assert draws.shape == (3000, 1, 4)
    assert (draws[:, 0, [0, 2]] == row[[0, 2]]).all()
    log_joint, means = dense_row(gm, row)
    resp = np.exp(log_joint - logsumexp(log_joint))
    matrix = matrices_of(gm)
    seen = np.ix_([0, 2], [0, 2])
    deviations = [
        np.sqrt(m[1, 1] - m[1, [0, 2]] @ np.linalg.solve(m[seen], m[[0, 2], 1]))
        for m in matrix
    ]

    def cdf(value):
        parts = [
            norm(m[1], s).cdf(value) for m, s in zip(means, deviations, strict=True)
        ]
        return resp @ np.array(parts)

    assert kstest(draws[:, 0, 1], cdf).pvalue > 1e-3


def test_draws_average_to_the_imputation(rng):
    X = delete(groups(rng, 100), rng)
    gm = fit(X, "full")
    X = X[:10]
    draws = gm.sample_conditional(X, n_samples=400)
    spread = draws.std(axis=0) / 20
    assert (np.abs(draws.mean(axis=0) - gm.impute(X)) <= 6 * spread + 1e-12).all()
    np.testing.assert_array_equal(draws[7][~np.isnan(X)], X[~np.isnan(X)])


def test_draws_without_any_entry_come_from_the_mixture(rng):
    gm = fit(groups(rng, 300), "full")
    draws = gm.sample_conditional(np.full((1, 4), np.nan), n_samples=4000)[:, 0]
    own, _ = gm.sample(4000)
    for feature in range(4):
        assert kstest(draws[:, feature], own[:, feature]).pvalue > 1e-3


def test_draws_repeat_with_their_seed(rng):
    X = delete(groups(rng, 50), rng)
    gm = fit(X, "diag")
    first, second = (gm.sample_conditional(X, n_samples=2) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert (first[0] != first[1])[np.isnan(X)].all()


def test_a_bad_number_of_draws_is_refused(rng):
    gm = fit(groups(rng), "diag")
    with pytest.raises(ValueError, match="n_samples"):
        gm.sample_conditional(np.full((1, 4), np.nan), n_samples=0)
