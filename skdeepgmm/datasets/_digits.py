"""The 8 x 8 handwritten digits that ship with scikit-learn."""

from sklearn.datasets import load_digits
from sklearn.utils import Bunch

_IMAGE_SHAPE = (8, 8)
_MAX_INK = 16


def load_digits_images(*, return_X_y=False, scaled=True):
    """Load 1,797 handwritten digits of 8 x 8 pixels; nothing is downloaded.

    Parameters
    ----------
    return_X_y : bool, default=False
        Return ``(data, target)`` instead of a Bunch.
    scaled : bool, default=True
        Divide by 16, the largest value, so that pixels lie in [0, 1]. False leaves the
        integers 0 to 16.

    Returns
    -------
    dataset : :class:`~sklearn.utils.Bunch` or tuple
        The Bunch has

        - data : float64 ndarray of shape (1797, 64), rows in C order of the pixels
        - images : ndarray of shape (1797, 8, 8), the same memory
        - target : int ndarray of shape (1797,), digits 0 to 9
        - target_names : list of str
        - image_shape : (8, 8)
        - DESCR : str

    See Also
    --------
    fetch_mnist : The larger set of 28 x 28 digits.

    Notes
    -----
    Three of the 64 pixels are 0 in every image: a mixture needs a noise floor
    (``reg_covar``) on the scale of the data.

    Examples
    --------
    >>> from skdeepgmm.datasets import load_digits_images
    >>> digits = load_digits_images()
    >>> digits.data.shape, digits.images.shape, digits.data.max()
    ((1797, 64), (1797, 8, 8), np.float64(1.0))
    """
    digits = load_digits()
    data = digits.data / _MAX_INK if scaled else digits.data
    if return_X_y:
        return data, digits.target
    return Bunch(
        data=data,
        images=data.reshape(-1, *_IMAGE_SHAPE),
        target=digits.target,
        target_names=[str(name) for name in digits.target_names],
        image_shape=_IMAGE_SHAPE,
        DESCR=digits.DESCR,
    )
