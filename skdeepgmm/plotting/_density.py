"""A density of two features at a time, with the components that make it."""

from dataclasses import dataclass

import numpy as np
from sklearn.utils.validation import check_is_fitted

from skdeepgmm.plotting._image_grid import import_pyplot
from skdeepgmm.plotting._style import DENSITY, SAMPLES, color_of, panels

#: Shares of the probability mass inside the contours.
SHARES = (0.1, 0.25, 0.5, 0.75, 0.9, 0.99)
#: Components of less weight than this get no ellipse.
LEAST_WEIGHT = 1e-3


@dataclass
class DensityPanel:
    """What one panel of a :class:`DensityDisplay` shows: a pair of features.

    Parameters
    ----------
    x : ndarray of shape (n_x,)
        Values of the feature on the x axis.
    y : ndarray of shape (n_y,)
        Values of the feature on the y axis.
    log_density : ndarray of shape (n_y, n_x)
        Log-density at (x, y), in nats.
    names : tuple of str
        Names of the two features.
    weights : ndarray of shape (n_components,) or None, default=None
        Weights of the components; None for densities without.
    means : ndarray of shape (n_components, 2) or None, default=None
        Their means.
    covariances : ndarray of shape (n_components, 2, 2) or None, default=None
        Their covariance matrices.
    samples : ndarray of shape (n_samples, 2) or None, default=None
        Data to draw over the density.

    See Also
    --------
    DensityDisplay : Draws a list of these.

    Examples
    --------
    >>> import numpy as np
    >>> from skdeepgmm.plotting import DensityDisplay, DensityPanel
    >>> x = np.linspace(-2, 2, 20)
    >>> log_density = -0.5 * np.add.outer(x**2, x**2)
    >>> display = DensityDisplay([DensityPanel(x, x, log_density, ("a", "b"))]).plot()
    >>> display.ax_.get_xlabel()
    'a'
    """

    x: np.ndarray
    y: np.ndarray
    log_density: np.ndarray
    names: tuple
    weights: np.ndarray | None = None
    means: np.ndarray | None = None
    covariances: np.ndarray | None = None
    samples: np.ndarray | None = None


