"""What a fit reported while it ran."""

import re

import numpy as np
from sklearn.utils.validation import check_is_fitted

from skdeepgmm.plotting._image_grid import import_pyplot
from skdeepgmm.plotting._style import PHASES, color_of, panels

#: Phases, as the legend names them.
WAITING, ANNEALING = "waiting", "annealing: not comparable"

#: Titles of series, by the name in ``history_`` without the number of a mixture.
TITLES = {
    "log_likelihood": "log-likelihood (nats per {unit})",
    "loss": "loss (nats per {unit})",
    "score": "score of held-out samples (nats)",
    "changed": "share of samples that changed their cluster",
    "moved": "share of samples moved for the sake of balance",
    "confidence": "confidence (mean largest probability)",
    "n_effective": "clusters in use (exp of the entropy of their sizes)",
    "discriminator": "loss of the discriminator",
    "generator": "loss of the generator",
    "classifier": "loss of the E-net",
    "adversarial": "adversarial loss of the generator",
}


class TrainingCurveDisplay:
    """Series of a fit over its iterations or epochs, one panel a series.

    Panels share the x axis. Phases of a fit in which a series cannot be compared with
    later values, such as annealing, have a grey background that the legend names.

    Parameters
    ----------
    curves : dict of str to array-like of shape (n_points,), or to dict
        One panel for every series: its values, or a dict that maps the label of each
        fit to its values, to be drawn on one axis.
    phases : dict of str to dict, default=None
        By series: a dict that maps names of phases to (begin, end), in iterations.
    x_label : str, default="iteration"
        What is counted along the x axis.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Axes of the first panel, or those that were given.
    axes_ : ndarray of matplotlib Axes of shape (n_series,)
        Axes of the panels, in the order of ``curves``.
    figure_ : matplotlib Figure
        Figure of the curves.
    lines_ : list of matplotlib Line2D
        The curves, panel by panel.

    See Also
    --------
    ComponentsDisplay : What the fit arrived at.

    Examples
    --------
    >>> import numpy as np
    >>> from skdeepgmm import GaussianMixture
    >>> from skdeepgmm.plotting import TrainingCurveDisplay
    >>> X = np.random.RandomState(0).normal(size=(200, 2))
    >>> fits = {
    ...     init: GaussianMixture(2, init_params=init, tol=0.1, random_state=0).fit(X)
    ...     for init in ("kmeans", "random_from_data")
    ... }
    >>> display = TrainingCurveDisplay.from_estimators(fits)
    >>> [line.get_label() for line in display.lines_]
    ['kmeans', 'random_from_data']

    Of one estimator:

    >>> display = TrainingCurveDisplay.from_estimator(fits["kmeans"])
    >>> len(display.lines_)
    1
    """

    def __init__(self, curves, *, phases=None, x_label="iteration"):
        self.curves = curves
        self.phases = phases
        self.x_label = x_label

    @classmethod
    def from_estimator(
        cls, estimator, *, names=None, phases="auto", ax=None, **plot_params
    ):
        """Take the curves from a fitted estimator and draw them.

        Parameters
        ----------
        estimator : estimator
            Fitted, with ``history_``, a dict that maps names to the values of each
            epoch, or with ``lower_bounds_``.
        names : list of str, default=None
            Entries of ``history_`` to draw. None draws all, but for losses that are
            log-likelihoods with another sign.
        phases : "auto", None or dict, default="auto"
            Phases to mark, as of the class. "auto" knows the annealing of
            :class:`~skdeepgmm.SGDGaussianMixture` and
            :class:`~skdeepgmm.DeepConvGMM`, whose mixtures also wait for the one
            below; give None for streams (``partial_fit``), which have other phases.
        ax : matplotlib Axes, default=None
            Axes to draw in. None makes a figure.
        **plot_params : dict
            Keyword arguments of :meth:`plot`.

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
        label = type(estimator).__name__
        return cls.from_estimators(
            {label: estimator}, names=names, phases=phases, ax=ax, **plot_params
        )

    @classmethod
    def from_estimators(
        cls, estimators, *, names=None, phases="auto", ax=None, **plot_params
    ):
        """Draw the curves of several fits on the same axes.

        Parameters
        ----------
        estimators : dict of str to estimator
            Fitted estimators by the label of their curves.
        names : list of str, default=None
            Series to draw; None draws those that all fits have.
        phases : "auto", None or dict, default="auto"
            As for :meth:`from_estimator`; phases in which the fits differ are not
            marked.
        ax : matplotlib Axes, default=None
            Axes to draw in. None makes a figure.
        **plot_params : dict
            Keyword arguments of :meth:`plot`.

        Returns
        -------
        display : TrainingCurveDisplay
            The drawn display.

        Raises
        ------
        ValueError
            If an estimator has no curve, or they have no series in common.

        Examples
        --------
        >>> from skdeepgmm.plotting import TrainingCurveDisplay
        >>> TrainingCurveDisplay.from_estimators(
        ...     {"EM": em, "SGD": sgd}
        ... )  # doctest: +SKIP
        """
        found = {label: _series(fit, names) for label, fit in estimators.items()}
        common = [
            name
            for name in next(iter(found.values()))
            if all(name in series for series in found.values())
        ]
        if not common:
            raise ValueError(
                "The estimators have no series in common: "
                + "; ".join(f"{label} has {list(s)}" for label, s in found.items())
            )
        curves = {
            name: {label: series[name] for label, series in found.items()}
            for name in common
        }
        if isinstance(phases, str):
            phases = _common_phases(estimators.values(), curves)
        counted = {_counted(fit) for fit in estimators.values()}
        display = cls(curves, phases=phases, x_label=" or ".join(sorted(counted)))
        return display.plot(ax=ax, **plot_params)

    def plot(self, ax=None, *, legend="auto"):
        """Draw the curves.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw in, split where there are several series. None makes a figure.
        legend : "auto" or bool, default="auto"
            Whether to draw a legend with the labels of the fits and the phases; "auto"
            draws it where there are several fits, or phases.

        Returns
        -------
        display : TrainingCurveDisplay
            The display, with ``ax_``, ``axes_``, ``figure_`` and ``lines_``.

        Raises
        ------
        ImportError
            If matplotlib is not installed.

        Examples
        --------
        >>> display.plot()  # doctest: +SKIP
        """
        plt = import_pyplot(type(self).__name__)
        curves = {name: _by_label(name, v) for name, v in self.curves.items()}
        size = (6.0, 1.9 if len(curves) > 1 else 3.4)
        self.ax_, axes = panels(plt, ax, len(curves), 1, size, gap=(0.0, 0.45))
        self.axes_, self.figure_ = axes[:, 0], self.ax_.figure
        self.lines_ = []
        for panel, (name, series) in zip(self.axes_, curves.items(), strict=True):
            self._draw_panel(panel, name, series, legend)
        self._finish_x_axes()
        return self

    def _draw_panel(self, panel, name, series, legend):
        every = self.phases or {}
        phases = every.get(name, {})
        # A phase has the same grey in all panels.
        known = list(
            dict.fromkeys(phase for panel in every.values() for phase in panel)
        )
        lines = [
            _draw_curve(panel, label, values, color_of(number))
            for number, (label, values) in enumerate(series.items())
        ]
        self.lines_ += lines
        spans = [
            panel.axvspan(
                *(begin, end),
                color=PHASES[known.index(phase) % len(PHASES)],
                lw=0,
                label=phase,
            )
            for phase, (begin, end) in phases.items()
        ]
        panel.set_title(_title(name), fontsize="small", loc="left")
        named = lines if len(lines) > 1 or legend is True else []
        if legend and (named or spans):
            panel.legend(handles=[*named, *spans], fontsize="x-small")

    def _finish_x_axes(self):
        """Give all panels the same range, and the last one the label."""
        last = max((len(line.get_xdata()) for line in self.lines_), default=1)
        for panel in self.axes_:
            panel.set_xlim(0.5, last + 0.5)
            panel.xaxis.get_major_locator().set_params(integer=True)
            panel.tick_params(labelsize="small", labelbottom=panel is self.axes_[-1])
        self.axes_[-1].set_xlabel(self.x_label)


def _by_label(name, values):
    return values if isinstance(values, dict) else {name: values}


def _draw_curve(ax, label, values, color):
    # A single point has no line, so that it needs a marker to be seen.
    marker = "o" if np.isfinite(values).sum() == 1 else None
    x = np.arange(1, len(values) + 1)
    (line,) = ax.plot(x, values, marker=marker, label=label, color=color)
    return line


def _split(name):
    """Return a series' name without the number of its mixture, and the number."""
    found = re.fullmatch(r"(\w+?)_(\d+)", name)
    return (found[1], int(found[2])) if found else (name, None)


