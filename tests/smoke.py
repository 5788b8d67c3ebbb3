"""Everyday tasks with an installed package, for environments of other versions.

    python tests/smoke.py      # or: make smoke, make test-min

Imports no test tool, and refuses to run with the package of the checkout.
"""

import importlib.metadata
import tempfile
import warnings
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits, make_blobs
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import skdeepgmm
from skdeepgmm.metrics import clustering_accuracy, psnr

CHECKOUT = Path(__file__).resolve().parents[1]


def mixtures(X, y):
    """Fit the flat mixtures, alone and in a search over a pipeline."""
    for cls in (skdeepgmm.GaussianMixture, skdeepgmm.SGDGaussianMixture):
        model = cls(3, random_state=0).fit(X)
        assert clustering_accuracy(y, model.predict(X)) > 0.95, cls.__name__
        assert model.sample(5)[0].shape == (5, X.shape[1])
    steps = make_pipeline(StandardScaler(), skdeepgmm.GaussianMixture(random_state=0))
    search = GridSearchCV(steps, {"gaussianmixture__n_components": [1, 3]}).fit(X)
    assert search.best_params_ == {"gaussianmixture__n_components": 3}


def missing_values(X):
    """Fit rows with holes and fill them."""
    holed = np.where(np.random.default_rng(0).random(X.shape) < 0.2, np.nan, X)
    filled = skdeepgmm.GaussianMixture(3, random_state=0).fit(holed).impute(holed)
    assert np.isfinite(filled).all()


def images(X):
    """Fit the models of images for a few iterations."""
    shape = {"image_shape": (8, 8), "random_state": 0}
    models = (
        skdeepgmm.DeepConvGMM(n_components=10, max_iter=2, **shape),
        skdeepgmm.GANEMClusterer(10, max_iter=2, n_init=1, **shape),
        skdeepgmm.MinMaxEMClusterer(10, max_iter=1, init="kmeans", **shape),
    )
    for model in models:
        labels = model.fit(X).predict(X)
        assert labels.shape == (len(X),), type(model).__name__
        assert np.isfinite(model.sample(3)[0]).all(), type(model).__name__


def denoising(image):
    """Denoise with the prior that ships with the package."""
    noisy = image + 0.1 * np.random.default_rng(0).normal(size=image.shape)
    denoiser = skdeepgmm.PatchGMMDenoiser.pretrained(sigma=0.1, data_range=1)
    restored = denoiser.transform([noisy])[0]
    assert psnr(image, restored, data_range=1) > psnr(image, noisy, data_range=1)


def outliers(X):
    """Rank a far point last."""
    scores = skdeepgmm.DensityOutlierDetector().fit(X).score_samples(X)
    assert scores.argmin() == len(X) - 1


def files(X):
    """Save a model and read it back."""
    model = skdeepgmm.GaussianMixture(3, random_state=0).fit(X)
    with tempfile.TemporaryDirectory() as folder:
        skdeepgmm.save(model, Path(folder) / "model.skdg")
        again = skdeepgmm.load(Path(folder) / "model.skdg")
    np.testing.assert_array_equal(again.score_samples(X), model.score_samples(X))


def main():
    """Run every task."""
    place = Path(skdeepgmm.__file__).resolve()
    if place.is_relative_to(CHECKOUT / "skdeepgmm"):
        raise SystemExit(f"{place} is the checkout: run this from another folder")
    warnings.simplefilter("ignore")
    X, y = make_blobs(300, 4, centers=3, random_state=0)
    digits = load_digits().data[:300] / 16
    for task in (
        lambda: mixtures(X, y),
        lambda: missing_values(X),
        lambda: images(digits),
        lambda: denoising(np.kron(digits[0].reshape(8, 8), np.ones((8, 8)))),
        lambda: outliers(np.vstack([X, np.full(4, 100.0)])),
        lambda: files(X),
    ):
        task()
    names = ("skdeepgmm", "numpy", "scipy", "scikit-learn", "torch", "joblib")
    print(*(f"{name} {importlib.metadata.version(name)}" for name in names), sep=", ")


if __name__ == "__main__":
    main()
