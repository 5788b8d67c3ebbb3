"""Missing entries: the closed form, draws of the right spread, untouched values."""

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import make_blobs
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LinearRegression
from sklearn.mixture import GaussianMixture as SklearnMixture
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skdeepgmm import GaussianMixture, MixtureImputer, SGDGaussianMixture


def incomplete(rng, n_samples=400):
    """Return correlated samples, complete and with a fifth of the entries missing."""
    X = rng.normal(size=(n_samples, 3)) @ rng.normal(size=(3, 3)) + [1.0, 2.0, 3.0]
    holed = np.where(rng.uniform(size=X.shape) < 0.2, np.nan, X)
    return X, holed


def test_one_component_regresses_on_the_observed_features(rng):
    X, _ = incomplete(rng)
    holed = X.copy()
    holed[:100, 2] = np.nan
    # EM needs a few iterations to reach the regression on the complete rows.
    mixture = GaussianMixture(tol=1e-12, max_iter=500, reg_covar=0.0)
    filled = MixtureImputer(mixture).fit_transform(holed)
    peer = LinearRegression().fit(X[100:, :2], X[100:, 2])
    np.testing.assert_allclose(filled[:100, 2], peer.predict(X[:100, :2]), atol=1e-5)


@pytest.mark.parametrize("strategy", ["mean", "draw"])
@pytest.mark.parametrize("cls", [GaussianMixture, SGDGaussianMixture])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_observed_entries_stay_bit_for_bit(rng, cls, strategy, dtype):
    _, holed = incomplete(rng)
    holed = holed.astype(dtype)
    holed[0] = np.nan
    mixture = cls(2, random_state=0).set_params(tol=10.0)
    filled = MixtureImputer(mixture, strategy=strategy).fit_transform(holed)
    assert filled.dtype == dtype
    assert np.isfinite(filled).all()
    seen = ~np.isnan(holed)
    assert filled[seen].tobytes() == holed[seen].tobytes()


def test_means_are_those_of_the_mixture(rng):
    _, holed = incomplete(rng)
    imputer = MixtureImputer(GaussianMixture(2, random_state=0)).fit(holed)
    np.testing.assert_array_equal(
        imputer.transform(holed), imputer.estimator_.impute(holed)
    )


def test_draws_keep_the_variance_that_means_lose(rng):
    x = rng.normal(size=(2000, 2)) * [1.0, 3.0]
    holed = x.copy()
    holed[:1000, 1] = np.nan
    by_mean = MixtureImputer().fit_transform(holed)[:1000, 1]
    drawn = MixtureImputer(strategy="draw", random_state=0).fit_transform(holed)
    assert by_mean.std() < 0.5
    assert drawn[:1000, 1].std() == pytest.approx(3.0, rel=0.1)


def test_the_seed_repeats_draws_and_none_does_not(rng):
    _, holed = incomplete(rng)
    # The mixture's own seed must not fix the draws.
    mixture = GaussianMixture(random_state=3)
    fixed = MixtureImputer(mixture, strategy="draw", random_state=0).fit(holed)
    np.testing.assert_array_equal(fixed.transform(holed), fixed.transform(holed))
    free = MixtureImputer(mixture, strategy="draw").fit(holed)
    assert (free.transform(holed) != free.transform(holed)).any()


def test_names_and_indicators_in_a_data_frame(rng):
    _, holed = incomplete(rng)
    holed[:, 0] = 1.0 + rng.normal(size=len(holed))
    frame = pd.DataFrame(holed, columns=["a", "b", "c"], index=range(5, 405))
    imputer = MixtureImputer(add_indicator=True).set_output(transform="pandas")
    filled = imputer.fit_transform(frame)
    names = ["a", "b", "c", "missingindicator_b", "missingindicator_c"]
    assert list(filled.columns) == list(imputer.get_feature_names_out()) == names
    assert filled.index.equals(frame.index)
    expected = frame[["b", "c"]].isna().to_numpy().astype(float)
    np.testing.assert_array_equal(filled[names[3:]].to_numpy(), expected)
    # Names reach the mixture, which conditions by them.
    assert imputer.estimator_.condition({"a": 0.0}).n_features_in_ == 2


def test_in_a_pipeline(rng):
    X, y = make_blobs(300, centers=3, n_features=4, random_state=0)
    holed = np.where(rng.uniform(size=X.shape) < 0.1, np.nan, X)
    imputer = MixtureImputer(GaussianMixture(3, random_state=0))
    model = make_pipeline(StandardScaler(), imputer, LinearRegression())
    assert model.fit(holed, y).score(X, y) > 0.5
    assert np.isfinite(model.predict(holed)).all()


def test_sample_weight_reaches_the_mixture():
    X = np.array([[0.0], [0.0], [9.0], [9.0], [np.nan]])
    imputer = MixtureImputer().fit(X, sample_weight=[1, 1, 1, 0, 1])
    assert imputer.transform(X)[4, 0] == pytest.approx(3.0)


def test_a_frozen_mixture_is_used_as_it_is(rng):
    X, holed = incomplete(rng)
    mixture = GaussianMixture(2, random_state=0).fit(X)
    filled = MixtureImputer(FrozenEstimator(mixture)).fit_transform(holed)
    np.testing.assert_array_equal(filled, mixture.impute(holed))


def test_a_feature_without_values_is_named():
    frame = pd.DataFrame({"age": [1.0, 2.0], "income": [np.nan, np.nan]})
    with pytest.raises(ValueError, match=r"Features \['income'\] of X have no obs"):
        MixtureImputer().fit(frame)
    with pytest.raises(ValueError, match=r"Features \[1\] of X"):
        MixtureImputer().fit(frame.to_numpy())


def test_an_estimator_that_cannot_impute_is_refused(rng):
    with pytest.raises(TypeError, match="impute, sample_conditional; got Gaussian"):
        MixtureImputer(SklearnMixture()).fit(rng.normal(size=(9, 2)))


def test_a_failed_fit_keeps_the_last_one(rng):
    _, holed = incomplete(rng)
    imputer = MixtureImputer().fit(holed)
    before = imputer.transform(holed)
    with pytest.raises(ValueError, match="no observed entry"):
        imputer.fit(np.full((4, 2), np.nan))
    np.testing.assert_array_equal(imputer.transform(holed), before)
