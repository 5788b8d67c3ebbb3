"""Samples with missing features are outliers as often as complete ones."""

import numpy as np
import pytest

from skdeepgmm import DensityOutlierDetector, GaussianMixture
from skdeepgmm.estimators.outliers._missing import matched


@pytest.fixture(scope="module")
def samples():
    rng = np.random.default_rng(0)
    basis = np.linalg.qr(rng.normal(size=(6, 6)))[0]
    return (rng.normal(size=(6000, 6)) * [1, 2, 3, 1, 1, 2]) @ basis


@pytest.mark.parametrize("unit", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize("model", [None, GaussianMixture()], ids=["default", "one"])
def test_the_share_of_outliers_does_not_depend_on_missing_features(
    samples, unit, model
):
    X = samples * unit
    detector = DensityOutlierDetector(model, contamination=0.05).fit(X[:3000])
    for lost in ([0], [1, 4], [0, 2, 3, 5]):
        new = X[3000:].copy()
        new[:, lost] = np.nan
        assert np.mean(detector.predict(new) == -1) == pytest.approx(0.05, abs=0.025)


def test_the_same_patterns_in_training(samples):
    X = samples.copy()
    rng = np.random.default_rng(1)
    lost = rng.uniform(size=len(X)) < 0.3
    X[lost, :4] = np.nan
    detector = DensityOutlierDetector(GaussianMixture(), contamination=0.1).fit(X)
    found = detector.predict(X) == -1
    assert found.mean() == pytest.approx(0.1, abs=0.002)
    assert found[lost].mean() == pytest.approx(0.1, abs=0.03)


def test_complete_samples_keep_their_scores_and_unknown_ones_are_typical(samples):
    detector = DensityOutlierDetector(GaussianMixture()).fit(samples)
    new = np.concatenate([samples[:5], np.full((1, 6), np.nan)])
    decision = detector.decision_function(new)
    expected = detector.score_samples(samples[:5]) - detector.offset_
    np.testing.assert_allclose(decision[:5], expected, rtol=1e-12)
    assert detector.predict(new)[5] == 1


def test_rarer_observed_values_have_lower_scores(samples):
    detector = DensityOutlierDetector(GaussianMixture()).fit(samples)
    new = np.full((40, 6), np.nan)
    new[:, 1] = samples[:, 1].mean() + np.linspace(0.1, 100.0, 40)
    assert (np.diff(detector.decision_function(new)) < 0).all()


def test_matched_quantiles():
    source, target = np.linspace(0.0, 1.0, 101), np.linspace(-10.0, 10.0, 101)
    values = np.array([0.0, 0.25, 1.0, -1.0, 2.0])
    np.testing.assert_allclose(
        matched(values, source, target), [-10.0, -5.0, 10.0, -30.0, 30.0]
    )
    np.testing.assert_array_equal(matched(values, np.zeros(5), target), np.zeros(5))
