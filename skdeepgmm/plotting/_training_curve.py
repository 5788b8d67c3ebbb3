"""What a fit reported while it ran."""

import numpy as np
from sklearn.utils.validation import check_is_fitted

from skdeepgmm.plotting._image_grid import import_pyplot

_LIKELIHOOD = "mean log-likelihood (nats per sample)"


class TrainingCurveDisplay:
    """Values of a fit over its iterations or epochs.

    Parameters
    ----------
    curves : dict of str to ndarray of shape (n_points,)
        One curve per name.
    x_label : str, default="iteration"
        What is counted along the x axis.
    y_label : str, default="value"
        What the curves measure, with its unit.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Axes of the curves.
    figure_ : matplotlib Figure
        Figure of the curves.
    lines_ : list of matplotlib Line2D
        The curves, in the order of ``curves``.

    See Also
    --------
    ComponentsDisplay : What the fit arrived at.

    Examples
    --------
    >>> from skdeepgmm.plotting import TrainingCurveDisplay
    >>> display = TrainingCurveDisplay({"EM": [-3.0, -2.5, -2.4]})
    >>> display.plot()  # doctest: +SKIP
    """

    def __init__(self, curves, *, x_label="iteration", y_label="value"):
        self.curves = curves
        self.x_label = x_label
        self.y_label = y_label

    @classmethod
    def from_estimator(cls, estimator, *, names=None, ax=None):
        """Take the curves from a fitted estimator and draw them.

        Parameters
        ----------
        estimator : estimator
            Fitted, with ``lower_bounds_``, or with ``history_``, a dict that maps names
            to the values of each epoch.
        names : list of str, default=None
            Entries of ``history_`` to draw. None draws ``lower_bounds_`` if the
            estimator has it, else all entries.
        ax : matplotlib Axes, default=None
            Axes to draw in. None makes a figure.

        Returns
        -------
        display : TrainingCurveDisplay
            The drawn display.

        Raises
        ------
        ValueError
            If the estimator has no curve, or none of a given name.

        Examples
        --------
        >>> from skdeepgmm.plotting import TrainingCurveDisplay
        >>> TrainingCurveDisplay.from_estimator(mixture)  # doctest: +SKIP
        """
        check_is_fitted(estimator)
        if names is None and hasattr(estimator, "lower_bounds_"):
            curves = {type(estimator).__name__: np.asarray(estimator.lower_bounds_)}
            return cls(curves, y_label=_LIKELIHOOD).plot(ax=ax)
        return cls(_history(estimator, names), x_label="epoch").plot(ax=ax)

    def plot(self, ax=None, *, label=True):
        """Draw the curves.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw in. None makes a figure.
        label : bool, default=True
            Whether to draw a legend with the names.

        Returns
        -------
        display : TrainingCurveDisplay
            The display, with ``ax_``, ``figure_`` and ``lines_``.

        Raises
        ------
        ImportError
            If matplotlib is not installed.

        Examples
        --------
        >>> display.plot()  # doctest: +SKIP
        """
        plt = import_pyplot(type(self).__name__)
        if ax is None:
            _, ax = plt.subplots(layout="constrained")
        self.lines_ = [
            _draw_curve(ax, name, values) for name, values in self.curves.items()
        ]
        ax.set(xlabel=self.x_label, ylabel=self.y_label)
        ax.xaxis.get_major_locator().set_params(integer=True)
        if label:
            ax.legend()
        self.ax_, self.figure_ = ax, ax.figure
        return self


def _history(estimator, names):
    history = getattr(estimator, "history_", None)
    if not history:
        raise ValueError(
            f"{type(estimator).__name__} has neither lower_bounds_ nor history_; pass "
            "the values to TrainingCurveDisplay itself."
        )
    missing = [name for name in names or [] if name not in history]
    if missing:
        raise ValueError(
            f"names == {names}: history_ has no {', '.join(missing)}; it has "
            f"{', '.join(history)}."
        )
    return {name: np.asarray(history[name]) for name in names or history}


def _draw_curve(ax, name, values):
    # A single point has no line, so that it needs a marker to be seen.
    marker = "o" if len(values) == 1 else None
    (line,) = ax.plot(np.arange(1, len(values) + 1), values, marker=marker, label=name)
    return line