def _title(name):
    base, number = _split(name)
    unit = "sample" if number is None else "position"
    title = TITLES.get(base, base.replace("_", " ")).format(unit=unit)
    return title if number is None else f"mixture {number}: {title}"


def _counted(estimator):
    """Return what is counted along the x axis."""
    if not getattr(estimator, "history_", None):
        return "iteration"
    return "EM iteration" if hasattr(estimator, "occupancies_") else "epoch"


def _series(estimator, names):
    """Return the series of a fitted estimator by name."""
    check_is_fitted(estimator)
    known = dict(getattr(estimator, "history_", None) or {})
    if not known and hasattr(estimator, "lower_bounds_"):
        known = {"log_likelihood": estimator.lower_bounds_}
    if not known:
        raise ValueError(
            f"{type(estimator).__name__} has neither lower_bounds_ nor history_; pass "
            "the values to TrainingCurveDisplay itself."
        )
    missing = [name for name in names or [] if name not in known]
    if missing:
        raise ValueError(
            f"names == {names}: {type(estimator).__name__} has no "
            f"{', '.join(missing)}; it has {', '.join(known)}."
        )
    if names is None:
        names = [name for name in known if not _is_mirrored(name, known)]
    return {name: np.asarray(known[name], dtype=float) for name in names}


def _is_mirrored(name, known):
    """Tell whether this is a loss beside the log-likelihood that it turns around."""
    return name.replace("loss", "log_likelihood", 1) in known and "loss" in name


def _common_phases(estimators, curves):
    """Return the phases in which all fits agree."""
    phases = {}
    for name in curves:
        found = [_phases(fit, name) for fit in estimators]
        if found[0] and all(other == found[0] for other in found):
            phases[name] = found[0]
    return phases


def _phases(estimator, name):
    """Return the phases of one series of a fit whose objective is annealed."""
    params = estimator.get_params(deep=False)
    base, number = _split(name)
    if "annealing_fraction" not in params or base not in ("log_likelihood", "loss"):
        return {}
    # A mixture that waits has no values yet.
    values = np.asarray(estimator.history_[name], dtype=float)
    waits = int(np.argmax(np.isfinite(values))) if number is not None else 0
    phases = {WAITING: (0.5, waits + 0.5)} if waits else {}
    if params["annealing"] != "none":
        length = params["annealing_fraction"] * (params["max_iter"] - waits)
        phases[ANNEALING] = (waits + 0.5, waits + 0.5 + length)
    return phases
