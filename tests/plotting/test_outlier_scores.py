"""The histogram counts all samples; the curve is that of the scores."""

import numpy as np
import pytest
from sklearn.ensemble import IsolationForest
from sklearn.metrics import auc

from skdeepgmm.plotting import OutlierScoresDisplay


def scores_and_labels(rng):
    scores = np.concatenate([rng.normal(3, 1, size=90), rng.normal(0, 1, size=10)])
    return scores, np.repeat([1, -1], [90, 10])


def heights(ax):
    return sum(patch.get_height() for patch in ax.patches)


def test_histogram_and_threshold(rng):
    scores, _ = scores_and_labels(rng)
    display = OutlierScoresDisplay(scores, threshold=0.5).plot()
    assert len(display.axes_) == 1
    assert heights(display.ax_) == 100
    assert display.ax_.get_lines()[0].get_xdata() == [0.5, 0.5]
    assert display.roc_auc_ is None


def test_roc_curve_where_outliers_are_known(rng):
    scores, y = scores_and_labels(rng)
    display = OutlierScoresDisplay(scores, threshold=1.0, y=y).plot()
    expected = (scores[y == 1][:, None] > scores[y == -1]).mean()
    assert display.roc_auc_ == pytest.approx(expected)
    curve, point, _ = display.axes_[1].get_lines()
    area = auc(*curve.get_data())
    assert area == pytest.approx(expected)
    flagged = scores < 1.0
    assert point.get_ydata()[0] == flagged[y == -1].mean()
    assert point.get_xdata()[0] == flagged[y == 1].mean()


def test_far_outliers_share_a_bin(rng):
    scores, y = scores_and_labels(rng)
    scores[-1] = -1e9
    display = OutlierScoresDisplay(scores, y=y).plot()
    assert heights(display.axes_[0]) == 100
    assert display.axes_[0].get_xlim()[0] > -100
    assert "1 below" in display.axes_[0].get_xlabel()


def test_scores_of_any_detector(rng):
    X = rng.normal(size=(50, 2))
    forest = IsolationForest(n_estimators=5, random_state=0).fit(X)
    display = OutlierScoresDisplay.from_estimator(forest, X)
    np.testing.assert_array_equal(display.scores, forest.decision_function(X))


@pytest.mark.parametrize("y", [[0, 1], [1, 1], [1, -1, 1]])
def test_other_labels_are_refused(y):
    with pytest.raises(ValueError, match=r"\+1 for inliers and -1 for outliers"):
        OutlierScoresDisplay(np.zeros(2), y=y).plot()
