"""An information criterion against the number of components."""

import numpy as np
from sklearn.utils.validation import check_is_fitted

from skdeepgmm.plotting._image_grid import import_pyplot


class CriterionDisplay:
    """An information criterion against the number of components.

    Parameters
    ----------
    results : dict of str to array-like of shape (n_candidates,)
        Columns 'covariance_type', 'n_components' and the criterion, as in
        ``GaussianMixtureIC.results_``.
    criterion : str
        The column to draw, lower is better.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Axes of the curves.
    figure_ : matplotlib Figure
        Figure of the curves.
    lines_ : list of matplotlib Line2D
        One curve a covariance type, in the order of ``results``.
    best_ : matplotlib Line2D
        The mark of the least value.

    See Also
    --------
    skdeepgmm.GaussianMixtureIC : The search.

    Examples
    --------
    >>> from skdeepgmm.plotting import CriterionDisplay
    >>> results = {
    ...     "covariance_type": ["full", "full", "diag", "diag"],
    ...     "n_components": [1, 2, 1, 2],
    ...     "bic": [900.0, 700.0, 950.0, 820.0],
    ... }
    >>> display = CriterionDisplay(results, criterion="bic")
    >>> display.best_candidate
    ('full', 2)

    From a fitted search:

    >>> import numpy as np
    >>> from skdeepgmm import GaussianMixtureIC
    >>> X = np.random.RandomState(0).normal(size=(60, 2))
    >>> search = GaussianMixtureIC([1, 2], random_state=0).fit(X)
    >>> CriterionDisplay.from_estimator(search).best_candidate
    ('spherical', 1)
    """

    def __init__(self, results, *, criterion):
        self.results = results
        self.criterion = criterion

    @property
    def best_candidate(self):
        """Covariance type and number of components of the least criterion."""
        best = int(np.argmin(self.results[self.criterion]))
        kind = str(self.results["covariance_type"][best])
        return kind, int(self.results["n_components"][best])

    @classmethod
    def from_estimator(cls, estimator, *, criterion=None, ax=None):
        """Draw the criteria of a fitted search.

        Parameters
        ----------
        estimator : GaussianMixtureIC
            Fitted search.
        criterion : {'bic', 'aic', 'icl'}, default=None
            What to draw. None draws what the search has minimised.
        ax : matplotlib Axes, default=None
            Axes to draw in. None makes a figure.

        Returns
        -------
        display : CriterionDisplay
            The drawn display.

        Raises
        ------
        ValueError
            If the search has no such criterion.

        Examples
        --------
        >>> from skdeepgmm.plotting import CriterionDisplay
        >>> CriterionDisplay.from_estimator(search)  # doctest: +SKIP
        """
        check_is_fitted(estimator)
        criterion = criterion or estimator.criterion
        if criterion not in estimator.results_:
            raise ValueError(
                f"criterion={criterion!r} is no column of results_; expected one of "
                "'bic', 'aic' and 'icl'."
            )
        return cls(estimator.results_, criterion=criterion).plot(ax=ax)

    def plot(self, ax=None):
        """Draw one curve a covariance type and mark the least value.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw in. None makes a figure.

        Returns
        -------
        display : CriterionDisplay
            The display, with ``ax_``, ``figure_``, ``lines_`` and ``best_``.

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
        kinds = np.asarray(self.results["covariance_type"])
        sizes = np.asarray(self.results["n_components"])
        values = np.asarray(self.results[self.criterion])
        self.lines_ = []
        for kind in dict.fromkeys(kinds.tolist()):
            mine = np.flatnonzero(kinds == kind)
            mine = mine[np.argsort(sizes[mine])]
            self.lines_ += ax.plot(sizes[mine], values[mine], marker=".", label=kind)
        best = int(np.argmin(values))
        (self.best_,) = ax.plot(
            sizes[best],
            values[best],
            linestyle="none",
            marker="o",
            markersize=10,
            fillstyle="none",
            color="black",
            label=f"least: {kinds[best]}, {sizes[best]}",
        )
        ax.set(xlabel="number of components", ylabel=self.criterion.upper())
        ax.xaxis.get_major_locator().set_params(integer=True)
        ax.legend()
        self.ax_, self.figure_ = ax, ax.figure
        return self
