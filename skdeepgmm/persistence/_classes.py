"""The classes that a file may name. No other is imported or constructed."""

import importlib

from skdeepgmm.layers import Folding, Mixture, Pooling

REGISTRY = {
    "GaussianMixture": "skdeepgmm.estimators",
    "GaussianMixtureIC": "skdeepgmm.estimators",
    "SGDGaussianMixture": "skdeepgmm.estimators",
    "GANEMClusterer": "skdeepgmm.estimators",
    "MinMaxEMClusterer": "skdeepgmm.estimators",
    "DeepConvGMM": "skdeepgmm.estimators",
    "PatchGMMDenoiser": "skdeepgmm.estimators",
    "DensityOutlierDetector": "skdeepgmm.estimators",
    "MixtureImputer": "skdeepgmm.estimators",
    "TrimmedMixtures": "skdeepgmm.estimators.outliers._trimmed_mixtures",
    "FrozenEstimator": "sklearn.frozen",
}

#: Plain values that describe the stack of a deep mixture.
LAYERS = (Folding, Pooling, Mixture)
#: Fields of layers that older files lack.
LATER_FIELDS = {"covariance_type", "rank", "output"}


def is_registered(cls):
    """Tell whether a class can be saved."""
    # Identity, not the name: a class of the user's may be called the same.
    return cls.__name__ in REGISTRY and cls is registered_class(cls.__name__)


def registered_class(name):
    """Return the class of this name, ValueError if there is none."""
    if not isinstance(name, str) or name not in REGISTRY:
        raise ValueError(
            f"names the class {str(name)[:80]!r}; expected one of "
            f"{', '.join(sorted(REGISTRY))}. A newer skdeepgmm may know it"
        )
    return getattr(importlib.import_module(REGISTRY[name]), name)
