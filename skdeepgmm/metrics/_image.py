"""Fidelity of a restored image to the true one."""

import numpy as np
from scipy.ndimage import gaussian_filter
from sklearn.utils import check_array, check_scalar

# Constants of Wang et al. (2004): an 11 x 11 Gaussian window, and the two terms that
# keep the quotients stable, relative to the data range.
_WINDOW_SIGMA = 1.5
_WINDOW_RADIUS = 5
_K1, _K2 = 0.01, 0.03


def _check_image(image, name):
    original = np.asarray(image)
    if original.ndim not in (2, 3):
        raise ValueError(
            f"{name} has shape {original.shape}; expected (height, width) or (height, "
            "width, channels). Compare a stack one image at a time."
        )
    checked = check_array(
        original, dtype=np.float64, ensure_2d=False, allow_nd=True, input_name=name
    )
    return checked, original.dtype


def _check_images(image_true, image_test):
    image_true, dtype = _check_image(image_true, "image_true")
    image_test, _ = _check_image(image_test, "image_test")
    if image_true.shape != image_test.shape:
        raise ValueError(
            f"image_test has shape {image_test.shape}; expected the shape of "
            f"image_true, {image_true.shape}."
        )
    return image_true, image_test, dtype


def _resolve_data_range(data_range, image_true, dtype):
    if data_range is not None:
        check_scalar(data_range, "data_range", (int, float, np.number))
        if not (np.isfinite(data_range) and data_range > 0):
            raise ValueError(
                f"data_range == {data_range}; expected a positive, finite number."
            )
        return float(data_range)
    if dtype in (np.uint8, np.uint16):
        return float(np.iinfo(dtype).max)
    if image_true.min() < 0 or image_true.max() > 1:
        raise ValueError(
            f"image_true of type {dtype} has values in [{image_true.min():g}, "
            f"{image_true.max():g}], outside the default range [0, 1]. Pass "
            "data_range, the largest possible minus the smallest possible value."
        )
    return 1.0


def psnr(image_true, image_test, *, data_range=None):
    """Peak signal-to-noise ratio of an image, in decibels.

    Parameters
    ----------
    image_true : array-like of shape (height, width) or (height, width, channels)
        The clean image.
    image_test : array-like of the same shape
        The noisy or restored image. Values outside the range are not clipped.
    data_range : float, default=None
        Largest possible minus smallest possible value. None takes 255 for uint8, 65535
        for uint16, and 1 for other types whose clean image lies in [0, 1].

    Returns
    -------
    psnr : float
        Ratio in dB, higher is better; infinite for equal images.

    Raises
    ------
    ValueError
        If the shapes differ, a value is not finite or the range cannot be told.

    Notes
    -----
    10 log10(R^2 / MSE), R the data range, MSE the mean over all pixels and channels.

    Examples
    --------
    >>> import numpy as np
    >>> from skdeepgmm.metrics import psnr
    >>> image = np.zeros((4, 4))
    >>> round(psnr(image, image + 0.1), 6)
    20.0
    """
    image_true, image_test, dtype = _check_images(image_true, image_test)
    data_range = _resolve_data_range(data_range, image_true, dtype)
    mean_squared_error = np.mean((image_true - image_test) ** 2)
    if mean_squared_error == 0:
        return float("inf")
    # The logarithm of a quotient of squares could overflow; twice the log cannot.
    return float(20 * np.log10(data_range) - 10 * np.log10(mean_squared_error))


def _windowed_mean(image):
    """Gaussian-weighted mean around every pixel that has a whole window."""
    smooth = gaussian_filter(
        image, _WINDOW_SIGMA, radius=_WINDOW_RADIUS, axes=(0, 1), mode="reflect"
    )
    inner = slice(_WINDOW_RADIUS, -_WINDOW_RADIUS)
    return smooth[inner, inner]


def _ssim_map(x, y, data_range):
    c1, c2 = (_K1 * data_range) ** 2, (_K2 * data_range) ** 2
    mean_x, mean_y = _windowed_mean(x), _windowed_mean(y)
    variance_x = _windowed_mean(x * x) - mean_x**2
    variance_y = _windowed_mean(y * y) - mean_y**2
    covariance = _windowed_mean(x * y) - mean_x * mean_y
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    return luminance * (2 * covariance + c2) / (variance_x + variance_y + c2)


def ssim(image_true, image_test, *, data_range=None):
    """Mean structural similarity of two images.

    Parameters
    ----------
    image_true : array-like of shape (height, width) or (height, width, channels)
        The clean image, at least 11 x 11 pixels.
    image_test : array-like of the same shape
        The noisy or restored image.
    data_range : float, default=None
        Largest possible minus smallest possible value. None takes 255 for uint8, 65535
        for uint16, and 1 for other types whose clean image lies in [0, 1].

    Returns
    -------
    ssim : float
        Mean over pixels and channels, at most 1 (equal images), higher is better.

    Raises
    ------
    ValueError
        If the shapes differ, an image is smaller than the window, a value is not finite
        or the range cannot be told.

    Notes
    -----
    (2 m_x m_y + C1) (2 s_xy + C2) / ((m_x^2 + m_y^2 + C1) (s_x^2 + s_y^2 + C2)) with
    means, variances and covariance under an 11 x 11 Gaussian window of deviation 1.5,
    C1 = (0.01 R)^2 and C2 = (0.03 R)^2. As in the paper, moments are divided by the sum
    of the window and only pixels with a whole window count.

    References
    ----------
    .. [1] Z. Wang, A. C. Bovik, H. R. Sheikh and E. P. Simoncelli (2004). "Image
       quality assessment: from error visibility to structural similarity". IEEE
       Transactions on Image Processing 13, 600-612.

    Examples
    --------
    >>> import numpy as np
    >>> from skdeepgmm.metrics import ssim
    >>> image = np.random.default_rng(0).uniform(size=(16, 16))
    >>> round(ssim(image, image), 6)
    1.0
    >>> ssim(image, 1 - image) < 0
    True
    """
    image_true, image_test, dtype = _check_images(image_true, image_test)
    window = 2 * _WINDOW_RADIUS + 1
    if min(image_true.shape[:2]) < window:
        raise ValueError(
            f"image_true has shape {image_true.shape}; ssim needs at least {window} x "
            f"{window} pixels. Use psnr for smaller images."
        )
    data_range = _resolve_data_range(data_range, image_true, dtype)
    return float(np.mean(_ssim_map(image_true, image_test, data_range)))
