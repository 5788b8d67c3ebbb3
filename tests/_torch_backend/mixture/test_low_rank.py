"""Low-rank covariances against dense matrices, and the laws of their EM."""

import numpy as np
import pytest
import torch
from scipy.stats import kstest, multivariate_normal

from skdeepgmm._torch_backend.mixture import e_step as kernels
from skdeepgmm._torch_backend.mixture import em, init
from skdeepgmm._torch_backend.mixture.covariances import (
    FullCovariance,
    LowRankCovariance,
)
from skdeepgmm._torch_backend.mixture.density import MixtureDensity
from skdeepgmm._torch_backend.rng import new_generator
from tests._torch_backend.mixture.problems import as_block, source_of

SHAPES = [(1, 1, 1), (2, 3, 1), (3, 6, 2), (2, 5, 5), (2, 40, 4)]
shapes = pytest.mark.parametrize("shape", SHAPES, ids="K{0[0]}-D{0[1]}-R{0[2]}".format)


def low_rank_mixture(rng, n_components=3, n_features=6, rank=2, spread=2.0):
    """Return a random mixture of factor analysers."""
    factors = rng.normal(size=(n_components, n_features, rank))
    noise = rng.uniform(0.2, 1.5, size=(n_components, n_features, 1))
    values = torch.from_numpy(np.concatenate([factors, noise], axis=2))
    covariance, failed = LowRankCovariance.of_rank(rank).from_values(values)
    assert not failed.any()
    weights = torch.from_numpy(rng.dirichlet(np.full(n_components, 3.0)))
    means = torch.from_numpy(rng.normal(scale=spread, size=(n_components, n_features)))
    return MixtureDensity(weights, means, covariance)


def dense(covariance):
    """Return the matrices A A^T + diag(d)."""
    factors, noise = covariance.factors.numpy(), covariance.noise.numpy()
    diagonals = np.stack([np.diag(row) for row in noise])
    return factors @ np.swapaxes(factors, 1, 2) + diagonals


def dense_log_prob(mixture, X):
    """Return log N(x; mu_k, Sigma_k) by SciPy, (n_components, n_samples)."""
    pairs = zip(mixture.means.numpy(), dense(mixture.covariance), strict=True)
    rows = [multivariate_normal(mean, matrix).logpdf(X) for mean, matrix in pairs]
    return np.stack([np.reshape(row, len(X)) for row in rows])


@pytest.fixture
def problem(rng, shape):
    """Return a mixture and rows from its surroundings."""
    mixture = low_rank_mixture(rng, *shape)
    return mixture, rng.normal(scale=3.0, size=(50, shape[1]))


def split(n_features, n_observed, rng):
    order = torch.from_numpy(rng.permutation(n_features))
    return order[:n_observed].sort().values, order[n_observed:].sort().values


# Densities -----------------------------------------------------------------------


@shapes
def test_log_prob_equals_a_dense_normal(problem):
    mixture, X = problem
    log_prob = mixture.covariance.log_prob(torch.from_numpy(X.T), mixture.means)
    np.testing.assert_allclose(log_prob, dense_log_prob(mixture, X), rtol=0, atol=1e-8)


@shapes
def test_the_moment_kernel_equals_a_dense_normal(problem):
    mixture, X = problem
    kernel = kernels.choose_kernel(mixture, torch.float64, len(X))
    assert isinstance(kernel, kernels.MomentKernel)
    expected = dense_log_prob(mixture, X) + mixture.weights.log().numpy()[:, None]
    np.testing.assert_allclose(
        kernel.log_joint(as_block(X)), expected, rtol=0, atol=1e-8
    )


@pytest.mark.parametrize("noise", [1e-7, 1e-3, 1e4])
def test_log_prob_holds_for_extreme_noise(rng, noise):
    mixture = low_rank_mixture(rng, 2, 5, 2)
    values = mixture.covariance.values.clone()
    values[..., -1] *= noise
    covariance = type(mixture.covariance).from_values(values)[0]
    hidden = rng.normal(size=(20, 2))
    X = hidden @ covariance.factors[0].numpy().T
    X += rng.normal(size=(20, 5)) * covariance.noise[0].sqrt().numpy()
    log_prob = covariance.log_prob(torch.from_numpy(X.T), torch.zeros(2, 5).double())
    expected = multivariate_normal(cov=dense(covariance)[0]).logpdf(X)
    np.testing.assert_allclose(log_prob[0], expected, rtol=1e-5, atol=1e-5)


