"""Every covariance type against dense NumPy and SciPy forms."""

import ast
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal

import skdeepgmm
from skdeepgmm._torch_backend.mixture.covariances import COVARIANCES, base, full
from tests._torch_backend.mixture.problems import (
    all_types,
    as_block,
    dense_covariances,
    random_mixture,
    types,
)
from tests.oracles import ORACLES

DTYPES = {torch.float32: 2e-5, torch.float64: 1e-11}
dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=str)


def gaussian_log_prob(mixture, X):
    pairs = zip(mixture.means.numpy(), dense_covariances(mixture), strict=True)
    return np.stack([multivariate_normal(*pair).logpdf(X) for pair in pairs])


def natural_log_prob(mixture, x):
    """Evaluate the natural form by hand: natural @ [1, x, features(x)]."""
    covariance = mixture.covariance
    no_weights = torch.zeros_like(mixture.weights)
    natural = covariance.natural(mixture.means, no_weights)
    features = x.new_empty(covariance.n_moment_features(len(x)), x.shape[1])
    covariance.features(x, features)
    log_prob = natural.to(x.dtype) @ torch.cat([torch.ones_like(x[:1]), x, features])
    other, _ = covariance.other_log_prob(x, mixture.means)
    return log_prob if other is None else log_prob + other


@types
@pytest.mark.parametrize("n_components, n_features", [(1, 1), (3, 1), (1, 4), (4, 4)])
def test_shapes_and_inverses(rng, name, n_components, n_features):
    mixture = random_mixture(name, rng, n_components, n_features)
    covariance = mixture.covariance
    shape = covariance.values_shape(n_components, n_features)
    for tensor in (covariance.values, covariance.precisions_chol):
        assert tuple(tensor.shape) == shape
    full_mean = torch.zeros(n_components, n_features)
    assert (covariance.variances() + full_mean).shape == full_mean.shape
    dense = dense_covariances(mixture)
    precisions = ORACLES[name].as_matrices(
        covariance.precisions().numpy(), n_components, n_features
    )
    eye = np.broadcast_to(np.eye(n_features), dense.shape)
    np.testing.assert_allclose(precisions @ dense, eye, atol=1e-11)
    diagonals = np.diagonal(np.linalg.inv(dense), axis1=1, axis2=2)
    found = covariance.precision_diagonal() + full_mean
    np.testing.assert_allclose(found, diagonals, rtol=1e-10)


@all_types
@pytest.mark.parametrize("n_components, n_features", [(1, 1), (3, 1), (1, 4), (4, 4)])
def test_dense_matrices_equal_the_oracle(rng, name, n_components, n_features):
    mixture = random_mixture(name, rng, n_components, n_features)
    found = mixture.covariance.dense(n_components, n_features)
    assert tuple(found.shape) == (n_components, n_features, n_features)
    np.testing.assert_allclose(found, dense_covariances(mixture), atol=1e-14)


@all_types
@pytest.mark.parametrize("n_components", [1, 3])
def test_the_class_describes_its_objects(rng, name, n_components):
    oracle, mixture = ORACLES[name], random_mixture(name, rng, n_components)
    covariance = mixture.covariance
    cls = type(covariance)
    assert cls.name == name
    assert (cls.shared, cls.in_sklearn) == (oracle.shared, oracle.in_sklearn)
    attributes = covariance.attributes()
    assert set(attributes) == set(cls.attribute_names)
    assert set(cls.stored) <= set(attributes)
    supplied = [attributes[f"{part}_"] for part in cls.supplied]
    shapes = tuple(tuple(array.shape) for array in supplied)
    assert shapes == cls.supplied_shapes(n_components, 4)
    cls.check_supplied(tuple(supplied), n_components, 4)
    again = cls.from_supplied(*supplied)
    torch.testing.assert_close(again.values, covariance.values)
    assert cls.from_values(covariance.values)[1].shape == (
        1 if oracle.shared else n_components,
    )


@types
def test_every_construction_gives_the_same_object(rng, name):
    covariance = random_mixture(name, rng).covariance
    cls = type(covariance)
    for other in (
        cls.from_precisions(covariance.precisions()),
        cls.from_precisions_chol(covariance.precisions_chol),
    ):
        torch.testing.assert_close(other.values, covariance.values)
        torch.testing.assert_close(other.precisions_chol, covariance.precisions_chol)


