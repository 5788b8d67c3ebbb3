"""Low-rank covariances, weights and missing entries under stochastic gradients."""

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal

from skdeepgmm._torch_backend.mixture import sgd
from skdeepgmm._torch_backend.mixture.covariances import LowRankCovariance
from skdeepgmm._torch_backend.mixture.covariances.low_rank import LowRankFactor
from skdeepgmm._torch_backend.mixture.covariances.sgd_factor import TRUST
from tests.oracles import ALL_TYPES, ORACLES

N_COMPONENTS, N_FEATURES, RANK = 3, 5, 2


@pytest.fixture
def draw():
    return torch.Generator().manual_seed(0)


@pytest.fixture
def factor(draw):
    covariance_class = LowRankCovariance.of_rank(RANK)
    return covariance_class.initial_sgd_factor(N_COMPONENTS, N_FEATURES, draw)


@pytest.fixture
def means(draw):
    return torch.randn(N_COMPONENTS, N_FEATURES, generator=draw, dtype=torch.float64)


@pytest.fixture
def x(draw):
    return torch.randn(40, N_FEATURES, generator=draw, dtype=torch.float64)


def dense(factor):
    loadings, noise = factor[..., :-1], factor[..., -1]
    return (loadings @ loadings.mT + torch.diag_embed(noise)).numpy()


def test_density_equals_a_dense_normal(x, means, factor):
    log_prob, _ = LowRankFactor.log_prob(x, means, factor)
    for k, sigma in enumerate(dense(factor)):
        expected = multivariate_normal(means[k].numpy(), sigma).logpdf(x.numpy())
        np.testing.assert_allclose(log_prob[:, k], expected, atol=1e-10)


def test_directions_climb_the_likelihood(x, means, factor):
    """A small step along the direction raises each component's likelihood."""
    ridge = torch.full((N_FEATURES,), 1e-6, dtype=torch.float64)
    log_prob, cache = LowRankFactor.log_prob(x, means, factor)
    weights = torch.softmax(log_prob, 1) / len(x)
    mass = weights.sum(0)
    _, step = LowRankFactor.directions(x, cache, weights, mass, means, factor, ridge)
    moved = LowRankFactor.move(factor, 1e-3 * step, ridge)
    after, _ = LowRankFactor.log_prob(x, means, moved)
    gain = (weights * (after - log_prob)).sum(0)
    assert (gain > 0).all()


def test_directions_are_the_complete_data_gradient(x, means, factor):
    """d / dA of E log p(x, z) is D^-1 (C - A V); the step drops D^-1 (Fisher)."""
    ridge = torch.full((N_FEATURES,), 1e-6, dtype=torch.float64)
    log_prob, cache = LowRankFactor.log_prob(x, means, factor)
    weights = torch.softmax(log_prob, 1) / len(x)
    leaf = factor.clone().requires_grad_()
    value = (weights * LowRankFactor.log_prob(x, means, leaf)[0]).sum()
    value.backward()
    _, step = LowRankFactor.directions(
        x, cache, weights, weights.sum(0), means, factor, ridge
    )
    # Fisher's identity: at the same parameters the expected complete-data gradient
    # is the gradient of the likelihood itself.
    noise = factor[..., -1]
    np.testing.assert_allclose(
        leaf.grad[..., :-1], step[..., :-1] / noise[..., None], atol=1e-10
    )
    np.testing.assert_allclose(
        leaf.grad[..., -1], 0.5 * step[..., -1] / noise, atol=1e-10
    )


@pytest.mark.parametrize("name", ALL_TYPES)
def test_masked_steps_equal_plain_ones_on_complete_rows(name, x, means, draw):
    covariance_class = ORACLES[name].covariance_class(N_FEATURES)
    factor = covariance_class.initial_sgd_factor(N_COMPONENTS, N_FEATURES, draw)
    steps = []
    for missing in (False, True):
        start = sgd.Parameters(torch.zeros(N_COMPONENTS).double(), means, factor)
        config = sgd.SGDConfig(
            covariance_class,
            sgd.StreamPlan(0.1),
            0.9,
            torch.full((N_FEATURES,), 1e-6, dtype=torch.float64),
            missing=missing,
        )
        model = sgd.SGDMixture(start.clone(), config, draw)
        losses = model.step((x, None))
        steps.append((model.parameters, losses["log_likelihood"]))
    (plain, bound), (masked, masked_bound) = steps
    np.testing.assert_allclose(masked_bound, bound, rtol=1e-10)
    for field in ("logits", "means", "factor"):
        np.testing.assert_allclose(
            getattr(masked, field), getattr(plain, field), atol=1e-10
        )


@pytest.mark.parametrize("name", ALL_TYPES)
def test_integer_weights_are_repeated_rows(name, x, means, draw):
    covariance_class = ORACLES[name].covariance_class(N_FEATURES)
    factor = covariance_class.initial_sgd_factor(N_COMPONENTS, N_FEATURES, draw)
    counts = torch.arange(len(x)) % 3
    weight = counts.double() * len(x) / counts.sum()
    results = []
    for batch in ((x, weight), (x.repeat_interleave(counts, 0), None)):
        start = sgd.Parameters(torch.zeros(N_COMPONENTS).double(), means, factor)
        ridge = torch.full((N_FEATURES,), 1e-6, dtype=torch.float64)
        config = sgd.SGDConfig(covariance_class, sgd.StreamPlan(0.1), 0.9, ridge)
        model = sgd.SGDMixture(start.clone(), config, draw)
        results.append((model.step(batch), model.parameters))
    (losses, weighted), (repeated_losses, repeated) = results
    np.testing.assert_allclose(losses["loss"], repeated_losses["loss"], rtol=1e-10)
    for field in ("logits", "means", "factor"):
        np.testing.assert_allclose(
            getattr(weighted, field), getattr(repeated, field), atol=1e-8
        )


def test_initial_variances_are_one(factor):
    variances = np.diagonal(dense(factor), axis1=1, axis2=2)
    np.testing.assert_allclose(variances, 1.0)
    assert (factor[..., :-1] != 0.0).all()


def test_factors_move_by_a_share_of_their_size_at_most(factor, draw):
    size = (factor[..., :-1].square().sum((1, 2)) + factor[..., -1].sum(1)).sqrt()
    step = torch.randn(factor.shape, generator=draw, dtype=torch.float64)
    step[..., -1] = 0.0
    for length in (1e-3, 1e3):
        largest = torch.zeros(N_FEATURES, dtype=torch.float64)
        moved = LowRankFactor.move(factor, length * step, largest) - factor
        wanted = length * step.square().sum((1, 2)).sqrt()
        found = moved.square().sum((1, 2)).sqrt()
        torch.testing.assert_close(found, torch.minimum(wanted, TRUST * size))
