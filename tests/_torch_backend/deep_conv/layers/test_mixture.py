"""Mixture layers: densities, EM steps and draws, against dense formulas."""

import numpy as np
import pytest
import torch
from scipy.special import logsumexp, softmax
from scipy.stats import norm

from skdeepgmm._torch_backend.deep_conv.layers import (
    MixtureLayer,
)
from skdeepgmm._torch_backend.deep_conv.layers.mixture import (
    INIT_SPREAD,
    component_moments,
    init_from_batch,
    log_joint_rows,
    posterior,
    random_init,
    split_heaviest,
)
from skdeepgmm._torch_backend.rng import new_generator
from tests._torch_backend.deep_conv.layers.problems import images


def mixture(shared, grid=(2, 3), n_features=4, n_components=3):
    generator = new_generator(1)
    n_sites = 1 if shared else grid[0] * grid[1]
    size = (n_sites, n_components, n_features)
    means = torch.randn(size, generator=generator, dtype=torch.float64)
    variances = torch.rand(size, generator=generator, dtype=torch.float64) + 0.2
    weights = torch.rand(size[:2], generator=generator, dtype=torch.float64) + 0.2
    weights = weights / weights.sum(1, keepdim=True)
    return MixtureLayer((*grid, n_features), shared, weights, means, variances, 1e-6)


def dense_log_joint(layer, x):
    """log pi_k N(x; k) of every position by SciPy, (n, height, width, K)."""
    height, width, _ = layer.input_shape
    out = np.empty((len(x), height, width, layer.n_components))
    for i in range(height):
        for j in range(width):
            site = 0 if layer.shared else i * width + j
            for k in range(layer.n_components):
                mean, var = layer.means[site, k], layer.variances[site, k]
                density = norm.logpdf(x[:, i, j].numpy(), mean, var.sqrt())
                log_weight = float(layer.weights[site, k].log())
                out[:, i, j, k] = density.sum(axis=1) + log_weight
    return out


@pytest.mark.parametrize("shared", [True, False])
def test_mixture_has_the_density_and_posterior_of_its_formula(shared):
    layer = mixture(shared)
    x = images(layer.input_shape, n=5)
    oracle = dense_log_joint(layer, x)
    np.testing.assert_allclose(layer.log_prob(x), logsumexp(oracle, axis=-1))
    np.testing.assert_allclose(layer.forward(x), softmax(oracle, axis=-1), atol=1e-12)


@pytest.mark.parametrize("shared", [True, False])
def test_the_tempered_form_has_equal_weights_and_one_variance(shared):
    layer = mixture(shared)
    layer.weights = 3.0 * layer.weights  # only their ratios count
    rows = layer.rows(images(layer.input_shape, n=5))
    natural = layer.natural(tempered=True)
    found = log_joint_rows(natural, rows, rows.square()) + natural.offset[:, None, None]
    for site in range(layer.n_sites):
        each = layer.variances[site].mean(1)
        pooled = np.average(each, weights=layer.weights[site])
        density = norm.logpdf(rows[site][:, None], layer.means[site], np.sqrt(pooled))
        np.testing.assert_allclose(found[site], density.sum(2) - np.log(3))


@pytest.mark.parametrize("shared", [True, False])
def test_rows_and_grid_are_inverse(shared):
    layer = mixture(shared)
    x = images(layer.input_shape)
    torch.testing.assert_close(layer.grid(layer.rows(x)), x, rtol=0, atol=0)


def learn(layer, x, rate):
    rows = layer.rows(x)
    log_joint = log_joint_rows(layer.natural(), rows, rows.square())
    resp, _ = posterior(log_joint)
    layer.move(component_moments(rows, rows.square(), resp, float(rows.shape[1])), rate)


@pytest.mark.parametrize("shared", [True, False])
def test_a_full_step_is_one_iteration_of_em(shared):
    layer = mixture(shared)
    x = images(layer.input_shape, n=50)
    rows = layer.rows(x).numpy()
    resp = layer.rows(torch.from_numpy(softmax(dense_log_joint(layer, x), axis=-1)))
    learn(layer, x, rate=1.0)
    for site in range(layer.n_sites):
        r = resp[site].numpy()
        means = r.T @ rows[site] / r.sum(axis=0)[:, None]
        scatter = np.square(rows[site][:, None] - means)
        variances = np.einsum("nk,nkd->kd", r, scatter) / r.sum(axis=0)[:, None]
        np.testing.assert_allclose(layer.weights[site], r.mean(axis=0))
        np.testing.assert_allclose(layer.means[site], means)
        np.testing.assert_allclose(layer.variances[site], variances)


def test_steps_follow_the_gradient_of_the_log_likelihood():
    layer = mixture(shared=True)
    x = images(layer.input_shape, n=20)
    means = layer.means.clone().requires_grad_()
    variances = layer.variances.clone().requires_grad_()
    moving = MixtureLayer(
        layer.input_shape, True, layer.weights, means, variances, 1e-6
    )
    rows = layer.rows(x)
    natural = moving.natural()
    _, value = posterior(log_joint_rows(natural, rows, rows.square()))
    loss = value.mean() + natural.offset.mean()
    gradient = torch.autograd.grad(loss, [means, variances])
    weights, start = layer.weights[:, :, None], (layer.means, layer.variances)
    rate = 1e-7
    learn(layer, x, rate)
    # The inverse Fisher information of a mean is v / pi, of a variance 2 v^2 / pi.
    expected = (
        gradient[0] * start[1] / weights,
        gradient[1] * 2.0 * start[1].square() / weights,
    )
    moved = ((layer.means - start[0]) / rate, (layer.variances - start[1]) / rate)
    torch.testing.assert_close(moved, expected, rtol=1e-4, atol=1e-5)