@types
@pytest.mark.parametrize("n_features", [1, 5])
def test_number_of_parameters_counts_the_free_values(name, n_features):
    expected = ORACLES[name].n_parameters(3, n_features)
    assert COVARIANCES[name].n_parameters(3, n_features) == expected


@types
@dtypes
def test_exact_density_equals_scipy(rng, name, dtype):
    mixture = random_mixture(name, rng)
    X = rng.normal(scale=4.0, size=(50, 4))
    log_prob = mixture.covariance.log_prob(as_block(X, dtype).x, mixture.means)
    assert log_prob.dtype == dtype
    np.testing.assert_allclose(
        log_prob, gaussian_log_prob(mixture, X), rtol=DTYPES[dtype], atol=DTYPES[dtype]
    )


@types
@pytest.mark.parametrize("n_features", [1, 4])
def test_natural_form_equals_exact_form(rng, name, n_features):
    mixture = random_mixture(name, rng, n_features=n_features)
    x = as_block(rng.normal(scale=4.0, size=(50, n_features))).x
    exact = mixture.covariance.log_prob(x, mixture.means)
    torch.testing.assert_close(
        natural_log_prob(mixture, x), exact, rtol=1e-10, atol=1e-10
    )


@types
@dtypes
def test_cancellation_bounds_the_error_of_the_natural_form(rng, name, dtype):
    mixture = random_mixture(name, rng, spread=30.0)
    cancellation = mixture.covariance.cancellation(mixture.means)
    assert cancellation > 100
    for k, mean in enumerate(mixture.means):
        noise = torch.from_numpy(rng.normal(size=(40, 4)))
        x = (mean + mixture.covariance.color(noise, k)).T.to(dtype)
        exact = mixture.covariance.log_prob(x.double(), mixture.means)[k]
        error = natural_log_prob(mixture, x)[k].double() - exact
        assert error.abs().max() < 20 * torch.finfo(dtype).eps * cancellation


@types
@pytest.mark.parametrize("budget", [1, 500, 2**23])
def test_density_does_not_depend_on_the_chunks(rng, name, budget, monkeypatch):
    mixture = random_mixture(name, rng)
    block = as_block(rng.normal(size=(50, 4)))
    expected = mixture.covariance.log_prob(block.x, mixture.means)
    monkeypatch.setattr(base, "CHUNK_BYTES", budget)
    found = mixture.covariance.log_prob(block.x, mixture.means)
    torch.testing.assert_close(found, expected, rtol=1e-13, atol=1e-13)


@types
@dtypes
@pytest.mark.parametrize("budget", [1, 2**23])
def test_second_about_equals_the_sum_over_samples(
    rng, name, dtype, budget, monkeypatch
):
    monkeypatch.setattr(base, "CHUNK_BYTES", budget)
    mixture = random_mixture(name, rng)
    X, resp = rng.normal(size=(50, 4)), rng.dirichlet(np.ones(3), size=50)
    center = mixture.means
    found = mixture.covariance.second_about(
        as_block(X, dtype).x, torch.tensor(resp.T, dtype=dtype), center
    )
    assert found.dtype == torch.float64
    scatter = np.zeros((3, 4, 4))
    for n, row in enumerate(X):
        for k in range(3):
            diff = row - center[k].numpy()
            scatter[k] += resp[n, k] * np.outer(diff, diff)
    expected = ORACLES[name].second(scatter)
    tolerance = 1e-4 if dtype == torch.float32 else 1e-11
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance)


@types
def test_scaling_is_a_change_of_variables(rng, name):
    mixture = random_mixture(name, rng)
    scale = np.array([1e-3, 0.5, 2.0, 1e3])
    if ORACLES[name].isotropic:
        scale = np.full(4, 3.0)
    scaled = mixture.covariance.scaled(torch.from_numpy(scale))
    X = rng.normal(size=(30, 4))
    before = mixture.covariance.log_prob(as_block(X).x, mixture.means)
    after = scaled.log_prob(
        as_block(X * scale).x, mixture.means * torch.from_numpy(scale)
    )
    torch.testing.assert_close(
        after + np.log(scale).sum(), before, rtol=1e-9, atol=1e-9
    )
    back = scaled.scaled(torch.from_numpy(1 / scale))
    torch.testing.assert_close(back.values, mixture.covariance.values)


