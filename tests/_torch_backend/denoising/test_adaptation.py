"""Adapting a patch prior to an image: EM steps with a prior on the parameters."""

import numpy as np
import pytest
import torch

from skdeepgmm._torch_backend.denoising.adaptation import RELEVANCE, adapt
from skdeepgmm._torch_backend.denoising.patches import dct_basis, extract, tiles
from skdeepgmm._torch_backend.denoising.prior import NoisyPrior, PatchPrior

SIZE = (3, 3)
VARIANCE = 0.01


def make_prior(rng, n_components):
    """Return a random mixture over the 8 coefficients of 3 x 3 patches."""
    factors = rng.normal(scale=0.1, size=(n_components, 8, 8))
    covariances = factors @ factors.transpose(0, 2, 1) + 1e-3 * np.eye(8)
    return PatchPrior.from_parameters(
        SIZE,
        torch.tensor(rng.dirichlet(np.full(n_components, 5.0))),
        torch.tensor(rng.normal(scale=0.02, size=(n_components, 8))),
        torch.tensor(covariances),
    )


@pytest.fixture
def image(rng):
    return torch.tensor(0.5 + 0.3 * rng.normal(size=(30, 34)), dtype=torch.float32)


def coefficients_of(image):
    """Return the coefficients of all patches, (n_features, n_patches), float64."""
    shape = tuple(image.shape)
    parts = [extract(image.double(), SIZE, tile) for tile in tiles(shape, SIZE, 1, 99)]
    return dct_basis(SIZE).T @ torch.cat(parts, dim=1)


def log_posterior(given, prior, coefficients):
    """Return sum_i max_k log pi_k N(c_i; ...) + log prior, up to a constant."""
    scores = NoisyPrior.make(prior, VARIANCE).search(torch.float64).scores(coefficients)
    inverse = torch.linalg.inv(prior.covariances())
    misfit = (inverse * given.covariances()).sum((1, 2)) + prior.eigenvalues.log().sum(
        1
    )
    weights = given.log_weights.exp() @ prior.log_weights
    return scores.max(0).values.sum() + RELEVANCE * (weights - 0.5 * misfit.sum())


def test_one_component_equals_the_closed_form(rng, image):
    prior = make_prior(rng, 1)
    c = coefficients_of(image).numpy()
    mean, sigma = prior.means[0].numpy()[:, None], prior.covariances()[0].numpy()
    gain = sigma @ np.linalg.inv(sigma + VARIANCE * np.eye(8))
    clean = gain @ (c - mean)
    n = c.shape[1]
    posterior = clean @ clean.T + n * (sigma - gain @ sigma)
    expected = (RELEVANCE * sigma + posterior) / (RELEVANCE + n)
    adapted = adapt(prior, image, VARIANCE, 1)
    np.testing.assert_allclose(adapted.covariances()[0], expected, atol=1e-6)
    assert adapted.log_weights.item() == pytest.approx(0.0, abs=1e-12)


def test_every_step_raises_the_posterior(rng, image):
    given, coefficients = make_prior(rng, 4), coefficients_of(image)
    values = [
        float(log_posterior(given, adapt(given, image, VARIANCE, n), coefficients))
        for n in range(5)
    ]
    assert np.diff(values).min() > -1e-3
    assert values[1] > values[0] + 1


def test_few_patches_change_little_and_many_much(rng):
    given = make_prior(rng, 3)
    pixels = torch.tensor(rng.normal(size=(400, 400)), dtype=torch.float32)
    changes = []
    for side in (4, 40, 400):
        adapted = adapt(given, pixels[:side, :side], VARIANCE, 1)
        changes.append(float((adapted.covariances() - given.covariances()).norm()))
    assert changes[0] < 0.1 * changes[1] < 0.1 * changes[2]


def test_components_without_patches_keep_their_shape(rng, image):
    prior = make_prior(rng, 2)
    far = prior.means.clone()
    far[1] += 1e3
    prior = PatchPrior.from_parameters(
        SIZE, prior.log_weights.exp(), far, prior.covariances()
    )
    adapted = adapt(prior, image, VARIANCE, 2)
    assert torch.equal(adapted.eigenvalues[1], prior.eigenvalues[1])
    assert adapted.log_weights[1] < prior.log_weights[1]
    assert float(adapted.log_weights.exp().sum()) == pytest.approx(1.0)


def test_no_step_returns_the_prior(rng, image):
    prior = make_prior(rng, 2)
    assert adapt(prior, image, VARIANCE, 0) is prior
