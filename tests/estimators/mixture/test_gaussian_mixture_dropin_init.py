"""Start values: drawn as sklearn.mixture.GaussianMixture draws them."""

import itertools

import numpy as np
import pytest
import sklearn.mixture
from sklearn.cluster import KMeans

from skdeepgmm import GaussianMixture
from tests.estimators.mixture.problems import INIT_PARAMS, make_problem, spaced_problem
from tests.oracles import COVARIANCE_TYPES, ORACLES, SKLEARN_TYPES

ignore_convergence = pytest.mark.filterwarnings(
    "ignore::sklearn.exceptions.ConvergenceWarning"
)
each_type = pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
each_init = pytest.mark.parametrize("init_params", INIT_PARAMS)


@pytest.fixture
def problem(rng):
    return spaced_problem(rng, n_components=2)


@pytest.fixture
def X(problem, rng):
    return problem.draw("full", 200, rng)[0]


@pytest.fixture
def overlapping(rng):
    return make_problem(rng, spread=1.5).draw("full", 400, rng)[0]


# Starts --------------------------------------------------------------------------


# A tied start from single rows is the one exception: scikit-learn divides the
# scatter of all rows by the number of components there, so that all components see
# the same responsibilities and the fit ends as a single Gaussian.
from_rows = {"k-means++", "random_from_data"}
equal_starts = pytest.mark.parametrize(
    ("covariance_type", "init_params"),
    [
        (covariance_type, init_params)
        for covariance_type, init_params in itertools.product(
            SKLEARN_TYPES, INIT_PARAMS
        )
        if not ORACLES[covariance_type].shared or init_params not in from_rows
    ],
)


@pytest.mark.parametrize("init_params", sorted(from_rows))
@ignore_convergence
def test_a_tied_start_from_rows_beats_scikit_learn(rng, init_params):
    X = spaced_problem(rng, n_components=3).draw("tied", 400, rng)[0]
    settings = {
        "n_components": 3,
        "covariance_type": "tied",
        "init_params": init_params,
        "random_state": 7,
    }
    ours = GaussianMixture(**settings).fit(X)
    theirs = sklearn.mixture.GaussianMixture(**settings).fit(X)
    assert ours.score(X) > theirs.score(X)


@equal_starts
def test_start_equals_scikit_learn(overlapping, init_params, covariance_type):
    settings = {
        "n_components": 3,
        "covariance_type": covariance_type,
        "init_params": init_params,
        "random_state": 7,
        # One row a component has no spread: its variance is the regularisation.
        "reg_covar": 1e-3,
        "max_iter": 0,
    }
    ours = GaussianMixture(**settings).fit(overlapping)
    theirs = sklearn.mixture.GaussianMixture(**settings).fit(overlapping)
    for name in ("means_", "covariances_", "precisions_cholesky_"):
        np.testing.assert_allclose(
            getattr(ours, name), getattr(theirs, name), rtol=1e-6, atol=1e-9
        )
    # scikit-learn divides by n_samples though only n_components rows have weight.
    weights = theirs.weights_ / theirs.weights_.sum()
    np.testing.assert_allclose(ours.weights_, weights, rtol=1e-6)


