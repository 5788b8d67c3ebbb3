"""The curve is what the fit reported."""

import numpy as np
import pytest
from sklearn.base import BaseEstimator

from skdeepgmm.plotting import TrainingCurveDisplay


class WithHistory(BaseEstimator):
    """An estimator that reports two losses an epoch."""

    def fit(self, X=None, y=None):
        self.history_ = {"loss": [3.0, 2.0, 1.5], "penalty": [1.0, 0.5, 0.1]}
        return self


def test_bounds_of_a_mixture_over_its_iterations(mixture):
    display = TrainingCurveDisplay.from_estimator(mixture)
    (line,) = display.lines_
    np.testing.assert_array_equal(line.get_ydata(), mixture.lower_bounds_)
    np.testing.assert_array_equal(
        line.get_xdata(), np.arange(1, len(mixture.lower_bounds_) + 1)
    )
    assert "nats" in display.ax_.get_ylabel()


@pytest.mark.parametrize("names", [None, ["penalty"]])
def test_named_entries_of_a_history(names):
    display = TrainingCurveDisplay.from_estimator(WithHistory().fit(), names=names)
    expected = names or ["loss", "penalty"]
    assert [line.get_label() for line in display.lines_] == expected
    np.testing.assert_array_equal(display.lines_[-1].get_ydata(), [1.0, 0.5, 0.1])
    assert display.ax_.get_xlabel() == "epoch"


def test_several_curves_in_given_axes():
    import matplotlib.pyplot as plt

    _, ax = plt.subplots()
    curves = {"long": [1.0, 2.0, 3.0], "single": [2.5]}
    display = TrainingCurveDisplay(curves, y_label="nats").plot(ax, label=False)
    assert display.ax_ is ax
    assert ax.get_legend() is None
    # A single point is invisible without a marker.
    assert display.lines_[1].get_marker() == "o"


def test_an_estimator_without_curves_is_refused(mixture):
    del mixture.lower_bounds_
    with pytest.raises(ValueError, match="has neither lower_bounds_ nor history_"):
        TrainingCurveDisplay.from_estimator(mixture)


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="history_ has no gain; it has loss, penalty"):
        TrainingCurveDisplay.from_estimator(WithHistory().fit(), names=["gain"])
