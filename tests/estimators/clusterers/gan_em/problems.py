"""Short fits of GANEMClusterer, and how two fits are compared."""

import numpy as np

from skdeepgmm import GANEMClusterer

SHORT = {"max_iter": 3, "recipe": {"gan_steps": 10}, "width": 0.1, "random_state": 0}


def short(n_clusters=3, **params):
    return GANEMClusterer(n_clusters, **(SHORT | params))


def same(first, second, X):
    """Tell whether two fits are bit-equal."""
    np.testing.assert_array_equal(first.labels_, second.labels_)
    np.testing.assert_array_equal(first.predict_proba(X), second.predict_proba(X))
    np.testing.assert_array_equal(first.means_, second.means_)
