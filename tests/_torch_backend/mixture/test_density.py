"""Mixtures: densities, change of units, sampling."""

import numpy as np
import pytest
import torch
from scipy.stats import chi2

from skdeepgmm._torch_backend.mixture.covariances import COVARIANCES
from skdeepgmm._torch_backend.mixture.density import MixtureDensity, n_parameters
from skdeepgmm._torch_backend.rng import new_generator
from skdeepgmm._torch_backend.standardization import Standardization
from tests._torch_backend.mixture.problems import (
    CPU,
    all_types,
    as_block,
    dense_covariances,
    dense_log_joint,
    random_mixture,
    types,
)
from tests.oracles import ORACLES


def units_for(name, n_features=4):
    scale = np.geomspace(1e-3, 1e3, n_features)
    if ORACLES[name].isotropic:
        scale = np.full(n_features, 7.0)
    return Standardization(
        torch.linspace(-5.0, 1e4, n_features, dtype=torch.float64),
        torch.from_numpy(scale),
    )


@types
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_log_joint_equals_scipy(rng, name, dtype):
    mixture = random_mixture(name, rng)
    X = rng.normal(scale=4.0, size=(40, 4))
    found = mixture.log_joint(as_block(X, dtype).x)
    assert found.dtype == dtype
    tolerance = 2e-5 if dtype == torch.float32 else 1e-11
    np.testing.assert_allclose(
        found.T, dense_log_joint(mixture, X), rtol=tolerance, atol=tolerance
    )


def test_a_weight_of_zero_gives_minus_infinity_and_no_nan(rng):
    mixture = random_mixture("full", rng)
    weights = torch.tensor([0.0, 0.25, 0.75], dtype=torch.float64)
    mixture = MixtureDensity(weights, mixture.means, mixture.covariance)
    log_joint = mixture.log_joint(as_block(rng.normal(size=(5, 4))).x)
    assert torch.isneginf(log_joint[0]).all()
    assert torch.isfinite(log_joint[1:]).all()


@types
def test_units_round_trip(rng, name):
    mixture = random_mixture(name, rng)
    back = mixture.standardized(units_for(name)).unstandardized(units_for(name))
    torch.testing.assert_close(back.means, mixture.means, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(back.covariance.values, mixture.covariance.values)
    torch.testing.assert_close(
        back.covariance.precisions_chol, mixture.covariance.precisions_chol
    )


@types
def test_units_change_the_density_by_the_log_scale(rng, name):
    mixture, units = random_mixture(name, rng), units_for(name)
    x = rng.normal(size=(30, 4))
    X = x * units.scale.numpy() + units.shift.numpy()
    standard = mixture.log_joint(as_block(x).x)
    original = mixture.unstandardized(units).log_joint(as_block(X).x)
    torch.testing.assert_close(
        original + units.log_scale, standard, rtol=1e-6, atol=1e-6
    )


@types
def test_attributes_round_trip_and_are_copies(rng, name):
    mixture = random_mixture(name, rng)
    attributes = mixture.to_attributes(torch.float64)
    again = MixtureDensity.from_attributes(COVARIANCES[name], attributes, CPU)
    torch.testing.assert_close(again.covariance.values, mixture.covariance.values)
    attributes["means_"][:] = 0
    assert mixture.means.any()
    assert again.means.any()
    narrow = mixture.to_attributes(torch.float32)
    assert {array.dtype for array in narrow.values()} == {np.dtype(np.float32)}


@types
def test_number_of_parameters(rng, name):
    mixture = random_mixture(name, rng, 3, 4)
    assert mixture.n_parameters() == 2 + 12 + ORACLES[name].n_parameters(3, 4)
    assert n_parameters(COVARIANCES[name], 3, 4) == mixture.n_parameters()


@types
def test_samples_have_the_components_moments(rng, name):
    mixture = random_mixture(name, rng, n_components=2)
    count = 20_000
    rows, labels = mixture.sample([count, count], new_generator(0))
    assert labels.tolist() == [0] * count + [1] * count
    for k, dense in enumerate(dense_covariances(mixture)):
        part = rows[labels == k].numpy()
        error = part.mean(0) - mixture.means[k].numpy()
        # Squared standardised error of the mean is chi-squared with 4 degrees.
        assert count * error @ np.linalg.solve(dense, error) < chi2.ppf(1 - 1e-6, 4)
        tolerance = (
            6 * np.sqrt(2 / count) * np.sqrt(np.outer(np.diag(dense), np.diag(dense)))
        )
        assert (np.abs(np.cov(part.T) - dense) < tolerance).all()


@types
def test_samples_fit_their_density(rng, name):
    mixture = random_mixture(name, rng, n_components=1)
    rows, _ = mixture.sample([5000], new_generator(1))
    log_prob = mixture.log_joint(rows.T.contiguous())[0].numpy()
    peak = mixture.log_joint(mixture.means.T.contiguous())[0].item()
    # Twice the drop below the mode is chi-squared with n_features degrees.
    quantiles = np.quantile(2 * (peak - log_prob), [0.1, 0.5, 0.9])
    np.testing.assert_allclose(chi2.cdf(quantiles, 4), [0.1, 0.5, 0.9], atol=0.03)


def test_sampling_is_reproducible_and_allows_empty_components(rng):
    mixture = random_mixture("full", rng)
    first, labels = mixture.sample([3, 0, 2], new_generator(5))
    again, _ = mixture.sample([3, 0, 2], new_generator(5))
    torch.testing.assert_close(first, again, rtol=0, atol=0)
    assert labels.tolist() == [0, 0, 0, 2, 2]
    assert not torch.equal(first, mixture.sample([3, 0, 2], new_generator(6))[0])


@all_types
def test_the_standardization_is_mean_and_deviation_of_the_whole_mixture(name, rng):
    mixture = random_mixture(name, rng)
    found = mixture.standardization()
    weights, means = mixture.weights.numpy(), mixture.means.numpy()
    mean = weights @ means
    second = dense_covariances(mixture) + means[:, :, None] * means[:, None]
    variance = np.diagonal(np.einsum("k,kde->de", weights, second)) - mean**2
    if mixture.covariance.isotropic:
        variance = np.full_like(variance, variance.mean())
    np.testing.assert_allclose(found.shift.numpy(), mean)
    np.testing.assert_allclose(found.scale.numpy(), np.sqrt(variance))
