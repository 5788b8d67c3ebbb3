"""Data of the MinMax+EM experiments: 1,000 images a class, and draws of labels."""

import numpy as np
from _gan_em_data import _file, _flat, faces, load

PER_CLASS = 1000
#: Deviation of the noise on noisy images, in units of the grey scale.
NOISE = 0.1


def _classes(name, classes):
    """Return a loader of some classes, renumbered from zero."""

    def loaded():
        X, y, X_test, y_test, shape = load(name)
        train, test = np.isin(y, classes), np.isin(y_test, classes)
        return (
            X[train],
            np.searchsorted(classes, y[train]),
            X_test[test],
            np.searchsorted(classes, y_test[test]),
            shape,
        )

    return loaded


def _cifar():
    with _file("cifar10_5class") as file:
        train, test = _flat(file["X_train"]), _flat(file["X_test"])
        return train, file["y_train"], test, file["y_test"], (32, 32, 3)


def _celeba(side=32):
    """Return faces in four groups: male or not, smiling or not."""
    (X, X_test), found, shape = faces(("Male", "Smiling"), side)
    y, y_test = (2 * attributes[:, 0] + attributes[:, 1] for attributes in found)
    return X, y, X_test, y_test, shape


def _noisy(loader):
    def loaded():
        X, y, X_test, y_test, shape = loader()
        rng = np.random.default_rng(0)
        noisy = [
            np.clip(part + NOISE * rng.standard_normal(part.shape), 0.0, 1.0)
            for part in (X, X_test)
        ]
        X, X_test = (part.astype(np.float32) for part in noisy)
        return X, y, X_test, y_test, shape

    return loaded


LOADERS = {
    "mnist-0-4": _classes("mnist", range(5)),
    "mnist-5-9": _classes("mnist", range(5, 10)),
    "mnist-0-6": _classes("mnist", range(7)),
    "fashion-0-4": _classes("fashion", range(5)),
    "fashion-5-9": _classes("fashion", range(5, 10)),
    "cifar": _cifar,
    "cifar-noisy": _noisy(_cifar),
    "celeba": _celeba,
    "celeba64": lambda: _celeba(64),
    "celeba-noisy": _noisy(_celeba),
    "digits": lambda: load("digits"),
}


def draw(name, seed, per_class=PER_CLASS):
    """Return (X, y, X_test, y_test, shape) with at most ``per_class`` rows a class."""
    X, y, X_test, y_test, shape = LOADERS[name]()
    rng = np.random.default_rng(seed)
    chosen = [rng.permutation(np.flatnonzero(y == k))[:per_class] for k in np.unique(y)]
    order = rng.permutation(np.concatenate(chosen))
    return X[order], y[order].astype(np.int64), X_test, y_test.astype(np.int64), shape


def known_labels(y, share, seed):
    """Return y where it is known, at least one a class, and -1 elsewhere."""
    rng = np.random.default_rng(10_000 + seed)
    known = np.full(len(y), -1)
    if share == 0.0:
        return known
    for k in np.unique(y):
        rows = rng.permutation(np.flatnonzero(y == k))
        known[rows[: max(1, round(share * len(rows)))]] = k
    return known
