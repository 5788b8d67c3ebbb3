"""Sample weights: a weight counts a row that often, in every covariance type."""

import numpy as np
import pytest
import sklearn
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skdeepgmm import GaussianMixture
from tests.estimators.mixture.problems import make_problem
from tests.oracles import ALL_TYPES, COVARIANCE_TYPES, ORACLES

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

all_types = pytest.mark.parametrize("covariance_type", ALL_TYPES)
SETTINGS = {"tol": 0.0, "max_iter": 10, "rank": 2, "random_state": 0}
PARAMETERS = ("weights_", "means_", "covariances_", "noise_variance_", "lower_bound_")


def overlapping_rows(seed=0, n_samples=120, n_features=3):
    rng = np.random.default_rng(seed)
    problem = make_problem(rng, 2, n_features, spread=1.5)
    return problem, *problem.draw("full", n_samples, rng)


def unfitted(problem, covariance_type, **settings):
    """Return an estimator whose start values do not depend on the data.

    Factors have none: a single component starts from the moments alone.
    """
    if ORACLES[covariance_type].latent:
        return GaussianMixture(
            1, covariance_type=covariance_type, **SETTINGS, **settings
        )
    return GaussianMixture(**problem.start(covariance_type), **SETTINGS, **settings)


def assert_same_fit(first, second, rtol=1e-8):
    for name in PARAMETERS:
        if hasattr(first, name):
            expected = np.asarray(getattr(second, name))
            np.testing.assert_allclose(
                getattr(first, name),
                expected,
                rtol=rtol,
                atol=rtol * np.abs(expected).max(),
                err_msg=name,
            )
    if hasattr(first, "factors_"):
        # Factors are determined up to a rotation.
        products = [
            gm.factors_ @ np.swapaxes(gm.factors_, 1, 2) for gm in (first, second)
        ]
        np.testing.assert_allclose(*products, rtol=rtol, atol=rtol)


# Weighted = repeated -------------------------------------------------------------


@all_types
@pytest.mark.parametrize("batch_size", [None, 13])
def test_integer_weights_equal_repeated_rows(rng, covariance_type, batch_size):
    problem, X, _ = overlapping_rows()
    weight = rng.integers(0, 4, len(X))
    gm = unfitted(problem, covariance_type, batch_size=batch_size)
    weighted = gm.fit(X, sample_weight=weight)
    repeated = unfitted(problem, covariance_type).fit(np.repeat(X, weight, axis=0))
    assert_same_fit(weighted, repeated)
    assert weighted.score(X, sample_weight=weight) == pytest.approx(
        repeated.score(np.repeat(X, weight, axis=0)), abs=1e-8
    )


def test_weighted_factor_analysers_go_on_as_repeated_ones(rng):
    _, X, _ = overlapping_rows(n_features=5)
    weight = rng.integers(0, 4, len(X))
    repeated = np.repeat(X, weight, axis=0)
    fits = []
    for rows, own in ((X, weight), (repeated, None)):
        gm = GaussianMixture(2, covariance_type="low_rank", warm_start=True, **SETTINGS)
        gm.fit(X).fit(rows, sample_weight=own)
        fits.append(gm)
    assert_same_fit(*fits)


@settings(max_examples=15, deadline=None)
@given(
    weight=st.lists(st.integers(0, 5), min_size=40, max_size=40).filter(
        lambda weight: np.count_nonzero(weight) > 20
    ),
    covariance_type=st.sampled_from(COVARIANCE_TYPES),
)
def test_any_integer_weights_equal_repeated_rows(weight, covariance_type):
    problem, X, _ = overlapping_rows(n_samples=40, n_features=2)
    start = unfitted(problem, covariance_type)
    weighted = sklearn.clone(start).fit(X, sample_weight=weight)
    assert_same_fit(weighted, start.fit(np.repeat(X, weight, axis=0)))


@all_types
@pytest.mark.parametrize(
    "factor",
    [1000.0, 1.0, 1e-2, 1e-9],
)
def test_a_common_factor_changes_nothing(covariance_type, factor):
    problem, X, _ = overlapping_rows()
    plain = unfitted(problem, covariance_type).fit(X)
    weight = np.full(len(X), factor)
    gm = unfitted(problem, covariance_type).fit(X, sample_weight=weight)
    assert_same_fit(gm, plain)


@all_types
def test_rows_without_weight_do_not_exist(covariance_type):
    problem, X, _ = overlapping_rows()
    weight = np.ones(len(X))
    weight[::3] = 0.0
    spoiled = X.copy()
    spoiled[::3] = 50.0
    gm = unfitted(problem, covariance_type).fit(spoiled, sample_weight=weight)
    assert_same_fit(gm, unfitted(problem, covariance_type).fit(X[weight > 0]))


@pytest.mark.parametrize("init", ["kmeans", "k-means++", "random_from_data", "random"])
def test_every_start_respects_the_weights(init):
    rng = np.random.default_rng(0)
    X = np.concatenate([rng.normal(size=(60, 2)), rng.normal(size=(60, 2)) + 50.0])
    weight = np.repeat([1.0, 0.0], 60)
    gm = GaussianMixture(1 if init == "random" else 2, init_params=init, random_state=0)
    gm.fit(X, sample_weight=weight)
    assert (np.abs(gm.means_) < 10).all()