def test_float32_stays_within_a_thousandth(rng):
    mixture = low_rank_mixture(rng, 2, 6, 2)
    X = rng.normal(size=(30, 6))
    x = torch.from_numpy(X.T).float()
    log_prob = mixture.covariance.log_prob(x, mixture.means)
    assert log_prob.dtype == torch.float32
    np.testing.assert_allclose(log_prob, dense_log_prob(mixture, X), atol=1e-3)


@shapes
def test_variances_and_bounds_match_the_matrix(problem):
    covariance = problem[0].covariance
    matrices = dense(covariance)
    diagonals = np.diagonal(matrices, axis1=1, axis2=2)
    np.testing.assert_allclose(covariance.variances(), diagonals, rtol=1e-12)
    inverse = np.diagonal(np.linalg.inv(matrices), axis1=1, axis2=2)
    assert (covariance.precision_diagonal().numpy() >= inverse - 1e-12).all()


# Objects -------------------------------------------------------------------------


@shapes
def test_attributes_give_the_object_back(problem):
    covariance = problem[0].covariance
    stored = [covariance.attributes()[name] for name in covariance.stored]
    again = type(covariance).from_stored(*stored)
    np.testing.assert_array_equal(again.values, covariance.values)
    np.testing.assert_allclose(again.whitener, covariance.whitener)


@shapes
def test_scaled_is_the_covariance_of_scaled_data(problem, rng):
    covariance = problem[0].covariance
    scale = rng.uniform(0.1, 10.0, size=covariance.values.shape[1])
    expected = dense(covariance) * scale[:, None] * scale
    actual = dense(covariance.scaled(torch.from_numpy(scale)))
    np.testing.assert_allclose(actual, expected, rtol=1e-12, atol=1e-12)


def test_only_broken_components_are_reported(rng):
    values = low_rank_mixture(rng, 4, 3, 2).covariance.values.clone()
    values[1, 0, -1] = 0.0
    values[2, 1, 0] = float("nan")
    covariance, failed = LowRankCovariance.of_rank(2).from_values(values)
    assert failed.tolist() == [False, True, True, False]
    assert torch.isfinite(covariance.whitener).all()
    repaired = covariance.floored(covariance.values, torch.full((3,), 1e-6).double())
    assert not type(covariance).from_values(repaired)[1].any()


def test_draws_have_the_covariance(rng):
    covariance = low_rank_mixture(rng, 2, 4, 2).covariance
    rows = covariance.sample(1, (20000, 4), new_generator(0)).numpy()
    matrix = dense(covariance)[1]
    np.testing.assert_allclose(np.cov(rows.T), matrix, atol=0.1 * matrix.max())
    distance = np.einsum("ni,ij,nj->n", rows, np.linalg.inv(matrix), rows)
    assert kstest(distance, "chi2", args=(4,)).pvalue > 1e-3


# Parts of the features -----------------------------------------------------------


def test_marginal_is_a_block_of_the_matrix(rng):
    covariance = low_rank_mixture(rng).covariance
    kept = torch.tensor([0, 3, 4])
    expected = dense(covariance)[:, kept[:, None], kept]
    np.testing.assert_allclose(dense(covariance.marginal(kept)), expected)


@pytest.mark.parametrize("n_observed", [1, 3, 5])
def test_regression_and_conditional_equal_the_closed_form(rng, n_observed):
    covariance = low_rank_mixture(rng).covariance
    observed, missing = split(6, n_observed, rng)
    diff = torch.from_numpy(rng.normal(size=(3, n_observed, 7)))
    regressed = covariance.regress(diff, observed, missing)
    rest = dense(covariance.conditional(observed, missing))
    for k, matrix in enumerate(dense(covariance)):
        cross = matrix[np.ix_(missing, observed)]
        gain = cross @ np.linalg.inv(matrix[np.ix_(observed, observed)])
        np.testing.assert_allclose(regressed[k], gain @ diff[k].numpy(), atol=1e-10)
        residual = matrix[np.ix_(missing, missing)] - gain @ cross.T
        np.testing.assert_allclose(rest[k], residual, atol=1e-10)


# Statistics ----------------------------------------------------------------------