class DensityDisplay:
    """Contours of a density of two features, with ellipses of its components.

    Parameters
    ----------
    pairs : list of DensityPanel
        One panel for each pair of features, as :meth:`from_estimator` makes them.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Axes of the first panel, or those that were given.
    axes_ : ndarray of matplotlib Axes of shape (n_pairs,)
        Axes of the panels.
    figure_ : matplotlib Figure
        Figure of the panels.
    contours_ : list of matplotlib QuadContourSet
        Filled contours: regions of highest density, which hold 10, 25, 50, 75, 90 and
        99 percent of the probability mass on the grid.
    ellipses_ : list of list of matplotlib Ellipse
        Components by panel, in the colours of their numbers.

    See Also
    --------
    sklearn.inspection.DecisionBoundaryDisplay : Regions of predictions.

    Examples
    --------
    >>> import numpy as np
    >>> from skdeepgmm import GaussianMixture
    >>> from skdeepgmm.plotting import DensityDisplay
    >>> X = np.random.RandomState(0).normal(size=(100, 3))
    >>> mixture = GaussianMixture(2, random_state=0).fit(X)
    >>> display = DensityDisplay.from_estimator(
    ...     mixture, X, features=[(0, 1), (0, 2)], grid_resolution=20
    ... )
    >>> [ax.get_ylabel() for ax in display.axes_]
    ['feature 1', 'feature 2']
    """

    def __init__(self, pairs):
        self.pairs = pairs

    @classmethod
    def from_estimator(
        cls,
        estimator,
        X=None,
        *,
        features=(0, 1),
        grid_resolution=100,
        ax=None,
        **plot_params,
    ):
        """Compute the density of pairs of features and draw it.

        Parameters
        ----------
        estimator : estimator
            Fitted, with ``score_samples``. With more than two features it must have
            ``marginal``, as the flat mixtures do: the density shown is that of the two
            features alone.
        X : array-like of shape (n_samples, n_features), default=None
            Samples to draw over the density; their range is that of the panels. None
            draws none, and shows where the components are.
        features : tuple of two int or str, or list of such tuples, default=(0, 1)
            Features on the x and the y axis of each panel, by index or name.
        grid_resolution : int, default=100
            Points of the grid along each axis.
        ax : matplotlib Axes, default=None
            Axes to draw in. None makes a figure.
        **plot_params : dict
            Keyword arguments of :meth:`plot`.

        Returns
        -------
        display : DensityDisplay
            The drawn display.

        Raises
        ------
        ValueError
            If ``features`` holds no pairs of known features, or the estimator has more
            features and no ``marginal``, or there are neither samples nor components.

        Examples
        --------
        >>> from skdeepgmm.plotting import DensityDisplay
        >>> DensityDisplay.from_estimator(mixture, X)  # doctest: +SKIP
        """
        check_is_fitted(estimator)
        made = [
            _panel(estimator, X, pair, grid_resolution) for pair in _pairs(features)
        ]
        return cls(made).plot(ax=ax, **plot_params)

    def plot(self, ax=None, *, ellipses=True, n_std=2.0, cmap=DENSITY):
        """Draw the densities.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw in, split where there are several pairs. None makes a figure.
        ellipses : bool, default=True
            Whether to draw the components.
        n_std : float, default=2.0
            Standard deviations from the mean of a component to its ellipse.
        cmap : str or matplotlib Colormap, default="Greys"
            Colours of the density.

        Returns
        -------
        display : DensityDisplay
            The display, with ``ax_``, ``axes_``, ``figure_``, ``contours_`` and
            ``ellipses_``.

        Raises
        ------
        ImportError
            If matplotlib is not installed.

        Examples
        --------
        >>> display.plot(n_std=1)  # doctest: +SKIP
        """
        plt = import_pyplot(type(self).__name__)
        size = (4.4, 3.9)
        self.ax_, axes = panels(plt, ax, 1, len(self.pairs), size, gap=(0.2, 0.0))
        self.axes_, self.figure_ = axes[0], self.ax_.figure
        self.contours_ = [
            _draw_density(panel, made, cmap)
            for panel, made in zip(self.axes_, self.pairs, strict=True)
        ]
        self.ellipses_ = [
            _draw_ellipses(panel, made, n_std) if ellipses else []
            for panel, made in zip(self.axes_, self.pairs, strict=True)
        ]
        return self


def _pairs(features):
    """Return a list of pairs of features."""
    nested = [isinstance(feature, (tuple, list)) for feature in features]
    pairs = [tuple(pair) for pair in features] if all(nested) else [tuple(features)]
    if not pairs or any(len(pair) != 2 for pair in pairs):
        raise ValueError(
            f"features == {features}; expected a pair of features such as (0, 1), or a "
            "list of pairs."
        )
    return pairs


def _panel(estimator, X, pair, grid_resolution):
    names = getattr(estimator, "feature_names_in_", None)
    index = [_index(feature, names, estimator) for feature in pair]
    density = _density_of(estimator, pair, index)
    samples = None if X is None else np.asarray(X, dtype=float)[:, index]
    weights, means, covariances = _components(density)
    x, y = _axes_of(samples, means, covariances, grid_resolution)
    grid = np.column_stack([axis.ravel() for axis in np.meshgrid(x, y)])
    scores = density.score_samples(_named_like(density, grid))
    return DensityPanel(
        x,
        y,
        np.asarray(scores, dtype=float).reshape(len(y), len(x)),
        tuple(f"feature {i}" if names is None else str(names[i]) for i in index),
        weights,
        means,
        covariances,
        samples,
    )


def _index(feature, names, estimator):
    """Return the index of a feature that is given by index or name."""
    known = [] if names is None else list(names)
    if isinstance(feature, str):
        if feature not in known:
            raise ValueError(f"features has {feature!r}; expected one of {known}.")
        return known.index(feature)
    n_features = getattr(estimator, "n_features_in_", 2)
    if not 0 <= feature < n_features:
        raise ValueError(f"features has {feature}; expected 0 to {n_features - 1}.")
    return int(feature)


