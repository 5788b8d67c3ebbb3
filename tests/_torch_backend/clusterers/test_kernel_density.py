"""Kernel densities of generated samples against scikit-learn and a direct sum."""

import math

import numpy as np
import pytest
import torch
from sklearn.neighbors import KernelDensity

from skdeepgmm._torch_backend.clusterers.kernel_density import SMALLEST_SIGMA, Kernels


@pytest.fixture
def points(rng):
    return rng.normal(size=(40, 3)), rng.normal(size=(15, 3))


def kernels(centers, weights=None):
    weights = np.full(len(centers), 1.0 / len(centers)) if weights is None else weights
    return Kernels(torch.tensor(centers), torch.tensor(np.log(weights)))


def test_equal_weights_are_a_kernel_density(points):
    centers, rows = points
    found = kernels(centers).log_density(torch.tensor(rows), 0.7)
    peer = KernelDensity(bandwidth=0.7, rtol=0, atol=0).fit(centers)
    np.testing.assert_allclose(found.numpy(), peer.score_samples(rows), rtol=1e-9)


def test_weights_enter_the_sum(points, rng):
    centers, rows = points
    weights = rng.dirichlet(np.ones(len(centers)))
    found = kernels(centers, weights).log_density(torch.tensor(rows), 0.7)
    squares = ((rows[:, None] - centers) ** 2).sum(2)
    densities = np.exp(-squares / (2 * 0.49)) / (2 * math.pi * 0.49) ** 1.5
    np.testing.assert_allclose(found.numpy(), np.log(densities @ weights), rtol=1e-9)


def test_sigma_is_the_best_on_a_grid(points):
    centers, rows = points
    model, rows = kernels(centers), torch.tensor(rows)
    best = model.best_sigma(rows)
    top = model.log_density(rows, best).mean()
    for factor in (0.9, 0.99, 1.01, 1.1):
        assert model.log_density(rows, best * factor).mean() < top


def test_sigma_does_not_vanish_on_the_centers_themselves(points):
    centers, _ = points
    assert kernels(centers).best_sigma(torch.tensor(centers)) >= SMALLEST_SIGMA
