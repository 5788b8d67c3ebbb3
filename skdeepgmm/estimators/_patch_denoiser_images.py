"""Images in and out of the patch denoiser: containers, value ranges, colours."""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import distance_transform_edt
from sklearn.utils.validation import validate_data

#: Values of floating-point images in [0, 1] and in [0, 255], noise included.
UNIT_VALUES = (-1.0, 2.0)
BYTE_VALUES = (-255.0, 510.0)

#: Grey value and two differences of colours. Rows are orthogonal: white noise of
#: deviation s in R, G, B stays white, with the deviations s * NOISE_GAIN.
OPPONENT = np.array(
    [
        [1 / 3, 1 / 3, 1 / 3],
        [np.sqrt(1 / 2), 0, -np.sqrt(1 / 2)],
        [np.sqrt(1 / 6), -2 * np.sqrt(1 / 6), np.sqrt(1 / 6)],
    ]
)
NOISE_GAIN = np.sqrt((OPPONENT**2).sum(axis=1))


@dataclass
class Picture:
    """One image with values in [0, 1].

    Attributes
    ----------
    pixels : ndarray of shape (height, width) or (height, width, 3)
        float32.
    scale : float
        What 1 stands for in the values that came.
    original : ndarray
        The image as it came.
    """

    pixels: np.ndarray
    scale: float
    original: np.ndarray

    @property
    def size(self):
        """Height and width."""
        return self.pixels.shape[:2]

    @property
    def planes(self):
        """Pairs of a plane, (height, width), and the gain of its noise."""
        if self.pixels.ndim == 2:
            return [(self.pixels, 1.0)]
        planes = np.moveaxis(self.pixels @ OPPONENT.T.astype(np.float32), -1, 0)
        pairs = zip(planes, NOISE_GAIN.tolist(), strict=True)
        return [(np.ascontiguousarray(plane), gain) for plane, gain in pairs]

    @property
    def grey(self):
        """The plane that the prior describes: the image, or the mean of R, G and B."""
        return self.planes[0][0]

    def restored(self, planes):
        """Return an array like the one that came, with the values of ``planes``."""
        values = planes[0]
        if len(planes) > 1:
            inverse = np.linalg.inv(OPPONENT).T.astype(np.float32)
            values = np.stack(planes, axis=-1) @ inverse
        values = np.asarray(values, dtype=np.float64) * self.scale
        return cast(values, self.original.dtype).reshape(self.original.shape)

    def filled(self, missing):
        """Return the picture with each missing pixel replaced by the nearest other."""
        _, (rows, cols) = distance_transform_edt(missing, return_indices=True)
        return Picture(self.pixels[rows, cols], self.scale, self.original)

    def patched(self, planes, missing):
        """Return the original image with the missing pixels taken from ``planes``."""
        restored = self.restored(planes)
        missing = missing.reshape(missing.shape + (1,) * (restored.ndim - 2))
        return np.where(missing, restored, self.original)


def cast(values, dtype):
    """Return values in the type that came: rounded and clipped to unsigned integers."""
    if dtype.kind == "u":
        return np.rint(np.clip(values, 0, np.iinfo(dtype).max)).astype(dtype)
    return values.astype(dtype if dtype.kind == "f" else np.float64)


def picture(array, data_range, name, allow_nan=False):
    """Return an array as a Picture.

    Parameters
    ----------
    array : ndarray of shape (height, width), (height, width, 1) or (height, width, 3)
        Image.
    data_range : float or None
        Largest minus smallest possible value; None applies the rule of
        :class:`PatchGMMDenoiser`.
    name : str
        What errors call the image.
    allow_nan : bool, default=False
        Whether pixels may be NaN.
    """
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3)):
        raise ValueError(
            f"{name} has shape {array.shape}; expected (height, width), or (height, "
            "width, channels) with 1 or 3 channels. A single image goes in a list."
        )
    check_values(array, name, allow_nan)
    scale = data_range or guess_range(array, name)
    pixels = (array / scale).astype(np.float32)
    if array.ndim == 3 and array.shape[2] == 1:
        pixels = pixels[:, :, 0]
    return Picture(pixels, float(scale), array)


def check_values(array, name, allow_nan):
    """Raise unless the values are finite real numbers."""
    if array.dtype.kind not in "biuf":
        raise ValueError(f"{name} has type {array.dtype}; expected real numbers.")
    if array.dtype.kind != "f":
        return
    if np.isinf(array).any():
        raise ValueError(f"{name} contains infinity.")
    if not allow_nan and np.isnan(array).any():
        raise ValueError(
            f"{name} contains NaN. Use inpaint(images), which fills such pixels."
        )


def guess_range(array, name):
    """Return the value that means white, from the type and the values of an image."""
    if array.dtype.kind == "b":
        return 1.0
    if array.dtype.kind in "iu":
        return 65535.0 if array.dtype.itemsize > 1 and array.max() > 255 else 255.0
    low, high = np.nanmin(array, initial=0), np.nanmax(array, initial=0)
    for scale, (least, most) in ((1.0, UNIT_VALUES), (255.0, BYTE_VALUES)):
        if least <= low and high <= most:
            return scale
    raise ValueError(
        f"{name} of type {array.dtype} has values in [{low:g}, {high:g}], which are "
        "neither those of an image in [0, 1] nor in [0, 255]. Set data_range to the "
        "largest minus the smallest possible value."
    )


