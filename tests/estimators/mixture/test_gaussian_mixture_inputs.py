"""Kinds of input: same result whatever the container; clear errors where none fits."""

import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch

from skdeepgmm import GaussianMixture
from skdeepgmm.exceptions import DegenerateComponentWarning
from tests.estimators.mixture.problems import make_problem
from tests.oracles import COVARIANCE_TYPES, MATRIX_TYPES, ORACLES
from tests.versions import array_api

FITTED = ("weights_", "means_", "covariances_", "precisions_", "precisions_cholesky_")
each_type = pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
ignore_convergence = pytest.mark.filterwarnings(
    "ignore::sklearn.exceptions.ConvergenceWarning"
)
ignore_degenerate = pytest.mark.filterwarnings(
    "ignore::skdeepgmm.exceptions.DegenerateComponentWarning"
)

pytestmark = ignore_convergence


def fitted(X, covariance_type="full", **settings):
    """Return a mixture of three components after a fixed number of iterations."""
    settings = {"tol": 0.0, "max_iter": 10, "random_state": 0, **settings}
    return GaussianMixture(3, covariance_type=covariance_type, **settings).fit(X)


def assert_same_fit(mixture, reference, rtol=0.0):
    for name in FITTED:
        value, expected = getattr(mixture, name), getattr(reference, name)
        floor = rtol * np.abs(expected).max()
        np.testing.assert_allclose(value, expected, rtol=rtol, atol=floor, err_msg=name)


@pytest.fixture
def X(rng):
    return make_problem(rng, n_features=4, spread=2.0).draw("full", 300, rng)[0]


# Containers ----------------------------------------------------------------------


def memory_map(X, tmp_path):
    path = tmp_path / "rows.dat"
    X.tofile(path)
    return np.memmap(path, dtype=X.dtype, mode="r", shape=X.shape)


def frozen(X, _):
    X = X.copy()
    X.flags.writeable = False
    return X


SAME_VALUES = {
    "list": lambda X, _: X.tolist(),
    "data frame": lambda X, _: pd.DataFrame(X),
    "Fortran order": lambda X, _: np.asfortranarray(X),
    "strided": lambda X, _: np.repeat(X, 2, axis=0)[::2],
    "negative strides": lambda X, _: X[::-1].copy()[::-1],
    "read-only": frozen,
    "read-only memory map": memory_map,
    "big-endian": lambda X, _: X.astype(">f8"),
    "tensor": lambda X, _: torch.tensor(X),
    "tensor with gradient": lambda X, _: torch.tensor(X, requires_grad=True),
    "transposed tensor": lambda X, _: torch.tensor(X.T.copy()).T,
}


@each_type
@pytest.mark.parametrize("container", SAME_VALUES)
@pytest.mark.parametrize("batch_size", [None, 64])
def test_container_does_not_matter(X, tmp_path, covariance_type, container, batch_size):
    other = SAME_VALUES[container](X, tmp_path)
    reference = fitted(X, covariance_type, batch_size=batch_size)
    mixture = fitted(other, covariance_type, batch_size=batch_size)
    assert_same_fit(mixture, reference, rtol=1e-9)
    for method in ("score_samples", "predict_proba", "predict"):
        result = getattr(mixture, method)(other)
        assert isinstance(result, np.ndarray)
        np.testing.assert_allclose(
            result, getattr(reference, method)(X), rtol=1e-9, atol=1e-12
        )
    for method in ("score", "bic", "aic"):
        assert getattr(mixture, method)(other) == pytest.approx(
            getattr(reference, method)(X), rel=1e-9
        )


@pytest.mark.parametrize("container", SAME_VALUES)
def test_fit_leaves_the_input_alone(X, tmp_path, container):
    other = SAME_VALUES[container](X, tmp_path)
    fitted(other).score_samples(other)
    values = other.detach().numpy() if torch.is_tensor(other) else np.asarray(other)
    np.testing.assert_array_equal(values, X)