def test_training_raises_the_likelihood():
    layer = mixture(shared=True)
    x = images(layer.input_shape, n=60) * 2.0 + 1.0
    values = []
    for _ in range(10):
        values.append(float(layer.log_prob(x).mean()))
        learn(layer, x, rate=1.0)
    assert np.all(np.diff(values) >= -1e-9)
    assert values[-1] > values[0] + 0.1


def test_draws_have_the_moments_of_their_component():
    layer = mixture(shared=False)
    components = torch.ones(4000, 2, 3, dtype=torch.int64)
    noise = torch.randn(4000, 2, 3, 4, generator=new_generator(3), dtype=torch.float64)
    drawn, precision = map(layer.rows, layer.draw(components, 0.5, noise))
    torch.testing.assert_close(drawn.mean(1), layer.means[:, 1], rtol=0, atol=0.05)
    expected = 0.25 * layer.variances[:, 1]
    torch.testing.assert_close(drawn.var(1), expected, rtol=0.12, atol=0)
    torch.testing.assert_close(precision[:, 0], layer.variances[:, 1].reciprocal())


def test_expectation_has_the_moments_of_the_mixture():
    layer = mixture(shared=False)
    resp = torch.softmax(images(layer.output_shape), -1)
    mean, precision = (value.flatten(1, 2) for value in layer.expect(resp))
    flat = resp.flatten(1, 2)
    first = torch.einsum("nsk,skd->nsd", flat, layer.means)
    second = torch.einsum("nsk,skd->nsd", flat, layer.means.square() + layer.variances)
    torch.testing.assert_close(mean, first)
    torch.testing.assert_close(precision, (second - first.square()).reciprocal())


def test_variances_stay_above_the_floor():
    layer = mixture(shared=True)
    layer.floor = 0.3
    x = torch.zeros(5, *layer.input_shape, dtype=torch.float64)
    learn(layer, x, rate=1.0)
    bound = -0.5 * 4 * np.log(2 * np.pi * 0.3)
    assert float(layer.log_prob(x).max()) <= bound + 1e-9


def test_initial_means_lie_around_the_data():
    layer = random_init((2, 3, 4), 5, False, 1e-6, new_generator(0), torch.float64)
    x = images((2, 3, 4), n=300) * 3.0 + 7.0
    init_from_batch(layer, x)
    assert float((layer.means - 7.0).abs().max()) < 1.5
    torch.testing.assert_close(
        layer.variances, torch.full_like(layer.variances, 9.0), rtol=0.3, atol=0
    )
    distinct = (layer.means[:, :, None] - layer.means[:, None]).abs().sum(-1)
    assert int((distinct == 0).sum()) == layer.n_sites * layer.n_components


@pytest.mark.parametrize("shared", [True, False])
def test_initial_means_lie_around_the_rows_that_count(shared):
    layers = [
        random_init((1, 2, 4), 5, shared, 1e-6, new_generator(0), torch.float64)
        for _ in range(2)
    ]
    x = images((1, 2, 4), n=6)
    weight = torch.tensor([2.0, 1, 1, 2, 0, 0], dtype=torch.float64)
    repeated = x[[0, 0, 1, 2, 3, 3]]
    if shared:  # the positions of an image are rows
        weight = weight.repeat_interleave(2)
    init_from_batch(layers[0], x, weight[None, :, None])
    init_from_batch(layers[1], repeated)
    torch.testing.assert_close(layers[0].means, layers[1].means)
    torch.testing.assert_close(layers[0].variances, layers[1].variances)


def test_a_split_keeps_the_mean_of_both_halves():
    layer = mixture(shared=True)
    owner = int(layer.weights[0].argmax())
    mean, weight = layer.means[0, owner].clone(), layer.weights[0, owner].clone()
    k = (owner + 1) % 3
    split_heaviest(layer, 0, k, new_generator(0))
    torch.testing.assert_close((layer.means[0, k] + layer.means[0, owner]) / 2, mean)
    apart = (layer.means[0, k] - layer.means[0, owner]).abs()
    torch.testing.assert_close(apart, layer.variances[0, owner].sqrt())
    torch.testing.assert_close(layer.weights[0, [k, owner]].sum(), weight)


def test_a_new_mixture_has_equal_weights_unit_variances_and_small_centred_means():
    layer = random_init((4, 4, 3), 50, False, 1e-6, new_generator(0), torch.float64)
    torch.testing.assert_close(layer.weights, torch.full((16, 50), 1 / 50).double())
    torch.testing.assert_close(layer.variances, torch.ones(16, 50, 3).double())
    assert float(layer.means.abs().max()) <= INIT_SPREAD
    assert float(layer.means.max()) > 0.9 * INIT_SPREAD
    assert float(layer.means.min()) < -0.9 * INIT_SPREAD
    assert abs(float(layer.means.mean())) < 0.1 * INIT_SPREAD
