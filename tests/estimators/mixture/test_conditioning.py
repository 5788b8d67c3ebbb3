"""Conditioning and marginals: closed forms and the chain rule."""

import numpy as np
import pandas as pd
import pytest
from scipy.special import logsumexp
from scipy.stats import multivariate_normal

from skdeepgmm import GaussianMixture
from tests.estimators.mixture.problems import make_problem, matrices_of
from tests.oracles import ALL_TYPES, ORACLES

all_types = pytest.mark.parametrize("covariance_type", ALL_TYPES)
GIVEN = [3, 1]
REST = [0, 2, 4]


def mixture(rng, covariance_type):
    """Return a known mixture of five features."""
    problem = make_problem(rng, 3, 5, spread=2.0)
    values = problem.covariances[covariance_type]
    return GaussianMixture.from_parameters(
        problem.weights,
        problem.means,
        ORACLES[covariance_type].supplied(values),
        covariance_type=covariance_type,
        random_state=0,
    )


@all_types
def test_the_chain_rule_holds(rng, covariance_type):
    gm = mixture(rng, covariance_type)
    for row in rng.normal(scale=2.0, size=(20, 5)):
        joint = gm.score_samples(row[None])[0]
        given = gm.marginal(GIVEN).score_samples(row[None, GIVEN])[0]
        rest = gm.condition(GIVEN, row[GIVEN]).score_samples(row[None, REST])[0]
        assert joint == pytest.approx(given + rest, abs=1e-8)


@all_types
def test_conditions_equal_the_closed_form(rng, covariance_type):
    gm, values = mixture(rng, covariance_type), np.array([0.3, -1.2])
    conditional = gm.condition(GIVEN, values)
    log_weights = np.log(gm.weights_)
    for k, (mean, matrix) in enumerate(zip(gm.means_, matrices_of(gm), strict=True)):
        block, cross = matrix[np.ix_(GIVEN, GIVEN)], matrix[np.ix_(REST, GIVEN)]
        gain = cross @ np.linalg.inv(block)
        log_weights[k] += multivariate_normal(mean[GIVEN], block).logpdf(values)
        expected = mean[REST] + gain @ (values - mean[GIVEN])
        np.testing.assert_allclose(conditional.means_[k], expected, atol=1e-10)
        expected = matrix[np.ix_(REST, REST)] - gain @ cross.T
        np.testing.assert_allclose(matrices_of(conditional)[k], expected, atol=1e-10)
    expected = np.exp(log_weights - logsumexp(log_weights))
    np.testing.assert_allclose(conditional.weights_, expected, atol=1e-12)


@all_types
def test_marginals_are_blocks_in_the_order_asked_for(rng, covariance_type):
    gm = mixture(rng, covariance_type)
    part = gm.marginal([4, 0, 2])
    assert part.n_features_in_ == 3
    np.testing.assert_allclose(part.means_, gm.means_[:, [4, 0, 2]])
    np.testing.assert_allclose(part.weights_, gm.weights_)
    expected = matrices_of(gm)[:, [[4], [0], [2]], [4, 0, 2]]
    np.testing.assert_allclose(matrices_of(part), expected, atol=1e-12)


@all_types
def test_marginals_score_as_rows_with_missing_entries(rng, covariance_type):
    gm, X = mixture(rng, covariance_type), rng.normal(size=(20, 5))
    holed = X.copy()
    holed[:, REST] = np.nan
    expected = gm.marginal(GIVEN).score_samples(X[:, GIVEN])
    np.testing.assert_allclose(gm.score_samples(holed), expected, rtol=0, atol=1e-8)


@all_types
def test_the_conditional_mean_is_the_imputation(rng, covariance_type):
    gm, row = mixture(rng, covariance_type), rng.normal(size=5)
    conditional = gm.condition(GIVEN, row[GIVEN])
    holed = np.full((1, 5), np.nan)
    holed[0, GIVEN] = row[GIVEN]
    expected = conditional.weights_ @ conditional.means_
    np.testing.assert_allclose(gm.impute(holed)[0, REST], expected, atol=1e-10)


@all_types
def test_the_result_samples_and_conditions_again(rng, covariance_type):
    gm, row = mixture(rng, covariance_type), rng.normal(size=5)
    # 3 first, then feature 1, which is the second of what remains.
    twice = gm.condition([3], row[[3]]).condition([1], row[[1]])
    once = gm.condition(GIVEN, row[GIVEN])
    np.testing.assert_allclose(twice.weights_, once.weights_, atol=1e-10)
    np.testing.assert_allclose(twice.means_, once.means_, atol=1e-10)
    rows, _ = once.sample(4000)
    expected = once.weights_ @ once.means_
    np.testing.assert_allclose(rows.mean(axis=0), expected, atol=0.2)


