"""Matched clusters are on the diagonal, and the title is the accuracy."""

import numpy as np
import pytest
from sklearn.cluster import KMeans

from skdeepgmm.metrics import clustering_accuracy
from skdeepgmm.plotting import MatchedConfusionDisplay


@pytest.mark.parametrize("n_clusters", [2, 4, 7])
def test_the_diagonal_is_the_matching(rng, n_clusters):
    y = rng.integers(0, 4, size=300)
    guess = np.where(rng.uniform(size=300) < 0.7, y, rng.integers(0, 9, size=300))
    labels = (3 * guess + 1) % n_clusters
    display = MatchedConfusionDisplay.from_predictions(y, labels)
    assert display.counts.sum() == 300
    assert display.accuracy == pytest.approx(clustering_accuracy(y, labels))
    assert f"{display.accuracy:.1%}" in display.ax_.get_title()
    for (row, column), count in np.ndenumerate(display.counts):
        true, found = display.classes[row], display.clusters[column]
        assert count == ((y == true) & (labels == found)).sum()


def test_colours_are_shares_of_the_class_and_counts_are_written():
    y = np.repeat(["cat", "dog"], [4, 2])
    display = MatchedConfusionDisplay.from_predictions(y, [1, 1, 1, 0, 0, 0])
    np.testing.assert_allclose(display.im_.get_array(), [[0.75, 0.25], [0, 1]])
    assert sorted(text.get_text() for text in display.ax_.texts) == ["1", "2", "3"]
    ticks = [tick.get_text() for tick in display.ax_.get_xticklabels()]
    assert ticks == ["1", "0"]


def test_predictions_of_an_estimator(blobs):
    X, y = blobs
    kmeans = KMeans(3, n_init=1, random_state=0).fit(X)
    assert MatchedConfusionDisplay.from_estimator(kmeans, X, y).accuracy > 0.9


def test_lengths_must_agree():
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        MatchedConfusionDisplay.from_predictions([0, 1], [0])
