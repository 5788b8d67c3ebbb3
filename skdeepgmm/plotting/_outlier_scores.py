"""Scores of a detector, its threshold, and how well they separate outliers."""

import numpy as np
from sklearn.metrics import roc_auc_score, roc_curve
from sklearn.utils import column_or_1d
from sklearn.utils.validation import check_is_fitted

from skdeepgmm.plotting._image_grid import import_pyplot
from skdeepgmm.plotting._style import INLIERS, OUTLIERS, panels

#: Scores below the median by more than this many interquartile ranges share a bin.
FAR = 8.0


class OutlierScoresDisplay:
    """Histogram of outlier scores with the threshold, and the ROC curve.

    Parameters
    ----------
    scores : ndarray of shape (n_samples,)
        Scores; higher is more normal.
    threshold : float, default=0.0
        Samples below are outliers.
    y : ndarray of shape (n_samples,) or None, default=None
        +1 for known inliers, -1 for known outliers; None draws no ROC curve.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Axes of the histogram, or those that were given.
    axes_ : ndarray of matplotlib Axes of shape (1,) or (2,)
        Axes of the histogram and, with y, of the ROC curve.
    figure_ : matplotlib Figure
        Figure of the panels.
    roc_auc_ : float or None
        Area under the ROC curve: the probability that an inlier has a higher score
        than an outlier. None without y.

    See Also
    --------
    sklearn.metrics.RocCurveDisplay : The ROC curve alone.

    Examples
    --------
    >>> import numpy as np
    >>> from skdeepgmm import DensityOutlierDetector, GaussianMixture
    >>> from skdeepgmm.plotting import OutlierScoresDisplay
    >>> rng = np.random.RandomState(0)
    >>> X = np.concatenate([rng.normal(size=(95, 2)), rng.normal(size=(5, 2)) + 9])
    >>> y = np.repeat([1, -1], [95, 5])
    >>> detector = DensityOutlierDetector(
    ...     GaussianMixture(random_state=0), contamination=0.05
    ... ).fit(X)
    >>> display = OutlierScoresDisplay.from_estimator(detector, X, y)
    >>> display.roc_auc_
    1.0
    """

    def __init__(self, scores, *, threshold=0.0, y=None):
        self.scores = scores
        self.threshold = threshold
        self.y = y

    @classmethod
    def from_estimator(cls, estimator, X, y=None, *, ax=None, **plot_params):
        """Compute the scores of a fitted detector and draw them.

        Parameters
        ----------
        estimator : estimator
            Fitted outlier detector, with ``decision_function`` as scikit-learn's have:
            outliers are negative.
        X : array-like of shape (n_samples, n_features)
            Samples.
        y : array-like of shape (n_samples,), default=None
            +1 for inliers and -1 for outliers, where they are known.
        ax : matplotlib Axes, default=None
            Axes to draw in. None makes a figure.
        **plot_params : dict
            Keyword arguments of :meth:`plot`.

        Returns
        -------
        display : OutlierScoresDisplay
            The drawn display.

        Raises
        ------
        ValueError
            If y holds anything but +1 and -1.

        Examples
        --------
        >>> from skdeepgmm.plotting import OutlierScoresDisplay
        >>> OutlierScoresDisplay.from_estimator(detector, X)  # doctest: +SKIP
        """
        check_is_fitted(estimator)
        scores = np.asarray(estimator.decision_function(X))
        return cls(scores, y=y).plot(ax=ax, **plot_params)

    def plot(self, ax=None, *, bins=40):
        """Draw the histogram, and the ROC curve where outliers are known.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw in, split in two where y is known. None makes a figure.
        bins : int, default=40
            Number of bins.

        Returns
        -------
        display : OutlierScoresDisplay
            The display, with ``ax_``, ``axes_``, ``figure_`` and ``roc_auc_``.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError
            If y holds anything but +1 and -1.

        Examples
        --------
        >>> display.plot(bins=20)  # doctest: +SKIP
        """
        plt = import_pyplot(type(self).__name__)
        y = None if self.y is None else _check_truth(self.y, len(self.scores))
        n_columns = 1 if y is None else 2
        self.ax_, axes = panels(plt, ax, 1, n_columns, (4.6, 3.4), gap=(0.2, 0.0))
        self.axes_, self.figure_ = axes[0], self.ax_.figure
        _draw_histogram(self.axes_[0], np.asarray(self.scores), self.threshold, y, bins)
        self.roc_auc_ = None
        if y is not None:
            self.roc_auc_ = _draw_roc(self.axes_[1], self.scores, self.threshold, y)
        return self


def _check_truth(y, n_samples):
    y = column_or_1d(y)
    if len(y) != n_samples or set(np.unique(y).tolist()) != {1, -1}:
        raise ValueError(
            f"y has {len(y)} labels, {np.unique(y).tolist()[:5]}; expected one for "
            f"each of the {n_samples} samples, +1 for inliers and -1 for outliers. "
            "Where 1 marks the outliers, give np.where(y == 1, -1, 1)."
        )
    return y


def _draw_histogram(ax, scores, threshold, y, bins):
    """Draw the scores; those of outliers far away share the first bin."""
    quarter, median, three = np.quantile(scores, [0.25, 0.5, 0.75])
    bound = min(median - FAR * (three - quarter), threshold)
    low = max(scores.min(), bound)
    far = int((scores < low).sum())
    edges = np.linspace(low, max(scores.max(), threshold), bins + 1)
    shown = np.maximum(scores, low)
    if y is None:
        ax.hist(shown, edges, color=INLIERS, label="samples")
    else:
        groups = [shown[y == 1], shown[y == -1]]
        ax.hist(
            groups,
            edges,
            stacked=True,
            color=[INLIERS, OUTLIERS],
            label=["inliers", "outliers"],
        )
    ax.axvline(threshold, color="0.2", ls="--", lw=1.2, label="threshold")
    ax.set(xlabel="score", ylabel="samples")
    if far:
        ax.set_xlabel(f"score ({far} below {low:.3g} are in the first bin)")
    ax.legend(frameon=False, fontsize="small", loc="upper left")
    ax.set_ylim(top=1.3 * ax.get_ylim()[1])  # room for the legend


def _draw_roc(ax, scores, threshold, y):
    """Draw true against false alarms; returns the area under the curve."""
    alarms, found, _ = roc_curve(y == -1, -np.asarray(scores))
    area = float(roc_auc_score(y, scores))
    ax.plot(alarms, found, color=OUTLIERS, label=f"ROC curve, area {area:.3f}")
    flagged = np.asarray(scores) < threshold
    point = flagged[y == 1].mean(), flagged[y == -1].mean()
    ax.plot(*point, "o", color="0.2", label="at the threshold", clip_on=False)
    ax.plot([0, 1], [0, 1], color="0.7", ls=":", lw=1)
    ax.set(xlabel="inliers called outliers", ylabel="outliers found")
    ax.set(xlim=(0, 1), ylim=(0, 1.02))
    ax.legend(frameon=False, fontsize="small", loc="lower right")
    return area
