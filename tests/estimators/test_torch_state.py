"""What the caller has set in torch changes no result."""

import numpy as np
import pytest
import torch

from skdeepgmm import (
    DeepConvGMM,
    GANEMClusterer,
    GaussianMixture,
    MinMaxEMClusterer,
    PatchGMMDenoiser,
    SGDGaussianMixture,
)

SETTINGS = {
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "meta device": lambda: torch.device("meta"),
    "inference mode": torch.inference_mode,
    "no gradients": torch.no_grad,
}
ESTIMATORS = {
    "GaussianMixture": lambda: GaussianMixture(2, random_state=0),
    "SGDGaussianMixture": lambda: SGDGaussianMixture(2, max_iter=3, random_state=0),
    "DeepConvGMM": lambda: DeepConvGMM(n_components=2, max_iter=3, random_state=0),
    "GANEMClusterer": lambda: GANEMClusterer(
        2, max_iter=1, recipe={"gan_steps": 5}, width=0.1, random_state=0
    ),
    "MinMaxEMClusterer": lambda: MinMaxEMClusterer(
        2, max_iter=1, init_steps=5, width=0.1, random_state=0
    ),
}
pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]


@pytest.fixture(scope="module")
def X():
    rng = np.random.default_rng(0)
    return rng.normal(size=(60, 2)) + np.repeat([0.0, 6.0], 30)[:, None]


def results(estimator, X):
    names = ("score_samples", "predict_proba", "predict")
    found = [getattr(estimator, name)(X) for name in names]
    return [estimator.means_, *found, estimator.sample(5)[0]]


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("name", ESTIMATORS)
def test_fits_and_results(name, setting, X):
    expected = results(ESTIMATORS[name]().fit(X), X)
    with SETTINGS[setting]():
        found = results(ESTIMATORS[name]().fit(X), X)
    for array, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(array, other)


@pytest.mark.parametrize("setting", SETTINGS)
def test_denoising(setting):
    noisy = np.random.default_rng(0).uniform(size=(1, 24, 24))
    expected = PatchGMMDenoiser.pretrained().fit(noisy).transform(noisy)
    with SETTINGS[setting]():
        found = PatchGMMDenoiser.pretrained().fit(noisy).transform(noisy)
    np.testing.assert_array_equal(found, expected)
