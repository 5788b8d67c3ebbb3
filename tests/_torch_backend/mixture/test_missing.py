"""Statistics of data with missing entries against a loop over rows."""

import numpy as np
import pytest
import torch
from scipy.special import logsumexp
from scipy.stats import multivariate_normal

from skdeepgmm._torch_backend.data import find_patterns
from skdeepgmm._torch_backend.mixture import em, init, scoring
from skdeepgmm._torch_backend.mixture.covariances import COVARIANCES
from skdeepgmm._torch_backend.mixture.e_step import e_step
from skdeepgmm._torch_backend.rng import new_generator
from tests._torch_backend.mixture import problems
from tests._torch_backend.mixture.problems import (
    all_types,
    dense_covariances,
    source_of,
)
from tests.oracles import ORACLES


def random_mixture(name, rng, n_features=4):
    return problems.random_mixture(name, rng, 3, n_features, spread=1.5)


def with_holes(rng, n_samples=40, n_features=4, share=0.4):
    """Return rows with missing entries; one is complete, one is empty."""
    X = rng.normal(scale=2.0, size=(n_samples, n_features))
    X[rng.random(X.shape) < share] = np.nan
    X[0], X[1] = 1.0, np.nan
    return X


def conditionals(mixture, row):
    """Return log-joints, conditional means and covariances of all features."""
    seen, hidden = np.flatnonzero(~np.isnan(row)), np.flatnonzero(np.isnan(row))
    log_joint, filled, residuals = np.log(mixture.weights.numpy()), [], []
    for k, (mean, matrix) in enumerate(
        zip(mixture.means.numpy(), dense_covariances(mixture), strict=True)
    ):
        own, residual = row.copy(), np.zeros_like(matrix)
        block = matrix[np.ix_(seen, seen)]
        gain = matrix[np.ix_(hidden, seen)] @ np.linalg.inv(block)
        own[hidden] = mean[hidden] + gain @ (row[seen] - mean[seen])
        residual[np.ix_(hidden, hidden)] = (
            matrix[np.ix_(hidden, hidden)] - gain @ matrix[np.ix_(seen, hidden)]
        )
        if len(seen):
            log_joint[k] += multivariate_normal(mean[seen], block).logpdf(row[seen])
        filled.append(own)
        residuals.append(residual)
    return log_joint, np.array(filled), np.array(residuals)


def expected_moments(mixture, X, weight):
    """Return log p(X), masses, first and second moments about the means."""
    shape = mixture.means.shape
    nk, first = np.zeros(shape[0]), np.zeros(shape)
    second, total = np.zeros((*shape, shape[1])), 0.0
    for row, mass in zip(X, weight, strict=True):
        log_joint, filled, residuals = conditionals(mixture, row)
        log_prob = logsumexp(log_joint)
        resp = mass * np.exp(log_joint - log_prob)
        diff = filled - mixture.means.numpy()
        nk, total = nk + resp, total + mass * log_prob
        first += resp[:, None] * diff
        outer = diff[:, :, None] * diff[:, None] + residuals
        second += resp[:, None, None] * outer
    return total, nk, first, second


# The E-step ----------------------------------------------------------------------


@all_types
@pytest.mark.parametrize("batch_size", [40, 7])
def test_statistics_equal_a_loop_over_rows(rng, name, batch_size):
    mixture, X = random_mixture(name, rng), with_holes(rng)
    weight = rng.uniform(0.0, 2.0, size=len(X))
    stats = e_step(mixture, source_of(X, batch_size, weight))
    stats = stats.recentered(type(mixture.covariance), mixture.means)
    total, nk, first, second = expected_moments(mixture, X, weight)
    assert float(stats.log_likelihood) == pytest.approx(total, rel=1e-10)
    np.testing.assert_allclose(stats.nk, nk, rtol=1e-9)
    np.testing.assert_allclose(stats.first, first, rtol=1e-8, atol=1e-9)
    actual = ORACLES[name].squares(stats.second.numpy(), X.shape[1])
    expected = ORACLES[name].second(second)
    np.testing.assert_allclose(
        actual.reshape(expected.shape), expected, rtol=1e-8, atol=1e-8
    )


