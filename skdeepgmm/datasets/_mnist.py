"""MNIST and FashionMNIST, with the official split."""

import numpy as np
from sklearn.utils import Bunch

from skdeepgmm.datasets._source import Source, load_arrays

_MNIST = Source(
    title="MNIST",
    file_name="mnist.npz",
    openml_name="mnist_784",
    n_train=60_000,
    image_shape=(28, 28),
    checksum="30a9ac47cdcea5f1f10775dfd86917855f0f73d7b0d7ab8268168883e94f7458",
)
_FASHION_MNIST = Source(
    title="FashionMNIST",
    file_name="fashion_mnist.npz",
    openml_name="Fashion-MNIST",
    n_train=60_000,
    image_shape=(28, 28),
    checksum="a9637f4b63d190450b9557fc5f6421f419ac4758945df1454c3878cfed0f245c",
)
_CLOTHES = [
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
]
_SUBSETS = {"train": ["train"], "test": ["test"], "all": ["train", "test"]}


def _check_choice(value, name, choices):
    if value not in choices:
        raise ValueError(
            f"{name} == {value!r}; expected one of {', '.join(map(repr, choices))}."
        )


def _select(arrays, subset):
    parts = _SUBSETS[subset]
    X = np.concatenate([arrays[f"X_{part}"] for part in parts])
    y = np.concatenate([arrays[f"y_{part}"] for part in parts])
    return X.reshape(len(X), -1), y.astype(np.int64)


def _fetch(source, target_names, subset, dtype, return_X_y, **places):
    _check_choice(subset, "subset", list(_SUBSETS))
    _check_choice(dtype, "dtype", ["float32", "uint8"])
    data, target = _select(load_arrays(source, **places), subset)
    if dtype == "float32":
        data = data / np.float32(255)
    if return_X_y:
        return data, target
    return Bunch(
        data=data,
        images=data.reshape(-1, *source.image_shape),
        target=target,
        target_names=list(target_names),
        image_shape=source.image_shape,
        DESCR=f"{source.title}, subset {subset}: {len(data)} images of 28 x 28 pixels",
    )


def fetch_mnist(
    *,
    subset="train",
    dtype="float32",
    data_home=None,
    return_X_y=False,
    download_if_missing=True,
    allow_changed=False,
):
    """Load the MNIST handwritten digits, from a local folder or from OpenML.

    The file ``mnist.npz`` is looked for in ``data_home``, then in the folder that the
    environment variable ``SKDEEPGMM_DATA`` names, then in the cache. If none has it,
    the set is downloaded once from OpenML and cached.

    Parameters
    ----------
    subset : {"train", "test", "all"}, default="train"
        The 60,000 official training images, the 10,000 test images, or both in this
        order.
    dtype : {"float32", "uint8"}, default="float32"
        Pixels in [0, 1], or the original integers 0 to 255 in a quarter of the memory.
    data_home : str or path-like, default=None
        Folder to search first and to cache in. None caches in the folder ``skdeepgmm``
        of :func:`sklearn.datasets.get_data_home`.
    return_X_y : bool, default=False
        Return ``(data, target)`` instead of a Bunch.
    download_if_missing : bool, default=True
        False raises OSError instead of downloading.
    allow_changed : bool, default=False
        True takes images and labels that are not the published ones, with a warning;
        they must still be pixels and classes. A changed download is never cached.

    Returns
    -------
    dataset : :class:`~sklearn.utils.Bunch` or tuple
        The Bunch has

        - data : ndarray of shape (n_samples, 784), rows in C order of the pixels
        - images : ndarray of shape (n_samples, 28, 28), the same memory
        - target : int64 ndarray of shape (n_samples,), digits 0 to 9
        - target_names : list of str
        - image_shape : (28, 28)
        - DESCR : str

    Raises
    ------
    OSError
        If the file is missing and ``download_if_missing=False``, or OpenML cannot be
        reached.
    ValueError
        If a parameter is unknown, or the file is damaged, has wrong shapes or values,
        or, unless ``allow_changed=True``, its arrays are not the published ones
        (SHA-256).

    Warns
    -----
    UserWarning
        If ``allow_changed=True`` and the arrays are not the published ones.

    See Also
    --------
    fetch_fashion_mnist : Ten kinds of clothes in the same format.
    load_digits_images : Smaller digits that need no download.

    References
    ----------
    .. [1] Y. LeCun, L. Bottou, Y. Bengio and P. Haffner (1998). "Gradient-based
       learning applied to document recognition". Proceedings of the IEEE 86, 2278-2324.

    Examples
    --------
    >>> from skdeepgmm.datasets import fetch_mnist
    >>> X, y = fetch_mnist(subset="test", return_X_y=True)  # doctest: +SKIP
    >>> X.shape  # doctest: +SKIP
    (10000, 784)
    """
    names = [str(digit) for digit in range(10)]
    return _fetch(
        *(_MNIST, names, subset, dtype, return_X_y),
        data_home=data_home,
        download_if_missing=download_if_missing,
        allow_changed=allow_changed,
    )


