"""Rows of X as pictures in a grid; shared by the displays."""

import math

import numpy as np

# A tile takes this share of its cell; the rest is the gap and the title above it.
_TILE = 0.92
_TILE_UNDER_TITLE = 0.74


def import_pyplot(name):
    """Return matplotlib.pyplot, or say how to get it."""
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError(
            f"{name}.plot needs matplotlib: pip install 'skdeepgmm[plot]'."
        ) from error
    return plt


def resolve_image_shape(image_shape, rows, estimator=None):
    """Return the image shape: the argument, else what the estimator says.

    Parameters
    ----------
    image_shape : tuple of int or None
        (height, width) or (height, width, channels).
    rows : ndarray of shape (n_images, n_features)
        Rows that must have this shape.
    estimator : estimator, default=None
        Asked for ``image_shape_``, then ``image_shape``.

    Returns
    -------
    image_shape : tuple of int
        The shape.
    """
    for name in ("image_shape_", "image_shape"):
        if image_shape is None:
            image_shape = getattr(estimator, name, None)
    n_features = rows.shape[1]
    if image_shape is None:
        raise ValueError(
            "image_shape is None and the estimator has none; pass (height, width) or "
            f"(height, width, channels) with a product of {n_features}. For data that "
            f"are no images, (1, {n_features}) draws each row as a stripe."
        )
    image_shape = tuple(int(size) for size in image_shape)
    if len(image_shape) not in (2, 3) or math.prod(image_shape) != n_features:
        raise ValueError(
            f"image_shape == {image_shape} holds {math.prod(image_shape)} values; "
            f"expected 2 or 3 sizes with a product of {n_features}, the number of "
            "features."
        )
    return image_shape


def as_images(rows, image_shape):
    """Return rows as pictures of shape (n, height, width) or (n, height, width, 3)."""
    if len(image_shape) == 3 and image_shape[2] == 1:
        image_shape = image_shape[:2]
    if len(image_shape) == 3 and image_shape[2] != 3:
        raise ValueError(
            f"image_shape == {image_shape}; only images of 1 or 3 channels can be "
            "drawn. Select channels first."
        )
    return rows.reshape(-1, *image_shape)


def _to_unit_range(images, vmin, vmax):
    """Map [vmin, vmax] to [0, 1] and clip: one grey scale for all pictures."""
    vmin = images.min() if vmin is None else vmin
    vmax = images.max() if vmax is None else vmax
    return np.clip((images - vmin) / max(vmax - vmin, np.finfo(float).tiny), 0, 1)


def new_axes(plt, n_images, n_columns, titled):
    """Return an axes in a new figure whose size fits the grid."""
    n_rows = math.ceil(n_images / n_columns)
    size = (0.85 * n_columns + 0.2, (1.1 if titled else 0.85) * n_rows + 0.4)
    figure, ax = plt.subplots(figsize=size)
    figure.subplots_adjust(left=0.02, right=0.98, bottom=0.02, top=1 - 0.3 / size[1])
    return ax


def draw_grid(ax, images, *, n_columns, titles=None, vmin=None, vmax=None, cmap="gray"):
    """Draw pictures inside ``ax``; returns the axes of the tiles in order."""
    pictures = _to_unit_range(np.asarray(images, dtype=float), vmin, vmax)
    n_rows = math.ceil(len(pictures) / n_columns)
    ax.set_axis_off()
    tiles = []
    for index, picture in enumerate(pictures):
        row, column = divmod(index, n_columns)
        bounds = _cell(row, column, n_rows, n_columns, titles is not None)
        tile = ax.inset_axes(bounds)
        tile.imshow(picture, cmap=cmap, vmin=0, vmax=1)
        tile.set_xticks([])
        tile.set_yticks([])
        if titles is not None:
            tile.set_title(titles[index], fontsize="x-small", pad=2)
        tiles.append(tile)
    return np.array(tiles, dtype=object)


def _cell(row, column, n_rows, n_columns, titled):
    """Return (left, bottom, width, height) of a tile in fractions of the axes."""
    height = _TILE_UNDER_TITLE if titled else _TILE
    bottom = 1 - (row + 1) / n_rows + (1 - _TILE) / 2 / n_rows
    left = (column + (1 - _TILE) / 2) / n_columns
    return (left, bottom, _TILE / n_columns, height / n_rows)
