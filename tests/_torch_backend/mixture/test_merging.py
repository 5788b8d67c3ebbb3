"""Merging pairs of components: moments, Runnalls' bound, the greedy order."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from skdeepgmm._torch_backend.mixture import merging
from skdeepgmm._torch_backend.mixture.covariances.pairs import Pairs
from skdeepgmm._torch_backend.mixture.density import MixtureDensity
from tests._torch_backend.mixture.problems import (
    all_types,
    dense_covariances,
    random_mixture,
    types,
)
from tests.oracles import ORACLES

K, D = 5, 4


def all_pairs(mixture):
    first, second = torch.combinations(torch.arange(mixture.n_components)).T
    return Pairs.of(mixture.weights, mixture.means, first, second)


def moments(weights, means, covariances):
    """Return mass, mean and covariance of some components, by definition."""
    mass = weights.sum()
    mean = weights @ means / mass
    diff = means - mean
    second = covariances + diff[:, :, None] * diff[:, None]
    return mass, mean, np.tensordot(weights, second, 1) / mass


def dense_bound(mixture, i, j):
    """Return Runnalls' bound of unrestricted covariances, in NumPy."""
    weights, means = mixture.weights.numpy(), mixture.means.numpy()
    covariances, both = dense_covariances(mixture), [i, j]
    mass, _, matched = moments(weights[both], means[both], covariances[both])
    log_det = np.linalg.slogdet(np.stack([*covariances[both], matched]))[1]
    return 0.5 * (mass * log_det[2] - weights[both] @ log_det[:2])


def projected_bound(mixture, i, j):
    """Return the same bound, of the pair's covariance projected on the type."""
    weights, means = mixture.weights.numpy(), mixture.means.numpy()
    covariances, both = dense_covariances(mixture), [i, j]
    mass, _, matched = moments(weights[both], means[both], covariances[both])
    others = np.delete(np.arange(len(weights)), both)
    masses = np.append(weights[others], mass)
    oracle = ORACLES[mixture.covariance.name]
    values = oracle.project(np.stack([*covariances[others], matched]), masses)
    after = oracle.as_matrices(values, len(masses), means.shape[1])
    return 0.5 * (
        masses @ np.linalg.slogdet(after)[1]
        - weights @ np.linalg.slogdet(covariances)[1]
    )


@types
def test_bounds_are_those_of_the_projected_moments(rng, name):
    mixture = random_mixture(name, rng, K, D)
    pairs = all_pairs(mixture)
    wanted = [
        projected_bound(mixture, int(i), int(j))
        for i, j in zip(pairs.first, pairs.second, strict=True)
    ]
    np.testing.assert_allclose(
        merging.merge_costs(mixture, pairs), wanted, rtol=1e-10, atol=1e-12
    )


def test_bounds_of_low_rank_are_those_of_the_dense_matrices(rng):
    mixture = random_mixture("low_rank", rng, K, D)
    pairs = all_pairs(mixture)
    wanted = [
        dense_bound(mixture, int(i), int(j))
        for i, j in zip(pairs.first, pairs.second, strict=True)
    ]
    np.testing.assert_allclose(
        merging.merge_costs(mixture, pairs), wanted, rtol=1e-10, atol=1e-12
    )


@all_types
def test_the_bound_is_never_negative_and_zero_for_equal_components(rng, name):
    mixture = random_mixture(name, rng, K, D)
    assert (merging.merge_costs(mixture, all_pairs(mixture)) > 0.0).all()
    index = torch.tensor([0, 0, 1])
    values = mixture.covariance.values
    if not mixture.covariance.shared:
        values = values[index]
    covariance, _ = type(mixture.covariance).from_values(values)
    weights = torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64)
    twice = MixtureDensity(weights, mixture.means[index], covariance)
    costs = merging.merge_costs(twice, all_pairs(twice))
    assert float(costs[0]) < 1e-12
    once = merging.merged(twice, 2)
    torch.testing.assert_close(once.means, mixture.means[:2], rtol=1e-12, atol=1e-12)
    x = torch.from_numpy(rng.normal(size=(D, 20)))
    torch.testing.assert_close(
        once.log_joint(x).logsumexp(0), twice.log_joint(x).logsumexp(0)
    )


@all_types
def test_bounds_are_in_proportion_to_the_weights(rng, name):
    mixture = random_mixture(name, rng, K, D)
    heavy = replace(mixture, weights=7.0 * mixture.weights)
    once, sevenfold = (
        merging.merge_costs(each, all_pairs(each)) for each in (mixture, heavy)
    )
    torch.testing.assert_close(sevenfold, 7.0 * once)