def dense_second(mixture, X, resp):
    """Return Statistics.second about the means from the textbook formulas."""
    parts = []
    for k, factors in enumerate(mixture.covariance.factors.numpy()):
        noise, diff = mixture.covariance.noise[k].numpy(), X - mixture.means[k].numpy()
        posterior = np.linalg.inv(
            np.eye(factors.shape[1]) + (factors.T / noise) @ factors
        )
        hidden = diff @ (factors / noise[:, None]) @ posterior
        weighted = resp[:, k : k + 1] * hidden
        top = np.c_[diff.T @ weighted, (diff**2).T @ resp[:, k]]
        spread = hidden.T @ weighted + resp[:, k].sum() * posterior
        parts.append(np.r_[top, np.c_[spread, weighted.sum(0)]])
    return np.stack(parts)


@shapes
def test_both_kernels_give_the_textbook_statistics(problem, rng):
    mixture, X = problem
    resp = rng.dirichlet(np.ones(mixture.n_components), len(X))
    block = as_block(X)
    expected = dense_second(mixture, X, resp)
    for kernel in (
        kernels.MomentKernel(mixture, torch.float64, keep=False),
        kernels.CenteredKernel(mixture),
    ):
        stats = kernel.empty_statistics()
        kernel.log_joint(block)
        kernel.accumulate(stats, block, torch.from_numpy(resp.T), None)
        stats = stats.recentered(type(mixture.covariance), mixture.means)
        np.testing.assert_allclose(stats.second, expected, rtol=1e-9, atol=1e-9)


def test_statistics_before_the_density_are_refused(rng):
    mixture = low_rank_mixture(rng)
    kernel = kernels.MomentKernel(mixture, torch.float64, keep=False)
    block = as_block(rng.normal(size=(5, 6)))
    with pytest.raises(RuntimeError, match="log_joint"):
        kernel.accumulate(
            kernel.empty_statistics(), block, torch.ones(3, 5).double(), None
        )


# EM ------------------------------------------------------------------------------


def factor_data(rng, n_samples=200, n_features=5):
    factors = rng.normal(size=(n_features, 2))
    X = rng.normal(size=(n_samples, 2)) @ factors.T
    X[: n_samples // 2] += 3.0
    return X + rng.normal(size=X.shape) * 0.4


def start(source, rank, labels, kind=None):
    kind = kind or LowRankCovariance.of_rank(rank)
    function = init.labels_function(torch.from_numpy(labels), labels.max() + 1)
    ridge = torch.full((source.n_features,), 1e-6).double()
    return init.initial_mixture(kind, source, labels.max() + 1, function, ridge)[
        0
    ], ridge


@pytest.mark.parametrize("rank", [1, 2, 5])
def test_the_likelihood_never_falls(rng, rank):
    source = source_of(factor_data(rng), batch_size=64, standardize=True)
    mixture, ridge = start(source, rank, rng.integers(0, 3, 200))
    bounds = []
    for _ in range(60):
        stats, mixture, failed = em.em_step(mixture, source, ridge)
        assert not failed.any()
        bounds.append(stats.mean_log_likelihood)
    assert (np.diff(bounds) > -1e-9).all()
    assert bounds[-1] > bounds[0] + 0.01


def test_full_rank_reaches_the_likelihood_of_full(rng):
    X = factor_data(rng)
    first, second = source_of(X, standardize=True), source_of(X, standardize=True)
    labels = (np.arange(200) >= 100).astype(np.int64)
    mixture, ridge = start(first, 5, labels)
    full, _ = start(second, 0, labels, FullCovariance)
    for _ in range(150):
        stats, mixture, _ = em.em_step(mixture, first, ridge)
        reference, full, _ = em.em_step(full, second, ridge)
    gap = stats.mean_log_likelihood - reference.mean_log_likelihood
    assert abs(gap) < 1e-3


def test_start_values_explain_the_data_better_than_their_variances(rng):
    source = source_of(factor_data(rng), standardize=True)
    labels = (np.arange(200) >= 100).astype(np.int64)
    mixture, _ = start(source, 2, labels)
    values = torch.zeros_like(mixture.covariance.values)
    values[..., -1] = mixture.covariance.variances()
    independent = type(mixture.covariance).from_values(values)[0]
    without = MixtureDensity(mixture.weights, mixture.means, independent)
    x = next(source.blocks()).x
    gain = mixture.log_joint(x).logsumexp(0) - without.log_joint(x).logsumexp(0)
    assert gain.mean() > 0.5


def test_parameters_are_counted_without_rotations():
    counts = [LowRankCovariance.of_rank(rank).n_parameters(2, 8) for rank in (1, 2, 3)]
    assert counts == [2 * 16, 2 * (24 - 1), 2 * (32 - 3)]
