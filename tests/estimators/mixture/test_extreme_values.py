"""Values far from all others, and far from the origin, leave the numbers right."""

import warnings

import numpy as np
import pytest
import sklearn.mixture
from scipy.stats import multivariate_normal, norm
from sklearn.datasets import load_digits

from skdeepgmm import GaussianMixture, SGDGaussianMixture

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.mark.parametrize(
    ("value", "dtype"), [(1e20, float), (1e12, float), (1e10, np.float32)]
)
def test_a_few_fill_values_leave_the_ordinary_component(rng, value, dtype):
    X = rng.normal(size=(1000, 2)).astype(dtype)
    X[:3] = value
    ours = GaussianMixture(2, random_state=0)
    ours.fit(X)
    order = np.argsort(ours.means_[:, 0])
    np.testing.assert_allclose(ours.weights_[order], [0.997, 0.003], rtol=1e-6)
    ordinary = X[3:].astype(np.float64)
    tolerance = {"rtol": 1e-4, "atol": 1e-5}
    mean, covariance = ours.means_[order[0]], ours.covariances_[order[0]]
    np.testing.assert_allclose(mean, ordinary.mean(axis=0), **tolerance)
    np.testing.assert_allclose(covariance, np.cov(ordinary.T, ddof=0), **tolerance)
    np.testing.assert_allclose(ours.means_[order[1]], value, rtol=1e-6)


def test_values_beyond_float32_are_refused_by_row(rng):
    X = rng.normal(size=(1000, 2)).astype(np.float32)
    X[7, 1] = 1e18
    with pytest.raises(ValueError, match="row 7, feature 1 holds 1e\\+18"):
        GaussianMixture(2).fit(X)


@pytest.mark.parametrize("covariance_type", ["diag", "spherical", "full", "tied"])
@pytest.mark.parametrize("n_rare", [5, 200])
def test_scores_of_incomplete_samples_far_from_the_origin(rng, covariance_type, n_rare):
    X = 1.7e9 + rng.normal(size=(500, 2)) * [1, 60]
    model = GaussianMixture(covariance_type=covariance_type).fit(X)
    incomplete = X[:n_rare].copy()
    incomplete[:, 1] = np.nan
    variance = model.dense_covariances()[0, 0, 0]
    expected = norm.logpdf(incomplete[:, 0], model.means_[0, 0], np.sqrt(variance))
    np.testing.assert_allclose(model.score_samples(incomplete), expected, rtol=1e-6)


@pytest.mark.parametrize("covariance_type", ["diag", "spherical"])
def test_clusters_a_billion_deviations_apart(rng, covariance_type):
    X = np.concatenate([rng.normal(size=(300, 3)), 1e9 + rng.normal(size=(300, 3))])
    X[np.arange(0, 600, 7), np.arange(0, 600, 7) % 3] = np.nan
    X[5, :2], X[400, 1:] = np.nan, np.nan
    model = GaussianMixture(2, covariance_type=covariance_type, random_state=0).fit(X)
    for k, part in zip(np.argsort(model.means_[:, 0]), (X[:300], X[300:]), strict=True):
        np.testing.assert_allclose(
            model.dense_covariances()[k].diagonal().mean(),
            np.nanvar(part, axis=0).mean(),
            rtol=1e-3,
        )


@pytest.mark.parametrize(
    "params",
    [
        {"covariance_type": "low_rank", "rank": 20},
        {"covariance_type": "diag", "reg_covar": 1e-2},
    ],
)
def test_scores_in_float32_are_those_in_float64(params):
    X = (load_digits().data * 255 / 16).astype(np.float32)
    model = GaussianMixture(3, random_state=0, max_iter=5, **params).fit(X)
    wide = model.score_samples(X.astype(np.float64))
    np.testing.assert_allclose(model.score_samples(X), wide, atol=1e-2)


def test_the_score_is_the_last_bound():
    X = (load_digits().data * 255 / 16).astype(np.float32)
    model = GaussianMixture(
        3, covariance_type="low_rank", rank=20, random_state=0, tol=1e-4, max_iter=60
    ).fit(X)
    assert model.score(X) == pytest.approx(model.lower_bound_, abs=0.02)


@pytest.fixture
def collinear(rng):
    a = 20_000 * rng.normal(size=400)
    return np.column_stack([a, 12 * a, rng.normal(size=400)])


def test_nearly_singular_covariances_from_scikit_learn_keep_their_density(collinear):
    theirs = sklearn.mixture.GaussianMixture(random_state=0).fit(collinear)
    ours = GaussianMixture.from_sklearn(theirs)
    np.testing.assert_allclose(
        ours.score_samples(collinear), theirs.score_samples(collinear), rtol=1e-9
    )
    np.testing.assert_array_equal(ours.covariances_, theirs.covariances_)