def test_factors_of_missing_rows_equal_a_loop_over_rows(rng):
    mixture, X = random_mixture("low_rank", rng), with_holes(rng)
    stats = e_step(mixture, source_of(X))
    stats = stats.recentered(type(mixture.covariance), mixture.means)
    expected = np.zeros((3, 6, 3))
    for row in X:
        log_joint, filled, residuals = conditionals(mixture, row)
        resp = np.exp(log_joint - logsumexp(log_joint))
        for k, matrix in enumerate(dense_covariances(mixture)):
            # z given x_observed, by conditioning the joint normal of (x, z).
            factors = mixture.covariance.factors[k].numpy()
            seen = ~np.isnan(row)
            gain = factors[seen].T @ np.linalg.inv(matrix[np.ix_(seen, seen)])
            diff = filled[k] - mixture.means[k].numpy()
            z = gain @ diff[seen]
            spread = np.eye(2) - gain @ factors[seen]
            cross = np.outer(diff, z)
            noisy = ~seen
            cross[noisy] += factors[noisy] @ spread
            expected[k, :4, :2] += resp[k] * cross
            expected[k, :4, 2] += resp[k] * (diff**2 + np.diag(residuals[k]))
            expected[k, 4:, :2] += resp[k] * (np.outer(z, z) + spread)
            expected[k, 4:, 2] += resp[k] * z
    np.testing.assert_allclose(stats.second, expected, rtol=1e-8, atol=1e-8)


@all_types
def test_complete_rows_give_the_plain_statistics(rng, name):
    mixture = random_mixture(name, rng)
    X = rng.normal(size=(30, 4))
    kind = type(mixture.covariance)
    plain = e_step(mixture, source_of(X)).recentered(kind, mixture.means)
    both = np.concatenate([X, np.full((1, 4), np.nan)])
    weight = np.r_[np.ones(30), 0.0]
    holed = e_step(mixture, source_of(both, None, weight))
    holed = holed.recentered(kind, mixture.means)
    for name in ("log_likelihood", "total", "nk", "first", "second"):
        np.testing.assert_allclose(
            getattr(holed, name), getattr(plain, name), rtol=1e-9, atol=1e-9
        )


@all_types
def test_an_unseen_row_tells_nothing(rng, name):
    mixture = random_mixture(name, rng)
    stats = e_step(mixture, source_of(np.full((5, 4), np.nan)))
    assert float(stats.log_likelihood) == pytest.approx(0.0, abs=1e-12)
    np.testing.assert_allclose(stats.nk, 5 * mixture.weights)
    again, failed = em.maximize(
        type(mixture.covariance), stats, torch.zeros(4, dtype=torch.float64)
    )
    assert not failed.any()
    np.testing.assert_allclose(again.means, mixture.means, atol=1e-9)
    np.testing.assert_allclose(
        dense_covariances(again), dense_covariances(mixture), atol=1e-9
    )


@all_types
def test_the_likelihood_never_falls(rng, name):
    X = with_holes(rng, 150)
    X[:75] += 3.0
    source = source_of(X, standardize=True)
    source.standardize(COVARIANCES[name].isotropic)
    mixture = random_mixture(name, rng)
    ridge = torch.full((4,), 1e-9, dtype=torch.float64)
    if not ORACLES[name].latent:
        ridge.zero_()
    bounds = []
    for _ in range(40):
        stats, mixture, failed = em.em_step(mixture, source, ridge)
        assert not failed.any()
        bounds.append(stats.mean_log_likelihood)
    assert (np.diff(bounds) > -1e-9).all()
    assert bounds[-1] > bounds[0] + 0.1


