"""Starts of the deep clusterers."""

import numpy as np
import pytest
from sklearn.datasets import make_moons
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import adjusted_rand_score

from skdeepgmm import GANEMClusterer, MinMaxEMClusterer
from skdeepgmm.estimators import _first_responsibilities as starts
from skdeepgmm.estimators._gan_em_fit import GANEMFit
from skdeepgmm.estimators._minmax_em_fit import MinMaxEMFit


def clusters(resp):
    np.testing.assert_allclose(resp.sum(axis=1), 1.0, rtol=1e-6)
    assert (resp >= 0.0).all()
    return resp.argmax(axis=1)


@pytest.fixture(scope="module")
def moons():
    X, y = make_moons(300, noise=0.04, random_state=0)
    return X.astype(np.float32), y


def test_a_map_finds_clusters_that_are_not_round(moons):
    X, y = moons
    found = clusters(starts.by_tsne(X, 2, np.random.RandomState(0)))
    assert adjusted_rand_score(y, found) > 0.95
    round_ones = clusters(starts.by_kmeans(X, 2, np.random.RandomState(0)))
    assert adjusted_rand_score(y, round_ones) < 0.7


def test_rows_beside_the_map_follow_their_neighbors(moons, monkeypatch):
    X, y = moons
    monkeypatch.setattr(starts, "MAP_ROWS", 200)
    found = clusters(starts.by_tsne(X, 2, np.random.RandomState(0)))
    assert adjusted_rand_score(y, found) > 0.95


def test_a_map_is_repeated_by_its_seed(moons):
    X, _ = moons
    first, second = (
        starts.by_tsne(X[:100], 3, np.random.RandomState(1)) for _ in range(2)
    )
    np.testing.assert_array_equal(first, second)


def test_few_rows_go_to_kmeans(moons):
    X, _ = moons
    found = starts.by_tsne(X[:49], 2, np.random.RandomState(0))
    expected = starts.by_kmeans(X[:49], 2, np.random.RandomState(0))
    assert adjusted_rand_score(clusters(expected), clusters(found)) == 1.0


def test_equal_rows_have_no_map():
    with pytest.warns(ConvergenceWarning, match="distinct clusters"):
        resp = starts.by_tsne(np.ones((60, 4)), 2, np.random.RandomState(0))
    assert len(np.unique(clusters(resp))) == 1


def test_a_map_of_one_feature():
    X = np.concatenate([np.zeros(40), np.full(40, 9.0)])[:, None]
    X = X + np.linspace(0.0, 1.0, 80)[:, None]
    found = clusters(starts.by_tsne(X, 2, np.random.RandomState(0)))
    assert len(np.unique(found[:40])) == len(np.unique(found[40:])) == 1
    assert found[0] != found[-1]


@pytest.mark.parametrize(
    "clusterer, fit",
    [(GANEMClusterer, GANEMFit), (MinMaxEMClusterer, MinMaxEMFit)],
)
def test_both_clusterers_start_from_a_map(clusterer, fit, moons):
    X, y = moons
    model = clusterer(2, init="tsne", random_state=0)
    model.image_shape_ = None
    begun = fit(model, X, None, {})
    start = begun.start if clusterer is GANEMClusterer else begun.model.data.start
    assert adjusted_rand_score(y, clusters(start.double().numpy())) > 0.95