def fetch_fashion_mnist(
    *,
    subset="train",
    dtype="float32",
    data_home=None,
    return_X_y=False,
    download_if_missing=True,
    allow_changed=False,
):
    """Load the FashionMNIST pictures of clothes, from a local folder or from OpenML.

    The file ``fashion_mnist.npz`` is looked for in ``data_home``, then in the folder
    that the environment variable ``SKDEEPGMM_DATA`` names, then in the cache. If none
    has it, the set is downloaded once from OpenML and cached.

    Parameters
    ----------
    subset : {"train", "test", "all"}, default="train"
        The 60,000 official training images, the 10,000 test images, or both in this
        order.
    dtype : {"float32", "uint8"}, default="float32"
        Pixels in [0, 1], or the original integers 0 to 255 in a quarter of the memory.
    data_home : str or path-like, default=None
        Folder to search first and to cache in. None caches in the folder ``skdeepgmm``
        of :func:`sklearn.datasets.get_data_home`.
    return_X_y : bool, default=False
        Return ``(data, target)`` instead of a Bunch.
    download_if_missing : bool, default=True
        False raises OSError instead of downloading.
    allow_changed : bool, default=False
        True takes images and labels that are not the published ones, with a warning;
        they must still be pixels and classes. A changed download is never cached.

    Returns
    -------
    dataset : :class:`~sklearn.utils.Bunch` or tuple
        The Bunch has

        - data : ndarray of shape (n_samples, 784), rows in C order of the pixels
        - images : ndarray of shape (n_samples, 28, 28), the same memory
        - target : int64 ndarray of shape (n_samples,), classes 0 to 9
        - target_names : list of str, the kinds of clothes
        - image_shape : (28, 28)
        - DESCR : str

    Raises
    ------
    OSError
        If the file is missing and ``download_if_missing=False``, or OpenML cannot be
        reached.
    ValueError
        If a parameter is unknown, or the file is damaged, has wrong shapes or values,
        or, unless ``allow_changed=True``, its arrays are not the published ones
        (SHA-256).

    Warns
    -----
    UserWarning
        If ``allow_changed=True`` and the arrays are not the published ones.

    See Also
    --------
    fetch_mnist : Handwritten digits in the same format.

    References
    ----------
    .. [1] H. Xiao, K. Rasul and R. Vollgraf (2017). "Fashion-MNIST: a novel image
       dataset for benchmarking machine learning algorithms". arXiv:1708.07747.

    Examples
    --------
    >>> from skdeepgmm.datasets import fetch_fashion_mnist
    >>> clothes = fetch_fashion_mnist(subset="test")  # doctest: +SKIP
    >>> clothes.target_names[clothes.target[0]]  # doctest: +SKIP
    'Ankle boot'
    """
    return _fetch(
        *(_FASHION_MNIST, _CLOTHES, subset, dtype, return_X_y),
        data_home=data_home,
        download_if_missing=download_if_missing,
        allow_changed=allow_changed,
    )
