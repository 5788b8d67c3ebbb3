"""Images in and out of the patch denoiser: containers, value ranges, colours."""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import distance_transform_edt
from sklearn.utils.validation import validate_data

from skdeepgmm._torch_backend import convert
from skdeepgmm.estimators._image_shape import check_image_shape, check_product
from skdeepgmm.estimators._warnings import warn_caller
from skdeepgmm.estimators.denoising._ranges import guess_range

#: Grey value and two differences of colours. Rows are orthogonal: white noise of
#: standard deviation s in R, G, B stays white, with s * NOISE_GAIN.
OPPONENT = np.array(
    [
        [1 / 3, 1 / 3, 1 / 3],
        [np.sqrt(1 / 2), 0, -np.sqrt(1 / 2)],
        [np.sqrt(1 / 6), -2 * np.sqrt(1 / 6), np.sqrt(1 / 6)],
    ]
)
NOISE_GAIN = np.sqrt((OPPONENT**2).sum(axis=1))

#: Largest value, as a multiple of the range: squares of larger ones overflow.
LARGEST = 1e15
#: A matrix with sides of so many values or more, whose neighbouring rows and columns
#: are so correlated, looks like one image.
SMALLEST_IMAGE, IMAGE_SMOOTHNESS = 12, 0.6


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
    def unchanged(self):
        """A copy of the image as it came, in the type of results."""
        return cast(self.original, self.original.dtype).copy()

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
    """Return values in the type that came: rounded and clipped to unsigned integers.

    Signed integers and booleans become float64.
    """
    if dtype.kind == "u":
        return np.rint(np.clip(values, 0, np.iinfo(dtype).max)).astype(dtype)
    return values.astype(dtype if dtype.kind == "f" else np.float64)


def picture(array, data_range, name, missing=None):
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
    missing : ndarray of shape (height, width), default=None
        Pixels whose values do not matter.
    """
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3)):
        raise ValueError(
            f"{name} has shape {array.shape}; expected (height, width), or (height, "
            "width, channels) with 1 or 3 channels. A single image goes in a list."
        )
    seen = array if missing is None else array[~missing]
    check_values(seen, name, missing is not None)
    scale = data_range or guess_range(seen, name)
    with np.errstate(over="ignore"):  # of values that do not matter
        pixels = (array / scale).astype(np.float32)
    if np.abs(pixels if missing is None else pixels[~missing]).max(initial=0) > LARGEST:
        raise ValueError(
            f"{name} has values of more than {LARGEST:g} times data_range={scale:g}: "
            "their squares overflow. Set data_range to the largest minus the smallest "
            "possible value."
        )
    if array.ndim == 3 and array.shape[2] == 1:
        pixels = pixels[:, :, 0]
    return Picture(pixels, float(scale), array)


def check_values(array, name, inpainting):
    """Raise unless the values are finite real numbers."""
    if array.dtype.kind not in "biuf":
        raise ValueError(f"{name} has type {array.dtype}; expected real numbers.")
    if array.dtype.kind != "f":
        return
    if np.isinf(array).any():
        raise ValueError(f"{name} contains infinity.")
    if np.isnan(array).any():
        advice = (
            " that its mask does not call missing. Add such pixels to the mask, or "
            "pass masks=None."
            if inpainting
            else ". Use inpaint(images), which fills such pixels."
        )
        raise ValueError(f"{name} contains NaN{advice}")


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
    inpainting : bool, default=False
        Whether pixels may be missing.
    masks : sequence of array-like, default=None
        Where they are, for each image; None means where they are NaN.

    Attributes
    ----------
    pictures : list of Picture
    missing : list of ndarray of shape (height, width)
        With ``inpainting``: True where a pixel is missing.
    """

    def __init__(self, X, estimator, *, reset, inpainting=False, masks=None):
        if isinstance(X, np.ndarray) and X.dtype.kind == "O" and X.ndim == 1:
            X = list(X)  # how NumPy holds images of different sizes
        self.like = X
        if is_collection(X):
            self.kind = "list" if isinstance(X, (list, tuple)) else "stack"
            arrays, data_range = as_arrays(X), estimator.data_range
            self.signals = False
            if reset:  # columns of an earlier matrix
                for name in ("n_features_in_", "feature_names_in_"):
                    vars(estimator).pop(name, None)
        else:
            self.kind = "rows"
            rows = check_rows(X, estimator, reset, inpainting)
            arrays = rows_as_images(rows, estimator.image_shape)
            self.signals = estimator.image_shape is None
            if reset and self.signals:
                warn_of_image(rows)
            # Signals have no white: their values are used as they are.
            data_range = estimator.data_range or (1.0 if self.signals else None)
        self.missing = check_masks(arrays, masks) if inpainting else None
        self.pictures = [
            picture(array, data_range, f"Image {index}", self._missing(index))
            for index, array in enumerate(arrays)
        ]

    def _missing(self, index):
        return None if self.missing is None else self.missing[index]

    def restored(self, arrays):
        """Return restored images in the container that came."""
        if self.kind == "list":
            return tuple(arrays) if isinstance(self.like, tuple) else arrays
        if self.kind == "stack":
            return np.stack(arrays)
        return np.stack([array.ravel() for array in arrays])