class ImageBatch:
    """The images of one call and the container they came in.

    Parameters
    ----------
    X : list of array-like, or array-like
        Images, a stack of images, or a matrix whose rows are images or signals.
    estimator : PatchGMMDenoiser
        Tells ``image_shape`` and ``data_range``.
    reset : bool
        Whether to record the number of features of a matrix.
    allow_nan : bool, default=False
        Whether pixels may be NaN.
    """

    def __init__(self, X, estimator, *, reset, allow_nan=False):
        self.like = X
        if is_collection(X):
            self.kind = "list" if isinstance(X, (list, tuple)) else "stack"
            arrays, data_range = as_arrays(X), estimator.data_range
            self.signals = False
        else:
            self.kind = "rows"
            rows = check_rows(X, estimator, reset, allow_nan)
            arrays = rows_as_images(rows, estimator.image_shape)
            self.signals = estimator.image_shape is None
            # Signals have no white: their values are used as they are.
            data_range = estimator.data_range or (1.0 if self.signals else None)
        self.pictures = [
            picture(array, data_range, f"Image {index}", allow_nan)
            for index, array in enumerate(arrays)
        ]

    def restored(self, arrays):
        """Return restored images in the container that came."""
        if self.kind == "list":
            return type(self.like)(arrays)
        if self.kind == "stack":
            return np.stack(arrays)
        return np.stack([array.ravel() for array in arrays])


def check_sizes(pictures, patch_shape):
    """Raise if an image is smaller than a patch."""
    for index, image in enumerate(pictures):
        if min(np.subtract(image.size, patch_shape)) < 0:
            raise ValueError(
                f"Image {index} has {image.size[0]} x {image.size[1]} pixels, fewer "
                f"than a patch of {patch_shape[0]} x {patch_shape[1]}. Use larger "
                "images or a smaller patch_size."
            )


def check_masks(pictures, masks):
    """Return for each picture an array that is True where a pixel is missing."""
    if masks is None:
        nan = [np.isnan(image.pixels) for image in pictures]
        masks = [mask.any(axis=2) if mask.ndim == 3 else mask for mask in nan]
    if len(masks) != len(pictures):
        raise ValueError(f"Got {len(masks)} masks for {len(pictures)} images.")
    pairs = zip(pictures, masks, strict=True)
    return [_check_mask(image, mask, i) for i, (image, mask) in enumerate(pairs)]


def _check_mask(image, mask, index):
    mask = np.asarray(mask)
    if mask.size != np.prod(image.size):
        raise ValueError(
            f"Mask {index} has shape {mask.shape}; expected {image.size}, the height "
            "and width of its image."
        )
    mask = mask.reshape(image.size).astype(bool)
    if mask.all():
        raise ValueError(f"All pixels of image {index} are missing.")
    if np.isnan(image.pixels[~mask]).any():
        raise ValueError(
            f"Image {index} has NaN pixels that its mask does not call missing. Add "
            "them to the mask, or pass masks=None."
        )
    return mask


def draw_patches(image, patch_shape, n_patches, random_state):
    """Return patches at random places of an image, (n_patches, patch pixels)."""
    windows = np.lib.stride_tricks.sliding_window_view(image, patch_shape)
    rows, cols = windows.shape[:2]
    places = random_state.choice(rows * cols, min(n_patches, rows * cols), False)
    return windows[places // cols, places % cols].reshape(len(places), -1)


def is_collection(X):
    """Tell a list or a stack of images from a matrix of rows."""
    if isinstance(X, (list, tuple)):
        return len(X) > 0 and np.ndim(X[0]) >= 2
    return getattr(X, "ndim", 0) >= 3


def as_arrays(X):
    """Return the images of a list or stack as arrays."""
    if hasattr(X, "detach"):
        X = X.detach().cpu().numpy()
    if not isinstance(X, (list, tuple)):
        X = np.asarray(X)
    arrays = [np.asarray(image) for image in X]
    if not arrays:
        raise ValueError("Found 0 images while a minimum of 1 is required.")
    return arrays


def check_rows(X, estimator, reset, allow_nan):
    """Return a matrix of rows, in float64 or the type of an image."""
    if hasattr(X, "detach"):
        X = X.detach().cpu().numpy()
    rows = validate_data(
        estimator,
        X,
        dtype="numeric",
        reset=reset,
        ensure_all_finite="allow-nan" if allow_nan else True,
    )
    return rows.astype(np.float32) if rows.dtype == np.float16 else rows


def rows_as_images(rows, image_shape):
    """Return each row as an image; without ``image_shape`` as one line of pixels."""
    shape = (1, rows.shape[1]) if image_shape is None else tuple(image_shape)
    if len(shape) not in (2, 3) or np.prod(shape) != rows.shape[1]:
        raise ValueError(
            f"image_shape={image_shape} holds {np.prod(shape)} values, but X has "
            f"{rows.shape[1]} features. Give (height, width) or (height, width, "
            "channels) with that product."
        )
    return rows.reshape(len(rows), *shape)