@types
def test_merged_components_have_the_moments_of_their_pair(rng, name):
    mixture = random_mixture(name, rng, 2, D)
    one = merging.merged(mixture, 1)
    _, mean, covariance = moments(
        mixture.weights.numpy(), mixture.means.numpy(), dense_covariances(mixture)
    )
    oracle = ORACLES[name]
    wanted = oracle.project(covariance[None], np.ones(1))
    np.testing.assert_allclose(one.means[0], mean, rtol=1e-12)
    np.testing.assert_allclose(one.covariance.values, wanted, rtol=1e-12, atol=1e-12)


def test_merged_low_rank_components_keep_means_and_variances(rng):
    mixture = random_mixture("low_rank", rng, 2, 9)
    one = merging.merged(mixture, 1)
    _, mean, covariance = moments(
        mixture.weights.numpy(), mixture.means.numpy(), dense_covariances(mixture)
    )
    np.testing.assert_allclose(one.means[0], mean, rtol=1e-12)
    np.testing.assert_allclose(one.covariance.variances()[0], np.diag(covariance))


def test_factors_that_fit_the_rank_are_kept_exactly(rng):
    """Equal components but for a shift along their only factor."""
    oracle = ORACLES["low_rank"]
    mixture = random_mixture("low_rank", rng, 1, 9)
    direction = mixture.covariance.factors[0, :, :1].mT
    covariance_class = oracle.covariance_class(9)
    values = mixture.covariance.values[[0, 0]]
    pair = MixtureDensity(
        torch.tensor([0.4, 0.6], dtype=torch.float64),
        torch.cat([mixture.means, mixture.means + direction[0]]),
        covariance_class.from_values(values)[0],
    )
    _, _, wanted = moments(
        pair.weights.numpy(), pair.means.numpy(), dense_covariances(pair)
    )
    found = dense_covariances(merging.merged(pair, 1))[0]
    np.testing.assert_allclose(found, wanted, rtol=1e-10, atol=1e-10)


@all_types
def test_as_many_components_are_the_same_mixture(rng, name):
    mixture = random_mixture(name, rng, K, D)
    assert merging.merged(mixture, K) is mixture


@all_types
def test_the_whole_moments_survive_every_merge(rng, name):
    mixture = random_mixture(name, rng, 8, D)
    less = merging.merged(mixture, 3)
    assert less.n_components == 3
    assert abs(float(less.weights.sum()) - 1.0) < 1e-12
    before, after = (
        moments(each.weights.numpy(), each.means.numpy(), dense_covariances(each))
        for each in (mixture, less)
    )
    np.testing.assert_allclose(after[1], before[1], rtol=1e-10, atol=1e-10)
    scale = np.trace(before[2])
    assert abs(np.trace(after[2]) - scale) < 1e-10 * scale


@pytest.mark.parametrize("name", ["full", "diag"])
def test_each_merge_is_of_the_closest_pair(rng, name):
    mixture = random_mixture(name, rng, 7, D)
    for size in range(6, 2, -1):
        pairs = all_pairs(mixture)
        costs = [
            projected_bound(mixture, int(i), int(j))
            for i, j in zip(pairs.first, pairs.second, strict=True)
        ]
        best = int(np.argmin(costs))
        both = [int(pairs.first[best]), int(pairs.second[best])]
        wanted = np.delete(mixture.weights.numpy(), both)
        wanted = np.sort(np.append(wanted, mixture.weights[both].sum()))
        mixture = merging.merged(mixture, size)
        np.testing.assert_allclose(np.sort(mixture.weights.numpy()), wanted)


def test_the_whole_run_equals_its_steps(rng):
    mixture = random_mixture("full", rng, 9, D)
    stepwise = mixture
    for size in range(8, 2, -1):
        stepwise = merging.merged(stepwise, size)
    at_once = merging.merged(mixture, 3)
    torch.testing.assert_close(at_once.means, stepwise.means)
    torch.testing.assert_close(at_once.covariance.values, stepwise.covariance.values)


def test_dear_bounds_are_measured_for_close_pairs_only(rng, monkeypatch):
    """Where components are well apart the coarse bound finds the same ones."""
    centers = 50.0 * rng.normal(size=(4, D))
    base = random_mixture("full", rng, 12, D)
    means = torch.from_numpy(np.repeat(centers, 3, axis=0)) + 0.1 * base.means
    mixture = MixtureDensity(base.weights, means, base.covariance)
    wanted = merging.merged(mixture, 4)
    monkeypatch.setattr(merging, "MAX_OPERATIONS", 0.0)
    monkeypatch.setattr(merging, "N_CANDIDATES", 3)
    torch.testing.assert_close(merging.merged(mixture, 4).means, wanted.means)


def test_components_without_weight_are_merged_first(rng):
    mixture = random_mixture("full", rng, 3, D)
    weights = torch.tensor([0.5, 0.5, 0.0], dtype=torch.float64)
    less = merging.merged(MixtureDensity(weights, mixture.means, mixture.covariance), 2)
    torch.testing.assert_close(less.weights, weights[:2])
    torch.testing.assert_close(less.means, mixture.means[:2])
