"""Generated samples as pictures."""

import numpy as np
from sklearn.utils.validation import check_is_fitted

from skdeepgmm.plotting._image_grid import (
    as_images,
    draw_grid,
    import_pyplot,
    new_axes,
    resolve_image_shape,
)


class SamplesDisplay:
    """Samples of a generative model as images.

    Parameters
    ----------
    samples : ndarray of shape (n_samples, n_features)
        Generated rows, in C order of the pixels.
    labels : ndarray of shape (n_samples,) or None
        Component of each sample, drawn as titles; None draws none.
    image_shape : tuple of int
        (height, width) or (height, width, channels), 1 or 3 channels.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Axes of the whole grid.
    figure_ : matplotlib Figure
        Figure of the grid.
    axes_ : ndarray of matplotlib Axes of shape (n_samples,)
        Axes of the single images.

    See Also
    --------
    ComponentsDisplay : The means that the samples scatter around.

    Examples
    --------
    >>> import numpy as np
    >>> from skdeepgmm import GaussianMixture
    >>> from skdeepgmm.plotting import SamplesDisplay
    >>> X = np.random.RandomState(0).uniform(size=(100, 4))
    >>> mixture = GaussianMixture(2, random_state=0).fit(X)
    >>> display = SamplesDisplay.from_estimator(
    ...     mixture, n_samples=6, sample_params={"component": 1}, image_shape=(2, 2)
    ... )
    >>> display.labels
    array([1, 1, 1, 1, 1, 1])
    """

    def __init__(self, samples, labels=None, *, image_shape):
        self.samples = samples
        self.labels = labels
        self.image_shape = image_shape

    @classmethod
    def from_estimator(
        cls,
        estimator,
        *,
        n_samples=50,
        sample_params=None,
        image_shape=None,
        ax=None,
        **plot_params,
    ):
        """Draw samples from a fitted model and show them.

        Parameters
        ----------
        estimator : estimator
            Fitted model whose ``sample(n_samples)`` returns samples and components.
        n_samples : int, default=50
            Number of samples.
        sample_params : dict, default=None
            Further keyword arguments of ``sample``, such as ``{"cluster": 3}`` or
            ``{"temperature": (0, 1), "sharpening": True}``.
        image_shape : tuple of int, default=None
            (height, width) or (height, width, channels). None asks the estimator.
        ax : matplotlib Axes, default=None
            Axes to draw in. None makes a figure.
        **plot_params : dict
            Keyword arguments of :meth:`plot`.

        Returns
        -------
        display : SamplesDisplay
            The drawn display.

        Raises
        ------
        ValueError
            If the image shape is unknown or does not fit the number of features.

        Examples
        --------
        >>> from skdeepgmm.plotting import SamplesDisplay
        >>> SamplesDisplay.from_estimator(
        ...     mixture, image_shape=(8, 8), vmin=0, vmax=1
        ... )  # doctest: +SKIP
        """
        check_is_fitted(estimator)
        samples, labels = estimator.sample(n_samples, **(sample_params or {}))
        samples = np.asarray(samples)
        shape = resolve_image_shape(image_shape, samples, estimator)
        display = cls(samples, np.asarray(labels), image_shape=shape)
        return display.plot(ax=ax, **plot_params)

    def plot(self, ax=None, *, n_columns=10, vmin=None, vmax=None, cmap="gray"):
        """Draw the grid of samples.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw in. None makes a figure.
        n_columns : int, default=10
            Images in a row.
        vmin, vmax : float, default=None
            Values drawn black and white; None takes the extremes of all samples. Give
            the range of the data, for samples may lie outside it.
        cmap : str or matplotlib Colormap, default="gray"
            Colours of one-channel images.

        Returns
        -------
        display : SamplesDisplay
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
        images = as_images(np.asarray(self.samples), self.image_shape)
        n_columns = min(n_columns, len(images))
        titles = None if self.labels is None else [str(label) for label in self.labels]
        if ax is None:
            ax = new_axes(plt, len(images), n_columns, titled=titles is not None)
        self.axes_ = draw_grid(
            ax,
            images,
            n_columns=n_columns,
            titles=titles,
            vmin=vmin,
            vmax=vmax,
            cmap=cmap,
        )
        ax.set_title("Samples" if titles is None else "Samples, by component")
        self.ax_, self.figure_ = ax, ax.figure
        return self