@each_type
def test_integers_are_fitted_as_float64(rng, covariance_type):
    X = rng.integers(-20, 20, size=(300, 4))
    reference = fitted(X.astype(np.float64), covariance_type)
    for other in (X, X.astype(np.int8), torch.tensor(X)):
        mixture = fitted(other, covariance_type)
        assert mixture.means_.dtype == np.float64
        assert_same_fit(mixture, reference, rtol=1e-9)


@each_type
@pytest.mark.parametrize("as_tensor", [False, True])
def test_float32_equals_float64_to_its_precision(X, covariance_type, as_tensor):
    single = X.astype(np.float32)
    start = {"init_params": "random_from_data", "reg_covar": 1e-3}
    reference = fitted(single.astype(np.float64), covariance_type, **start)
    mixture = fitted(
        torch.tensor(single) if as_tensor else single, covariance_type, **start
    )
    assert mixture.means_.dtype == np.float32
    assert_same_fit(mixture, reference, rtol=1e-4)
    np.testing.assert_allclose(
        mixture.score_samples(single), reference.score_samples(single), atol=1e-3
    )


ARRAY_API_SCRIPT = """
import numpy as np, sklearn, torch
from skdeepgmm import GaussianMixture
X = torch.tensor(np.random.RandomState(0).normal(size=(100, 3)), dtype=torch.float32)
mixture = GaussianMixture(2, random_state=0).fit(X)
expected = mixture.predict_proba(X)
with sklearn.config_context(array_api_dispatch=True):
    resp, labels = mixture.predict_proba(X), mixture.fit_predict(X)
    assert isinstance(mixture.score(X), float)
assert torch.is_tensor(resp) and torch.is_tensor(labels)
assert resp.dtype == torch.float32 and resp.device == X.device
np.testing.assert_allclose(resp.numpy(), expected)
"""


@array_api
def test_outputs_follow_a_tensor_under_array_api_dispatch():
    """SciPy reads its switch once, at import: hence the fresh interpreter."""
    subprocess.run(
        [sys.executable, "-c", ARRAY_API_SCRIPT],
        env={**os.environ, "SCIPY_ARRAY_API": "1"},
        check=True,
    )


def test_batch_size_larger_than_the_data(X):
    assert_same_fit(fitted(X, batch_size=10**6), fitted(X), rtol=1e-9)


# Numerical range -----------------------------------------------------------------


@each_type
def test_float32_with_an_offset_equals_float64(rng, covariance_type):
    """N(0, 1) + 10,000 in float32, where E[x^2] - E[x]^2 would cancel."""
    problem = make_problem(rng, n_features=4, spread=3.0)
    X = (problem.draw(covariance_type, 2000, rng)[0] + 1e4).astype(np.float32)
    start = problem.start(covariance_type)
    start["means_init"] = start["means_init"] + 1e4
    settings = {**start, "tol": 0.0, "max_iter": 20}
    single = GaussianMixture(**settings).fit(X)
    double = GaussianMixture(**settings).fit(X.astype(np.float64))
    # float32 holds the means to 1e-3 absolute at this offset.
    np.testing.assert_allclose(single.means_, double.means_, rtol=1e-6)
    np.testing.assert_allclose(single.weights_, double.weights_, rtol=1e-3)
    scale = np.abs(double.covariances_).max()
    np.testing.assert_allclose(
        single.covariances_, double.covariances_, rtol=1e-3, atol=1e-3 * scale
    )
    np.testing.assert_allclose(single.lower_bounds_, double.lower_bounds_, rtol=1e-3)
    np.testing.assert_allclose(single.score(X), double.score(X), rtol=1e-3)


@each_type
def test_float32_with_a_tight_cluster_equals_float64(rng, covariance_type):
    """One cluster is 10,000 times tighter than the spread of the data."""
    wide = rng.normal(size=(1000, 3)) * 100.0
    tight = rng.normal(size=(1000, 3)) * 1e-2 + 150.0
    X = np.concatenate([wide, tight]).astype(np.float32)
    settings = {
        "n_components": 2,
        "covariance_type": covariance_type,
        "means_init": [[0.0] * 3, [150.0] * 3],
        "random_state": 0,
        "tol": 0.0,
        "max_iter": 10,
    }
    single = GaussianMixture(**settings).fit(X)
    double = GaussianMixture(**settings).fit(X.astype(np.float64))
    np.testing.assert_allclose(single.weights_, double.weights_, rtol=1e-3)
    np.testing.assert_allclose(
        single.covariances_,
        double.covariances_,
        rtol=1e-2,
        atol=1e-3 * np.abs(double.covariances_).min(),
    )
    np.testing.assert_allclose(single.score(X), double.score(X), rtol=1e-3, atol=1e-3)


