"""Starts of the deep clusterers."""

import warnings

import numpy as np
import pytest
from sklearn.datasets import make_moons
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import adjusted_rand_score

from skdeepgmm import GANEMClusterer, MinMaxEMClusterer
from skdeepgmm.estimators.clusterers import _init_responsibilities as starts
from skdeepgmm.estimators.clusterers._base import NetworkUnits
from skdeepgmm.estimators.clusterers._tsne_embedding import PARTS, map_of
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


def first(X, n_clusters=2, labels=None, **parameters):
    """Return kind and responsibilities that a fit asks for."""
    model = MinMaxEMClusterer(n_clusters, **parameters)
    units = NetworkUnits(None, np.zeros(1), np.ones(1))
    random_state = np.random.RandomState(0)
    return starts.first_responsibilities(model, "tsne", X, units, labels, random_state)


def test_few_rows_go_to_kmeans(moons):
    X, _ = moons
    kind, resp = first(X[:49])
    assert kind == "kmeans"
    expected = starts.by_kmeans(X[:49], 2, np.random.RandomState(0))
    assert adjusted_rand_score(clusters(expected), clusters(resp)) == 1.0
    assert first(X[:50])[0] == "tsne"


def test_equal_rows_have_no_map():
    with pytest.warns(ConvergenceWarning, match="distinct clusters"):
        kind, resp = first(np.ones((60, 4)))
    assert kind == "kmeans"
    assert len(np.unique(clusters(resp))) == 1


@pytest.mark.parametrize("scale", [1e-8, 1e-25, 1e-36, 1e8])
def test_a_map_does_not_depend_on_the_scale(scale):
    draw = np.random.default_rng(0)
    X = draw.random((60, 5)) + 3.0 * (np.arange(60) % 2)[:, None]
    kind, resp = first(X * scale)
    assert kind == "tsne"
    assert adjusted_rand_score(np.arange(60) % 2, clusters(resp)) == 1.0


def test_the_mixture_on_a_map_does_not_warn():
    draw = np.random.default_rng(0)
    # Fewer rows than its covariances ask for, many of them twice.
    X = np.repeat(draw.random((30, 5)), 2, axis=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        clusters(first(X, 12)[1])


def test_clusters_of_a_map_take_the_names_of_labels(moons):
    X, y = moons
    for order in ([0, 1], [1, 0]):
        named = np.array(order)[y]
        labels = np.where(np.arange(len(y)) < 10, named, -1)
        resp = first(X, labels=labels)[1]
        assert (clusters(resp) == named).mean() > 0.95


def test_parts_belong_to_the_clusters_of_their_labelled_rows():
    parts = np.eye(4)[[0, 0, 0, 1, 1, 2, 3]]
    labels = np.array([1, 1, 0, 0, -1, 1, -1])
    prior = starts.PART_PRIOR / 2
    shares = {
        0: (1 + prior) / (3 + 2 * prior),
        1: (1 + prior) / (1 + 2 * prior),
        2: prior / (1 + 2 * prior),
        3: 0.5,
    }
    found = starts.named(parts, labels, 2)
    np.testing.assert_allclose(found.sum(axis=1), 1.0)
    expected = [shares[part] for part in parts.argmax(axis=1)]
    np.testing.assert_allclose(found[:, 0], expected)


@pytest.fixture
def torn():
    """Two classes, each of two blobs, that no mixture of two Gaussians tells apart."""
    rng = np.random.default_rng(0)
    blob = np.arange(400) % 4
    centers = 8.0 * np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]])
    X = centers[blob] + rng.normal(size=(400, 3))
    return X.astype(np.float32), blob % 2


def test_labels_put_together_what_a_map_tears_apart(torn):
    X, y = torn
    labels = np.where(np.arange(len(y)) < 40, y, -1)
    assert (clusters(first(X, labels=labels)[1]) == y).mean() > 0.98
    # Four a class are too few to tell where parts belong.
    few = np.where(np.arange(len(y)) < 8, y, -1)
    assert (clusters(first(X, labels=few)[1]) == y).mean() < 0.8


def test_neighbors_put_parts_together_without_labels(moons):
    X, y = moons
    kind, resp = first(X)
    assert kind == "tsne"
    row_map = map_of(X, np.random.RandomState(0))
    np.testing.assert_array_equal(resp, row_map.clusters(2))
    assert adjusted_rand_score(y, clusters(resp)) == 1.0


def test_more_parts_are_taken_only_where_they_miss_fewer_labels(moons, torn):
    model = MinMaxEMClusterer(2)
    units = NetworkUnits(None, np.zeros(1), np.ones(1))
    for (X, y), n_parts in ((moons, 2), (torn, 2 * PARTS)):
        labels = np.where(np.arange(len(y)) < 40, y, -1)
        _, parts = starts.first_parts(
            model, "tsne", X, units, labels, np.random.RandomState(0)
        )
        assert parts.shape == (len(y), n_parts)


def test_held_out_labels_are_counted():
    labels = np.array([0, 1] * 10 + [-1] * 5)
    folds = starts.held_out(labels, np.random.RandomState(0))
    rows = np.sort(np.concatenate([rows for _, rows in folds]))
    np.testing.assert_array_equal(rows, np.arange(20))
    for seen, rows in folds:
        assert (seen[rows] == -1).all()
        assert (seen >= 0).sum() == 16
    truth = np.append(labels[:20], [0] * 5)
    assert starts.mistakes(np.eye(2)[truth], labels, 2, folds) == 0
    truth[:3] = 1 - truth[:3]
    assert starts.mistakes(np.eye(2)[truth], labels, 2, folds) == 3


@pytest.mark.parametrize("clusterer", [GANEMClusterer, MinMaxEMClusterer])
def test_given_responsibilities_keep_their_names(clusterer, torn):
    X, y = torn
    given = np.eye(2)[1 - y]
    model = clusterer(2, init=given)
    units = NetworkUnits(None, np.zeros(1), np.ones(1))
    kind, found = starts.first_responsibilities(
        model, "array", X, units, y, np.random.RandomState(0)
    )
    assert kind == "array"
    np.testing.assert_array_equal(found, given)


def test_responsibilities_are_matched_with_labels():
    resp = np.eye(3)[[0, 0, 1, 1, 2, 2, 2]]
    labels = np.array([2, -1, 0, 0, -1, -1, 1])
    found = starts.matched(resp, labels).argmax(axis=1)
    assert found.tolist() == [2, 2, 0, 0, 1, 1, 1]


def test_a_verbose_fit_tells_of_the_map(moons, capsys):
    first(moons[0], verbose=1)
    assert "Map of 300 rows" in capsys.readouterr().out


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
