"""Small fitted models of every class, and what can be asked of any of them."""

import contextlib
import functools
import io
import warnings

import numpy as np
from sklearn.frozen import FrozenEstimator

from skdeepgmm import (
    DeepConvGMM,
    DensityOutlierDetector,
    GANEMClusterer,
    GaussianMixture,
    GaussianMixtureIC,
    MinMaxEMClusterer,
    MixtureImputer,
    PatchGMMDenoiser,
    SGDGaussianMixture,
)
from skdeepgmm.layers import Folding, Mixture, Pooling

COVARIANCE_TYPES = ("full", "tied", "diag", "spherical", "low_rank")
#: Features of rows that are tried.
LARGEST_WIDTH = 10**5
METHODS = ("predict", "predict_proba", "score_samples", "decision_function")


def rows():
    rng = np.random.RandomState(0)
    return np.r_[rng.randn(20, 3), rng.randn(20, 3) + 6]


def pictures():
    return np.random.RandomState(0).rand(24, 64)


def _flat(covariance_type):
    settings = {"covariance_type": covariance_type, "rank": 2, "random_state": 0}
    return GaussianMixture(2, max_iter=5, **settings).fit(rows())


def _stream(covariance_type):
    settings = {"covariance_type": covariance_type, "rank": 2, "random_state": 0}
    mixture = SGDGaussianMixture(2, **settings).partial_fit(rows())
    return mixture.partial_fit(rows())


def _started():
    model = GaussianMixture(2, means_init=[[0.0] * 3, [6.0] * 3], warm_start=True)
    return model.set_params(random_state=np.random.RandomState(7)).fit(rows())


def _deep_stream():
    stack = [Folding(4), Mixture(3, shared=False), Pooling(2), Folding(), Mixture(4)]
    model = DeepConvGMM(stack, image_shape=(8, 8), random_state=0)
    return model.partial_fit(pictures()).partial_fit(pictures())


def _deep_classes():
    labels = np.array(["left"] * 20 + ["right"] * 20, dtype=object)
    model = DeepConvGMM(n_components=3, max_iter=1, semi_supervised=True)
    return model.set_params(random_state=0).fit(rows(), labels)


def _deep_images():
    model = DeepConvGMM(n_components=4, image_shape=(8, 8), max_iter=1, random_state=0)
    return model.fit(pictures())


def _gan_em(y=None, **settings):
    X = pictures() if "image_shape" in settings else rows()
    settings = {"max_iter": 1, "width": 0.01, "random_state": 0, **settings}
    return GANEMClusterer(2, **settings).fit(X, y)


def _minmax_em(y=None, **settings):
    X = pictures() if "image_shape" in settings else rows()
    settings = {"max_iter": 1, "width": 0.05, "random_state": 0, **settings}
    return MinMaxEMClusterer(2, **settings).fit(X, y)


def _names():
    return np.array(["a", "b", -1, -1] * 10, dtype=object)


def _denoiser():
    settings = {"patch_size": 3, "sigma": 0.1, "max_iter": 3, "random_state": 0}
    return PatchGMMDenoiser(2, image_shape=(8, 8), **settings).fit(pictures())


def _given_prior():
    patches = np.random.RandomState(0).randn(30, 9)
    prior = GaussianMixture(2, covariance_type="diag", random_state=0).fit(patches)
    model = PatchGMMDenoiser(patch_size=3, prior=FrozenEstimator(prior))
    return model.fit(pictures().reshape(-1, 8, 8))


def _detector():
    mixture = GaussianMixture(2, covariance_type="diag", random_state=0)
    return DensityOutlierDetector(mixture).fit(rows())


def _search():
    return GaussianMixtureIC(
        range(1, 3), covariance_type=["diag", "spherical"], random_state=0
    ).fit(rows())


def _imputer():
    X = rows()
    X[::3, 1] = np.nan
    mixture = GaussianMixture(2, covariance_type="diag", random_state=0)
    return MixtureImputer(mixture, add_indicator=True).fit(X)


MAKERS = {
    **{f"flat_{c}": functools.partial(_flat, c) for c in COVARIANCE_TYPES},
    **{f"stream_{c}": functools.partial(_stream, c) for c in COVARIANCE_TYPES},
    "started": _started,
    "truncated": lambda: GaussianMixture(4, truncation=2, random_state=0).fit(rows()),
    "trained": lambda: SGDGaussianMixture(2, max_iter=2, random_state=0).fit(rows()),
    "deep_images": _deep_images,
    "deep_stream": _deep_stream,
    "deep_classes": _deep_classes,
    "gan_em": _gan_em,
    "gan_em_names": lambda: _gan_em(y=_names(), semi_supervised=True),
    "gan_em_images": lambda: _gan_em(image_shape=(8, 8)),
    "minmax_em": _minmax_em,
    "minmax_em_names": lambda: _minmax_em(y=_names(), semi_supervised=True),
    "minmax_em_images": lambda: _minmax_em(image_shape=(8, 8)),
    "denoiser": _denoiser,
    "given_prior": _given_prior,
    "detector": _detector,
    "default_detector": lambda: DensityOutlierDetector().fit(rows()),
    "imputer": _imputer,
    "search": _search,
    "trimmed": lambda: DensityOutlierDetector().fit(rows()).estimator_,
    "frozen": lambda: DensityOutlierDetector(FrozenEstimator(_flat("tied"))).fit(
        rows()
    ),
}


@functools.cache
def fitted(name):
    """Return a fitted model; do not change it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return MAKERS[name]()


def ask(model):
    """Call what predictions and samples a fitted model offers; returns the results."""
    found = {}
    quiet = contextlib.redirect_stdout(io.StringIO())
    with warnings.catch_warnings(), np.errstate(all="ignore"), quiet:
        warnings.simplefilter("ignore")
        X = _input(model)
        if X is None:
            return found
        for name in (*METHODS, *(["transform"] if _is_quick(model) else [])):
            if hasattr(model, name):
                found[name] = getattr(model, name)(X)
        if hasattr(model, "classes_"):
            found["predict_class"] = model.predict_class(X)
        for name in ("sample", "sample_patches"):
            if hasattr(model, name):
                found[name] = getattr(model, name)(2)[0]
    return found


def _input(model):
    inner = getattr(model, "estimator_", model)
    width = getattr(inner, "n_features_in_", None)
    if width is None:  # fitted to a stack of images
        return pictures()[:2].reshape(2, 8, 8)
    if width > LARGEST_WIDTH:
        return None  # signals may be of any length
    known = rows() if width == 3 else pictures()
    return known[:2] if known.shape[1] == width else np.full((2, width), 0.5)


def _is_quick(model):
    """Tell whether a transform ends soon: the user says how often it repeats."""
    names = ("n_iter", "adapt_iter", "n_scales")
    return all((getattr(model, name, 0) or 0) < 100 for name in names)