@each_type
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_columns_of_very_different_scale(rng, covariance_type, dtype):
    """Column scales from 1e-8 to 1e8 shift the score by the sum of their logs."""
    problem = make_problem(rng, n_features=3, spread=4.0)
    X, _ = problem.draw("diag", 1000, rng)
    scales = np.array([1e-8, 1.0, 1e8])
    settings = {"reg_covar": 0.0, "init_params": "random"}
    mixture = fitted((X * scales).astype(dtype), covariance_type, **settings)
    for name in FITTED:
        assert np.isfinite(getattr(mixture, name)).all()
    if ORACLES[covariance_type].isotropic:
        return  # A single variance cannot follow the scales.
    plain = fitted(X, covariance_type, **settings)
    shift = np.log(scales).sum()
    tolerance = 1e-2 if dtype == np.float32 else 1e-6
    assert mixture.score((X * scales).astype(dtype)) + shift == pytest.approx(
        plain.score(X), abs=tolerance
    )


# Tiny and degenerate data --------------------------------------------------------


@each_type
def test_one_feature(rng, covariance_type):
    X = np.concatenate([rng.normal(size=(100, 1)) + m for m in (-8, 0, 8)])
    mixture = GaussianMixture(3, covariance_type=covariance_type, random_state=0)
    means = np.sort(mixture.fit(X).means_[:, 0])
    np.testing.assert_allclose(means, [-8, 0, 8], atol=0.5)
    assert mixture.sample(5)[0].shape == (5, 1)


def assert_usable(mixture, X):
    for name in FITTED:
        assert np.isfinite(getattr(mixture, name)).all(), name
    assert np.isfinite(mixture.score_samples(X)).all()
    assert mixture.weights_.sum() == pytest.approx(1.0)
    assert np.isfinite(mixture.sample(10)[0]).all()


@each_type
@ignore_degenerate
@pytest.mark.parametrize("reg_covar", [0.0, 1e-6])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_duplicated_rows(rng, covariance_type, reg_covar, dtype):
    X = np.repeat(rng.normal(size=(4, 3)), 25, axis=0).astype(dtype)
    assert_usable(fitted(X, covariance_type, reg_covar=reg_covar), X)


@each_type
@ignore_degenerate
@pytest.mark.parametrize("reg_covar", [0.0, 1e-6])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_constant_column(X, covariance_type, reg_covar, dtype):
    X = X.astype(dtype)
    X[:, 1] = 5.0
    mixture = fitted(X, covariance_type, reg_covar=reg_covar)
    assert_usable(mixture, X)
    np.testing.assert_allclose(mixture.means_[:, 1], 5.0, rtol=1e-5)


@each_type
@ignore_degenerate
@pytest.mark.parametrize("reg_covar", [0.0, 1e-6])
def test_all_rows_equal(covariance_type, reg_covar):
    X = np.full((30, 2), 7.0)
    settings = {"init_params": "random", "reg_covar": reg_covar}
    mixture = fitted(X, covariance_type, **settings)
    assert_usable(mixture, X)


@pytest.mark.parametrize("covariance_type", MATRIX_TYPES)
def test_collinear_columns_without_regularisation_warn(X, covariance_type):
    X = np.column_stack([X, X @ [1.0, 2.0, -1.0, 0.5]])
    with pytest.warns(DegenerateComponentWarning):
        mixture = fitted(X, covariance_type, reg_covar=0.0)
    assert_usable(mixture, X)


@each_type
@ignore_degenerate
def test_as_many_components_as_samples(rng, covariance_type):
    X = rng.normal(size=(6, 2))
    mixture = GaussianMixture(6, covariance_type=covariance_type, random_state=0)
    assert_usable(mixture.fit(X), X)
