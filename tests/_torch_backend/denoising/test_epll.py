"""EPLL: searches and filters against dense algebra, and the descent of the energy."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from torch.distributions import MultivariateNormal

from skdeepgmm._torch_backend.denoising import epll, restoration
from skdeepgmm._torch_backend.denoising.patches import dct_basis, extract
from skdeepgmm._torch_backend.denoising.prior import (
    MomentSearch,
    NoisyPrior,
    PatchPrior,
    ProjectionSearch,
    mean_log_density,
    score_log_density,
)

SIZE = (4, 4)
N_FEATURES = 15


def make_prior(n_components=3, seed=0, means=True, scale=0.05):
    """Return a prior whose components have falling spectra in random directions."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    vectors, _ = torch.linalg.qr(normal(n_components, N_FEATURES, N_FEATURES))
    values = (
        scale
        * 0.5 ** torch.arange(N_FEATURES)
        * (1 + torch.arange(n_components))[:, None].double() ** -1
    )
    covariances = (vectors * values[:, None, :]) @ vectors.mT
    centers = 0.05 * normal(n_components, N_FEATURES) * means
    weights = torch.arange(1.0, n_components + 1, dtype=torch.float64)
    return PatchPrior.from_parameters(
        SIZE, weights / weights.sum(), centers, covariances
    )


def draw_coefficients(n=200, dtype=torch.float64):
    generator = torch.Generator().manual_seed(5)
    return 0.1 * torch.randn(N_FEATURES, n, generator=generator, dtype=dtype)


def dense_scores(prior, coefficients, variance):
    eye = torch.eye(N_FEATURES, dtype=torch.float64)
    rows = [
        MultivariateNormal(mean, covariance + variance * eye).log_prob(coefficients.T)
        for mean, covariance in zip(prior.means, prior.covariances(), strict=True)
    ]
    return torch.stack(rows) + prior.log_weights[:, None]


def make_image(shape=(21, 18), seed=3):
    generator = torch.Generator().manual_seed(seed)
    ramp = torch.linspace(0.2, 0.8, shape[1], dtype=torch.float64)
    noise = torch.randn(shape, generator=generator, dtype=torch.float64)
    return ramp.expand(shape) + 0.1 * noise


def observe(image, sigma=0.1):
    precision = torch.full_like(image, 4 / sigma**2)
    return epll.Observation(image, precision)


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


@pytest.mark.parametrize("truncation", [0.0, 0.3])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("n_components", [1, 5])
def test_energy_never_rises_at_fixed_noise(n_components, stride, truncation):
    config = epll.EPLLConfig(
        (0.01, 0.002, 0.0004), n_iter=6, stride=stride, truncation=truncation
    )
    result = epll.restore(make_prior(n_components), observe(make_image()), config)
    assert len(result.energies) == 3
    for energies in result.energies:
        assert len(energies) == 6
        assert np.diff(energies).max() < 1e-9 * abs(energies[0])
        assert energies[-1] < energies[0]


def test_energy_is_that_of_the_definition():
    prior, image, variance = make_prior(), make_image(), 0.01
    observation = observe(image)
    config = epll.EPLLConfig((variance,))
    x = image + 0.01
    found, _ = epll.Energy(prior, observation, variance, config).evaluate(x)
    patches = extract(x, SIZE, (range(18), range(15)))
    scores = dense_scores(prior, prior.coefficients(patches), variance)
    misfit = 0.5 * (observation.precision * 0.01**2).sum()
    assert found == pytest.approx(float(misfit - scores.max(0).values.sum()))


def test_one_gaussian_is_minimised_by_the_closed_form():
    """K = 1: the energy is quadratic; its minimum solves one linear system."""
    prior, image, variance = make_prior(1), make_image((9, 8)), 0.01
    n_pixels = image.numel()
    basis = prior.basis
    precision = torch.linalg.inv(
        prior.covariances()[0] + variance * torch.eye(N_FEATURES)
    )
    system = 400.0 * torch.eye(n_pixels, dtype=torch.float64)
    right = 400.0 * image.flatten()
    index = torch.arange(n_pixels, dtype=torch.float64).reshape(image.shape)
    for places in extract(index, SIZE, (range(6), range(5))).T.long():
        select = torch.eye(n_pixels, dtype=torch.float64)[places]
        project = basis.T @ select
        system += project.T @ precision @ project
        right += project.T @ precision @ prior.means[0]
    expected = torch.linalg.solve(system, right).reshape(image.shape)
    config = epll.EPLLConfig((variance,), n_iter=300)
    found = epll.restore(prior, observe(image), config).image
    torch.testing.assert_close(found, expected, atol=1e-8, rtol=0)


