"""The curve is what the fit reported."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from sklearn.base import BaseEstimator

from skdeepgmm import DeepConvGMM, GaussianMixture, SGDGaussianMixture
from skdeepgmm.layers import Folding, Mixture
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
    assert display.axes_[0].get_title(loc="left") == "log-likelihood (nats per sample)"
    assert display.ax_.get_xlabel() == "iteration"


@pytest.mark.parametrize("names", [None, ["penalty"]])
def test_one_panel_a_series(names):
    display = TrainingCurveDisplay.from_estimator(WithHistory().fit(), names=names)
    expected = names or ["loss", "penalty"]
    assert list(display.curves) == expected
    assert len(display.axes_) == len(display.lines_) == len(expected)
    for ax, line in zip(display.axes_, display.lines_, strict=True):
        assert ax.get_lines()[0] is line
        assert ax.get_xlim() == display.axes_[0].get_xlim()
    np.testing.assert_array_equal(display.lines_[-1].get_ydata(), [1.0, 0.5, 0.1])
    assert display.axes_[-1].get_xlabel() == "epoch"


def test_several_fits_share_the_axes(rng):
    X = rng.normal(size=(200, 2))
    em = GaussianMixture(2, random_state=0).fit(X)
    sgd = SGDGaussianMixture(2, max_iter=10, tol=9.0, random_state=0).fit(X)
    display = TrainingCurveDisplay.from_estimators({"EM": em, "SGD": sgd})
    assert list(display.curves) == ["log_likelihood"]
    assert [line.get_label() for line in display.lines_] == ["EM", "SGD"]
    assert display.lines_[0].get_color() != display.lines_[1].get_color()
    np.testing.assert_array_equal(display.lines_[1].get_ydata(), sgd.lower_bounds_)
    # EM is not annealed: no background that would hold for one of them only.
    assert display.phases == {}
    texts = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert texts == ["EM", "SGD"]


def test_phases_of_a_deep_mixture_are_marked(rng):
    X = rng.uniform(size=(60, 16))
    layers = [Folding(2), Mixture(4), Folding(), Mixture(3)]
    model = DeepConvGMM(
        layers=layers, image_shape=(4, 4), max_iter=20, tol=1e9, random_state=0
    ).fit(X)
    display = TrainingCurveDisplay.from_estimator(model)
    assert list(display.curves) == ["log_likelihood_0", "log_likelihood_1"]
    waits = np.isnan(model.history_["log_likelihood_1"]).sum()
    assert waits > 0
    length = model.annealing_fraction * (20 - waits)
    (first, (waiting, annealed)) = (
        list(display.phases[name].values()) for name in display.curves
    )
    assert first == [(0.5, 0.5 + 0.4 * 20)]
    assert waiting == (0.5, waits + 0.5)
    assert annealed == pytest.approx((waits + 0.5, waits + 0.5 + length))
    ((only,), (other, same)) = (ax.patches for ax in display.axes_)
    assert only.get_facecolor() == same.get_facecolor() != other.get_facecolor()
    texts = [text.get_text() for text in display.axes_[1].get_legend().get_texts()]
    assert texts == ["waiting", "annealing: not comparable"]


def test_phases_can_be_left_out_or_given(mixture):
    sgd = SGDGaussianMixture(max_iter=5, tol=9.0, random_state=0).fit(
        np.arange(30.0)[:, None]
    )
    display = TrainingCurveDisplay.from_estimator(sgd, phases=None)
    assert len(display.ax_.patches) == 0
    sgd.set_params(annealing="none")
    assert TrainingCurveDisplay.from_estimator(sgd).phases == {}
    given = {"log_likelihood": {"warm-up": (1, 3)}}
    display = TrainingCurveDisplay.from_estimator(mixture, phases=given)
    (span,) = display.ax_.patches
    assert (span.get_x(), span.get_width()) == (1, 2)


def test_several_series_in_given_axes():
    _, ax = plt.subplots()
    curves = {"long": [1.0, 2.0, 3.0], "single": {"a": [2.5], "b": [1.0]}}
    display = TrainingCurveDisplay(curves).plot(ax, legend=False)
    assert display.ax_ is ax
    assert set(ax.child_axes) == set(display.axes_)
    assert all(panel.get_legend() is None for panel in display.axes_)
    # A single point is invisible without a marker.
    assert [line.get_marker() for line in display.lines_] == ["None", "o", "o"]


def test_an_estimator_without_curves_is_refused(mixture):
    del mixture.lower_bounds_
    with pytest.raises(ValueError, match="has neither lower_bounds_ nor history_"):
        TrainingCurveDisplay.from_estimator(mixture)


def test_unknown_names_are_refused(mixture):
    fit = WithHistory().fit()
    with pytest.raises(ValueError, match="has no gain; it has loss, penalty"):
        TrainingCurveDisplay.from_estimator(fit, names=["gain"])
    with pytest.raises(ValueError, match=r"no series in common: a has .* b has"):
        TrainingCurveDisplay.from_estimators({"a": fit, "b": mixture})
