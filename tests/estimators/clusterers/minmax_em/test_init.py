"""What a fit of MinMax+EM is initialised by."""

import numpy as np
import pytest
from sklearn.metrics import accuracy_score

from skdeepgmm import MinMaxEMClusterer
from skdeepgmm.datasets import load_digits_images
from skdeepgmm.estimators.clusterers.minmax_em import _init as inits
from skdeepgmm.estimators.clusterers.minmax_em._fit import MinMaxEMFit


@pytest.fixture
def half_labelled():
    y = np.arange(60) % 3
    return y, np.where(np.arange(60) < 30, y, -1)


@pytest.mark.parametrize(
    "wrong_labels, wrong_clusters, win",
    [(0, 0, False), (0, 6, True), (6, 6, True), (6, 5, True), (6, 4, False)],
)
def test_clusters_win_with_two_thirds_of_the_mistakes(
    wrong_labels, wrong_clusters, win, half_labelled
):
    y, labels = half_labelled
    resp = np.eye(3)[np.where(np.arange(60) < wrong_clusters, (y + 1) % 3, y)]
    answers = np.where(np.arange(60) < wrong_labels, (y + 1) % 3, y)

    def learned(seen, rows):
        return answers[rows]

    random_state = np.random.RandomState(0)
    assert inits.labels_win(resp, labels, 3, learned, random_state) == win


def test_held_out_labels_are_not_seen(half_labelled):
    y, labels = half_labelled
    held_out = []

    def learned(seen, rows):
        assert (seen[rows] == -1).all()
        others = np.setdiff1d(np.flatnonzero(labels >= 0), rows)
        np.testing.assert_array_equal(seen[others], labels[others])
        assert (np.bincount(y[rows]) == 2).all()
        held_out.append(rows)
        return y[rows]

    inits.labels_win(np.eye(3)[y], labels, 3, learned, np.random.RandomState(0))
    found = np.sort(np.concatenate(held_out))
    np.testing.assert_array_equal(found, np.flatnonzero(labels >= 0))


@pytest.fixture(scope="module")
def digits():
    X, y = load_digits_images(return_X_y=True)
    chosen = np.flatnonzero(y < 3)[:300]
    return X[chosen], y[chosen]


def initialised(X, labels, **parameters):
    """Return how a fit to these labels is initialised, and its responsibilities."""
    model = MinMaxEMClusterer(
        3, random_state=0, semi_supervised=True, width=0.25, **parameters
    )
    model.image_shape_ = (8, 8, 1)
    fit = MinMaxEMFit(model, X, labels, {})
    fit.initialize()
    return fit.init_method, fit.model.data.init_resp


def some(y, n):
    """Return y with all but the first ``n`` rows of each class at -1."""
    known = np.full(len(y), -1)
    for k in range(3):
        known[np.flatnonzero(y == k)[:n]] = k
    return known


def test_clear_clusters_initialise_a_fit_with_few_labels(digits):
    X, y = digits
    # An encoder of no steps has learned nothing.
    method, resp = initialised(X, some(y, 5), init_steps=0)
    assert method == "tsne"
    assert accuracy_score(y, resp.numpy().argmax(axis=1)) > 0.85


def test_labels_win_where_clusters_do_not_tell(digits, monkeypatch):
    X, y = digits
    chance = np.eye(3)[np.random.default_rng(0).integers(3, size=len(y))]
    monkeypatch.setattr(inits, "initial_components", lambda *args: ("tsne", chance))
    assert initialised(X, some(y, 7), init_steps=100) == ("labels", None)


def test_many_labels_win_without_a_comparison(digits, monkeypatch):
    X, y = digits
    monkeypatch.setattr(inits, "initial_components", None)
    assert initialised(X, some(y, 20)) == ("labels", None)


def test_four_labels_a_cluster_only_name_clusters(digits):
    X, y = digits
    method, resp = initialised(X, some(y, 4))
    assert method == "tsne"
    assert accuracy_score(y, resp.numpy().argmax(axis=1)) > 0.85
