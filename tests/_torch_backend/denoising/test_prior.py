"""Patch priors: searches and filters against dense algebra."""

import dataclasses

import pytest
import torch

from skdeepgmm._torch_backend.denoising.patches import dct_basis, extract
from skdeepgmm._torch_backend.denoising.prior import (
    MomentSearch,
    NoisyPrior,
    PatchPrior,
    ProjectionSearch,
    mean_log_density,
    score_log_density,
)
from tests._torch_backend.denoising.problems import (
    N_FEATURES,
    SIZE,
    dense_scores,
    draw_coefficients,
    make_image,
    make_prior,
)


@pytest.mark.parametrize("means", [False, True])
@pytest.mark.parametrize("search", [MomentSearch, ProjectionSearch])
def test_searches_are_multivariate_normal_densities(search, means):
    prior, coefficients = make_prior(means=means), draw_coefficients()
    noisy = NoisyPrior.make(prior, 0.01)
    found = search(noisy, torch.float64).scores(coefficients)
    torch.testing.assert_close(found, dense_scores(prior, coefficients, 0.01))


def test_truncated_searches_agree_with_each_other_and_with_dense_algebra():
    prior, coefficients = make_prior(), draw_coefficients()
    noisy = NoisyPrior.make(prior, 0.01, truncation=0.3)
    assert 0 < max(noisy.ranks) < N_FEATURES
    scores = [
        search(noisy, torch.float64).scores(coefficients)
        for search in (MomentSearch, ProjectionSearch)
    ]
    torch.testing.assert_close(*scores)
    levelled = dataclasses.replace(
        prior, eigenvalues=noisy.noisy_eigenvalues() - noisy.variance
    )
    torch.testing.assert_close(scores[0], dense_scores(levelled, coefficients, 0.01))


def test_the_cheaper_search_is_chosen():
    prior = make_prior(40)
    full, truncated = (NoisyPrior.make(prior, 1.0, share) for share in (0, 1.0))
    assert isinstance(full.search(torch.float64), MomentSearch)
    assert isinstance(truncated.search(torch.float64), ProjectionSearch)


@pytest.mark.parametrize("truncation", [0.0, 0.3])
def test_filters_are_wiener_filters(truncation):
    prior, coefficients = make_prior(), draw_coefficients(60)
    noisy = NoisyPrior.make(prior, 0.01, truncation)
    labels = torch.arange(60) % 3
    found = noisy.wiener(torch.float64).apply(coefficients, labels)
    values = noisy.noisy_eigenvalues()
    for column, label in enumerate(labels.tolist()):
        vectors = prior.eigenvectors[label]
        noisy_covariance = (vectors * values[label]) @ vectors.T
        gain = torch.eye(N_FEATURES) - 0.01 * torch.linalg.inv(noisy_covariance)
        mean = prior.means[label]
        expected = mean + gain @ (coefficients[:, column] - mean)
        torch.testing.assert_close(found[:, column], expected)


def test_priors_over_pixels_and_over_coefficients_are_the_same():
    prior = make_prior()
    basis = dct_basis(SIZE)
    weights = prior.log_weights.exp()
    pixels = PatchPrior.from_parameters(
        SIZE, weights, prior.means @ basis.T, basis @ prior.covariances() @ basis.T
    )
    torch.testing.assert_close(pixels.means, prior.means)
    torch.testing.assert_close(pixels.covariances(), prior.covariances())


def test_density_of_clean_patches():
    prior = make_prior()
    image = make_image()
    patches = extract(image, SIZE, (range(18), range(15)))
    coefficients = prior.coefficients(patches)
    expected = dense_scores(prior, coefficients, 0.0).logsumexp(0)
    torch.testing.assert_close(score_log_density(prior, coefficients), expected)
    assert mean_log_density(prior, image, 1) == pytest.approx(float(expected.mean()))
