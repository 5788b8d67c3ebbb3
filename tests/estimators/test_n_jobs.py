"""Runs side by side (n_jobs): the same bits, and nothing left behind."""

import numpy as np
import pytest
import torch
from joblib import parallel_config
from sklearn.utils.parallel import Parallel

from skdeepgmm import (
    GANEMClusterer,
    GaussianMixture,
    PatchGMMDenoiser,
    SGDGaussianMixture,
)
from skdeepgmm.datasets import load_digits_images
from skdeepgmm.estimators._jobs import rounds_of
from tests.test_threads import flat, threads

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings(
        "ignore::skdeepgmm.exceptions.DegenerateComponentWarning"
    ),
]

FITS = {
    "gaussian": lambda: GaussianMixture(
        3, n_init=3, max_iter=6, init_params="random_from_data", random_state=0
    ),
    "sgd": lambda: SGDGaussianMixture(3, n_init=3, max_iter=4, random_state=0),
    "gan_em": lambda: GANEMClusterer(
        3, n_init=3, init_iter=3, max_iter=4, init="uniform", random_state=0
    ),
}
#: What is learned, and how.
LEARNED = (
    *("means_", "weights_", "covariances_", "networks_", "labels_", "quality_"),
    *("lower_bound_", "lower_bounds_", "n_iter_", "history_"),
)


@pytest.fixture(scope="module")
def X():
    return load_digits_images().data[:120, 18:26]


@pytest.mark.parametrize("n_runs, n_jobs", [(3, 2), (4, 2), (4, 3), (2, 2), (5, 4)])
def test_rounds_share_runs_out_equally(n_runs, n_jobs):
    n_parts, rounds = rounds_of(n_runs, n_jobs)
    assert all(len(set(runs)) == n_jobs for runs in rounds)
    assert sorted(run for runs in rounds for run in runs) == sorted(
        n_parts * list(range(n_runs))
    )


def assert_same(one, other):
    for name in filter(lambda name: hasattr(one, name), LEARNED):
        first, second = flat(getattr(one, name)), flat(getattr(other, name))
        np.testing.assert_array_equal(first, second, err_msg=name)


@pytest.mark.parametrize("name", FITS)
def test_fits_are_the_same_for_every_number_of_jobs(name, X):
    """Bit by bit; in processes for one of them, in threads for the others."""
    backend = "loky" if name == "gaussian" else "threading"
    expected = FITS[name]().fit(X)
    with threads(2), parallel_config(backend):
        assert_same(FITS[name]().set_params(n_jobs=2).fit(X), expected)
        assert torch.get_num_threads() == 2
    assert_same(FITS[name]().set_params(n_jobs=1).fit(X), expected)


def test_weights_missing_values_and_the_number_of_jobs(rng, X):
    X = X.copy()
    X[rng.random(X.shape) < 0.1] = np.nan
    weight = rng.random(len(X))
    fits = [
        FITS["gaussian"]().set_params(n_jobs=n_jobs).fit(X, sample_weight=weight)
        for n_jobs in (1, 2)
    ]
    assert_same(*fits)


def test_the_number_of_jobs_of_a_program_holds(X, monkeypatch):
    seen = []
    parallel = "skdeepgmm.estimators._jobs.Parallel"

    def spy(n_jobs):
        seen.append(n_jobs)
        return Parallel(n_jobs=n_jobs)

    monkeypatch.setattr(parallel, spy)
    with parallel_config("threading", n_jobs=2):
        model = FITS["gaussian"]().fit(X)
    assert seen == [2]
    assert_same(model, FITS["gaussian"]().fit(X))
    assert seen == [2]


def test_denoised_images_are_the_same_for_every_number_of_jobs(rng):
    images = [rng.random((20, 24)), rng.random((16, 18, 3)), rng.random((9, 9))]
    found = []
    for n_jobs in (None, 1, 2):
        denoiser = PatchGMMDenoiser.pretrained(sigma=0.1, n_jobs=n_jobs)
        with threads(1), parallel_config("threading"):
            found.append(denoiser.transform(images))
    for other in found[1:]:
        for one, two in zip(found[0], other, strict=True):
            np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("name", FITS)
def test_what_follows_a_fit_makes_its_runs_follow_one_another(name, X, tmp_path):
    model = FITS[name]().set_params(n_jobs=2, checkpoint_path=tmp_path / "fit.ckpt")
    with pytest.warns(UserWarning, match="n_jobs=2 has no effect with checkpoint_path"):
        model.fit(X)
    assert_same(model, FITS[name]().fit(X))


@pytest.mark.parametrize("name", FITS)
def test_ctrl_c_during_jobs_leaves_the_estimator_as_it_was(name, X, monkeypatch):
    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("skdeepgmm.estimators._jobs.Parallel", interrupted)
    model = FITS[name]().set_params(n_jobs=2)
    before = dict(vars(model))
    with pytest.raises(KeyboardInterrupt):
        model.fit(X)
    assert vars(model) == before