@all_types
def test_start_values_are_finite_and_near_the_labels(rng, name):
    X = with_holes(rng, 200)
    labels = rng.integers(0, 2, 200)
    X[labels == 1] += 5.0
    source = source_of(X, 50, standardize=True)
    source.standardize(COVARIANCES[name].isotropic)
    kind = ORACLES[name].covariance_class(4)
    function = init.labels_function(torch.from_numpy(labels), 2)
    ridge = torch.full((4,), 1e-6, dtype=torch.float64)
    mixture, failed, nk = init.initial_mixture(kind, source, 2, function, ridge)
    assert not failed.any()
    np.testing.assert_allclose(nk, np.bincount(labels))
    means = mixture.unstandardized(source.standardization).means
    assert (means[1] - means[0] > 1.0).all()


# Patterns and moments ------------------------------------------------------------


def test_patterns_partition_the_rows(rng):
    X = with_holes(rng, 200, 11)
    patterns = find_patterns(X, 30)
    rows = np.concatenate([pattern.rows for pattern in patterns])
    assert sorted(rows) == list(range(200))
    for pattern in patterns:
        missing = np.zeros(11, dtype=bool)
        missing[pattern.missing] = True
        assert (np.isnan(X[pattern.rows]) == missing).all()
        assert sorted([*pattern.observed, *pattern.missing]) == list(range(11))
    masks = {row.tobytes() for row in np.isnan(X)}
    assert len(patterns) == len(masks)


@pytest.mark.parametrize("convert", [np.asarray, torch.from_numpy])
def test_no_patterns_without_missing_entries(rng, convert):
    assert find_patterns(convert(rng.normal(size=(20, 3))), 7) is None


def test_large_values_are_not_taken_for_missing():
    X = np.full((4, 2), np.finfo(np.float64).max)
    assert find_patterns(X, 4) is None


def test_moments_ignore_missing_entries(rng):
    X = with_holes(rng, 60) + 1e6
    weight = rng.uniform(size=60)
    mean, variance = source_of(X, 13, weight).moments()
    for feature in range(4):
        seen = ~np.isnan(X[:, feature])
        expected = np.average(X[seen, feature], weights=weight[seen])
        assert float(mean[feature]) == pytest.approx(expected, abs=1e-9)
        spread = np.average((X[seen, feature] - expected) ** 2, weights=weight[seen])
        assert float(variance[feature]) == pytest.approx(spread, rel=1e-8)


def test_a_feature_that_is_never_seen_is_refused(rng):
    X = rng.normal(size=(10, 3))
    X[:, 1] = np.nan
    with pytest.raises(ValueError, match=r"Features \[1\]"):
        source_of(X).moments()


# Scores --------------------------------------------------------------------------


@all_types
@pytest.mark.parametrize("batch_size", [40, 3])
def test_scores_and_posteriors_equal_the_dense_marginal(rng, name, batch_size):
    mixture, X = random_mixture(name, rng), with_holes(rng)
    source = source_of(X, batch_size)
    rows = [conditionals(mixture, row)[0] for row in X]
    log_prob = logsumexp(rows, axis=1)
    resp = np.exp(rows - log_prob[:, None])
    actual = scoring.score_samples(mixture, source, torch.float64)
    np.testing.assert_allclose(actual, log_prob, rtol=0, atol=1e-8)
    actual = scoring.predict_proba(mixture, source, torch.float64)
    np.testing.assert_allclose(actual, resp, rtol=0, atol=1e-8)
    labels = scoring.predict(mixture, source, torch.float64)
    np.testing.assert_array_equal(labels, resp.argmax(1))
    assert actual[1].numpy() == pytest.approx(mixture.weights.numpy())


@all_types
@pytest.mark.parametrize("batch_size", [40, 3])
def test_impute_equals_a_loop_over_rows(rng, name, batch_size):
    mixture, X = random_mixture(name, rng), with_holes(rng)
    filled = scoring.impute(mixture, source_of(X, batch_size), torch.float64)
    for row, actual in zip(X, filled, strict=True):
        log_joint, means, _ = conditionals(mixture, row)
        resp = np.exp(log_joint - logsumexp(log_joint))
        np.testing.assert_allclose(actual, resp @ means, rtol=1e-9, atol=1e-9)


