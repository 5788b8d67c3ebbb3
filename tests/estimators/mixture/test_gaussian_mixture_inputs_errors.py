"""Input that cannot be used: errors say what was expected. Pickling of the fit."""

import pickle
import re
import warnings

import joblib
import numpy as np
import pytest
import torch
from sklearn.utils._param_validation import InvalidParameterError

from skdeepgmm import GaussianMixture, SGDGaussianMixture
from tests.estimators.mixture.problems import make_problem
from tests.oracles import COVARIANCE_TYPES

FITTED = ("weights_", "means_", "covariances_", "precisions_", "precisions_cholesky_")


def fitted(X, covariance_type="full"):
    mixture = GaussianMixture(3, covariance_type=covariance_type, random_state=0)
    return mixture.fit(X)


@pytest.fixture
def X(rng):
    return make_problem(rng, n_features=4, spread=6.0).draw("full", 300, rng)[0]


# Errors --------------------------------------------------------------------------


def as_array(X):
    return X


BOTH = pytest.mark.parametrize("convert", [as_array, torch.tensor])


@BOTH
@pytest.mark.parametrize("value", [np.inf, -np.inf])
def test_infinite_values(X, convert, value):
    mixture = fitted(X)
    X[3, 1] = value
    bad = convert(X)
    message = "Input X contains .*infinity"
    for call in (GaussianMixture().fit, mixture.predict, mixture.score_samples):
        with pytest.raises(ValueError, match=message):
            call(bad)


@BOTH
def test_wrong_number_of_features(X, convert):
    mixture = fitted(X)
    message = "X has 3 features, but GaussianMixture is expecting 4 features as input"
    for method in ("predict", "predict_proba", "score_samples", "score", "bic"):
        with pytest.raises(ValueError, match=message):
            getattr(mixture, method)(convert(X[:, :3]))


@pytest.mark.parametrize("Estimator", [GaussianMixture, SGDGaussianMixture])
def test_a_failed_refit_keeps_the_old_mixture(X, Estimator):
    mixture = Estimator(3, max_iter=5, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mixture.fit(X)
    before = mixture.score_samples(X)
    mixture.set_params(means_init=np.zeros((3, 3)))
    with pytest.raises(ValueError, match="means"):
        mixture.fit(X[:, :2])
    np.testing.assert_array_equal(mixture.score_samples(X), before)
    assert mixture.means_init.shape == (3, 3)  # parameters are the user's


@BOTH
def test_wrong_number_of_dimensions(X, convert):
    for bad in (X[:, 0], X[:, :, None]):
        with pytest.raises(
            ValueError, match=r"Expected 2D array|Found array with dim 3"
        ):
            GaussianMixture().fit(convert(bad))


@BOTH
def test_no_rows_or_columns(convert):
    with pytest.raises(ValueError, match=r"0 sample\(s\)"):
        GaussianMixture().fit(convert(np.empty((0, 3))))
    with pytest.raises(ValueError, match=r"0 feature\(s\)"):
        GaussianMixture().fit(convert(np.empty((5, 0))))


@BOTH
def test_one_sample_is_not_enough_to_fit(X, convert):
    message = r"Found array with 1 sample\(s\) .* while a minimum of 2 is required"
    with pytest.raises(ValueError, match=message):
        GaussianMixture().fit(convert(X[:1]))


@BOTH
def test_one_sample_is_enough_to_score(X, convert):
    mixture = fitted(X)
    expected = mixture.score_samples(X)[:1]
    score = mixture.score_samples(convert(X[:1]))
    np.testing.assert_allclose(score, expected, rtol=1e-10)


@BOTH
def test_fewer_samples_than_components(X, convert):
    message = "Expected n_samples >= n_components but got n_components = 4, "
    with pytest.raises(ValueError, match=re.escape(message + "n_samples = 3")):
        GaussianMixture(4).fit(convert(X[:3]))


def test_complex_and_text_data(X):
    with pytest.raises(ValueError, match="Complex data not supported"):
        GaussianMixture().fit(X + 1j)
    with pytest.raises(ValueError, match="Complex data not supported"):
        GaussianMixture().fit(torch.tensor(X + 1j))
    with pytest.raises(ValueError, match="could not convert string to float"):
        GaussianMixture().fit([["a", "b"], ["c", "d"]])


@pytest.mark.parametrize("device", ["gpu", "cuda:one", "", "cuda:99"])
def test_unknown_device(X, device):
    with pytest.raises((ValueError, RuntimeError), match="device"):
        GaussianMixture(device=device).fit(X)


def test_unknown_parameter_values_name_the_choices(X):
    with pytest.raises(InvalidParameterError, match="'spherical'"):
        GaussianMixture(covariance_type="round").fit(X)
    with pytest.raises(InvalidParameterError, match=r"'k-means\+\+'"):
        GaussianMixture(init_params="magic").fit(X)


# Pickling ------------------------------------------------------------------------


@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
def test_pickle_round_trip(X, covariance_type, tmp_path):
    mixture = fitted(X, covariance_type)
    joblib.dump(mixture, tmp_path / "mixture.joblib")
    copies = [
        pickle.loads(pickle.dumps(mixture)),
        joblib.load(tmp_path / "mixture.joblib"),
    ]
    for copy in copies:
        for name in FITTED:
            np.testing.assert_array_equal(getattr(copy, name), getattr(mixture, name))
        np.testing.assert_array_equal(copy.score_samples(X), mixture.score_samples(X))
        np.testing.assert_array_equal(copy.sample(9)[0], mixture.sample(9)[0])


def test_no_torch_object_is_a_fitted_attribute(X):
    for X_ in (X, torch.tensor(X)):
        state = vars(fitted(X_))
        assert not [name for name, value in state.items() if torch.is_tensor(value)]


def test_methods_add_no_attributes(X):
    mixture = fitted(X)
    before = dict(vars(mixture))
    mixture.predict(X), mixture.score_samples(X), mixture.sample(3), mixture.bic(X)
    assert vars(mixture).keys() == before.keys()
