"""EPLL: the energy against its definition, and its descent."""

import numpy as np
import pytest
import torch

from skdeepgmm._torch_backend.denoising import epll
from skdeepgmm._torch_backend.denoising.patches import extract
from tests._torch_backend.denoising.problems import (
    N_FEATURES,
    SIZE,
    dense_scores,
    make_image,
    make_prior,
    observe,
)


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
