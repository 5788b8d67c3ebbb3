"""Data of the GAN-EM experiments: images in [0, 1], one a row, with their classes."""

import os
from pathlib import Path

import numpy as np

from skdeepgmm.datasets import (
    fetch_fashion_mnist,
    fetch_mnist,
    load_digits_images,
)

#: Attributes of faces that the paper clusters by.
ATTRIBUTES = ("Male", "Smiling", "Eyeglasses")
N_DIGITS_TEST = 450


def load(name):
    """Return (X_train, y_train, X_test, y_test, image shape).

    The official splits, except: ``digits`` holds out a quarter, ``digits-all`` measures
    on what it trains on, ``svhn`` is the grey subset (the full set does not ship),
    ``celeba`` the subset with a split of its own, shrunk from 64 x 64 to 32 x 32
    pixels; ``celeba64`` is not.
    """
    return LOADERS[name]()


def _digits():
    X, y = load_digits_images(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(X))
    test, train = order[:N_DIGITS_TEST], order[N_DIGITS_TEST:]
    return X[train], y[train], X[test], y[test], (8, 8)


def _all_digits():
    X, y = load_digits_images(return_X_y=True)
    return X, y, X, y, (8, 8)


def _fetched(fetch):
    parts = [fetch(subset=subset) for subset in ("train", "test")]
    arrays = [array for part in parts for array in (part.data, part.target)]
    return (*arrays, (28, 28))


def _file(name):
    folder = os.environ.get("SKDEEPGMM_DATA")
    path = Path(folder or ".") / f"{name}.npz"
    if not path.exists():
        raise SystemExit(f"{path} is missing; set SKDEEPGMM_DATA to its folder.")
    return np.load(path, allow_pickle=False)


def _flat(images):
    return (images.reshape(len(images), -1) / 255).astype(np.float32)


def _svhn():
    with _file("svhn_gray_digits") as file:
        train, test = _flat(file["X_train"]), _flat(file["X_test"])
        return train, file["y_train"], test, file["y_test"], (32, 32)


def _celeba(attribute, side=32):
    (train, test), (y_train, y_test), shape = faces([attribute], side)
    return train, y_train[:, 0], test, y_test[:, 0], shape


def faces(attributes, side=32):
    """Return images of faces, attributes, (n, n_attributes), and the image shape.

    Images and attributes are pairs of the training and the test part.
    """
    with _file("celeba64_subset") as file:
        names = file["attr_names"].tolist()
        columns = [names.index(name) for name in attributes]
        parts = "train", "test"
        images = [_flat(_shrunk(file[f"X_{part}"], side)) for part in parts]
        found = [file[f"attr_{part}"][:, columns] for part in parts]
    return images, found, (side, side, 3)


def _shrunk(images, side):
    """Return means over blocks of pixels, so that ``side`` pixels a side are left."""
    n, full_side, _, channels = images.shape
    block = full_side // side
    return images.reshape(n, side, block, side, block, channels).mean((2, 4))


LOADERS = {
    "digits": _digits,
    "digits-all": _all_digits,
    "mnist": lambda: _fetched(fetch_mnist),
    "fashion": lambda: _fetched(fetch_fashion_mnist),
    "svhn": _svhn,
    **{f"celeba-{name}": lambda name=name: _celeba(name) for name in ATTRIBUTES},
    **{f"celeba64-{name}": lambda name=name: _celeba(name, 64) for name in ATTRIBUTES},
}


def subset(X, y, n_rows, seed):
    """Return ``n_rows`` random rows, all for None."""
    if n_rows is None or n_rows >= len(X):
        return X, y
    chosen = np.random.default_rng(seed).permutation(len(X))[:n_rows]
    return X[chosen], y[chosen]


def few_labels(y, n_labels, seed):
    """Return y with all but ``n_labels`` entries at -1, as many of every class."""
    rng = np.random.default_rng(seed)
    classes = np.unique(y)
    known = np.full(len(y), -1)
    for label in classes:
        chosen = rng.permutation(np.flatnonzero(y == label))[: n_labels // len(classes)]
        known[chosen] = label
    return known