def check_sizes(batch, patch_shape):
    """Raise if an image is smaller than a patch."""
    advice = "Use larger images or a smaller patch_size."
    if batch.signals:
        advice = "A single image goes in a list; rows of images need image_shape."
    elif batch.kind == "stack":
        advice += " A single image goes in a list."
    for index, image in enumerate(batch.pictures):
        if min(np.subtract(image.size, patch_shape)) < 0:
            raise ValueError(
                f"Image {index} has {image.size[0]} x {image.size[1]} pixels, fewer "
                f"than a patch of {patch_shape[0]} x {patch_shape[1]}. {advice}"
            )


def check_masks(arrays, masks):
    """Return for each image an array that is True where a pixel is missing.

    Parameters
    ----------
    arrays : sequence of ndarray
        Images, not validated yet.
    masks : sequence of array-like or None
        None takes what is NaN.
    """
    if masks is None:
        masks = [_nan_pixels(array) for array in arrays]
    if not hasattr(masks, "__len__") or len(masks) != len(arrays):
        got = f"{len(masks)} masks" if hasattr(masks, "__len__") else repr(masks)
        raise ValueError(
            f"Got {got} for {len(arrays)} images. Give masks=None or a list with one "
            "for each."
        )
    pairs = zip(arrays, masks, strict=True)
    return [_check_mask(array, mask, i) for i, (array, mask) in enumerate(pairs)]


def _nan_pixels(array):
    """Return where an image is NaN in any channel."""
    if array.dtype.kind != "f":
        return np.zeros(array.shape[:2], dtype=bool)
    nan = np.isnan(array)
    return nan.any(axis=2) if nan.ndim == 3 else nan


def _check_mask(array, mask, index):
    mask, size = np.asarray(mask), array.shape[:2]
    if mask.shape not in (size, (*size, 1), (int(np.prod(size)),)):
        raise ValueError(
            f"Mask {index} has shape {mask.shape}; expected {size}, the height and "
            "width of its image."
        )
    if mask.dtype.kind not in "biuf":
        raise ValueError(
            f"Mask {index} has type {mask.dtype}; expected booleans, True where a "
            "pixel is missing."
        )
    mask = mask.reshape(size).astype(bool)
    if mask.all():
        raise ValueError(f"All pixels of image {index} are missing.")
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
        return len(X) == 0 or any(_n_axes(image) >= 2 for image in X)
    return getattr(X, "ndim", 0) >= 3


def _n_axes(image):
    try:
        return np.ndim(image)
    except ValueError:  # nested lists of different lengths
        return 0


def as_arrays(X):
    """Return the images of a list or stack as arrays."""
    X = X if isinstance(X, (list, tuple)) else as_array(X)
    arrays = [as_array(image) for image in X]
    if not arrays:
        raise ValueError("Found 0 images while a minimum of 1 is required.")
    return arrays


def as_array(image):
    """Return an array, or a tensor wherever it lives, as an array."""
    return convert.to_numpy(image) if convert.is_tensor(image) else np.asarray(image)


def check_rows(X, estimator, reset, allow_nan):
    """Return a matrix of rows, in float64 or the type of an image."""
    if convert.is_tensor(X):
        X = convert.to_numpy(X)
    rows = validate_data(
        estimator,
        X,
        dtype="numeric",
        reset=reset,
        ensure_all_finite="allow-nan" if allow_nan else True,
    )
    return rows.astype(np.float32) if rows.dtype == np.float16 else rows


def warn_of_image(rows):
    """Warn where a matrix of signals looks like one image: smooth down its columns."""
    if min(rows.shape) < SMALLEST_IMAGE:
        return
    values = rows.astype(np.float64)
    if min(_smoothness(values), _smoothness(values.T)) > IMAGE_SMOOTHNESS:
        warn_caller(
            f"X is a matrix of shape {rows.shape}: its rows are taken as signals, but "
            "it looks like one image. Give a single image in a list, [X], or set "
            "image_shape if each row is an image.",
            UserWarning,
        )


def _smoothness(values):
    """Return the correlation of neighbouring rows, without what all have in common."""
    centered = values - values.mean(axis=0)
    energy = np.square(centered).sum()
    return (centered[1:] * centered[:-1]).sum() / energy if energy > 0 else 0.0


def rows_as_images(rows, image_shape):
    """Return each row as an image; without ``image_shape`` as one line of pixels."""
    shape = (1, rows.shape[1])
    if image_shape is not None:
        check_product(check_image_shape(image_shape), rows.shape[1])
        shape = tuple(image_shape)
    return rows.reshape(len(rows), *shape)
