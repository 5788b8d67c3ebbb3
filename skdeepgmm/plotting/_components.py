"""The component means of a mixture as pictures."""

import math

import numpy as np
from sklearn.utils.validation import check_is_fitted

from skdeepgmm.plotting._image_grid import (
    as_images,
    draw_grid,
    import_pyplot,
    new_axes,
    resolve_image_shape,
)


class ComponentsDisplay:
    """Component means as images, the heaviest component first.

    Parameters
    ----------
    means : ndarray of shape (n_components, n_features)
        Means of the components, rows in C order of the pixels.
    weights : ndarray of shape (n_components,)
        Mixture weights, drawn as titles.
    image_shape : tuple of int
        (height, width) or (height, width, channels), 1 or 3 channels.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Axes of the whole grid.
    figure_ : matplotlib Figure
        Figure of the grid.
    axes_ : ndarray of matplotlib Axes of shape (n_components,)
        Axes of the single images, in the order drawn.

    See Also
    --------
    SamplesDisplay : What the mixture generates.

    Examples
    --------
    >>> import numpy as np
    >>> from skdeepgmm.plotting import ComponentsDisplay
    >>> means = np.random.default_rng(0).uniform(size=(3, 4))
    >>> display = ComponentsDisplay(
    ...     means, weights=np.array([0.2, 0.5, 0.3]), image_shape=(2, 2)
    ... )
    >>> display.order.tolist()
    [1, 2, 0]
    >>> [ax.get_title() for ax in display.plot().axes_]
    ['0.500', '0.300', '0.200']

    From a fitted mixture:

    >>> from skdeepgmm import GaussianMixture
    >>> X = np.random.default_rng(0).uniform(size=(50, 4))
    >>> mixture = GaussianMixture(2, random_state=0).fit(X)
    >>> ComponentsDisplay.from_estimator(mixture, image_shape=(2, 2)).axes_.shape
    (2,)
    """

    def __init__(self, means, weights, *, image_shape):
        self.means = means
        self.weights = weights
        self.image_shape = image_shape

    @property
    def order(self):
        """Indices of the components by falling weight."""
        return np.argsort(-np.asarray(self.weights), kind="stable")

    @classmethod
    def from_estimator(cls, estimator, *, image_shape=None, ax=None, **plot_params):
        """Take means and weights from a fitted mixture and draw them.

        Parameters
        ----------
        estimator : estimator
            Fitted mixture with ``means_`` and ``weights_``. Means in a latent space
            are drawn as ``inverse_transform`` shows them.
        image_shape : tuple of int, default=None
            (height, width) or (height, width, channels). None asks the estimator.
        ax : matplotlib Axes, default=None
            Axes to draw in. None makes a figure.
        **plot_params : dict
            Keyword arguments of :meth:`plot`.

        Returns
        -------
        display : ComponentsDisplay
            The drawn display.

        Raises
        ------
        ValueError
            If the image shape is unknown or does not fit the number of features.

        Examples
        --------
        >>> from skdeepgmm.plotting import ComponentsDisplay
        >>> ComponentsDisplay.from_estimator(
        ...     mixture, image_shape=(8, 8)
        ... )  # doctest: +SKIP
        """
        check_is_fitted(estimator)
        means = _means_of_rows(estimator)
        shape = resolve_image_shape(image_shape, means, estimator)
        display = cls(means, np.asarray(estimator.weights_), image_shape=shape)
        return display.plot(ax=ax, **plot_params)

    def plot(self, ax=None, *, n_columns=None, vmin=None, vmax=None, cmap="gray"):
        """Draw the grid of means.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw in. None makes a figure.
        n_columns : int, default=None
            Images in a row; None makes the grid about square.
        vmin, vmax : float, default=None
            Values drawn black and white; None takes the extremes of all images.
        cmap : str or matplotlib Colormap, default="gray"
            Colours of one-channel images.

        Returns
        -------
        display : ComponentsDisplay
            The display, with ``ax_``, ``axes_`` and ``figure_``.

        Raises
        ------
        ImportError
            If matplotlib is not installed.

        Examples
        --------
        >>> display.plot(n_columns=5)  # doctest: +SKIP
        """
        plt = import_pyplot(type(self).__name__)
        images = as_images(np.asarray(self.means)[self.order], self.image_shape)
        titles = [f"{weight:.3f}" for weight in np.asarray(self.weights)[self.order]]
        n_columns = n_columns or math.ceil(math.sqrt(len(images)))
        if ax is None:
            ax = new_axes(plt, len(images), n_columns, titled=True)
        self.axes_ = draw_grid(
            ax,
            images,
            n_columns=n_columns,
            titles=titles,
            vmin=vmin,
            vmax=vmax,
            cmap=cmap,
        )
        ax.set_title("Component means, by weight")
        self.ax_, self.figure_ = ax, ax.figure
        return self


def _means_of_rows(estimator):
    means = np.asarray(estimator.means_)
    n_features = getattr(estimator, "n_features_in_", means.shape[1])
    if means.shape[1] == n_features:
        return means
    return estimator.inverse_transform(means)
