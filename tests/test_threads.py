"""Threads and processes: what results depend on, and what is left as it was."""

import multiprocessing
import threading
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from joblib import Parallel, delayed

from skdeepgmm import (
    DeepConvGMM,
    GaussianMixture,
    SGDGaussianMixture,
)
from skdeepgmm._torch_backend.clusterers.gan_em.networks import Architecture
from skdeepgmm._torch_backend.device import one_thread
from skdeepgmm.datasets import load_digits_images
from tests.estimators.clusterers.problems import gan_em, minmax_em

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings(
        "ignore::skdeepgmm.exceptions.DegenerateComponentWarning"
    ),
]


@contextmanager
def threads(number):
    """Run as a program that has set torch's number of threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@pytest.fixture(scope="module")
def X():
    return load_digits_images().data[:300]


# The number of threads -----------------------------------------------------------


def test_the_number_of_threads_comes_back():
    with threads(3):
        with one_thread():
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 3
        with pytest.raises(KeyboardInterrupt), one_thread():
            raise KeyboardInterrupt
        assert torch.get_num_threads() == 3
        with one_thread(small=False):
            assert torch.get_num_threads() == 3


def test_a_failing_fit_leaves_the_number_of_threads(X):
    with threads(2):
        for model in (gan_em(init="nonsense"), minmax_em(init=np.ones((3, 3)))):
            with pytest.raises(ValueError, match="init"):
                model.fit(X)
            assert torch.get_num_threads() == 2


def flat(result):
    """Return all numbers of fitted attributes."""
    if isinstance(result, dict):
        return np.concatenate([flat(value) for value in result.values()])
    return np.ravel(np.asarray(result, dtype=np.float64))


IMAGES = {"image_shape": (8, 8)}
FITS = {
    "gan_em": lambda: gan_em(**IMAGES),
    "minmax_em": lambda: minmax_em(**IMAGES, init="kmeans"),
    "deep_conv": lambda: DeepConvGMM(
        n_components=5, max_iter=2, random_state=0, **IMAGES
    ),
    "gaussian": lambda: GaussianMixture(
        5, init_params="random_from_data", max_iter=5, random_state=0
    ),
    "sgd": lambda: SGDGaussianMixture(5, max_iter=2, random_state=0),
}
#: What is learned.
LEARNED = ("networks_", "means_", "weights_", "covariances_", "labels_", "lower_bound_")


@pytest.mark.parametrize("name", FITS)
def test_small_fits_do_not_depend_on_the_number_of_threads(name, X):
    fits = []
    for number in (1, 2, 3):
        with threads(number):
            fits.append(FITS[name]().fit(X))
    for attribute in LEARNED:
        if hasattr(fits[0], attribute):
            first, *others = (flat(getattr(model, attribute)) for model in fits)
            for other in others:
                np.testing.assert_array_equal(first, other)


@pytest.mark.parametrize("make", [FITS["gan_em"], FITS["minmax_em"]])
def test_predictions_of_small_networks_do_not_either(make, X):
    model = make().fit(X)
    found = []
    for number in (1, 2):
        with threads(number):
            found.append([model.predict_proba(X), model.transform(X)])
            assert (model.predict(X) == model.labels_).all()
    for one, two in zip(*found, strict=True):
        np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("width, small", [(0.25, True), (1.0, False)])
def test_large_networks_take_all_threads(width, small):
    architecture = Architecture((1, 28, 28), 10, 62, width=width)
    assert architecture.small == small


@pytest.mark.parametrize("name", FITS)
def test_the_same_seed_gives_the_same_fit(name, X):
    first, second = (FITS[name]().fit(X) for _ in range(2))
    for attribute in LEARNED:
        if hasattr(first, attribute):
            np.testing.assert_array_equal(
                flat(getattr(first, attribute)), flat(getattr(second, attribute))
            )


# Several fits at a time ----------------------------------------------------------


def test_fits_in_threads_of_the_program_equal_one_after_the_other(X):
    expected = [flat(minmax_em(random_state=seed).fit(X).means_) for seed in (0, 1)]
    found = {}

    def run(seed):
        found[seed] = flat(minmax_em(random_state=seed).fit(X).means_)

    runs = [threading.Thread(target=run, args=(seed,)) for seed in (0, 1)]
    for thread in runs:
        thread.start()
    for thread in runs:
        thread.join()
    for seed in (0, 1):
        np.testing.assert_array_equal(found[seed], expected[seed])


def _fitted_means(seed, X):
    return GaussianMixture(3, random_state=seed).fit(X).means_


@pytest.mark.slow
@pytest.mark.parametrize("method", ["loky", "spawn"])
def test_processes_after_a_fit_give_the_same(method, X):
    """After a fit with several threads: fresh processes, not forks."""
    X = X[:60, 20:24]
    expected = [_fitted_means(seed, X) for seed in (0, 1)]
    if method == "loky":
        found = Parallel(n_jobs=2)(delayed(_fitted_means)(s, X) for s in (0, 1))
    else:
        with multiprocessing.get_context("spawn").Pool(2) as pool:
            found = pool.starmap(_fitted_means, [(0, X), (1, X)])
    for one, two in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-12)