def test_singular_covariances_are_refused(collinear):
    theirs = sklearn.mixture.GaussianMixture(random_state=0).fit(collinear)
    with pytest.raises(ValueError, match="singular to working precision"):
        GaussianMixture.from_parameters(
            theirs.weights_, theirs.means_, theirs.covariances_
        )


@pytest.mark.parametrize("covariance_type", ["full", "tied"])
@pytest.mark.parametrize("noise", [1e-2, 1e-4, 1e-5])
def test_parts_of_nearly_singular_covariances(rng, covariance_type, noise):
    """Beside exact formulas for (a, 12 a + noise, other) in their own units."""
    n, scale = 4000, 1000.0
    a = scale * rng.normal(size=n)
    X = np.column_stack([a, 12 * a + scale * noise * rng.normal(size=n), a / scale])
    X[:, 2] += rng.normal(size=n)
    model = GaussianMixture(covariance_type=covariance_type, reg_covar=0.0).fit(X)
    sigma = model.dense_covariances()[0]
    # With b = second - 12 first, nothing is nearly singular.
    turn = np.array([[1.0, 0.0], [-12.0, 1.0]])
    part = model.marginal([0, 1])
    centered = (X[:50, :2] - model.means_[0, :2]) @ turn.T
    b = X[:, 1] - 12 * X[:, 0]
    units = np.array([scale, scale * noise])
    exact = np.cov(X[:, 0] / units[0], b / units[1], ddof=0)
    expected = multivariate_normal(np.zeros(2), exact).logpdf(centered / units)
    expected -= np.log(units).sum()
    np.testing.assert_allclose(part.score_samples(X[:50, :2]), expected, rtol=2e-3)
    given = model.condition([0, 2], [X[0, 0], X[0, 2]])
    rest = X - X.mean(axis=0)
    known, target = rest[:, [0, 2]], b - b.mean()
    slope, *_ = np.linalg.lstsq(known, target, rcond=None)
    residual = np.mean((target - known @ slope) ** 2)
    found = given.dense_covariances()[0, 0, 0]
    np.testing.assert_allclose(found, residual, rtol=1e-2)
    assert sigma.shape == (3, 3)


def test_conditions_far_from_everything_are_refused(rng):
    model = GaussianMixture(2, random_state=0).fit(rng.normal(size=(100, 2)))
    with pytest.raises(ValueError, match="density underflows"):
        model.condition([0], [1e200])


def test_parts_of_sgd_mixtures(rng):
    X = rng.normal(size=(200, 3))
    model = SGDGaussianMixture(2, max_iter=3, random_state=0).fit(X)
    np.testing.assert_allclose(model.marginal([0, 2]).means_, model.means_[:, [0, 2]])
    assert model.condition([1], [0.0]).means_.shape == (2, 2)


@pytest.mark.filterwarnings("ignore::skdeepgmm.exceptions.DegenerateComponentWarning")
@pytest.mark.parametrize("covariance_type", ["full", "tied", "diag", "spherical"])
@pytest.mark.parametrize("scale", [1e-5, 1e-8])
def test_a_ridge_far_above_the_variances_sets_the_covariances(
    rng, covariance_type, scale
):
    X = scale * np.concatenate(
        [rng.normal(size=(150, 3)), 4 + rng.normal(size=(150, 3))]
    )
    model = SGDGaussianMixture(2, covariance_type=covariance_type, random_state=0)
    model.fit(X)
    expected = np.broadcast_to(1e-6 * np.eye(3), (2, 3, 3))
    np.testing.assert_allclose(
        model.dense_covariances(), expected, rtol=1e-2, atol=1e-8
    )
    near = multivariate_normal(X.mean(axis=0), 1e-6 * np.eye(3)).logpdf(X)
    np.testing.assert_allclose(model.score_samples(X), near, atol=1e-2)


@pytest.mark.parametrize("seed", range(3))
def test_fill_values_leave_sgd_with_factors_a_density(seed):
    """Noise far below the factors would cancel: log-densities of 1e15, or no factor."""
    rng = np.random.RandomState(seed)
    X = np.concatenate([rng.randn(60, 3), np.full((3, 3), 1e20)])
    mixture = SGDGaussianMixture(
        4, covariance_type="low_rank", rank=1, max_iter=6, random_state=seed
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mixture.fit(X)
    scores = mixture.score_samples(X[:60])
    assert np.isfinite(scores).all()
    assert scores.max() < 0.0
