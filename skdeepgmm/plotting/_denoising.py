"""Noisy images beside what a denoiser makes of them."""

import numpy as np
from sklearn.utils.validation import check_is_fitted

from skdeepgmm.metrics import psnr
from skdeepgmm.plotting._image_grid import import_pyplot
from skdeepgmm.plotting._style import DIFFERENCE, panels


class DenoisingDisplay:
    """Noisy, denoised and true images with their difference, one row an image.

    Parameters
    ----------
    noisy : list of ndarray of shape (height, width[, 3])
        Noisy images.
    denoised : list of ndarray of shape (height, width[, 3])
        What the denoiser made of them.
    true : list of ndarray of shape (height, width[, 3]) or None, default=None
        The images without noise, if they are known.
    data_range : float, default=None
        Largest minus smallest possible value, for the PSNR; None takes the range of
        the type of ``true``, or 1 for floats within [0, 1].

    Attributes
    ----------
    ax_ : matplotlib Axes
        Axes of the first image, or those that were given.
    axes_ : ndarray of matplotlib Axes of shape (n_images, n_columns)
        Axes of the images: noisy, denoised, true (if known) and difference.
    figure_ : matplotlib Figure
        Figure of all images.

    See Also
    --------
    skdeepgmm.metrics.psnr : The figure in the titles, in dB.

    Examples
    --------
    >>> import numpy as np
    >>> from skdeepgmm import PatchGMMDenoiser
    >>> from skdeepgmm.plotting import DenoisingDisplay
    >>> true = 0.5 + 0.5 * np.sin(np.add.outer(np.arange(24.0) ** 1.5, np.arange(24.0)))
    >>> noisy = true + 0.1 * np.random.RandomState(0).normal(size=true.shape)
    >>> denoiser = PatchGMMDenoiser(
    ...     2, patch_size=3, sigma=0.1, data_range=1.0, reg_covar=1e-3, random_state=0
    ... ).fit([true])
    >>> display = DenoisingDisplay.from_estimator(denoiser, noisy, true)
    >>> [ax.get_title().split(",")[0] for ax in display.axes_[0]]
    ['noisy', 'denoised', 'true', 'denoised - true']
    """

    def __init__(self, noisy, denoised, true=None, *, data_range=None):
        self.noisy = noisy
        self.denoised = denoised
        self.true = true
        self.data_range = data_range

    @classmethod
    def from_estimator(
        cls, estimator, noisy, true=None, *, data_range=None, ax=None, **plot_params
    ):
        """Denoise images and draw them.

        Parameters
        ----------
        estimator : estimator
            Fitted denoiser, whose ``transform`` takes a list of images.
        noisy : array-like of shape (height, width[, 3]), or list of such
            One noisy image, or several.
        true : array-like of shape (height, width[, 3]), or list, default=None
            The images without noise.
        data_range : float, default=None
            As of the class.
        ax : matplotlib Axes, default=None
            Axes to draw in. None makes a figure.
        **plot_params : dict
            Keyword arguments of :meth:`plot`.

        Returns
        -------
        display : DenoisingDisplay
            The drawn display.

        Raises
        ------
        ValueError
            If ``noisy`` and ``true`` differ in number or shape.

        Examples
        --------
        >>> from skdeepgmm.plotting import DenoisingDisplay
        >>> DenoisingDisplay.from_estimator(denoiser, noisy, true)  # doctest: +SKIP
        """
        check_is_fitted(estimator)
        noisy = _as_list(noisy)
        true = None if true is None else _as_list(true)
        if true is not None:
            shapes = [[image.shape for image in images] for images in (noisy, true)]
            if shapes[0] != shapes[1]:
                raise ValueError(
                    f"noisy has images of shapes {shapes[0]} and true of {shapes[1]}; "
                    "expected the same."
                )
        denoised = [np.asarray(image) for image in estimator.transform(noisy)]
        display = cls(noisy, denoised, true, data_range=data_range)
        return display.plot(ax=ax, **plot_params)

    def plot(self, ax=None, *, vmin=None, vmax=None, cmap="gray"):
        """Draw the images.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw in. None makes a figure.
        vmin, vmax : float, default=None
            Values drawn black and white; None takes the extremes of the true image,
            or of the denoised one.
        cmap : str or matplotlib Colormap, default="gray"
            Colours of one-channel images.

        Returns
        -------
        display : DenoisingDisplay
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
        rows = [self._row(index) for index in range(len(self.noisy))]
        # A line of text and the image at its own aspect ratio, in widths of a panel.
        heights = [0.1 + image.shape[0] / image.shape[1] for image in self.noisy]
        self.ax_, self.axes_ = panels(
            *(plt, ax, len(rows), len(rows[0]), (2.5, 2.5)),
            gap=(0.03, 0.2),
            heights=heights,
        )
        self.figure_ = self.ax_.figure
        for axes, row in zip(self.axes_, rows, strict=True):
            *images, difference = row
            reference = images[-1][1]
            low = reference.min() if vmin is None else vmin
            high = reference.max() if vmax is None else vmax
            for panel, (title, image) in zip(axes, images, strict=False):
                _show(panel, title, image, low, high, cmap)
            _show_difference(axes[-1], *difference)
        return self

    def _row(self, index):
        """Return titles and images of one row, the difference last."""
        noisy, denoised = self.noisy[index], self.denoised[index]
        images = [("noisy", noisy), ("denoised", denoised)]
        if self.true is None:
            return [*images, ("noisy - denoised", _minus(noisy, denoised))]
        true = self.true[index]
        images = [
            (f"{t}, {self._psnr(true, image):.1f} dB", image) for t, image in images
        ]
        return [*images, ("true", true), ("denoised - true", _minus(denoised, true))]

    def _psnr(self, true, image):
        data_range = self.data_range
        if data_range is None and true.dtype.kind == "u":
            data_range = np.iinfo(true.dtype).max
        return psnr(true.astype(float), image.astype(float), data_range=data_range)


def _as_list(images):
    """Return one image, or several, as a list of arrays."""
    if isinstance(images, (list, tuple)):
        return [np.asarray(image) for image in images]
    images = np.asarray(images)
    one = images.ndim == 2 or (images.ndim == 3 and images.shape[-1] in (1, 3))
    return [images] if one else list(images)


def _minus(a, b):
    return np.asarray(a, dtype=float) - np.asarray(b, dtype=float)


def _show(ax, title, image, low, high, cmap):
    image = np.asarray(image, dtype=float)
    if image.ndim == 3:  # matplotlib scales no colour images
        image = np.clip((image - low) / max(high - low, np.finfo(float).tiny), 0, 1)
        image, low, high = image.squeeze(), 0, 1
    ax.imshow(image, cmap=cmap, vmin=low, vmax=high, interpolation="nearest")
    ax.set_title(title, fontsize="small")
    ax.set(xticks=[], yticks=[])


def _show_difference(ax, title, difference):
    """Draw a signed difference: of colour images, the mean over the channels."""
    if difference.ndim == 3:
        difference = difference.mean(axis=2)
    # A few pixels far off would leave the others white.
    limit = max(float(np.quantile(np.abs(difference), 0.995)), np.finfo(float).tiny)
    _show(ax, f"{title}, ±{limit:.2g}", difference, -limit, limit, DIFFERENCE)
