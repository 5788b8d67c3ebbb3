"""Mixtures from parameters, to and from scikit-learn; relative floors; ICL."""

import numpy as np
import pytest
import sklearn.mixture
from scipy.special import logsumexp
from scipy.stats import multivariate_normal
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV

import skdeepgmm
from skdeepgmm import GaussianMixture
from tests.estimators.mixture.problems import make_problem
from tests.oracles import COVARIANCE_TYPES

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

types = pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)


def built(problem, covariance_type, **params):
    return GaussianMixture.from_parameters(
        problem.weights,
        problem.means,
        problem.covariances[covariance_type],
        covariance_type=covariance_type,
        **params,
    )


@pytest.fixture
def problem(rng):
    return make_problem(rng, 3, 4, spread=2.0)


# From parameters -----------------------------------------------------------------


@types
def test_given_parameters_score_as_dense_normals(rng, problem, covariance_type):
    gm = built(problem, covariance_type)
    X = rng.normal(scale=3.0, size=(50, 4))
    matrices = problem.matrices(covariance_type)
    columns = [
        np.log(weight) + multivariate_normal(mean, matrix).logpdf(X)
        for weight, mean, matrix in zip(
            problem.weights, problem.means, matrices, strict=True
        )
    ]
    expected = logsumexp(columns, axis=0)
    np.testing.assert_allclose(gm.score_samples(X), expected, rtol=0, atol=1e-8)
    np.testing.assert_array_equal(gm.predict(X), np.argmax(columns, axis=0))


def test_given_factors_score_as_dense_normals(rng, problem):
    factors, noise = rng.normal(size=(3, 4, 2)), rng.uniform(0.5, 2.0, size=(3, 4))
    low_rank = GaussianMixture.from_parameters(
        problem.weights, problem.means, (factors, noise), covariance_type="low_rank"
    )
    dense = factors @ np.swapaxes(factors, 1, 2) + np.stack([np.diag(d) for d in noise])
    full = GaussianMixture.from_parameters(problem.weights, problem.means, dense)
    X = rng.normal(size=(30, 4))
    assert low_rank.rank == 2
    np.testing.assert_allclose(
        low_rank.score_samples(X), full.score_samples(X), rtol=0, atol=1e-8
    )
    converted = low_rank.to_sklearn()
    assert converted.covariance_type == "full"
    np.testing.assert_allclose(
        converted.score_samples(X), full.score_samples(X), rtol=0, atol=1e-8
    )


@types
def test_given_parameters_sample(problem, covariance_type):
    gm = built(problem, covariance_type, random_state=0)
    rows, labels = gm.sample(20000)
    shares = np.bincount(labels, minlength=3) / 20000
    np.testing.assert_allclose(shares, problem.weights, atol=0.02)
    for k, matrix in enumerate(problem.matrices(covariance_type)):
        mine = rows[labels == k]
        np.testing.assert_allclose(mine.mean(axis=0), problem.means[k], atol=0.1)
        np.testing.assert_allclose(np.cov(mine.T), matrix, atol=0.15)


@types
def test_attributes_are_complete(problem, covariance_type):
    gm = built(problem, covariance_type)
    np.testing.assert_allclose(gm.weights_, problem.weights)
    np.testing.assert_allclose(gm.covariances_, problem.covariances[covariance_type])
    expected = problem.precisions(covariance_type)
    np.testing.assert_allclose(gm.precisions_, expected, rtol=1e-8, atol=1e-10)
    assert gm.n_features_in_ == 4
    assert gm.n_components == 3


def test_given_parameters_can_be_saved_and_fitted_further(problem, rng, tmp_path):
    X, _ = problem.draw("full", 400, rng)
    gm = built(problem, "full", warm_start=True, max_iter=3, tol=0.0)
    skdeepgmm.save(gm, tmp_path / "model.skdg")
    again = skdeepgmm.load(tmp_path / "model.skdg")
    np.testing.assert_array_equal(again.score_samples(X), gm.score_samples(X))
    before = gm.score(X)
    gm.fit(X)
    assert gm.lower_bounds_[0] == pytest.approx(before, abs=1e-8)
    assert gm.score(X) > before


def test_a_clone_knows_nothing(problem):
    with pytest.raises(NotFittedError):
        clone(built(problem, "full")).predict(np.zeros((1, 4)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weights": [0.5, 0.5]}, "weights"),
        ({"weights": [0.9, 0.9, 0.9]}, "weights"),
        ({"weights": [1.5, -0.5, 0.0]}, "weights"),
        ({"means": np.zeros((3, 5))}, "covariance"),
        ({"means": np.full((3, 4), np.nan)}, "NaN"),
        ({"covariances": np.eye(4)}, "covariance"),
        ({"covariances": -np.stack([np.eye(4)] * 3)}, "positive"),
        ({"covariances": np.stack([np.triu(np.ones((4, 4)))] * 3)}, "symmetric"),
        ({"covariance_type": "round"}, "covariance_type"),
    ],
    ids=str,
)
def test_bad_parameters_are_refused(problem, change, message):
    good = {
        "weights": problem.weights,
        "means": problem.means,
        "covariances": problem.covariances["full"],
    }
    with pytest.raises(ValueError, match=message):
        GaussianMixture.from_parameters(**{**good, **change})


