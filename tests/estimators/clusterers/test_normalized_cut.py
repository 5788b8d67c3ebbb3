"""Parts of a graph put together to clusters."""

import itertools

import numpy as np
import pytest

from skdeepgmm.estimators.clusterers import _normalized_cut as cut


def affinity_of(seed, n_components):
    """Return a random sparse graph with weight within its parts."""
    rng = np.random.default_rng(seed)
    links = rng.random((n_components, n_components)) * (
        rng.random((n_components, n_components)) < 0.5
    )
    return links + links.T + np.diag(rng.random(n_components) + 0.5)


def formula(affinity, clusters, n_clusters):
    """The cost by its definition, cluster by cluster."""
    total, cost = affinity.sum(), 0.0
    for k in range(n_clusters):
        own = clusters == k
        volume = affinity[own].sum()
        share = volume / total
        cost += 1.0 - affinity[np.ix_(own, own)].sum() / volume
        cost += cut.BALANCE * share * np.log(share * n_clusters)
    return cost


def assignments(n_components, n_clusters):
    """All assignments that leave no cluster empty."""
    for found in itertools.product(range(n_clusters), repeat=n_components):
        if len(set(found)) == n_clusters:
            yield np.array(found)


def test_cost_is_its_formula():
    affinity = np.array([[2.0, 1.0, 0.0], [1.0, 4.0, 1.0], [0.0, 1.0, 1.0]])
    found = cut.cut_cost(affinity, np.array([0, 0, 1]), 2)
    # Volumes 9 and 2 of 11, of which 8 and 1 are within.
    imbalance = 9 / 11 * np.log(18 / 11) + 2 / 11 * np.log(4 / 11)
    assert found == pytest.approx(1 / 9 + 1 / 2 + cut.BALANCE * imbalance)
    for seed in range(5):
        affinity = affinity_of(seed, 6)
        for clusters in itertools.islice(assignments(6, 3), 0, None, 37):
            expected = formula(affinity, clusters, 3)
            assert cut.cut_cost(affinity, clusters, 3) == pytest.approx(expected)


@pytest.mark.parametrize("n_clusters", [2, 3])
@pytest.mark.parametrize("seed", range(6))
def test_no_assignment_of_a_small_graph_costs_less(seed, n_clusters):
    affinity = affinity_of(seed, 7)
    found = cut.merged_components(affinity, n_clusters, np.random.RandomState(0))
    least = min(formula(affinity, z, n_clusters) for z in assignments(7, n_clusters))
    assert formula(affinity, found, n_clusters) == pytest.approx(least)


@pytest.mark.parametrize("seed", range(3))
def test_no_single_move_lowers_the_cost(seed):
    affinity, n_clusters = affinity_of(seed, 30), 10
    found = cut.merged_components(affinity, n_clusters, np.random.RandomState(0))
    assert (np.bincount(found, minlength=n_clusters) > 0).all()
    cost = formula(affinity, found, n_clusters)
    for part in np.flatnonzero(np.bincount(found)[found] > 1):
        for cluster in range(n_clusters):
            moved = found.copy()
            moved[part] = cluster
            assert formula(affinity, moved, n_clusters) >= cost - 1e-9


def test_touching_clusters_are_parted_before_an_island():
    # Two large clusters that touch, one of them with a small island.
    sizes = np.array([10.0, 10.0, 10.0, 10.0, 0.5])
    affinity = np.diag(sizes)
    for first, second, link in ((0, 1, 4.0), (2, 3, 4.0), (1, 2, 1.0)):
        affinity[first, second] = affinity[second, first] = link
    found = cut.merged_components(affinity, 2, np.random.RandomState(0))
    assert found[0] == found[1] != found[2] == found[3]


@pytest.mark.parametrize("seed", range(5))
def test_merging_takes_the_pair_of_least_cost(seed):
    """Down to any number of clusters, each step judged by the whole cost."""
    affinity = affinity_of(seed, 9)
    clusters = np.arange(9)
    for size in range(8, 1, -1):
        pairs = itertools.combinations(range(size + 1), 2)
        merged = [
            np.where(clusters == second, first, clusters) for first, second in pairs
        ]
        merged = [np.unique(each, return_inverse=True)[1] for each in merged]
        clusters = min(merged, key=lambda each: formula(affinity, each, size))
        found = cut._merged(affinity, size)
        same = found[:, None] == found
        np.testing.assert_array_equal(same, clusters[:, None] == clusters)


def test_rounding_does_not_move_parts_for_ever():
    affinity = np.diag([3333.3, 5e-7, 5e-7])
    affinity[0, 1:] = affinity[1:, 0] = 1.3e-6
    found = cut.merged_components(affinity, 2, np.random.RandomState(0))
    assert set(found) == {0, 1}


@pytest.mark.parametrize("n_clusters", [1, 2, 4])
def test_parts_without_rows_do_no_harm(n_clusters):
    affinity = np.zeros((4, 4))
    affinity[:2, :2] = [[3.0, 0.1], [0.1, 3.0]]
    with np.errstate(all="raise"):
        found = cut.merged_components(affinity, n_clusters, np.random.RandomState(0))
    assert sorted(set(found)) == list(range(n_clusters))
    if n_clusters > 1:
        assert found[0] != found[1]


def test_order_of_the_parts_does_not_matter():
    affinity = affinity_of(3, 12)
    found = cut.merged_components(affinity, 3, np.random.RandomState(0))
    order = np.random.RandomState(1).permutation(12)
    turned = cut.merged_components(
        affinity[np.ix_(order, order)], 3, np.random.RandomState(0)
    )
    assert cut.cut_cost(affinity, found, 3) == pytest.approx(
        cut.cut_cost(affinity[np.ix_(order, order)], turned, 3)
    )
