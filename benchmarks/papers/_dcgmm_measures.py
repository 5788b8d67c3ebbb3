"""Measures of drawn images: Frechet distance of features, gradient energy."""

import warnings

import numpy as np


def hidden_features(X, y, n_hidden=64, seed=0):
    """Return a function from images to the hidden units of a small classifier.

    Two layers trained on the real images and their classes; the features are the
    rectified units before the output.
    """
    from sklearn.neural_network import MLPClassifier

    network = MLPClassifier(
        (256, n_hidden), max_iter=8, batch_size=256, random_state=seed
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        network.fit(X, y)
    layers = list(zip(network.coefs_[:-1], network.intercepts_[:-1], strict=True))

    def features(rows):
        for weights, offset in layers:
            rows = np.maximum(rows @ weights + offset, 0)
        return rows

    return features


def frechet_distance(a, b):
    """Return |m_a - m_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^(1/2)) of two sets of rows.

    Heusel et al. (2017), with features of one's own instead of Inception's. The trace
    of the root is the sum of the roots of the eigenvalues of C_a^(1/2) C_b C_a^(1/2).
    """
    difference = a.mean(axis=0) - b.mean(axis=0)
    cov_a, cov_b = (np.cov(x, rowvar=False) for x in (a, b))
    values, vectors = np.linalg.eigh(cov_a)
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    roots = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ cov_b @ root), 0))
    spread = np.trace(cov_a) + np.trace(cov_b) - 2 * roots.sum()
    return float(difference @ difference + spread)


def gradient_energy(rows, shape):
    """Return the mean squared difference of neighbouring pixels."""
    pictures = rows.reshape(-1, *shape)
    steps = [np.square(np.diff(pictures, axis=axis)).mean() for axis in (1, 2)]
    return float(np.mean(steps))
