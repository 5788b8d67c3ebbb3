"""The visual alphabet of a deep convolutional mixture."""

import math

import numpy as np
from sklearn.utils.validation import check_is_fitted

from skdeepgmm.plotting._image_grid import as_images, draw_grid, import_pyplot
from skdeepgmm.plotting._style import panels


class LayersDisplay:
    """Components of a deep mixture: patches of the first layer, images of the top.

    Parameters
    ----------
    pictures : dict of str to ndarray of shape (n_components, height, width[, 3])
        Pictures of each layer by its title, from the image up.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Axes of the first layer, or those that were given.
    axes_ : list of ndarray of matplotlib Axes
        Axes of the single pictures, layer by layer.
    figure_ : matplotlib Figure
        Figure of all layers.

    See Also
    --------
    ComponentsDisplay : The top layer alone, with its weights.

    Notes
    -----
    Every image is composed of patches of the first layer, its alphabet; components of
    the top say which of them are where. What lies between has no picture of its own.
    A low-rank first layer shows its factors too, the directions in which each of its
    patches varies.

    Examples
    --------
    >>> import numpy as np
    >>> from skdeepgmm import DeepConvGMM
    >>> from skdeepgmm.layers import Folding, Mixture
    >>> from skdeepgmm.plotting import LayersDisplay
    >>> X = np.random.RandomState(0).uniform(size=(100, 16))
    >>> model = DeepConvGMM(
    ...     layers=[Folding(2), Mixture(4), Folding(), Mixture(2)],
    ...     image_shape=(4, 4),
    ...     max_iter=20,
    ...     tol=100.0,
    ...     random_state=0,
    ... ).fit(X)
    >>> display = LayersDisplay.from_estimator(model)
    >>> [pictures.shape for pictures in display.pictures.values()]
    [(4, 2, 2), (2, 4, 4)]
    """

    def __init__(self, pictures):
        self.pictures = pictures

    @classmethod
    def from_estimator(cls, estimator, *, ax=None, **plot_params):
        """Take the pictures from a fitted deep mixture and draw them.

        Parameters
        ----------
        estimator : DeepConvGMM
            Fitted to images.
        ax : matplotlib Axes, default=None
            Axes to draw in. None makes a figure.
        **plot_params : dict
            Keyword arguments of :meth:`plot`.

        Returns
        -------
        display : LayersDisplay
            The drawn display.

        Raises
        ------
        ValueError
            If the model was fitted to vectors.

        Examples
        --------
        >>> from skdeepgmm.plotting import LayersDisplay
        >>> LayersDisplay.from_estimator(model, n_columns=7)  # doctest: +SKIP
        """
        check_is_fitted(estimator)
        if estimator.image_shape_ is None:
            raise ValueError(
                "The model was fitted to vectors, whose components are no pictures. "
                "Give image_shape=(height, width) to the model, or use "
                "ComponentsDisplay with image_shape=(1, n_features)."
            )
        return cls(_pictures(estimator)).plot(ax=ax, **plot_params)

    def plot(self, ax=None, *, n_columns=None, vmin=None, vmax=None, cmap="gray"):
        """Draw the pictures of the layers beside each other.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw in. None makes a figure.
        n_columns : int, default=None
            Pictures in a row; None makes each layer about square.
        vmin, vmax : float, default=None
            Values drawn black and white; None takes the extremes of each layer.
        cmap : str or matplotlib Colormap, default="gray"
            Colours of one-channel pictures.

        Returns
        -------
        display : LayersDisplay
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
        self.ax_, axes = panels(
            plt, ax, 1, len(self.pictures), (4.2, 4.4), gap=(0.06, 0.0)
        )
        self.axes_, self.figure_ = [], self.ax_.figure
        style = {"vmin": vmin, "vmax": vmax, "cmap": cmap}
        for panel, (title, shown) in zip(axes[0], self.pictures.items(), strict=True):
            columns = min(n_columns or math.ceil(math.sqrt(len(shown))), len(shown))
            self.axes_.append(draw_grid(panel, shown, n_columns=columns, **style))
            panel.set_title(title, fontsize="medium")
        return self


def _pictures(model):
    """Return the pictures of the first and of the top mixture, by title."""
    shape = (*model.image_shape_, 1)[:3]
    top = as_images(np.asarray(model.means_), shape)
    title = f"{len(top)} components of the top mixture"
    if len(model.mixtures_) == 1:
        return {title: top}
    means = np.asarray(model.mixtures_[0]["means"])
    if means.ndim == 3:  # not shared: those of one position after the other
        means = means.reshape(-1, means.shape[-1])
    patch = _patch_shape(model.layers_, shape)
    if math.prod(patch) != means.shape[1]:
        patch = (1, means.shape[1], 1)
    alphabet = as_images(means, patch)
    size = f"{patch[0]} x {patch[1]}"
    found = {f"alphabet: {len(alphabet)} patches of {size}": alphabet}
    if "factors" in model.mixtures_[0]:
        factors = np.asarray(model.mixtures_[0]["factors"])
        rows = np.moveaxis(factors, -1, -2).reshape(-1, factors.shape[-2])
        found[f"{factors.shape[-1]} factors of each patch"] = as_images(rows, patch)
    return {**found, title: top}


def _patch_shape(layers, shape):
    """Return the shape of what the first mixture sees at one position."""
    for layer in layers:
        if hasattr(layer, "n_components"):
            break
        if hasattr(layer, "patch"):
            return (*layer.patch(shape), shape[2])
        shape = layer.output_shape(shape)
    return (1, 1, shape[2])
