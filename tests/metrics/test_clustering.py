"""Laws of the one-to-one accuracy and of purity."""

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.cluster import KMeans
from sklearn.datasets import make_blobs
from sklearn.metrics import make_scorer
from sklearn.model_selection import GridSearchCV

from skdeepgmm.metrics import clustering_accuracy, purity

LABELS = st.integers(0, 3)
PAIRS = st.lists(st.tuples(LABELS, LABELS), min_size=1, max_size=30)


def accuracy_by_enumeration(labels_true, labels_pred):
    """Try every renaming of the clusters; names beyond the classes match nothing."""
    names = [*range(4), *range(4, 8)]
    best = max(
        np.mean(np.asarray(renaming)[labels_pred] == labels_true)
        for renaming in permutations(names, 4)
    )
    return float(best)


@given(PAIRS)
def test_accuracy_is_the_best_of_all_renamings(pairs):
    labels_true, labels_pred = np.array(pairs).T
    expected = accuracy_by_enumeration(labels_true, labels_pred)
    assert clustering_accuracy(labels_true, labels_pred) == pytest.approx(expected)


@given(PAIRS)
def test_purity_counts_the_majority_of_each_cluster(pairs):
    labels_true, labels_pred = np.array(pairs).T
    majority = sum(
        np.bincount(labels_true[labels_pred == cluster]).max()
        for cluster in np.unique(labels_pred)
    )
    value = purity(labels_true, labels_pred)
    assert value == pytest.approx(majority / len(pairs))
    assert clustering_accuracy(labels_true, labels_pred) <= value + 1e-12


@given(PAIRS, st.data())
@pytest.mark.parametrize("measure", [clustering_accuracy, purity])
def test_integer_weights_repeat_samples(measure, pairs, data):
    labels_true, labels_pred = np.array(pairs).T
    size = len(pairs)
    weight = data.draw(st.lists(st.integers(0, 3), min_size=size, max_size=size))
    weight[0] += 1
    repeated = measure(np.repeat(labels_true, weight), np.repeat(labels_pred, weight))
    weighted = measure(labels_true, labels_pred, sample_weight=weight)
    assert weighted == pytest.approx(repeated)


def test_more_clusters_than_classes_do_not_raise_accuracy():
    labels_true = np.repeat([0, 1], 10)
    one_cluster_per_sample = np.arange(20)
    assert purity(labels_true, one_cluster_per_sample) == 1.0
    assert clustering_accuracy(labels_true, one_cluster_per_sample) == 2 / 20


@pytest.mark.parametrize(
    "labels_true",
    [["x", "x", "y", "y"], [True, True, False, False], [5.0, 5.0, -1.0, -1.0]],
)
def test_labels_of_any_type(labels_true):
    value = clustering_accuracy(labels_true, [9, 9, 2, 2])
    assert isinstance(value, float)
    assert value == 1.0
    assert clustering_accuracy(labels_true, ["b", "b", "b", "a"]) == 0.75


def test_grid_search_finds_the_number_of_clusters():
    X, y = make_blobs(90, centers=3, cluster_std=0.3, random_state=0)
    search = GridSearchCV(
        KMeans(n_init=3, random_state=0),
        {"n_clusters": [2, 3, 6]},
        scoring=make_scorer(clustering_accuracy),
        cv=3,
    ).fit(X, y)
    assert search.best_params_ == {"n_clusters": 3}
    assert search.best_score_ == 1.0


@pytest.mark.parametrize("measure", [clustering_accuracy, purity])
@pytest.mark.parametrize(
    "labels_true, labels_pred, message",
    [
        ([], [], "labels_true is empty"),
        ([0, 1, 1], [0, 1], "inconsistent numbers of samples"),
        ([0.5, 1.2], [0, 1], "labels_true holds continuous values"),
        ([0, 1], [0.1, 0.9], "labels_pred holds continuous values"),
        ([0, 1], [[0.1, 0.9], [0.5, 0.5]], "1d array"),
    ],
)
def test_bad_labels_are_named(measure, labels_true, labels_pred, message):
    with pytest.raises(ValueError, match=message):
        measure(labels_true, labels_pred)


@pytest.mark.parametrize(
    "weight, message",
    [
        ([1.0], "sample_weight has 1 values; expected one per sample, 2"),
        ([1.0, -1.0], "non-negative"),
        ([0.0, 0.0], "positive sum"),
        ([1.0, np.nan], "finite"),
    ],
)
def test_bad_weights_are_named(weight, message):
    with pytest.raises(ValueError, match=message):
        clustering_accuracy([0, 1], [0, 1], sample_weight=weight)
