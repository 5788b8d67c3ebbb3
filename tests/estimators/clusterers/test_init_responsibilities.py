"""Initial responsibilities of the deep clusterers."""

import warnings

import numpy as np
import pytest
from sklearn.datasets import make_moons
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import adjusted_rand_score

from skdeepgmm import GANEMClusterer, MinMaxEMClusterer
from skdeepgmm._torch_backend.clusterers.preprocessing import from_attribute
from skdeepgmm.estimators.clusterers import _init_responsibilities as inits
from skdeepgmm.estimators.clusterers._tsne_embedding import (
    OVER_CLUSTERING,
    tsne_embedding,
)
from skdeepgmm.estimators.clusterers.gan_em._fit import GANEMFit
from skdeepgmm.estimators.clusterers.minmax_em._fit import MinMaxEMFit


def clusters(resp):
    np.testing.assert_allclose(resp.sum(axis=1), 1.0, rtol=1e-6)
    assert (resp >= 0.0).all()
    return resp.argmax(axis=1)


@pytest.fixture(scope="module")
def moons():
    X, y = make_moons(300, noise=0.04, random_state=0)
    return X.astype(np.float32), y


def unchanged():
    """Return the preprocessing that leaves vectors as they are."""
    return from_attribute({"shift": np.zeros(1), "scale": np.ones(1)}, None)


def initial(X, n_clusters=2, labels=None, **parameters):
    """Return method and responsibilities of a t-SNE initialization."""
    model = MinMaxEMClusterer(n_clusters, **parameters)
    random_state = np.random.RandomState(0)
    return inits.initial_responsibilities(
        model, "tsne", X, unchanged(), labels, random_state
    )


def test_few_samples_go_to_kmeans(moons):
    X, _ = moons
    method, resp = initial(X[:49])
    assert method == "kmeans"
    expected = inits.kmeans_responsibilities(X[:49], 2, np.random.RandomState(0))
    assert adjusted_rand_score(clusters(expected), clusters(resp)) == 1.0
    assert initial(X[:50])[0] == "tsne"


def test_equal_samples_have_no_embedding():
    with pytest.warns(ConvergenceWarning, match="distinct clusters"):
        method, resp = initial(np.ones((60, 4)))
    assert method == "kmeans"
    assert len(np.unique(clusters(resp))) == 1


@pytest.mark.parametrize("scale", [1e-8, 1e-25, 1e-36, 1e8])
def test_an_embedding_does_not_depend_on_the_scale(scale):
    draw = np.random.default_rng(0)
    X = draw.random((60, 5)) + 3.0 * (np.arange(60) % 2)[:, None]
    method, resp = initial(X * scale)
    assert method == "tsne"
    assert adjusted_rand_score(np.arange(60) % 2, clusters(resp)) == 1.0


def test_the_mixture_on_an_embedding_does_not_warn():
    draw = np.random.default_rng(0)
    # Fewer rows than its covariances ask for, many of them twice.
    X = np.repeat(draw.random((30, 5)), 2, axis=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        clusters(initial(X, 12)[1])


def test_clusters_of_an_embedding_take_the_names_of_labels(moons):
    X, y = moons
    for order in ([0, 1], [1, 0]):
        named = np.array(order)[y]
        labels = np.where(np.arange(len(y)) < 10, named, -1)
        resp = initial(X, labels=labels)[1]
        assert (clusters(resp) == named).mean() > 0.95


def test_components_belong_to_the_clusters_of_their_labelled_samples():
    resp = np.eye(4)[[0, 0, 0, 1, 1, 2, 3]]
    labels = np.array([1, 1, 0, 0, -1, 1, -1])
    prior = inits.COMPONENT_PRIOR / 2
    shares = {
        0: (1 + prior) / (3 + 2 * prior),
        1: (1 + prior) / (1 + 2 * prior),
        2: prior / (1 + 2 * prior),
        3: 0.5,
    }
    found = inits.named(resp, labels, 2)
    np.testing.assert_allclose(found.sum(axis=1), 1.0)
    expected = [shares[k] for k in resp.argmax(axis=1)]
    np.testing.assert_allclose(found[:, 0], expected)


@pytest.fixture
def torn():
    """Two classes, each of two blobs, that no mixture of two Gaussians tells apart."""
    rng = np.random.default_rng(0)
    blob = np.arange(400) % 4
    centers = 8.0 * np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]])
    X = centers[blob] + rng.normal(size=(400, 3))
    return X.astype(np.float32), blob % 2


