"""How far an array walks: few crossings of the wall to the engine, few floors down."""

import numpy as np
import pytest
import torch

from skdeepgmm import (
    DeepConvGMM,
    GANEMClusterer,
    GaussianMixture,
    MinMaxEMClusterer,
    SGDGaussianMixture,
)
from skdeepgmm._torch_backend.deep_conv.network import Learner
from skdeepgmm._torch_backend.mixture.sgd import SGDMixture
from skdeepgmm.estimators._epoch_fit import EpochFit
from tests.walks import Walk, crossings_an_iteration, depth_of

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings(
        "ignore::skdeepgmm.exceptions.DegenerateComponentWarning"
    ),
]


@pytest.fixture(scope="module")
def X():
    rng = np.random.default_rng(0)
    centers = 4.0 * rng.normal(size=(3, 4))
    return centers[rng.integers(3, size=120)] + rng.normal(size=(120, 4))


# The tool --------------------------------------------------------------------------


def test_a_walk_without_the_package_crosses_nothing():
    with Walk() as walk:
        np.linalg.inv(np.eye(3))
        torch.linalg.inv(torch.eye(3))
    assert walk.crossings == 0
    assert walk.depth is None


def test_the_way_there_and_back_are_two_crossings(X):
    model = GaussianMixture(2)
    with Walk() as walk:
        model._device(X)
    assert walk.crossings == 2


def test_the_depth_counts_the_functions_of_the_package(X):
    model = SGDGaussianMixture(3, max_iter=1, random_state=0)
    depth, path = depth_of(EpochFit.run, lambda: model.fit(X))
    assert path == ["SGDGaussianMixture.fit", "SGDFit.__call__", "EpochFit.run"]
    assert depth == 3
    outside, _ = depth_of(torch.randperm, lambda: model.fit(X))
    assert outside is None  # not a Python function


# Crossings -------------------------------------------------------------------------


def em(**settings):
    return GaussianMixture(3, tol=0.0, init_params="random_from_data", **settings)


def sgd(**settings):
    return SGDGaussianMixture(3, batch_size=20, **settings)


def deep(**settings):
    return DeepConvGMM(n_components=3, batch_size=20, **settings)


def images(**settings):
    return DeepConvGMM("A", n_components=3, image_shape=(2, 2), **settings)


@pytest.mark.parametrize("construct, most", [(em, 2), (sgd, 4), (deep, 4), (images, 4)])
def test_an_iteration_hardly_crosses_the_wall(construct, most, X):
    def seeded(**settings):
        return construct(random_state=0, **settings)

    assert 0 < crossings_an_iteration(seeded, X) <= most


@pytest.mark.parametrize("construct", [sgd, deep])
def test_held_out_samples_are_scored_in_the_engine(construct, X):
    def seeded(**settings):
        return construct(
            random_state=0, early_stopping=True, annealing="none", **settings
        )

    assert 0 < crossings_an_iteration(seeded, X) <= 4


# Depth -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "construct, step", [(sgd, SGDMixture.step), (deep, Learner.step)]
)
def test_the_first_step_of_a_density_is_not_far(construct, step, X):
    depth, path = depth_of(step, lambda: construct(random_state=0, max_iter=1).fit(X))
    assert 0 < depth <= 7, " > ".join(path)


def gan_em():
    return GANEMClusterer(
        3, max_iter=1, width=0.1, recipe={"gan_steps": 2}, random_state=0
    )


def minmax_em():
    return MinMaxEMClusterer(3, max_iter=1, init_steps=2, width=0.25, random_state=0)


@pytest.mark.parametrize(
    "construct, most",
    [(gan_em, 9), (minmax_em, 12)],
)
def test_the_first_gradient_of_a_clusterer_is_not_far(construct, most, X):
    depth, path = depth_of(torch.Tensor.backward, lambda: construct().fit(X))
    assert 0 < depth <= most, " > ".join(path)
