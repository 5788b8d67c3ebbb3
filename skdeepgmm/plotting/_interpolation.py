"""Generated samples along lines in the latent space."""

import numpy as np
from sklearn.utils.validation import check_is_fitted

from skdeepgmm.plotting._image_grid import (
    as_images,
    draw_grid,
    import_pyplot,
    new_axes,
    resolve_image_shape,
)


class InterpolationDisplay:
    """Samples between two others in the latent space, one row of images a pair.

    Parameters
    ----------
    samples : ndarray of shape (n_pairs, n_steps, n_features)
        Samples along the line of each pair, rows in C order of the pixels.
    image_shape : tuple of int
        (height, width) or (height, width, channels), 1 or 3 channels.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Axes of the whole grid.
    figure_ : matplotlib Figure
        Figure of the grid.
    axes_ : ndarray of matplotlib Axes of shape (n_pairs * n_steps,)
        Axes of the single images.

    See Also
    --------
    LatentSpaceDisplay : The space in which the lines lie.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.decomposition import PCA
    >>> from skdeepgmm.plotting import InterpolationDisplay
    >>> X = np.random.RandomState(0).uniform(size=(30, 4))
    >>> display = InterpolationDisplay.from_estimator(
    ...     PCA(2).fit(X), X[0], X[1], n_samples=5, image_shape=(2, 2)
    ... )
    >>> display.samples.shape
    (1, 5, 4)
    """

    def __init__(self, samples, *, image_shape):
        self.samples = samples
        self.image_shape = image_shape

    @classmethod
    def from_estimator(
        cls, estimator, a, b, *, n_samples=10, image_shape=None, ax=None, **plot_params
    ):
        """Generate the samples between pairs and draw them.

        Parameters
        ----------
        estimator : estimator
            Fitted, with ``interpolate(a, b, n_samples)``, or with ``transform`` and
            ``inverse_transform``: the line then is straight between both embeddings.
        a : array-like of shape (n_features,) or (n_pairs, n_features)
            Where the lines begin.
        b : array-like of shape (n_features,) or (n_pairs, n_features)
            Where they end.
        n_samples : int, default=10
            Samples a line, both ends included.
        image_shape : tuple of int, default=None
            (height, width) or (height, width, channels). None asks the estimator.
        ax : matplotlib Axes, default=None
            Axes to draw in. None makes a figure.
        **plot_params : dict
            Keyword arguments of :meth:`plot`.

        Returns
        -------
        display : InterpolationDisplay
            The drawn display.

        Raises
        ------
        TypeError
            If the estimator has neither ``interpolate`` nor ``inverse_transform``.
        ValueError
            If a and b differ in number, or the image shape is unknown.

        Examples
        --------
        >>> from skdeepgmm.plotting import InterpolationDisplay
        >>> InterpolationDisplay.from_estimator(
        ...     clusterer, X[:3], X[3:6]
        ... )  # doctest: +SKIP
        """
        check_is_fitted(estimator)
        begins, ends = (np.atleast_2d(np.asarray(rows)) for rows in (a, b))
        if begins.shape != ends.shape:
            raise ValueError(
                f"a has the shape {begins.shape} and b {ends.shape}; expected the same "
                "number of rows and features."
            )
        line = _line_of(estimator)
        pairs = zip(begins, ends, strict=True)
        samples = np.stack([np.asarray(line(a, b, n_samples)) for a, b in pairs])
        shape = resolve_image_shape(image_shape, samples[0], estimator)
        return cls(samples, image_shape=shape).plot(ax=ax, **plot_params)

    def plot(self, ax=None, *, vmin=None, vmax=None, cmap="gray"):
        """Draw the rows of images.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw in. None makes a figure.
        vmin, vmax : float, default=None
            Values drawn black and white; None takes the extremes of all samples.
        cmap : str or matplotlib Colormap, default="gray"
            Colours of one-channel images.

        Returns
        -------
        display : InterpolationDisplay
            The display, with ``ax_``, ``axes_`` and ``figure_``.

        Raises
        ------
        ImportError
            If matplotlib is not installed.

        Examples
        --------
        >>> display.plot(vmin=0, vmax=1)  # doctest: +SKIP
        """
        plt = import_pyplot(type(self).__name__)
        n_pairs, n_steps, n_features = np.shape(self.samples)
        rows = np.reshape(self.samples, (n_pairs * n_steps, n_features))
        images = as_images(rows, self.image_shape)
        if ax is None:
            ax = new_axes(plt, len(images), n_steps, titled=False)
        self.axes_ = draw_grid(
            ax, images, n_columns=n_steps, vmin=vmin, vmax=vmax, cmap=cmap
        )
        self.ax_, self.figure_ = ax, ax.figure
        return self


def _line_of(estimator):
    """Return the function that generates the samples between two."""
    if hasattr(estimator, "interpolate"):
        return estimator.interpolate
    if not hasattr(estimator, "inverse_transform"):
        raise TypeError(
            f"{type(estimator).__name__} has neither interpolate nor "
            "inverse_transform, so that nothing leads from its latent space to samples."
        )

    def line(a, b, n_samples):
        first, last = np.asarray(estimator.transform(np.stack([a, b])))
        steps = np.linspace(0.0, 1.0, n_samples)[:, None]
        return estimator.inverse_transform((1 - steps) * first + steps * last)

    return line