def test_one_step_for_one_gaussian_blends_wiener_estimates():
    """An image of one patch: x = (w y + beta (mean + filtered)) / (w + beta)."""
    prior, image, variance = make_prior(1), make_image(SIZE), 0.01
    found = epll.restore(prior, observe(image), epll.EPLLConfig((variance,))).image
    patch = image.flatten()
    covariance, mean = prior.covariances()[0], prior.means[0]
    noisy = covariance + variance * torch.eye(N_FEATURES)
    filtered = mean + covariance @ torch.linalg.solve(
        noisy, prior.basis.T @ patch - mean
    )
    clean = (prior.basis @ filtered + patch.mean()).reshape(SIZE)
    expected = (400.0 * image + clean / variance) / (400.0 + 1 / variance)
    torch.testing.assert_close(found, expected)


def test_gradient_is_that_of_the_energy():
    prior, observation = make_prior(), observe(make_image())
    energy = epll.Energy(prior, observation, 0.01, epll.EPLLConfig((0.01,)))
    x = observation.image + 0.02
    _, total = energy.evaluate(x)
    direction = torch.randn(
        x.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64
    )
    step = 1e-6
    ahead, behind = (energy.evaluate(x + h * direction)[0] for h in (step, -step))
    slope = float((energy.gradient(x, total) * direction).sum())
    assert (ahead - behind) / (2 * step) == pytest.approx(slope, rel=1e-5)


def test_gradient_descent_falls_to_the_minimum_of_half_quadratic_steps():
    prior, observation = make_prior(1), observe(make_image())
    configs = [
        epll.EPLLConfig((0.01,), n_iter=200, solver=solver) for solver in epll.SOLVERS
    ]
    steps, descent = (epll.restore(prior, observation, config) for config in configs)
    assert np.diff(descent.energies[0]).max() <= 0
    assert descent.energies[0][-1] == pytest.approx(steps.energies[0][-1], rel=1e-8)
    torch.testing.assert_close(descent.image, steps.image, atol=1e-4, rtol=0)


def test_the_energy_is_unknown_where_not_every_patch_is_searched():
    config = epll.EPLLConfig((0.01,), search_stride=2)
    result = epll.restore(make_prior(), observe(make_image()), config)
    assert result.energies == [[]]
    assert torch.isfinite(result.image).all()


def test_result_does_not_depend_on_the_tiles(monkeypatch):
    prior, observation = make_prior(5), observe(make_image())
    config = epll.EPLLConfig((0.01, 0.002), stride=2)
    whole = epll.restore(prior, observation, config).image
    monkeypatch.setattr(epll, "MAX_PATCHES", 7)
    tiled = epll.restore(prior, observation, config).image
    torch.testing.assert_close(tiled, whole)


def test_inpainting_keeps_known_pixels_and_lowers_the_energy():
    prior, image = make_prior(5), make_image()
    missing = torch.rand(image.shape, generator=torch.Generator().manual_seed(0)) < 0.4
    start = torch.where(missing, 0.0, image)
    found = restoration.inpaint(prior, start, missing, restoration.Settings(n_iter=3))
    assert torch.equal(found[~missing], image[~missing])
    assert (found[missing] != 0).all()
    error = (found - image)[missing].square().mean()
    assert math.sqrt(error) < 0.3 * math.sqrt(image[missing].square().mean())


def test_denoising_keeps_a_constant_image():
    image = torch.full((20, 20), 0.3)
    found = restoration.denoise(
        make_prior(means=False), image, 0.1, restoration.Settings()
    )
    torch.testing.assert_close(found, image)


# Scales ------------------------------------------------------------------------------


def test_half_size_keeps_constants_and_whiteness():
    image = torch.full((20, 31), 0.7, dtype=torch.float64)
    pyramid = restoration.HalfSize((20, 31), image)
    half = pyramid.down(image)
    assert half.shape == (10, 15)
    torch.testing.assert_close(half, torch.full_like(half, 0.7))
    impulses = torch.eye(20 * 31, dtype=torch.float64).reshape(-1, 20, 31)
    columns = torch.stack([pyramid.down(impulse).flatten() for impulse in impulses])
    gram = columns.T @ columns
    eye = torch.eye(150, dtype=torch.float64)
    torch.testing.assert_close(gram, pyramid.noise_gain**2 * eye)


def test_replacing_low_frequencies_by_their_own_changes_nothing():
    image = make_image((20, 31))
    pyramid = restoration.HalfSize((20, 31), image)
    found = pyramid.replace_low(image, pyramid.down(image))
    torch.testing.assert_close(found, image)
    other = make_image((20, 31), seed=8)
    moved = pyramid.replace_low(image, pyramid.down(other)) - image
    rows, cols = pyramid.full
    assert (rows.T @ moved @ cols)[5:, :].abs().max() < 1e-12
    assert float(moved.mean()) == pytest.approx(float((other - image).mean()))


def test_scales_matter_for_large_images_only():
    prior = make_prior(means=False)
    for shape, changes in (((32, 32), True), ((15, 40), False)):
        image = make_image(shape)
        one, two = (
            restoration.denoise(prior, image, 0.1, restoration.Settings(n_scales=n))
            for n in (1, 2)
        )
        assert torch.equal(one, two) != changes
