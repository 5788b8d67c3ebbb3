"""Low-rank mixture layers: densities, EM steps and draws, against dense formulas."""

import numpy as np
import pytest
import torch
from scipy.special import logsumexp, softmax
from scipy.stats import multivariate_normal
from sklearn.decomposition import FactorAnalysis

from skdeepgmm._torch_backend.deep_conv.layers import LowRankMixtureLayer
from skdeepgmm._torch_backend.deep_conv.layers.low_rank import low_rank
from skdeepgmm._torch_backend.deep_conv.layers.mixture import (
    posterior,
    random_init,
    split_heaviest,
)
from skdeepgmm._torch_backend.rng import new_generator
from tests._torch_backend.deep_conv.layers.problems import images
from tests._torch_backend.deep_conv.layers.test_mixture import mixture


def factored(shared=True, rank=2, **settings):
    """A mixture with factors of about the size of its noise."""
    plain = mixture(shared, **settings)
    shape = (*plain.means.shape, rank)
    factors = torch.randn(shape, generator=new_generator(5), dtype=torch.float64)
    return LowRankMixtureLayer(
        *(plain.input_shape, shared, plain.weights, plain.means, plain.variances),
        *(1e-6, 0.8 * factors),
    )


def dense(layer, site, k):
    """The component's covariance matrix."""
    factors = layer.factors[site, k].numpy()
    return factors @ factors.T + np.diag(layer.variances[site, k])


def dense_log_joint(layer, x, kept=slice(None)):
    """log pi_k N(some features of x; k) by SciPy, (n, height, width, K)."""
    height, width, _ = layer.input_shape
    out = np.empty((len(x), height, width, layer.n_components))
    for i, j, k in np.ndindex(*out.shape[1:]):
        site = 0 if layer.shared else i * width + j
        mean, cov = layer.means[site, k].numpy()[kept], dense(layer, site, k)
        density = multivariate_normal(mean, cov[kept][:, kept])
        values = x[:, i, j].numpy()[:, kept]
        out[:, i, j, k] = density.logpdf(values) + float(layer.weights[site, k].log())
    return out


def learn(layer, x, rate):
    rows = layer.rows(x)
    log_joint, scores = layer.log_joint(layer.natural(), rows, rows.square())
    resp, _ = posterior(log_joint)
    total = float(rows.shape[1])
    layer.move(layer.moments(rows, rows.square(), resp, total, scores), rate)


@pytest.mark.parametrize("shared", [True, False])
def test_density_and_posterior_are_those_of_dense_covariances(shared):
    layer = factored(shared)
    x = images(layer.input_shape, n=5)
    oracle = dense_log_joint(layer, x)
    np.testing.assert_allclose(
        layer.log_prob(x), logsumexp(oracle, axis=-1), rtol=0, atol=1e-8
    )
    np.testing.assert_allclose(layer.forward(x), softmax(oracle, axis=-1), atol=1e-10)


def test_factors_that_do_not_learn_yet_are_no_factors():
    plain = mixture(True)
    layer = low_rank(mixture(True), 3)
    x = images(plain.input_shape, n=20)
    for _ in range(3):
        learn(plain, x, 0.3)
        learn(layer, x, 0.3)
    torch.testing.assert_close(layer.log_prob(x), plain.log_prob(x), rtol=0, atol=0)
    assert not layer.has_factors


def test_opened_factors_are_distinct_and_leave_the_variances():
    layer = low_rank(mixture(True), 3)
    before = layer.variances.clone()
    layer.open_factors()
    whole = layer.variances + layer.factors.square().sum(3)
    torch.testing.assert_close(whole, before)
    assert float((layer.variances / before).min()) >= 0.5 - 1e-9
    again = layer.factors.clone()
    layer.open_factors()
    torch.testing.assert_close(layer.factors, again, rtol=0, atol=0)
    assert int(torch.linalg.matrix_rank(again).min()) == 3


def test_more_factors_than_values_are_as_many_as_values():
    assert low_rank(mixture(True), 10).rank == 4


@pytest.mark.parametrize("shared", [True, False])
def test_full_steps_raise_the_likelihood(shared):
    layer = factored(shared)
    x = images(layer.input_shape, n=60) * 2.0 + 1.0
    x[..., 1] += 3.0 * x[..., 0]
    values = []
    for _ in range(25):
        values.append(float(layer.log_prob(x).mean()))
        learn(layer, x, rate=1.0)
    assert np.all(np.diff(values) >= -1e-9)
    assert values[-1] > values[0] + 0.1


