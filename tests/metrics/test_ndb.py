"""The bins' test against its chi-square form, and what the score must see."""

import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon
from scipy.stats import chi2_contingency

from skdeepgmm.metrics import ndb_score
from skdeepgmm.metrics._ndb import two_proportion_p_values


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_p_values_equal_the_uncorrected_chi_square_test(rng):
    n_1, n_2 = 400, 250
    counts_1, counts_2 = rng.integers(1, 50, size=(2, 20))
    p_values = two_proportion_p_values(counts_1 / n_1, n_1, counts_2 / n_2, n_2)
    expected = [
        chi2_contingency([[a, n_1 - a], [b, n_2 - b]], correction=False).pvalue
        for a, b in zip(counts_1, counts_2, strict=True)
    ]
    np.testing.assert_allclose(p_values, expected, rtol=1e-10)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_a_pooled_share_of_zero_or_one_is_no_difference(share):
    p_values = two_proportion_p_values(np.array([share]), 10, np.array([share]), 20)
    np.testing.assert_array_equal(p_values, [1.0])


def test_equal_sets_do_not_differ(rng):
    X = rng.normal(size=(500, 3))
    result = ndb_score(X, X, n_bins=10, random_state=0)
    assert result.n_different == 0
    assert result.ndb == 0.0
    assert result.js_divergence == 0.0


def test_divergence_equals_scipy(rng):
    X_train, X_samples = rng.normal(size=(2, 300, 2))
    result = ndb_score(X_train, X_samples + 0.3, n_bins=8, random_state=0)
    # SciPy returns the distance, the square root of the divergence.
    expected = jensenshannon(result.train_proportions, result.sample_proportions) ** 2
    assert result.js_divergence == pytest.approx(expected)
    assert result.train_proportions.sum() == pytest.approx(1)
    assert result.sample_proportions.sum() == pytest.approx(1)


def test_a_dropped_mode_is_seen(rng):
    centers = np.array([[0.0, 0.0], [20.0, 0.0], [0.0, 20.0]])
    modes = rng.integers(3, size=900)
    X_train = centers[modes] + rng.normal(size=(900, 2))
    X_dropped = X_train[modes != 2]
    result = ndb_score(X_train, X_dropped, n_bins=12, random_state=0)
    empty = result.sample_proportions == 0
    assert empty.any()
    assert np.all(result.p_values[empty] < 0.05)


def test_same_distribution_differs_about_as_often_as_the_level():
    fractions = []
    for seed in range(10):
        X_train, X_samples = np.random.default_rng(seed).normal(size=(2, 2000, 2))
        fractions.append(ndb_score(X_train, X_samples, n_bins=20, random_state=0).ndb)
    # The bins follow the training rows, so slightly more than 5 % are expected.
    assert np.mean(fractions) < 0.15


def test_random_state_repeats(rng):
    X_train, X_samples = rng.normal(size=(2, 300, 2))
    first, second = (
        ndb_score(X_train, X_samples, n_bins=10, random_state=3) for _ in range(2)
    )
    np.testing.assert_array_equal(first.p_values, second.p_values)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"X_samples": np.zeros((9, 3))}, "X_samples has 3 features; expected the 2"),
        ({"X_train": np.zeros((4, 2))}, "minimum of 5 is required"),
        ({"X_samples": np.full((9, 2), np.nan)}, "X_samples contains NaN"),
        ({"n_bins": 1}, "n_bins == 1, must be >= 2"),
        ({"significance_level": 1.0}, "significance_level == 1.0, must be < 1"),
    ],
)
def test_bad_input_is_named(change, message, rng):
    arguments = {"X_train": rng.normal(size=(20, 2)), "n_bins": 5}
    arguments["X_samples"] = rng.normal(size=(9, 2))
    with pytest.raises(ValueError, match=message):
        ndb_score(**(arguments | change))
