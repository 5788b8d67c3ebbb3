"""t-SNE embeddings, mixtures on them and clusters made of their components."""

from functools import partial

import numpy as np
import pytest
from sklearn.datasets import make_moons
from sklearn.decomposition import PCA
from sklearn.metrics import adjusted_rand_score

from skdeepgmm.estimators.clusterers import _tsne_embedding
from skdeepgmm.estimators.clusterers._init_responsibilities import (
    kmeans_responsibilities,
)


def clusters(resp):
    np.testing.assert_allclose(resp.sum(axis=1), 1.0, rtol=1e-6)
    assert (resp >= 0.0).all()
    return resp.argmax(axis=1)


def embedding_of(X, seed=0):
    return _tsne_embedding.tsne_embedding(X, np.random.RandomState(seed))


@pytest.fixture(scope="module")
def moons():
    X, y = make_moons(300, noise=0.04, random_state=0)
    return X.astype(np.float32), y


def test_an_embedding_finds_clusters_that_are_not_round(moons):
    X, y = moons
    found = embedding_of(X)
    assert adjusted_rand_score(y, clusters(found.mixture(2))) > 0.95
    assert adjusted_rand_score(y, clusters(found.clusters(2))) == 1.0
    round_ones = clusters(kmeans_responsibilities(X, 2, np.random.RandomState(0)))
    assert adjusted_rand_score(y, round_ones) < 0.7


def test_components_of_a_cluster_go_together(moons):
    """One Gaussian each is wrong in the plane of the moons themselves."""
    X, y = moons
    order, random_state = np.arange(len(X)), np.random.RandomState(0)
    found = _tsne_embedding.TSNEEmbedding(order, X.astype(float), X, random_state)
    assert adjusted_rand_score(y, clusters(found.clusters(2))) == 1.0
    assert adjusted_rand_score(y, clusters(found.mixture(2))) < 0.6


def test_fewer_samples_than_components_make_a_component_a_cluster(moons):
    found = embedding_of(moons[0][:60])
    np.testing.assert_array_equal(found.clusters(21), found.mixture(21))
    assert not np.array_equal(found.clusters(20), found.mixture(20))


def test_samples_that_are_not_embedded_follow_their_neighbors(moons, monkeypatch):
    X, y = moons
    monkeypatch.setattr(_tsne_embedding, "MOST_EMBEDDED", 200)
    found = embedding_of(X)
    assert found.n_embedded == 200
    for resp in (found.mixture(2), found.clusters(2)):
        assert adjusted_rand_score(y, clusters(resp)) > 0.95


def test_samples_have_the_same_components_embedded_or_not(monkeypatch):
    """Also by the randomised solver, whose projections of fitted rows differ."""
    X = np.random.default_rng(0).normal(size=(700, 600))
    X[600:] = X[:100]
    monkeypatch.setattr(_tsne_embedding, "MOST_EMBEDDED", 690)
    monkeypatch.setattr(_tsne_embedding, "PCA", partial(PCA, svd_solver="randomized"))
    found = embedding_of(X)
    place = np.empty_like(found._components)
    place[found._order] = found._components
    np.testing.assert_allclose(place[600:], place[:100], atol=1e-9)


def test_an_embedding_is_repeated_by_its_seed(moons):
    X, _ = moons
    first, second = (embedding_of(X[:100], seed=1).clusters(3) for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_some_samples_have_no_embedding(moons):
    assert embedding_of(moons[0][:49]) is None
    assert embedding_of(moons[0][:50]) is not None
    assert embedding_of(np.ones((60, 4))) is None


def test_each_mixture_on_an_embedding_is_as_if_it_were_the_only_one(moons):
    X = moons[0][:100]
    found = embedding_of(X)
    for size in (2, 5):
        np.testing.assert_array_equal(
            found.mixture(size), embedding_of(X).mixture(size)
        )


def test_an_embedding_of_one_feature():
    X = np.concatenate([np.zeros(40), np.full(40, 9.0)])[:, None]
    X = X + np.linspace(0.0, 1.0, 80)[:, None]
    found = clusters(embedding_of(X).clusters(2))
    assert len(np.unique(found[:40])) == len(np.unique(found[40:])) == 1
    assert found[0] != found[-1]