@pytest.mark.parametrize("rate", [1.0, 0.2])
def test_one_component_becomes_the_factor_analysis_of_its_rows(rate):
    generator = new_generator(3)
    z = torch.randn(300, 2, generator=generator, dtype=torch.float64)
    noise = torch.randn(300, 6, generator=generator, dtype=torch.float64)
    loadings = torch.randn(2, 6, generator=generator, dtype=torch.float64)
    x = (3.0 + z @ loadings * 2.0 + 0.5 * noise).reshape(300, 1, 1, 6)
    layer = low_rank(random_init((1, 1, 6), 1, True, 1e-9, generator, x.dtype), 2)
    layer.open_factors()
    for _ in range(int(300 / rate)):
        learn(layer, x, rate)
    oracle = FactorAnalysis(2, tol=1e-10, max_iter=10_000).fit(x.reshape(300, 6))
    covariance = dense(layer, 0, 0)
    np.testing.assert_allclose(covariance, oracle.get_covariance(), atol=1e-3)
    assert float(layer.log_prob(x).mean()) >= oracle.score(x.reshape(300, 6)) - 1e-6


def test_a_step_keeps_means_and_variances_of_the_diagonal_step():
    """Factors only split a variance: its running estimate is the plain one."""
    layer = factored()
    plain = mixture(True)
    plain.variances = layer.variances + layer.factors.square().sum(3)
    x = images(layer.input_shape, n=20)
    rows = layer.rows(x)
    resp = torch.softmax(layer.rows(images(layer.output_shape, n=20)), -1)
    scores = layer.log_joint(layer.natural(), rows, rows.square())[1]
    for one, found in ((layer, scores), (plain, None)):
        one.move(one.moments(rows, rows.square(), resp, 120.0, found), 0.3)
    torch.testing.assert_close(layer.weights, plain.weights)
    torch.testing.assert_close(layer.means, plain.means)
    whole = layer.variances + layer.factors.square().sum(3)
    torch.testing.assert_close(whole, plain.variances)


def test_components_without_rows_stay():
    layer = factored()
    before = [getattr(layer, name).clone() for name in layer.names]
    rows = layer.rows(images(layer.input_shape, n=4))
    resp = torch.zeros(1, rows.shape[1], 3, dtype=rows.dtype)
    scores = layer.log_joint(layer.natural(), rows, rows.square())[1]
    layer.move(layer.moments(rows, rows.square(), resp, 24.0, scores), 0.3)
    for name, value in zip(layer.names[1:], before[1:], strict=True):
        torch.testing.assert_close(getattr(layer, name), value)


@pytest.mark.parametrize("shared", [True, False])
def test_what_is_known_decides_as_the_dense_marginal(shared):
    layer = factored(shared)
    x = images(layer.input_shape, n=5)
    known = torch.zeros_like(x)
    known[..., [0, 2]] = 1.0
    x = torch.where(known > 0, x, 0.0)
    found, hidden = layer.marginal(x, known)
    oracle = dense_log_joint(layer, x, kept=[0, 2])
    np.testing.assert_allclose(
        torch.softmax(found, -1), softmax(oracle, axis=-1), atol=1e-10
    )
    mean, precision = layer.expect(torch.softmax(found, -1), hidden)
    resp = softmax(oracle, axis=-1)
    expected = np.zeros(x.shape)
    for i, j, k in np.ndindex(*resp.shape[1:]):
        site = 0 if shared else 3 * i + j
        cov, center = dense(layer, site, k), layer.means[site, k].numpy()
        gain = cov[:, [0, 2]] @ np.linalg.inv(cov[np.ix_([0, 2], [0, 2])])
        noise = np.diag(layer.variances[site, k])[:, [0, 2]]
        diff = x[:, i, j].numpy()[:, [0, 2]] - center[[0, 2]]
        # The signal, without the noise of the known values themselves.
        given = (
            center
            + diff @ (gain - noise @ np.linalg.inv(cov[np.ix_([0, 2], [0, 2])])).T
        )
        expected[:, i, j] += resp[:, i, j, k, None] * given
    np.testing.assert_allclose(mean, expected, atol=1e-10)
    assert float(precision.min()) > 0.0


def test_without_evidence_factors_keep_their_prior():
    layer = factored()
    resp = torch.softmax(images(layer.output_shape), -1)
    nothing = torch.zeros(len(resp), *layer.input_shape, dtype=torch.float64)
    hidden = layer.marginal(nothing, nothing)[1]
    for found, expected in zip(
        layer.expect(resp, hidden), layer.expect(resp), strict=True
    ):
        torch.testing.assert_close(found, expected)


def test_draws_have_the_covariance_of_their_component():
    layer = factored(shared=False, grid=(1, 2))
    components = torch.ones(20_000, 1, 2, dtype=torch.int64)
    generator = new_generator(3)
    z = torch.randn(20_000, 1, 2, 2, generator=generator, dtype=torch.float64)
    noise = torch.randn(20_000, 1, 2, 4, generator=generator, dtype=torch.float64)
    drawn = layer.draw(components, 1.0, noise)[0] + layer.factor_rows(components, z)
    for site, rows in enumerate(layer.rows(drawn)):
        found = np.cov(rows.numpy(), rowvar=False)
        np.testing.assert_allclose(found, dense(layer, site, 1), atol=0.1)
        np.testing.assert_allclose(rows.mean(0), layer.means[site, 1], atol=0.05)