@equal_starts
@ignore_convergence
def test_fit_equals_scikit_learn(overlapping, init_params, covariance_type):
    settings = {
        "n_components": 3,
        "covariance_type": covariance_type,
        "init_params": init_params,
        "random_state": 7,
        "n_init": 2,
    }
    ours = GaussianMixture(**settings).fit(overlapping)
    theirs = sklearn.mixture.GaussianMixture(**settings).fit(overlapping)
    assert ours.n_iter_ == theirs.n_iter_
    assert ours.converged_ == theirs.converged_
    # The first bound holds the start weights, see above.
    np.testing.assert_allclose(
        ours.lower_bounds_[1:], theirs.lower_bounds_[1:], rtol=1e-6
    )
    np.testing.assert_allclose(ours.means_, theirs.means_, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(
        ours.predict(overlapping), theirs.predict(overlapping)
    )


def test_a_passed_generator_moves_on_as_in_scikit_learn(overlapping):
    """Two fits from one generator start differently, and as scikit-learn's do."""
    settings = {"n_components": 3, "init_params": "random_from_data", "max_iter": 0}
    means = []
    for cls in (GaussianMixture, sklearn.mixture.GaussianMixture):
        state = np.random.RandomState(3)
        mixture = cls(**settings, random_state=state)
        means.append([mixture.fit(overlapping).means_.copy() for _ in range(3)])
    assert not np.allclose(means[0][0], means[0][1])
    np.testing.assert_allclose(means[0], means[1], rtol=1e-9)


@each_init
@pytest.mark.parametrize("seed", range(3))
def test_start_means_differ_and_lie_in_the_data(overlapping, init_params, seed):
    mixture = GaussianMixture(
        4, init_params=init_params, random_state=seed, max_iter=0, reg_covar=1e-3
    ).fit(overlapping)
    for one, other in itertools.combinations(mixture.means_, 2):
        assert not np.allclose(one, other)
    assert (overlapping.min(axis=0) <= mixture.means_).all()
    assert (mixture.means_ <= overlapping.max(axis=0)).all()


def test_max_iter_zero_keeps_the_start_without_a_warning(X):
    means = [[20.0, 30.0], [30.0, 25.0]]
    mixture = GaussianMixture(2, means_init=means, max_iter=0, random_state=0).fit(X)
    np.testing.assert_allclose(mixture.means_, means, rtol=1e-12)
    assert mixture.n_iter_ == 0
    assert mixture.lower_bounds_ == []
    assert not mixture.converged_


def test_all_start_values_given_need_no_initialisation(problem, X, monkeypatch):
    def fail(*args, **kwargs):
        raise AssertionError("k-means was run although every start value is given")

    monkeypatch.setattr(KMeans, "fit", fail)
    state = np.random.RandomState(0)
    before = state.get_state()[1].copy()
    GaussianMixture(**problem.start("full"), random_state=state).fit(X)
    np.testing.assert_array_equal(state.get_state()[1], before)


@each_type
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_precisions_init_round_trip(overlapping, covariance_type, dtype):
    """Giving the start's own precisions back changes nothing."""
    X = overlapping.astype(dtype)
    common = {"n_components": 3, "covariance_type": covariance_type, "random_state": 0}
    start = GaussianMixture(**common, max_iter=0).fit(X)
    given = GaussianMixture(**common, precisions_init=start.precisions_).fit(X)
    plain = GaussianMixture(**common).fit(X)
    assert given.n_iter_ == plain.n_iter_
    assert given.precisions_cholesky_.dtype == dtype
    rtol = 1e-3 if dtype == np.float32 else 1e-6
    np.testing.assert_allclose(
        given.precisions_cholesky_, plain.precisions_cholesky_, rtol=rtol, atol=rtol
    )


@ignore_convergence
def test_n_init_keeps_the_best_start(overlapping):
    settings = {"n_components": 5, "init_params": "random_from_data", "max_iter": 20}
    state = np.random.RandomState(1)
    single = GaussianMixture(**settings, random_state=state)
    bounds = [single.fit(overlapping).lower_bound_ for _ in range(6)]
    best = GaussianMixture(**settings, n_init=6, random_state=1).fit(overlapping)
    assert max(bounds) - min(bounds) > 1e-3
    assert best.lower_bound_ == pytest.approx(max(bounds), rel=1e-9)


@each_type
@ignore_convergence
def test_more_starts_are_never_worse(overlapping, covariance_type):
    for seed in range(5):
        bounds = [
            GaussianMixture(
                4,
                covariance_type=covariance_type,
                n_init=n_init,
                max_iter=2,
                random_state=seed,
            )
            .fit(overlapping)
            .lower_bound_
            for n_init in (1, 5)
        ]
        assert bounds[1] >= bounds[0]
