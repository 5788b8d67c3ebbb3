"""The shared rule for ``image_shape``: what the columns of X are.

X is (n_samples, n_features), each row an image in C order. ``image_shape`` is
(height, width) or (height, width, channels); None means vector data. X of shape
(n, height, width[, channels]) is accepted too and sets the shape itself. Inside, a
shape always has three entries, (height, width, channels), or is None.
"""

import math

import numpy as np

from skdeepgmm.estimators._checks import is_integer


def check_image_shape(image_shape):
    """Return ``image_shape`` as (height, width, channels), None for vector data.

    Parameters
    ----------
    image_shape : tuple of int or None
        (height, width) or (height, width, channels).

    Raises
    ------
    ValueError
        If this is no tuple of two or three positive integers.
    """
    if image_shape is None:
        return None
    sizes = tuple(image_shape) if np.iterable(image_shape) else (image_shape,)
    positive = all(is_integer(size) and size > 0 for size in sizes)
    if len(sizes) not in (2, 3) or not positive:
        raise ValueError(
            "image_shape must be None, (height, width) or (height, width, channels) "
            f"with positive integers, got {image_shape!r}."
        )
    return (*map(int, sizes), 1)[:3]


def rows_and_shape(X, image_shape=None):
    """Return X with one row an image, and the shape of an image.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features) or (n, height, width[, channels])
        Not validated yet; only three and four axes are looked at.
    image_shape : tuple of int or None
        As the user gave it, or a fitted shape.

    Returns
    -------
    rows : array-like
        X itself, or its images in C order, (n, n_features).
    shape : tuple of int or None
        (height, width, channels), None for vector data.

    Raises
    ------
    ValueError
        If ``image_shape`` is malformed or X holds images of another shape, or of
        several, or has the channels before height and width.
    """
    shape = check_image_shape(image_shape)
    _check_same_shapes(X)
    sizes = _sizes(X)
    if len(sizes) not in (3, 4):
        return X, shape
    if 0 in sizes:  # so that the ordinary validation says what there is none of
        return np.empty((sizes[0], _product(sizes[1:]))), shape
    found = check_image_shape(sizes[1:])
    if shape is None and _has_channels_first(found):
        raise ValueError(
            f"X has the shape {sizes}, which looks like (n, channels, height, width); "
            "expected (n, height, width, channels). Move the axis, for example with "
            "np.moveaxis(X, 1, -1), or set image_shape if X is in that order."
        )
    if shape is not None and found != shape:
        raise ValueError(
            f"X has images of shape {sizes[1:]}, but image_shape is "
            f"{tuple(image_shape)}. Give images of that shape, or rows of "
            f"{_product(shape)} values."
        )
    X = X if hasattr(X, "reshape") else np.asarray(X)
    return X.reshape(sizes[0], -1), found


def check_product(shape, n_features):
    """Raise unless an image of this shape has ``n_features`` values.

    Parameters
    ----------
    shape : tuple of int or None
        (height, width, channels); None always fits.
    n_features : int

    Raises
    ------
    ValueError
        Naming the shape, its product and ``n_features``.
    """
    if shape is None or _product(shape) == n_features:
        return
    product = " * ".join(map(str, shape))
    raise ValueError(
        f"image_shape={shape} means {product} = {_product(shape)} values a row, but X "
        f"has {n_features} features. Give the (height, width, channels) of the images "
        "in X, or image_shape=None for vector data."
    )


def fitted_rows(X, shape):
    """Return X with one row an image, for a model fitted to images of ``shape``.

    Parameters
    ----------
    X : array-like
        Rows, or images (n, height, width[, channels]).
    shape : tuple of int or None
        Fitted (height, width, channels); None leaves X to the ordinary validation.

    Raises
    ------
    ValueError
        If X holds images of another shape.
    """
    return X if shape is None else rows_and_shape(X, shape)[0]


def short_shape(shape):
    """Return (height, width) for one channel, else (height, width, channels)."""
    return shape[:2] if shape[2] == 1 else shape


def _check_same_shapes(X):
    """Raise where X is a list of images, or an array of objects, of several shapes."""
    listed = isinstance(X, (list, tuple)) or getattr(X, "dtype", None) == np.object_
    if not listed or not all(hasattr(image, "shape") for image in X):
        return
    shapes = list(dict.fromkeys(tuple(image.shape) for image in X))
    if len(shapes) > 1 and all(len(shape) in (2, 3) for shape in shapes):
        raise ValueError(
            f"X has images of different shapes, such as {shapes[0]} and {shapes[1]}. "
            "Resize or crop them to one shape."
        )


def _has_channels_first(shape):
    """Tell whether (height, width, channels) has the sizes of another order."""
    return shape[0] in (1, 3) and shape[1] > 4 and shape[2] > 4


def _product(shape):
    # Not NumPy's product: of absurd sizes it would be another number.
    return math.prod(shape)


def _sizes(X):
    """Return the lengths of the axes of X, () where it has none."""
    if hasattr(X, "shape"):
        return tuple(X.shape)
    try:
        return np.asarray(X).shape
    except ValueError:  # ragged: the ordinary validation has the better message
        return ()