def test_a_split_shares_the_factors():
    layer = factored()
    owner = int(layer.weights[0].argmax())
    split_heaviest(layer, 0, (owner + 1) % 3, new_generator(0))
    torch.testing.assert_close(
        layer.factors[0, (owner + 1) % 3], layer.factors[0, owner]
    )


# Factors for the layers above ------------------------------------------------------


def passing(**settings):
    layer = factored(**settings)
    layer.passes_factors = True
    return layer


def dense_factors(layer, x):
    """E[z | x, k] = A^T Sigma^-1 (x - mu), (n, height, width, K, rank)."""
    height, width, _ = layer.input_shape
    out = np.empty((len(x), height, width, layer.n_components, layer.rank))
    for i, j, k in np.ndindex(*out.shape[1:4]):
        site = 0 if layer.shared else i * width + j
        diff = x[:, i, j].numpy() - layer.means[site, k].numpy()
        factors = layer.factors[site, k].numpy()
        out[:, i, j, k] = diff @ np.linalg.solve(dense(layer, site, k), factors)
    return out


@pytest.mark.parametrize("shared", [True, False])
def test_passed_factors_are_the_posterior_means_of_dense_covariances(shared):
    layer = passing(shared=shared)
    x = images(layer.input_shape, n=5)
    found = layer.forward(x)
    assert found.shape[1:] == layer.output_shape
    resp, z = layer.parts(found)
    torch.testing.assert_close(resp, factored(shared).forward(x), rtol=0, atol=0)
    expected = (resp.numpy()[..., None] * dense_factors(layer, x)).sum(-2)
    np.testing.assert_allclose(z, expected, rtol=0, atol=1e-8)
    # The same of the way up that knows all of x, for filling.
    log_joint, hidden = layer.marginal(x, torch.ones_like(x))
    torch.testing.assert_close(
        layer.joined(torch.softmax(log_joint, -1), hidden), found
    )


@pytest.mark.parametrize("shared", [True, False])
def test_codes_of_certain_components_decode_to_the_posterior_mean(shared):
    layer = passing(shared=shared)
    layer.weights = torch.zeros_like(layer.weights)
    layer.weights[:, 1] = 1.0
    x = images(layer.input_shape, n=5)
    resp, z = layer.parts(layer.forward(x))
    mean, precision = layer.expect(resp, layer.given(z))
    chosen = torch.ones(5, *layer.input_shape[:2], dtype=torch.int64)
    means, stds = layer.at(chosen)
    factors = torch.from_numpy(dense_factors(layer, x)[..., 1, :])
    expected = means + layer.factor_rows(chosen, factors)
    torch.testing.assert_close(mean, expected, rtol=0, atol=1e-8)
    torch.testing.assert_close(precision, stds.square().reciprocal())


def test_factors_to_be_passed_begin_alike_and_as_zeros():
    layer = low_rank(mixture(True), 3, passes_factors=True)
    x = images(layer.input_shape, n=5)
    assert not layer.parts(layer.forward(x))[1].any()
    before = layer.variances.clone()
    layer.open_factors()
    share = layer.factors / before.sqrt()[..., None]
    torch.testing.assert_close(share, share[:, :1].expand_as(share))
    whole = layer.variances + layer.factors.square().sum(3)
    torch.testing.assert_close(whole, before)
    assert layer.parts(layer.forward(x))[1].any()


def test_a_prior_from_above_replaces_that_of_the_factors():
    layer = factored(rank=1)
    x = images(layer.input_shape, n=5)
    known = torch.zeros_like(x)
    known[..., [0, 2]] = 1.0
    _, hidden = layer.marginal(torch.where(known > 0, x, 0.0), known)
    prior = torch.rand(2, 1, 5 * 6, 1, generator=new_generator(0), dtype=x.dtype)
    mean, precision = prior[0] - 0.5, prior[1] + 0.5
    found = hidden.updated(mean, precision)
    rows = layer.rows(x)[0][:, [0, 2]]
    for k in range(3):
        a, d = layer.factors[0, k, [0, 2], 0], layer.noise()[0, k, [0, 2]]
        whole = precision[0] + (a * a / d).sum()
        diff = rows - layer.means[0, k, [0, 2]]
        expected = (
            (diff * a / d).sum(1, keepdim=True) + precision[0] * mean[0]
        ) / whole
        torch.testing.assert_close(found.means[0, :, k], expected)
        torch.testing.assert_close(found.variances[0, :, k], 1.0 / whole)
