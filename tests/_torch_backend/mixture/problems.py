"""Random mixtures and the dense NumPy / SciPy forms that serve as oracles."""

import numpy as np
import pytest
import torch
from scipy.special import logsumexp
from scipy.stats import multivariate_normal

from skdeepgmm._torch_backend.data import ArraySource, Block
from skdeepgmm._torch_backend.mixture.density import MixtureDensity
from skdeepgmm._torch_backend.mixture.suffstats import Statistics
from tests.oracles import ALL_TYPES, COVARIANCE_TYPES, ORACLES

CPU = torch.device("cpu")
types = pytest.mark.parametrize("name", COVARIANCE_TYPES)
all_types = pytest.mark.parametrize("name", ALL_TYPES)


def random_mixture(name, rng, n_components=3, n_features=4, spread=3.0):
    """Return a random mixture of covariance type ``name``."""
    oracle = ORACLES[name]
    values = torch.from_numpy(oracle.random(rng, n_components, n_features))
    covariance, failed = oracle.covariance_class(n_features).from_values(values)
    assert not failed.any()
    weights = torch.from_numpy(rng.dirichlet(np.full(n_components, 3.0)))
    means = torch.from_numpy(rng.normal(scale=spread, size=(n_components, n_features)))
    return MixtureDensity(weights, means, covariance)


def dense_covariances(mixture):
    """Return the covariances as an array of shape (K, D, D)."""
    oracle = ORACLES[mixture.covariance.name]
    return oracle.as_matrices(mixture.covariance.values.numpy(), *mixture.means.shape)


def dense_log_joint(mixture, X):
    """Return log(pi_k N(x_n; mu_k, Sigma_k)) by SciPy, (n_samples, n_components)."""
    columns = [
        multivariate_normal(mean, covariance).logpdf(X).reshape(len(X)) + np.log(weight)
        for mean, covariance, weight in zip(
            mixture.means.numpy(),
            dense_covariances(mixture),
            mixture.weights.numpy(),
            strict=True,
        )
    ]
    return np.stack(columns, axis=1)


def dense_responsibilities(mixture, X):
    """Return posterior probabilities and log p(x) by SciPy."""
    log_joint = dense_log_joint(mixture, X)
    log_prob = logsumexp(log_joint, axis=1)
    return np.exp(log_joint - log_prob[:, None]), log_prob


def weighted_covariances(name, X, resp, means):
    """Return the covariances of highest likelihood about ``means``, by loops."""
    masses = resp.sum(0)
    full = np.stack(
        [
            np.cov(X.T, aweights=resp[:, k], ddof=0).reshape(X.shape[1], X.shape[1])
            for k in range(resp.shape[1])
        ]
    )
    for k, mean in enumerate(means):
        np.testing.assert_allclose(resp[:, k] @ X / masses[k], mean, atol=1e-8)
    return ORACLES[name].project(full, masses)


def as_block(X, dtype=torch.float64, weight=None):
    """Return rows X as one block."""
    x = torch.tensor(np.asarray(X), dtype=dtype).T.contiguous()
    weight = None if weight is None else torch.tensor(weight, dtype=torch.float64)
    return Block(x, slice(0, x.shape[1]), 0, weight)


def source_of(X, batch_size=None, sample_weight=None, standardize=False):
    """Return X as a data source on the CPU."""
    if sample_weight is not None:
        sample_weight = torch.tensor(sample_weight, dtype=torch.float64)
    source = ArraySource(X, CPU, batch_size or len(X), sample_weight)
    if standardize:
        source.standardize()
    return source


def assert_statistics_close(first, second, rtol=1e-9, atol=1e-9):
    """Compare two statistics about one centre."""
    for name in Statistics.__dataclass_fields__:
        np.testing.assert_allclose(
            getattr(first, name), getattr(second, name), rtol=rtol, atol=atol
        )
