"""Which value means white in an image, by its type and most of its values."""

import numpy as np

#: Most values of floating-point images in [0, 1] and in [0, 255], noise included, and
#: all values of the latter.
UNIT_VALUES = (-1.0, 2.0)
BYTE_VALUES = (-255.0, 510.0)
#: Values within which noise may leave a few pixels of an image in [0, 1], and outside
#: of which most pixels of an image in [0, 255] lie unless it is nearly black.
UNIT_EXTREMES = (-8.0, 9.0)
#: Quantiles between which most values are.
MOST = (0.05, 0.95)


def guess_range(array, name):
    """Return the value that means white, from the type and the values of an image.

    Parameters
    ----------
    array : ndarray
        Values, NaN where a pixel is missing.
    name : str
        What errors call the image.

    Raises
    ------
    ValueError
        Naming ``data_range``, if the values have two readings or none.
    """
    if array.dtype.kind == "b":
        return 1.0
    if array.dtype.kind in "iu":
        return _integer_range(array, name)
    values = array[~np.isnan(array)]
    if not values.size:
        return 1.0
    extremes = float(values.min()), float(values.max())
    if _within(extremes, UNIT_VALUES):
        return 1.0
    if not _within(extremes, BYTE_VALUES):
        raise _unknown(array, name, extremes, "neither those of an image")
    if np.array_equal(values, np.rint(values)):
        return 255.0  # grey levels
    most = np.quantile(values, MOST)
    if not _within(most, UNIT_EXTREMES):
        return 255.0
    if _within(most, UNIT_VALUES) and _within(extremes, UNIT_EXTREMES):
        return 1.0
    raise _unknown(array, name, extremes, "both those of a noisy image")


def _integer_range(array, name):
    """Return 255 or 65535; a little above 255 may be noise, or a dark image."""
    if array.dtype.itemsize == 1 or array.size == 0 or array.max() <= 255:
        return 255.0
    if array.max() > BYTE_VALUES[1]:
        return 65535.0
    raise ValueError(
        f"{name} of type {array.dtype} has values up to {array.max()}: a noisy image "
        "in [0, 255], or a dark one in [0, 65535]. Set data_range to the largest minus "
        "the smallest possible value."
    )


def _within(values, bounds):
    return bounds[0] <= values[0] and values[1] <= bounds[1]


def _unknown(array, name, extremes, what):
    conjunction = "nor" if what.startswith("neither") else "and"
    return ValueError(
        f"{name} of type {array.dtype} has values in [{extremes[0]:g}, "
        f"{extremes[1]:g}], which are {what} in [0, 1] {conjunction} in [0, 255]. Set "
        "data_range to the largest minus the smallest possible value."
    )
