"""Mixture of factor analysers: oracles, EM's laws and the estimator's interface."""

import numpy as np
import pytest
from scipy.special import logsumexp
from scipy.stats import multivariate_normal
from sklearn.decomposition import FactorAnalysis

import skdeepgmm
from skdeepgmm import GaussianMixture

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

TIGHT = {"covariance_type": "low_rank", "reg_covar": 1e-9, "random_state": 0}


def factor_groups(rng, n_samples=300, n_features=6, rank=2, spread=4.0):
    """Return rows of two factor analysers."""
    groups = []
    for _ in range(2):
        factors = rng.normal(size=(n_features, rank))
        noise = rng.uniform(0.3, 0.8, size=n_features)
        rows = rng.normal(size=(n_samples // 2, rank)) @ factors.T
        rows += noise * rng.normal(size=rows.shape)
        groups.append(rows + spread * rng.normal(size=n_features))
    return np.concatenate(groups)


def matrices(gm):
    """Return the dense covariances."""
    diagonals = np.stack([np.diag(row) for row in gm.noise_variance_])
    return gm.factors_ @ np.swapaxes(gm.factors_, 1, 2) + diagonals


def dense_scores(gm, X):
    """Return log p(x) by SciPy."""
    parameters = zip(gm.weights_, gm.means_, matrices(gm), strict=True)
    columns = [
        np.log(weight) + multivariate_normal(mean, matrix).logpdf(X)
        for weight, mean, matrix in parameters
    ]
    return logsumexp(columns, axis=0)


@pytest.fixture
def X(rng):
    return factor_groups(rng)


@pytest.fixture
def fitted(X):
    return GaussianMixture(2, rank=2, **TIGHT).fit(X)


# Oracles -------------------------------------------------------------------------


@pytest.mark.parametrize("rank", [1, 2, 6])
def test_scores_equal_dense_normals(X, rank):
    gm = GaussianMixture(2, rank=rank, max_iter=5, **TIGHT).fit(X)
    np.testing.assert_allclose(gm.score_samples(X), dense_scores(gm, X), atol=1e-8)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_one_component_is_factor_analysis(X, rank):
    X = X[:150]
    settings = {"tol": 1e-7, "max_iter": 1000}
    ours = GaussianMixture(1, rank=rank, **settings, **TIGHT).fit(X)
    theirs = FactorAnalysis(rank, svd_method="lapack", **settings).fit(X)
    assert abs(ours.score(X) - theirs.score(X)) < 1e-3


@pytest.mark.parametrize("n_components", [1, 2])
def test_full_rank_has_the_likelihood_of_full(X, n_components):
    settings = {"tol": 1e-9, "max_iter": 2000, "random_state": 0, "reg_covar": 1e-9}
    full = GaussianMixture(n_components, **settings).fit(X)
    settings["covariance_type"] = "low_rank"
    ours = GaussianMixture(n_components, rank=6, **settings).fit(X)
    assert abs(ours.score(X) - full.score(X)) < 1e-3


@pytest.mark.parametrize("rank", [1, 2, 4])
def test_the_likelihood_never_falls(X, rank):
    gm = GaussianMixture(3, rank=rank, tol=0.0, max_iter=60, **TIGHT).fit(X)
    assert len(gm.lower_bounds_) == 60
    assert np.diff(gm.lower_bounds_).min() > -1e-9
    assert gm.lower_bounds_[-1] > gm.lower_bounds_[0] + 0.01


def test_more_factors_never_explain_less(X):
    settings = {**TIGHT, "tol": 1e-6, "max_iter": 500}
    scores = [GaussianMixture(1, rank=r, **settings).fit(X).score(X) for r in (1, 2, 4)]
    diag = GaussianMixture(1, covariance_type="diag").fit(X).score(X)
    assert np.all(np.diff([diag, *scores]) > -1e-4)


def test_the_true_covariances_are_recovered():
    rng = np.random.default_rng(1)
    factors, noise = rng.normal(size=(8, 2)), rng.uniform(0.3, 0.8, size=8)
    X = rng.normal(size=(20000, 2)) @ factors.T + noise * rng.normal(size=(20000, 8))
    gm = GaussianMixture(1, rank=2, tol=1e-7, max_iter=1000, **TIGHT).fit(X)
    expected = factors @ factors.T + np.diag(noise**2)
    np.testing.assert_allclose(matrices(gm)[0], expected, atol=0.1)
    np.testing.assert_allclose(gm.noise_variance_[0], noise**2, atol=0.03)


# Many features -------------------------------------------------------------------


def test_more_features_than_samples(rng):
    X = rng.normal(size=(60, 3)) @ rng.normal(size=(3, 400))
    X += 0.1 * rng.normal(size=X.shape)
    gm = GaussianMixture(2, covariance_type="low_rank", rank=3, random_state=0)
    gm.fit(X[:50])
    assert gm.factors_.shape == (2, 400, 3)
    assert gm.noise_variance_.shape == (2, 400)
    diag = GaussianMixture(2, covariance_type="diag", random_state=0).fit(X[:50])
    assert gm.score(X[50:]) > diag.score(X[50:]) + 50


def test_constant_features_do_not_hurt(X):
    constant = np.full((len(X), 2), 3.0)
    gm = GaussianMixture(2, covariance_type="low_rank", rank=2, random_state=0)
    gm.fit(np.hstack([X, constant]))
    assert np.isfinite(gm.score(np.hstack([X, constant])))
    np.testing.assert_allclose(gm.means_[:, 6:], 3.0)


# The estimator -------------------------------------------------------------------


def test_attributes(fitted):
    assert fitted.factors_.shape == (2, 6, 2)
    assert fitted.noise_variance_.shape == (2, 6)
    assert (fitted.noise_variance_ > 0).all()
    for name in ("covariances_", "precisions_", "precisions_cholesky_"):
        assert not hasattr(fitted, name)


def test_rank_is_cut_to_the_number_of_features(X):
    gm = GaussianMixture(2, rank=50, **TIGHT).fit(X)
    assert gm.factors_.shape == (2, 6, 6)


@pytest.mark.parametrize("rank", [0, -1, 1.5, "all"])
def test_a_bad_rank_is_refused(X, rank):
    with pytest.raises(ValueError, match="'rank' parameter"):
        GaussianMixture(2, covariance_type="low_rank", rank=rank).fit(X)


def test_another_type_drops_the_factors(fitted, X):
    fitted.set_params(covariance_type="diag").fit(X)
    assert not hasattr(fitted, "factors_")
    assert fitted.covariances_.shape == (2, 6)


@pytest.mark.parametrize("init", ["kmeans", "k-means++", "random", "random_from_data"])
def test_every_start_fits(X, init):
    gm = GaussianMixture(2, rank=2, init_params=init, max_iter=300, **TIGHT).fit(X)
    single = GaussianMixture(1, rank=2, **TIGHT).fit(X)
    assert gm.score(X) > single.score(X)


def test_float32_is_close_to_float64(X):
    settings = {"max_iter": 20, "tol": 0.0, "covariance_type": "low_rank", "rank": 2}
    wide = GaussianMixture(2, random_state=0, **settings).fit(X)
    narrow = GaussianMixture(2, random_state=0, **settings).fit(X.astype(np.float32))
    assert narrow.factors_.dtype == narrow.noise_variance_.dtype == np.float32
    assert narrow.score_samples(X.astype(np.float32)).dtype == np.float32
    assert abs(narrow.score(X) - wide.score(X)) < 1e-3


def test_batches_do_not_change_the_fit(X):
    settings = {**TIGHT, "rank": 2, "tol": 0.0, "max_iter": 5}
    whole = GaussianMixture(2, **settings).fit(X)
    parts = GaussianMixture(2, batch_size=17, **settings).fit(X)
    np.testing.assert_allclose(parts.means_, whole.means_, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(matrices(parts), matrices(whole), rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(
        parts.score_samples(X), whole.score_samples(X), rtol=0, atol=1e-8
    )


def test_memory_maps_and_read_only_arrays(X, tmp_path, fitted):
    np.save(tmp_path / "rows.npy", X)
    mapped = np.load(tmp_path / "rows.npy", mmap_mode="r")
    again = GaussianMixture(2, rank=2, batch_size=50, **TIGHT).fit(mapped)
    np.testing.assert_allclose(again.means_, fitted.means_, rtol=1e-6)
    np.testing.assert_array_equal(mapped, X)


def test_warm_start_goes_on(X):
    settings = {**TIGHT, "rank": 2, "tol": 0.0}
    long = GaussianMixture(2, max_iter=9, **settings).fit(X)
    short = GaussianMixture(2, max_iter=4, warm_start=True, **settings).fit(X)
    short.set_params(max_iter=5).fit(X)
    np.testing.assert_allclose(matrices(short), matrices(long), rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(short.means_, long.means_, rtol=1e-8)


def test_warm_start_refuses_another_rank(fitted, X):
    with pytest.raises(ValueError, match="rank"):
        fitted.set_params(warm_start=True, rank=3).fit(X)


def test_shifted_and_scaled_data_give_the_same_clusters(X, fitted):
    moved = GaussianMixture(2, rank=2, **{**TIGHT, "reg_covar": 0.0})
    moved.fit(X * 1e3 + 1e6)
    change = moved.score(X * 1e3 + 1e6) - (fitted.score(X) - 6 * np.log(1e3))
    assert abs(change) < 1e-5
    np.testing.assert_array_equal(moved.predict(X * 1e3 + 1e6), fitted.predict(X))


def test_samples_fit_the_density(fitted):
    rows, labels = fitted.sample(20000)
    shares = np.bincount(labels) / 20000
    np.testing.assert_allclose(shares, fitted.weights_, atol=0.02)
    entropy = -fitted.score_samples(rows)
    again = -fitted.score_samples(fitted.set_params(random_state=1).sample(20000)[0])
    assert abs(entropy.mean() - again.mean()) < 5 * entropy.std() / 100
    for k, matrix in enumerate(matrices(fitted)):
        actual = np.cov(rows[labels == k].T)
        np.testing.assert_allclose(actual, matrix, atol=0.06 * matrix.max())


def test_saved_models_score_the_same(fitted, X, tmp_path):
    skdeepgmm.save(fitted, tmp_path / "model.skdg")
    again = skdeepgmm.load(tmp_path / "model.skdg")
    np.testing.assert_array_equal(again.score_samples(X), fitted.score_samples(X))


def test_bic_counts_the_free_parameters(fitted, X):
    n_free = 1 + 2 * 6 + 2 * (6 * 2 + 6 - 1)
    expected = -2 * fitted.score(X) * len(X) + n_free * np.log(len(X))
    assert fitted.bic(X) == pytest.approx(expected)
    expected = -2 * fitted.score(X) * len(X) + 2 * n_free
    assert fitted.aic(X) == pytest.approx(expected)