def _density_of(estimator, pair, index):
    """Return an estimator of the two features alone, in this order."""
    if hasattr(estimator, "marginal"):
        return estimator.marginal(index)
    if getattr(estimator, "n_features_in_", 2) == 2 and index == [0, 1]:
        return estimator
    raise ValueError(
        f"features == {pair}: {type(estimator).__name__} has no method marginal, so "
        "that only a density of two features can be drawn, as (0, 1)."
    )


def _named_like(density, grid):
    """Return the grid as a data frame where the density knows its features by name."""
    if not hasattr(density, "feature_names_in_"):
        return grid
    import pandas as pd

    return pd.DataFrame(grid, columns=density.feature_names_in_)


def _components(density):
    """Return weights, means and covariance matrices, None for other densities."""
    if not hasattr(density, "dense_covariances"):
        return None, None, None
    means = np.asarray(density.means_, dtype=float)
    return np.asarray(density.weights_), means, density.dense_covariances()


def _axes_of(samples, means, covariances, grid_resolution):
    """Return the values of x and y: the range of the samples, or of components."""
    if samples is not None:
        low, high = np.nanmin(samples, axis=0), np.nanmax(samples, axis=0)
    elif means is not None:
        std = np.sqrt(np.diagonal(covariances, axis1=1, axis2=2))
        low, high = (means - 3 * std).min(axis=0), (means + 3 * std).max(axis=0)
    else:
        raise ValueError(
            "X is None, and the estimator has no components that tell where its "
            "density is; give X."
        )
    margin = np.maximum(0.05 * (high - low), np.finfo(float).tiny)
    low, high = low - margin, high + margin
    return tuple(np.linspace(low[i], high[i], grid_resolution) for i in (0, 1))


def _levels(log_density):
    """Return the densities around regions that hold ``SHARES`` of the mass."""
    density = np.exp(log_density - log_density.max())
    falling = np.sort(density.ravel())[::-1]
    mass = np.cumsum(falling) / falling.sum()
    levels = np.unique(falling[np.searchsorted(mass, SHARES).clip(max=mass.size - 1)])
    return density, np.append(levels[levels < 1.0], 1.0 + 1e-9)


def _draw_density(ax, made, cmap):
    import matplotlib

    density, levels = _levels(made.log_density)
    # By rank, not by value: a narrow component would leave the others white.
    colors = matplotlib.colormaps[cmap] if isinstance(cmap, str) else cmap
    shades = colors(np.linspace(0.1, 0.6, max(len(levels) - 1, 1)))
    contours = ax.contourf(made.x, made.y, density, levels=levels, colors=shades)
    if made.samples is not None:
        ax.scatter(*made.samples.T, s=4, color=SAMPLES, alpha=0.5, lw=0)
    ax.set(xlabel=made.names[0], ylabel=made.names[1])
    ax.set(xlim=made.x[[0, -1]], ylim=made.y[[0, -1]])
    return contours


def _draw_ellipses(ax, made, n_std):
    from matplotlib.patches import Ellipse

    if made.means is None:
        return []
    drawn = []
    for number, covariance in enumerate(made.covariances):
        if made.weights[number] < LEAST_WEIGHT:
            continue
        values, vectors = np.linalg.eigh(covariance)
        height, width = 2 * n_std * np.sqrt(np.maximum(values, 0.0))
        angle = np.degrees(np.arctan2(*vectors[::-1, 1]))
        color = color_of(number)
        drawn.append(
            ax.add_patch(
                Ellipse(
                    made.means[number],
                    width,
                    height,
                    angle=angle,
                    fill=False,
                    edgecolor=color,
                    lw=1.6,
                )
            )
        )
        ax.plot(*made.means[number], "+", color=color, ms=8, mew=1.8)
    return drawn
