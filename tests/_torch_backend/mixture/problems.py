"""Random mixtures and the dense NumPy / SciPy forms that serve as oracles."""

import numpy as np
import torch
from scipy.special import logsumexp
from scipy.stats import multivariate_normal

from skdeepgmm._torch_backend.data import ArraySource, Block
from skdeepgmm._torch_backend.mixture.covariances import COVARIANCES
from skdeepgmm._torch_backend.mixture.density import Mixture
from skdeepgmm._torch_backend.mixture.suffstats import Statistics

KINDS = ("full", "tied", "diag", "spherical")
CPU = torch.device("cpu")


def random_spd(rng, n_features, condition=10.0):
    """Return a random symmetric positive definite matrix of given condition."""
    vectors, _ = np.linalg.qr(rng.normal(size=(n_features, n_features)))
    values = np.geomspace(1.0, condition, n_features)
    return (vectors * values) @ vectors.T


def random_values(name, rng, n_components, n_features, condition=10.0):
    """Return random covariances in scikit-learn's shape for the type ``name``."""
    if name == "full":
        return np.stack(
            [random_spd(rng, n_features, condition) for _ in range(n_components)]
        )
    if name == "tied":
        return random_spd(rng, n_features, condition)
    shape = COVARIANCES[name].values_shape(n_components, n_features)
    return rng.uniform(0.3, 3.0, size=shape)


def random_mixture(name, rng, n_components=3, n_features=4, spread=3.0):
    """Return a random mixture of covariance type ``name``."""
    values = torch.from_numpy(random_values(name, rng, n_components, n_features))
    covariance, failed = COVARIANCES[name].from_values(values)
    assert not failed.any()
    weights = torch.from_numpy(rng.dirichlet(np.full(n_components, 3.0)))
    means = torch.from_numpy(rng.normal(scale=spread, size=(n_components, n_features)))
    return Mixture(weights, means, covariance)


def dense_covariances(mixture):
    """Return the covariances as an array of shape (K, D, D)."""
    name, values = mixture.covariance.name, mixture.covariance.values.numpy()
    n_components, n_features = mixture.means.shape
    if name == "full":
        return values
    if name == "tied":
        return np.broadcast_to(values, (n_components, n_features, n_features))
    if name == "diag":
        return np.stack([np.diag(row) for row in values])
    return np.stack([value * np.eye(n_features) for value in values])


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
    if name == "full":
        return full
    if name == "tied":
        return np.tensordot(masses, full, axes=1) / masses.sum()
    variances = np.diagonal(full, axis1=1, axis2=2)
    return variances if name == "diag" else variances.mean(1)


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
