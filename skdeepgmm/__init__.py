"""Generative mixture models with scikit-learn's API on a private PyTorch engine.

Names are imported when they are first used (PEP 562): ``import skdeepgmm`` itself
loads neither torch nor what scikit-learn loads of the optional packages.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from skdeepgmm import datasets, layers, metrics, plotting
    from skdeepgmm.chunked import ChunkedArray
    from skdeepgmm.estimators import (
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
    from skdeepgmm.persistence import load, save

__version__ = "0.1.0"

__all__ = [
    "GaussianMixture",
    "GaussianMixtureIC",
    "SGDGaussianMixture",
    "DeepConvGMM",
    "GANEMClusterer",
    "MinMaxEMClusterer",
    "PatchGMMDenoiser",
    "DensityOutlierDetector",
    "MixtureImputer",
    "ChunkedArray",
    "save",
    "load",
    "datasets",
    "layers",
    "metrics",
    "plotting",
    "__version__",
]

_HOMES = {
    "GaussianMixture": "skdeepgmm.estimators",
    "GaussianMixtureIC": "skdeepgmm.estimators",
    "SGDGaussianMixture": "skdeepgmm.estimators",
    "DeepConvGMM": "skdeepgmm.estimators",
    "GANEMClusterer": "skdeepgmm.estimators",
    "MinMaxEMClusterer": "skdeepgmm.estimators",
    "PatchGMMDenoiser": "skdeepgmm.estimators",
    "DensityOutlierDetector": "skdeepgmm.estimators",
    "MixtureImputer": "skdeepgmm.estimators",
    "ChunkedArray": "skdeepgmm.chunked",
    "save": "skdeepgmm.persistence",
    "load": "skdeepgmm.persistence",
}
_MODULES = ("datasets", "exceptions", "layers", "metrics", "plotting")


def __getattr__(name):
    if name in _MODULES:
        return import_module(f"skdeepgmm.{name}")
    if name in _HOMES:
        globals()[name] = getattr(import_module(_HOMES[name]), name)
        return globals()[name]
    raise AttributeError(f"module 'skdeepgmm' has no attribute {name!r}")


def __dir__():
    return sorted({*globals(), *__all__})
