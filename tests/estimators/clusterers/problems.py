"""Short fits of the deep clusterers, for what holds for both."""

import pytest

from skdeepgmm import GANEMClusterer, MinMaxEMClusterer


def gan_em(n_clusters=2, **params):
    short = {"max_iter": 1, "recipe": {"gan_steps": 5}, "width": 0.1, "random_state": 0}
    return GANEMClusterer(n_clusters, **(short | params))


def minmax_em(n_clusters=2, **params):
    short = {"max_iter": 1, "init_steps": 5, "width": 0.1, "random_state": 0}
    return MinMaxEMClusterer(n_clusters, **(short | params))


both = pytest.mark.parametrize("construct", [gan_em, minmax_em])