def test_weights_of_missing_rows_equal_repeated_rows(rng):
    problem, X, _ = overlapping_rows()
    X[rng.random(X.shape) < 0.3] = np.nan
    weight = rng.integers(0, 4, len(X))
    weighted = unfitted(problem, "full").fit(X, sample_weight=weight)
    repeated = unfitted(problem, "full").fit(np.repeat(X, weight, axis=0))
    assert_same_fit(weighted, repeated)


def test_float32_weights_equal_repeated_rows(rng):
    problem, X, _ = overlapping_rows()
    X, weight = X.astype(np.float32), rng.integers(0, 4, 120)
    weighted = unfitted(problem, "full").fit(X, sample_weight=weight)
    repeated = unfitted(problem, "full").fit(np.repeat(X, weight, axis=0))
    assert_same_fit(weighted, repeated, rtol=1e-3)


# Interface -----------------------------------------------------------------------


def test_score_is_the_weighted_mean(rng):
    problem, X, _ = overlapping_rows()
    weight = rng.uniform(size=len(X))
    gm = unfitted(problem, "full").fit(X)
    expected = np.average(gm.score_samples(X), weights=weight)
    assert gm.score(X, sample_weight=weight) == pytest.approx(expected, abs=1e-12)
    assert gm.score(X, sample_weight=np.ones(len(X))) == pytest.approx(gm.score(X))


def test_the_lower_bound_is_the_weighted_score(rng):
    problem, X, _ = overlapping_rows()
    weight = rng.uniform(size=len(X))
    gm = unfitted(problem, "full").fit(X, sample_weight=weight)
    before = gm.score(X, sample_weight=weight)
    gm.set_params(warm_start=True, max_iter=1).fit(X, sample_weight=weight)
    assert gm.lower_bound_ == pytest.approx(before, abs=1e-9)


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        (np.zeros(120), "zero"),
        (np.r_[-1.0, np.ones(119)], "[Nn]egative"),
        (np.r_[np.nan, np.ones(119)], "NaN"),
        (np.r_[np.inf, np.ones(119)], "infinity"),
        (np.ones(119), "shape"),
        (np.ones((120, 2)), "1D|shape"),
    ],
    ids=["all-zero", "negative", "nan", "infinite", "short", "matrix"],
)
@pytest.mark.parametrize("method", ["fit", "fit_predict", "score"])
def test_bad_weights_are_refused(weight, message, method):
    problem, X, _ = overlapping_rows()
    gm = unfitted(problem, "diag").fit(X)
    with pytest.raises(ValueError, match=message):
        getattr(gm, method)(X, sample_weight=weight)


def test_a_refused_fit_leaves_the_last_one():
    problem, X, _ = overlapping_rows()
    gm = unfitted(problem, "diag").fit(X)
    means = gm.means_.copy()
    with pytest.raises(ValueError, match=r"[Nn]egative"):
        gm.fit(X + 1.0, sample_weight=-np.ones(len(X)))
    np.testing.assert_array_equal(gm.means_, means)


def test_one_number_is_everybodys_weight():
    problem, X, _ = overlapping_rows()
    gm = unfitted(problem, "full").fit(X, sample_weight=2.0)
    assert_same_fit(gm, unfitted(problem, "full").fit(X))


def test_fit_predict_is_fit_then_predict(rng):
    problem, X, _ = overlapping_rows()
    weight = rng.integers(0, 4, len(X))
    labels = unfitted(problem, "full").fit_predict(X, sample_weight=weight)
    gm = unfitted(problem, "full").fit(X, sample_weight=weight)
    np.testing.assert_array_equal(labels, gm.predict(X))


def test_weights_are_routed_through_meta_estimators(rng):
    _, X, _ = overlapping_rows()
    weight = rng.integers(0, 4, len(X)).astype(float)
    with sklearn.config_context(enable_metadata_routing=True):
        gm = GaussianMixture(1).set_fit_request(sample_weight=True)
        gm.set_score_request(sample_weight=True)
        piped = make_pipeline(StandardScaler().set_fit_request(sample_weight=False), gm)
        piped.fit(X, sample_weight=weight)
        search = GridSearchCV(gm, {"n_components": [1, 2]}, cv=2)
        search.fit(X, sample_weight=weight)
    scaled = StandardScaler().fit_transform(X)
    expected = np.average(scaled, axis=0, weights=weight)
    np.testing.assert_allclose(piped[-1].means_[0], expected, atol=1e-10)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


def test_the_weights_are_not_changed(rng):
    problem, X, _ = overlapping_rows()
    weight = rng.uniform(size=len(X))
    before = weight.copy()
    weight.flags.writeable = False
    unfitted(problem, "full").fit(X, sample_weight=weight)
    np.testing.assert_array_equal(weight, before)
