"""Maps of rows and clusters made of their parts."""

from functools import partial

import numpy as np
import pytest
from sklearn.datasets import make_moons
from sklearn.decomposition import PCA
from sklearn.metrics import adjusted_rand_score

from skdeepgmm.estimators.clusterers import _init_responsibilities as starts
from skdeepgmm.estimators.clusterers import _tsne_embedding as _row_map


def clusters(resp):
    np.testing.assert_allclose(resp.sum(axis=1), 1.0, rtol=1e-6)
    assert (resp >= 0.0).all()
    return resp.argmax(axis=1)


def map_of(X, seed=0):
    return _row_map.map_of(X, np.random.RandomState(seed))


@pytest.fixture(scope="module")
def moons():
    X, y = make_moons(300, noise=0.04, random_state=0)
    return X.astype(np.float32), y


def test_a_map_finds_clusters_that_are_not_round(moons):
    X, y = moons
    found = map_of(X)
    assert adjusted_rand_score(y, clusters(found.mixture(2))) > 0.95
    assert adjusted_rand_score(y, clusters(found.clusters(2))) == 1.0
    round_ones = clusters(starts.by_kmeans(X, 2, np.random.RandomState(0)))
    assert adjusted_rand_score(y, round_ones) < 0.7


def test_parts_of_a_cluster_go_together():
    """Rings: one Gaussian each is wrong on the map as well."""
    rng = np.random.default_rng(0)
    angle, y = rng.uniform(0.0, 2.0 * np.pi, 600), np.arange(600) % 3
    radius = 1.0 + 2.0 * y + 0.05 * rng.normal(size=600)
    X = np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1)
    found = map_of(X)
    together = adjusted_rand_score(y, clusters(found.clusters(3)))
    alone = adjusted_rand_score(y, clusters(found.mixture(3)))
    assert together > alone + 0.1


def test_fewer_rows_than_parts_make_a_part_a_cluster(moons):
    found = map_of(moons[0][:60])
    np.testing.assert_array_equal(found.clusters(21), found.mixture(21))
    assert not np.array_equal(found.clusters(20), found.mixture(20))


def test_rows_beside_the_map_follow_their_neighbors(moons, monkeypatch):
    X, y = moons
    monkeypatch.setattr(_row_map, "MAP_ROWS", 200)
    found = map_of(X)
    assert found.n_mapped == 200
    for resp in (found.mixture(2), found.clusters(2)):
        assert adjusted_rand_score(y, clusters(resp)) > 0.95


def test_rows_are_placed_alike_beside_the_map_and_on_it(monkeypatch):
    """Also by the randomised solver, whose projections of fitted rows differ."""
    X = np.random.default_rng(0).normal(size=(700, 600))
    X[600:] = X[:100]
    monkeypatch.setattr(_row_map, "MAP_ROWS", 690)
    monkeypatch.setattr(_row_map, "PCA", partial(PCA, svd_solver="randomized"))
    found = map_of(X)
    place = np.empty_like(found._places)
    place[found._order] = found._places
    np.testing.assert_allclose(place[600:], place[:100], atol=1e-9)


def test_a_map_is_repeated_by_its_seed(moons):
    X, _ = moons
    first, second = (map_of(X[:100], seed=1).clusters(3) for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_some_rows_have_no_map(moons):
    assert map_of(moons[0][:49]) is None
    assert map_of(moons[0][:50]) is not None
    assert map_of(np.ones((60, 4))) is None


def test_each_mixture_on_a_map_is_as_if_it_were_the_only_one(moons):
    X = moons[0][:100]
    found = map_of(X)
    for size in (2, 5):
        np.testing.assert_array_equal(found.mixture(size), map_of(X).mixture(size))


def test_a_map_of_one_feature():
    X = np.concatenate([np.zeros(40), np.full(40, 9.0)])[:, None]
    X = X + np.linspace(0.0, 1.0, 80)[:, None]
    found = clusters(map_of(X).clusters(2))
    assert len(np.unique(found[:40])) == len(np.unique(found[40:])) == 1
    assert found[0] != found[-1]