def test_labels_put_together_what_an_embedding_tears_apart(torn):
    X, y = torn
    labels = np.where(np.arange(len(y)) < 40, y, -1)
    assert (clusters(initial(X, labels=labels)[1]) == y).mean() > 0.98
    # Four a class are too few to tell where components belong.
    few = np.where(np.arange(len(y)) < 8, y, -1)
    assert (clusters(initial(X, labels=few)[1]) == y).mean() < 0.8


def test_neighbors_put_components_together_without_labels(moons):
    X, y = moons
    method, resp = initial(X)
    assert method == "tsne"
    embedding = tsne_embedding(X, np.random.RandomState(0))
    np.testing.assert_array_equal(resp, embedding.clusters(2))
    assert adjusted_rand_score(y, clusters(resp)) == 1.0


def test_more_components_are_taken_only_where_they_miss_fewer_labels(moons, torn):
    model = MinMaxEMClusterer(2)
    for (X, y), n_components in ((moons, 2), (torn, 2 * OVER_CLUSTERING)):
        labels = np.where(np.arange(len(y)) < 40, y, -1)
        _, resp = inits.initial_components(
            model, "tsne", X, unchanged(), labels, np.random.RandomState(0)
        )
        assert resp.shape == (len(y), n_components)


def test_held_out_labels_are_counted():
    labels = np.array([0, 1] * 10 + [-1] * 5)
    folds = inits.held_out(labels, np.random.RandomState(0))
    rows = np.sort(np.concatenate([rows for _, rows in folds]))
    np.testing.assert_array_equal(rows, np.arange(20))
    for seen, rows in folds:
        assert (seen[rows] == -1).all()
        assert (seen >= 0).sum() == 16
    truth = np.append(labels[:20], [0] * 5)
    assert inits.mistakes(np.eye(2)[truth], labels, 2, folds) == 0
    truth[:3] = 1 - truth[:3]
    assert inits.mistakes(np.eye(2)[truth], labels, 2, folds) == 3


@pytest.mark.parametrize("clusterer", [GANEMClusterer, MinMaxEMClusterer])
def test_user_supplied_responsibilities_keep_their_names(clusterer, torn):
    X, y = torn
    given = np.eye(2)[1 - y]
    model = clusterer(2, init=given)
    method, found = inits.initial_responsibilities(
        model, "array", X, unchanged(), y, np.random.RandomState(0)
    )
    assert method == "array"
    np.testing.assert_array_equal(found, given)


def test_responsibilities_are_matched_with_labels():
    resp = np.eye(3)[[0, 0, 1, 1, 2, 2, 2]]
    labels = np.array([2, -1, 0, 0, -1, -1, 1])
    found = inits.matched(resp, labels).argmax(axis=1)
    assert found.tolist() == [2, 2, 0, 0, 1, 1, 1]


def test_a_verbose_fit_tells_of_the_embedding(moons, capsys):
    initial(moons[0], verbose=1)
    assert "t-SNE embedding of 300 samples" in capsys.readouterr().out


@pytest.mark.parametrize(
    "clusterer, fit",
    [(GANEMClusterer, GANEMFit), (MinMaxEMClusterer, MinMaxEMFit)],
)
def test_both_clusterers_can_be_initialised_by_tsne(clusterer, fit, moons):
    X, y = moons
    model = clusterer(2, init="tsne", random_state=0)
    model.image_shape_ = None
    begun = fit(model, X, None, {})
    begun.initialize()
    model = begun.kept.model if clusterer is GANEMClusterer else begun.model
    resp = model.data.init_resp.double().numpy()
    assert adjusted_rand_score(y, clusters(resp)) > 0.95