@types
def test_from_values_names_the_covariances_without_a_factor(rng, name):
    oracle = ORACLES[name]
    values = oracle.random(rng, 3, 4)
    values[0] = -values[0]
    covariance, failed = COVARIANCES[name].from_values(torch.from_numpy(values))
    assert failed.tolist() == ([True] if oracle.shared else [True, False, False])
    assert torch.isfinite(covariance.precisions_chol).all()


@types
@pytest.mark.parametrize("bad", [np.nan, np.inf, 0.0])
def test_from_values_survives_any_value(rng, name, bad):
    values = np.full(COVARIANCES[name].values_shape(2, 3), bad)
    covariance, failed = COVARIANCES[name].from_values(torch.from_numpy(values))
    assert failed.all()
    assert torch.isfinite(covariance.precisions_chol).all()


@types
@pytest.mark.parametrize("bad", [-1.0, 0.0])
def test_floored_values_have_a_factor(name, bad):
    cls = COVARIANCES[name]
    values = torch.full(cls.values_shape(2, 3), bad, dtype=torch.float64)
    floored = cls.floored(values, torch.full((3,), 1e-6, dtype=torch.float64))
    covariance, failed = cls.from_values(floored)
    assert not failed.any()
    assert covariance.variances().min() > 0.99e-6


@types
def test_from_variances_is_axis_parallel(name):
    variances = torch.tensor([1.0, 4.0, 10.0], dtype=torch.float64)
    cls = COVARIANCES[name]
    covariance, failed = cls.from_values(cls.from_variances(variances, 2))
    assert not failed.any()
    assert tuple(covariance.values.shape) == cls.values_shape(2, 3)
    expected = torch.full((3,), 5.0) if ORACLES[name].isotropic else variances
    found = covariance.variances() + torch.zeros(2, 3)
    torch.testing.assert_close(found, expected.double().expand(2, 3))


@types
def test_coloured_noise_has_the_covariance(rng, name):
    mixture = random_mixture(name, rng)
    eye = torch.eye(4, dtype=torch.float64)
    for k, dense in enumerate(dense_covariances(mixture)):
        # Rows e_i map to rows of A^T with A A^T = Sigma: exact, no sampling error.
        factor = mixture.covariance.color(eye, k)
        np.testing.assert_allclose(factor.T @ factor, dense, rtol=1e-10, atol=1e-12)


def asks_for_a_type(tree):
    """Return the lines that compare with, or look up, the name of a type."""
    return [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, (ast.Compare, ast.Dict, ast.Subscript, ast.Match))
        for part in ast.walk(node)
        if isinstance(part, ast.Constant) and part.value in COVARIANCES
    ]


def test_only_the_types_themselves_know_their_names():
    bad = 'if kind == "tied": pass\ntable = {"diag": 1}\nx = a in ("full", "low_rank")'
    assert set(asks_for_a_type(ast.parse(bad))) == {1, 2, 3}
    package = Path(skdeepgmm.__file__).parent
    found = {
        str(path.relative_to(package)): lines
        for path in sorted(package.rglob("*.py"))
        if path.parent.name != "covariances"
        and path.name != "demo.py"
        and (lines := asks_for_a_type(ast.parse(path.read_text(encoding="utf-8"))))
    }
    assert found == {}


def test_one_component_at_a_time_gives_what_all_at_once_do(rng, monkeypatch):
    mixture = random_mixture("full", rng)
    x = as_block(rng.normal(size=(50, 4))).x
    resp = torch.from_numpy(rng.dirichlet(np.ones(3), size=50).T.copy())

    def results():
        second = mixture.covariance.second_about(x, resp, mixture.means)
        return second, mixture.covariance.log_prob(x, mixture.means)

    expected = results()
    monkeypatch.setattr(full, "WIDE", 1)
    torch.testing.assert_close(results(), expected)