def test_a_sharp_condition_chooses_the_component():
    gm = GaussianMixture.from_parameters(
        [0.5, 0.5], [[0.0, 1.0], [9.0, -1.0]], [1.0, 1.0], covariance_type="spherical"
    )
    np.testing.assert_allclose(gm.condition([0], [0.0]).weights_, [1, 0], atol=1e-12)
    far = gm.condition([0], [1e6])
    assert np.isfinite(far.means_).all()
    np.testing.assert_allclose(far.weights_.sum(), 1.0)


def test_the_original_is_left_alone(rng):
    gm = mixture(rng, "full")
    before = gm.means_.copy(), gm.covariances_.copy()
    gm.condition(GIVEN, [0.0, 0.0])
    gm.marginal(GIVEN)
    np.testing.assert_array_equal(gm.means_, before[0])
    np.testing.assert_array_equal(gm.covariances_, before[1])


def test_settings_are_handed_on(rng):
    gm = mixture(rng, "diag").set_params(random_state=7, batch_size=10)
    for other in (gm.marginal(GIVEN), gm.condition(GIVEN, [0.0, 0.0])):
        assert type(other) is GaussianMixture
        assert (other.random_state, other.batch_size) == (7, 10)
        assert other.covariance_type == "diag"


@pytest.mark.parametrize(
    "features", [[], [0, 0], [5], [-6], [0.5], [[0, 1]], ["a"]], ids=str
)
def test_bad_features_are_refused(rng, features):
    gm = mixture(rng, "full")
    with pytest.raises((ValueError, TypeError), match="features"):
        gm.marginal(features)


@pytest.mark.parametrize("values", [[0.0], [0.0, np.nan], [0.0, np.inf], 0.0], ids=str)
def test_bad_values_are_refused(rng, values):
    gm = mixture(rng, "full")
    with pytest.raises(ValueError, match="values"):
        gm.condition(GIVEN, values)


def test_a_condition_on_everything_is_refused(rng):
    gm = mixture(rng, "full")
    with pytest.raises(ValueError, match="at least one feature"):
        gm.condition([0, 1, 2, 3, 4], np.zeros(5))


# Names and scalars ----------------------------------------------------------------


def named(rng):
    """Return a mixture that was fitted to a data frame, and the frame."""
    X = rng.normal(size=(200, 3)) @ rng.normal(size=(3, 3))
    frame = pd.DataFrame(X, columns=["age", "income", "height"])
    return GaussianMixture(2, random_state=0).fit(frame), frame


def test_names_mean_the_same_as_indices(rng):
    gm, _ = named(rng)
    for by_name, by_index in [
        (gm.condition({"height": 0.5, "age": -0.2}), gm.condition([2, 0], [0.5, -0.2])),
        (gm.condition("income", 0.1), gm.condition([1], [0.1])),
        (gm.condition({1: 0.1}), gm.condition(1, 0.1)),
        (gm.marginal(["height", "age"]), gm.marginal([2, 0])),
        (gm.marginal(pd.Index(["age"])), gm.marginal(0)),
    ]:
        np.testing.assert_array_equal(by_name.means_, by_index.means_)
        np.testing.assert_array_equal(by_name.weights_, by_index.weights_)
        assert by_name.feature_names_in_.tolist() == by_index.feature_names_in_.tolist()


def test_names_stay_with_the_features(rng):
    gm, frame = named(rng)
    given = gm.condition({"income": 0.0})
    assert given.feature_names_in_.tolist() == ["age", "height"]
    part = gm.marginal(["height", "age"])
    assert part.feature_names_in_.tolist() == ["height", "age"]
    assert np.isfinite(part.score_samples(frame[["height", "age"]])).all()
    with pytest.raises(ValueError, match="feature names"):
        part.score_samples(frame[["age", "height"]])
    assert given.condition({"age": 1.0}).feature_names_in_.tolist() == ["height"]


def test_mixtures_without_names_say_so(rng):
    gm = mixture(rng, "full")
    assert not hasattr(gm.marginal([0]), "feature_names_in_")
    with pytest.raises(ValueError, match=r"knows none.*Give indices"):
        gm.condition({"age": 1.0})


@pytest.mark.parametrize(
    "features, values, message",
    [
        ({"weight": 1.0}, None, r"\['weight'\], which the mixture was not fitted to"),
        ({"age": 1.0}, 1.0, "leave out values"),
        ({"age": "old"}, None, "old"),
        ("age", None, "values is None"),
        (["age", "age"], [0.0, 0.0], "distinct"),
        ({}, None, "list of feature indices or names"),
    ],
)
def test_bad_names_are_refused(rng, features, values, message):
    gm, _ = named(rng)
    with pytest.raises(ValueError, match=message):
        gm.condition(features, values)