# To and from scikit-learn --------------------------------------------------------


@types
def test_a_mixture_of_scikit_learn_scores_the_same(rng, problem, covariance_type):
    X, _ = problem.draw("full", 300, rng)
    theirs = sklearn.mixture.GaussianMixture(
        3, covariance_type=covariance_type, random_state=0
    ).fit(X)
    ours = GaussianMixture.from_sklearn(theirs)
    np.testing.assert_allclose(
        ours.score_samples(X), theirs.score_samples(X), rtol=0, atol=1e-8
    )
    assert ours.bic(X) == pytest.approx(theirs.bic(X))
    assert ours.random_state == 0


@types
def test_scikit_learn_takes_our_mixture(rng, problem, covariance_type):
    X, _ = problem.draw("full", 300, rng)
    ours = GaussianMixture(3, covariance_type=covariance_type, random_state=0).fit(X)
    theirs = ours.to_sklearn()
    assert type(theirs) is sklearn.mixture.GaussianMixture
    np.testing.assert_allclose(
        theirs.score_samples(X), ours.score_samples(X), rtol=0, atol=1e-8
    )
    np.testing.assert_array_equal(theirs.predict(X), ours.predict(X))
    assert theirs.bic(X) == pytest.approx(ours.bic(X))
    assert theirs.sample(5)[0].shape == (5, 4)
    assert theirs.get_params()["n_components"] == 3


@types
def test_there_and_back_is_the_same(rng, problem, covariance_type):
    gm = built(problem, covariance_type)
    again = GaussianMixture.from_sklearn(gm.to_sklearn())
    for name in ("weights_", "means_", "covariances_", "precisions_"):
        value, expected = getattr(again, name), getattr(gm, name)
        np.testing.assert_allclose(value, expected, rtol=1e-9, atol=1e-12)


def test_the_copy_shares_no_memory(problem):
    gm = built(problem, "full")
    theirs = gm.to_sklearn()
    theirs.means_ += 1.0
    np.testing.assert_allclose(gm.means_, problem.means)


def test_an_unfitted_mixture_is_refused():
    with pytest.raises(NotFittedError):
        GaussianMixture.from_sklearn(sklearn.mixture.GaussianMixture())
    with pytest.raises(NotFittedError):
        GaussianMixture().to_sklearn()


# Relative floors -----------------------------------------------------------------


@pytest.mark.parametrize("covariance_type", [*COVARIANCE_TYPES, "low_rank"])
def test_a_relative_floor_does_not_know_units(rng, problem, covariance_type):
    X, _ = problem.draw("full", 200, rng)
    settings = {"covariance_type": covariance_type, "rank": 2, "max_iter": 5}
    settings |= {"reg_covar": 0.05, "reg_covar_relative": True, "tol": 0.0}
    fits = []
    # One factor for all features keeps spherical covariances what they are.
    for factor in (1.0, 1e-3, 1e4):
        gm = GaussianMixture(1, random_state=0, **settings).fit(X * factor)
        fits.append(gm.score(X * factor) + 4 * np.log(factor))
    np.testing.assert_allclose(fits, fits[0], atol=1e-6)


def test_a_relative_floor_is_a_share_of_each_variance(rng):
    X = rng.normal(size=(500, 3)) * [1e-3, 1.0, 1e3]
    settings = {"covariance_type": "diag", "reg_covar": 0.1}
    gm = GaussianMixture(1, reg_covar_relative=True, **settings).fit(X)
    np.testing.assert_allclose(gm.covariances_[0], 1.1 * X.var(axis=0), rtol=1e-6)
    gm = GaussianMixture(1, **settings).fit(X)
    np.testing.assert_allclose(gm.covariances_[0], X.var(axis=0) + 0.1, rtol=1e-6)


# The number of components --------------------------------------------------------


def test_icl_is_bic_plus_twice_the_entropy(rng, problem):
    X, _ = problem.draw("full", 300, rng)
    gm = built(problem, "full")
    resp = gm.predict_proba(X)
    terms = np.where(resp > 0, resp * np.log(np.where(resp > 0, resp, 1.0)), 0.0)
    assert gm.icl(X) == pytest.approx(gm.bic(X) - 2 * terms.sum())
    assert gm.icl(X) >= gm.bic(X)


def test_icl_equals_bic_for_components_far_apart():
    gm = GaussianMixture.from_parameters(
        [0.5, 0.5], [[0.0], [1e3]], [1.0, 1.0], covariance_type="spherical"
    )
    X = np.array([[0.0], [1.0], [1e3]])
    assert gm.icl(X) == pytest.approx(gm.bic(X))


def test_criteria_choose_the_number_of_groups(rng):
    X = np.concatenate([rng.normal(size=(80, 2)) + c for c in (0.0, 8.0, 16.0)])
    fits = [GaussianMixture(k, n_init=2, random_state=0).fit(X) for k in range(1, 6)]
    for criterion in ("bic", "icl"):
        values = [getattr(gm, criterion)(X) for gm in fits]
        assert np.argmin(values) == 2

    def score(gm, X):
        return -gm.bic(X)

    search = GridSearchCV(
        GaussianMixture(random_state=0), {"n_components": [1, 2, 3, 4]}, scoring=score
    )
    assert search.fit(X).best_params_ == {"n_components": 3}