@all_types
def test_conditional_draws_have_the_conditional_moments(rng, name):
    mixture = random_mixture(name, rng)
    row = np.array([0.5, np.nan, -0.3, np.nan])
    log_joint, means, residuals = conditionals(mixture, row)
    resp = np.exp(log_joint - logsumexp(log_joint))
    X = np.repeat(row[None], 2000, axis=0)
    draws = scoring.sample_conditional(
        mixture, source_of(X), torch.float64, 3, new_generator(0)
    )
    draws = draws.reshape(-1, 4).numpy()
    assert (draws[:, [0, 2]] == row[[0, 2]]).all()
    mean = resp @ means
    second = np.einsum("k,kij->ij", resp, residuals)
    second += np.einsum("k,ki,kj->ij", resp, means - mean, means - mean)
    scale = np.sqrt(np.diag(second))[[1, 3]]
    assert (np.abs(draws.mean(0) - mean)[[1, 3]] < 5 * scale / np.sqrt(6000)).all()
    tolerance = 0.12 * scale[:, None] * scale
    hidden = np.ix_([1, 3], [1, 3])
    assert (np.abs(np.cov(draws.T) - second)[hidden] < tolerance).all()


@all_types
@pytest.mark.parametrize("n_rows", [20, 90], ids=["rare", "frequent"])
def test_completed_statistics_are_the_sums_of_conditional_moments(name, rng, n_rows):
    """Sample by sample, with SciPy's responsibilities and dense matrices."""
    mixture = random_mixture(name, rng)
    X = rng.normal(scale=2.0, size=(n_rows, 4))
    observed, missing = np.array([0, 2]), np.array([1, 3])
    X[:, missing] = np.nan
    stats = e_step(mixture, source_of(X)).recentered(
        type(mixture.covariance), torch.zeros_like(mixture.means)
    )
    sigma, means = dense_covariances(mixture), mixture.means.numpy()
    seen, cross = np.ix_(observed, observed), np.ix_(missing, observed)
    gain = np.stack([s[cross] @ np.linalg.inv(s[seen]) for s in sigma])
    log_joint = np.stack(
        [
            multivariate_normal(m[observed], s[seen]).logpdf(X[:, observed])
            for m, s in zip(means, sigma, strict=True)
        ],
        axis=1,
    ) + np.log(mixture.weights.numpy())
    resp = np.exp(log_joint - logsumexp(log_joint, axis=1, keepdims=True))
    squares = np.zeros((3, 4))
    for k in range(3):
        full = np.empty_like(X)
        full[:, observed] = X[:, observed]
        regressed = (X[:, observed] - means[k, observed]) @ gain[k].T
        full[:, missing] = means[k, missing] + regressed
        hidden = sigma[k][np.ix_(missing, missing)]
        rest = np.diagonal(hidden - gain[k] @ sigma[k][cross].T)
        squares[k] = resp[:, k] @ full**2
        squares[k, missing] += resp[:, k].sum() * rest
        np.testing.assert_allclose(stats.first[k], resp[:, k] @ full)
    np.testing.assert_allclose(stats.nk, resp.sum(axis=0))
    found = squares_of(name, stats.second.numpy())
    np.testing.assert_allclose(found, squares_of_dense(name, squares))


def squares_of(name, second):
    """Return what statistics say of sums of squares, in the type's own detail."""
    if name == "full":
        return second[:, :4]
    if name == "tied":
        return np.diagonal(second)
    return second[:, :4, -1] if name == "low_rank" else second


def squares_of_dense(name, squares):
    if name == "tied":
        return squares.sum(axis=0)
    return squares.sum(axis=1) if name == "spherical" else squares
