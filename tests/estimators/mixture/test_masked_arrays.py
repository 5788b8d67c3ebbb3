"""Masked arrays: hidden values are missing values, whatever they are."""

import numpy as np
import pytest

from skdeepgmm import DeepConvGMM, DensityOutlierDetector, GaussianMixture


@pytest.fixture
def masked(rng):
    X = rng.normal(size=(200, 3))
    mask = rng.uniform(size=X.shape) < 0.1
    return np.ma.MaskedArray(np.where(mask, 1e6, X), mask), np.where(mask, np.nan, X)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_a_mask_means_nan(masked, dtype):
    hidden, missing = masked
    hidden, missing = hidden.astype(dtype), missing.astype(dtype)
    found = GaussianMixture(2, random_state=0).fit(hidden)
    expected = GaussianMixture(2, random_state=0).fit(missing)
    np.testing.assert_array_equal(found.means_, expected.means_)
    for method in ("score_samples", "predict_proba", "impute"):
        result = getattr(found, method)(hidden)
        np.testing.assert_array_equal(result, getattr(expected, method)(missing))


def test_masked_integers_are_missing():
    X = np.arange(12).reshape(6, 2)
    hidden = np.ma.MaskedArray(np.where(X == 7, 99, X), X == 7)
    found = GaussianMixture(1).fit(hidden)
    expected = GaussianMixture(1).fit(np.where(X == 7, np.nan, X))
    np.testing.assert_array_equal(found.means_, expected.means_)


def test_outliers_with_a_mask(masked):
    hidden, missing = masked
    found = DensityOutlierDetector(GaussianMixture()).fit(hidden)
    expected = DensityOutlierDetector(GaussianMixture()).fit(missing)
    np.testing.assert_array_equal(found.predict(hidden), expected.predict(missing))


def test_estimators_without_missing_values_refuse_a_mask(masked):
    with pytest.raises(ValueError, match="NaN"):
        DeepConvGMM(n_components=2).fit(masked[0])
