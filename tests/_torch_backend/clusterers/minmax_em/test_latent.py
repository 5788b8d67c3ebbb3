"""The latent mixture of MinMax+EM: means, densities, bound, weights, lower bounds."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from skdeepgmm._torch_backend.clusterers.minmax_em import latent
from skdeepgmm._torch_backend.rng import new_generator


def randn(*shape, seed=1):
    return torch.randn(shape, generator=new_generator(seed), dtype=torch.float64)


@pytest.mark.parametrize("n_clusters", [1, 2, 3, 5, 10, 21])
@pytest.mark.parametrize("dim", [1, 2, 3, 10, 30])
def test_nearest_means_are_a_fixed_distance_apart(n_clusters, dim):
    means = latent.component_means(n_clusters, dim, separation=6.0)
    assert means.shape == (n_clusters, dim)
    if n_clusters > 1:
        distances = torch.pdist(means.double())
        assert distances.min().item() == pytest.approx(6.0 * math.sqrt(2.0))


def test_means_are_unit_vectors_where_there_is_room():
    means = latent.component_means(2, 3, 4.0)
    assert torch.equal(means, torch.tensor([[4.0, 0.0, 0.0], [0.0, 4.0, 0.0]]))


@pytest.mark.parametrize(
    ("n_clusters", "dim"), [(2, 1), (4, 2), (8, 3), (9, 2), (5, 1)]
)
def test_means_that_fill_a_grid_lie_around_zero(n_clusters, dim):
    means = latent.component_means(n_clusters, dim, separation=6.0)
    torch.testing.assert_close(means.mean(0), torch.zeros(dim))


@pytest.fixture
def mixture():
    """Latents, means and weights of a mixture whose clusters overlap."""
    weights = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    return randn(40, 2), 1.5 * randn(3, 2, seed=2), weights


def test_log_joint_is_that_of_a_multivariate_normal(mixture):
    z, means, omega = mixture
    normal = torch.distributions.MultivariateNormal(
        means, torch.eye(2, dtype=torch.float64)
    )
    expected = omega.log() + normal.log_prob(z[:, None])
    torch.testing.assert_close(latent.log_joint(z, means, omega), expected)
    total = torch.distributions.MixtureSameFamily(
        torch.distributions.Categorical(omega), normal
    ).log_prob(z)
    torch.testing.assert_close(latent.log_likelihood(z, means, omega), total)


def test_the_bound_is_tight_at_the_e_step_and_only_there(mixture):
    z, means, omega = mixture
    joint = latent.log_joint(z, means, omega)
    likelihood = latent.log_likelihood(z, means, omega)
    resp = latent.posterior(z, means, omega)
    torch.testing.assert_close(latent.evidence_bound(resp, joint), likelihood)
    other = torch.softmax(randn(40, 3, seed=3), 1)
    assert (latent.evidence_bound(other, joint) < likelihood).all()
    crisp = torch.eye(3, dtype=torch.float64)[torch.zeros(40, dtype=torch.long)]
    torch.testing.assert_close(latent.evidence_bound(crisp, joint), joint[:, 0])


def test_em_of_the_weights_never_lowers_the_likelihood(mixture):
    z, means, omega = mixture
    likelihoods = []
    for _ in range(20):
        likelihoods.append(latent.log_likelihood(z, means, omega).sum().item())
        omega = latent.expected_weights(latent.posterior(z, means, omega), 0.0)
    gains = [b - a for a, b in itertools.pairwise(likelihoods)]
    assert min(gains) >= -1e-12
    assert gains[0] > 1e-3


def test_the_prior_of_the_weights_is_a_floor():
    resp = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.5, 0.5], [1.0, 0.0]])
    found = latent.expected_weights(resp, prior=2.0)
    torch.testing.assert_close(found, torch.tensor([5.5, 2.5]) / 8.0)
    empty = latent.expected_weights(torch.tensor([[1.0, 0.0]] * 6), prior=1.0)
    assert empty.min().item() == pytest.approx(1.0 / 8.0)


def test_energy_and_consistency_by_hand():
    z = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    means = torch.tensor([[1.0, 1.0], [3.0, 0.0]])
    resp = torch.tensor([[0.25, 0.75], [1.0, 0.0]])
    # Square distances: 1, 4 and 2, 13.
    expected = 0.5 * ((0.25 * 1 + 0.75 * 4) + 2) / 2
    assert latent.expected_energy(z, means, resp).item() == pytest.approx(expected)
    found = torch.tensor([[1.0, 3.0], [1.0, 1.0]])
    assert latent.consistency(z, found).item() == pytest.approx((9 + 2) / 2)


def test_the_energy_is_the_bound_but_for_constants(mixture):
    z, means, omega = mixture
    resp = latent.posterior(z, means, omega)
    bound = (resp * latent.log_joint(z, means, omega)).sum(1).mean()
    rest = (resp * omega.log()).sum(1).mean() - math.log(2.0 * math.pi)
    torch.testing.assert_close(rest - latent.expected_energy(z, means, resp), bound)


def bounded(joint, least):
    """Return responsibilities bounded from below, as arrays."""
    joint, least = torch.as_tensor(joint), torch.as_tensor(least)
    return torch.softmax(joint + latent.bounding_factors(joint, least), 1).numpy()


@pytest.mark.parametrize("scale", [1.0, 30.0])
@pytest.mark.parametrize("least", [(0.1, 0.0, 0.3), (0.2, 0.3, 0.5)])
def test_bounded_responsibilities_are_the_best_allowed(scale, least):
    rng = np.random.default_rng(0)
    joint = scale * rng.normal(size=(6, 3)) - [2.0 * scale, 0.0, 1.0]
    found = bounded(joint, np.array(least))
    np.testing.assert_allclose(found.sum(1), 1.0)
    assert (found.mean(0) >= 0.999 * np.array(least)).all()

    def bound(flat):
        resp = np.abs(flat).reshape(joint.shape) + 1e-12
        return float(np.sum(resp * (joint - np.log(resp))))

    best = minimize(
        lambda flat: -bound(flat),
        np.full(joint.size, 1 / 3),
        method="SLSQP",
        bounds=[(0.0, 1.0)] * joint.size,
        constraints=[
            {"type": "eq", "fun": lambda flat: flat.reshape(6, 3).sum(1) - 1.0},
            {"type": "ineq", "fun": lambda flat: flat.reshape(6, 3).mean(0) - least},
        ],
        options={"maxiter": 500},
    )
    assert best.success
    assert bound(found.ravel()) >= bound(best.x) - 0.02 * scale
    free = torch.softmax(torch.tensor(joint), 1).numpy()
    assert bound(found.ravel()) < bound(free.ravel())


def test_a_posterior_that_is_allowed_needs_no_factors():
    joint = 5.0 * torch.randn(50, 3, generator=torch.Generator().manual_seed(0))
    assert not latent.bounding_factors(joint, torch.full((3,), 0.1)).any()


def test_clusters_without_density_are_left_alone():
    joint = torch.randn(50, 3, generator=torch.Generator().manual_seed(0))
    joint[:, 1] = -math.inf
    found = bounded(joint, torch.full((3,), 0.2))
    assert (found[:, 1] == 0.0).all()
    assert np.isfinite(found).all()


def test_latents_are_normal_around_their_means():
    means = torch.tensor([[3.0, 0.0], [0.0, -9.0]]).repeat(4000, 1)
    found = latent.normal_latents(means, new_generator(0)) - means
    torch.testing.assert_close(found.mean(0), torch.zeros(2), atol=0.05, rtol=0)
    torch.testing.assert_close(found.std(0), torch.ones(2), atol=0.05, rtol=0)


def test_a_line_has_both_ends_and_even_steps():
    ends = torch.tensor([[0.0, 1.0], [4.0, -3.0]], dtype=torch.float64)
    found = latent.line(*ends, 5)
    assert torch.equal(found[[0, -1]], ends)
    torch.testing.assert_close(found.diff(dim=0), (ends[1] - ends[0]).expand(4, 2) / 4)
