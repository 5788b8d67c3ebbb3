"""Estimators: scikit-learn classes on the private tensor engine.

Each is imported when it is first asked for (PEP 562), with its family alone.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from skdeepgmm.estimators.clusterers.gan_em._clusterer import GANEMClusterer
    from skdeepgmm.estimators.clusterers.minmax_em._clusterer import MinMaxEMClusterer
    from skdeepgmm.estimators.deep_conv._deep_conv_gmm import DeepConvGMM
    from skdeepgmm.estimators.denoising._patch_denoiser import PatchGMMDenoiser
    from skdeepgmm.estimators.imputation._imputer import MixtureImputer
    from skdeepgmm.estimators.mixture._gaussian_mixture import GaussianMixture
    from skdeepgmm.estimators.mixture._information_criteria import GaussianMixtureIC
    from skdeepgmm.estimators.mixture._sgd_gaussian_mixture import SGDGaussianMixture
    from skdeepgmm.estimators.outliers._detector import DensityOutlierDetector

__all__ = [
    "DeepConvGMM",
    "DensityOutlierDetector",
    "GANEMClusterer",
    "GaussianMixture",
    "GaussianMixtureIC",
    "MinMaxEMClusterer",
    "MixtureImputer",
    "PatchGMMDenoiser",
    "SGDGaussianMixture",
]

_HOMES = {
    "DeepConvGMM": "deep_conv._deep_conv_gmm",
    "DensityOutlierDetector": "outliers._detector",
    "GANEMClusterer": "clusterers.gan_em._clusterer",
    "GaussianMixture": "mixture._gaussian_mixture",
    "GaussianMixtureIC": "mixture._information_criteria",
    "MinMaxEMClusterer": "clusterers.minmax_em._clusterer",
    "MixtureImputer": "imputation._imputer",
    "PatchGMMDenoiser": "denoising._patch_denoiser",
    "SGDGaussianMixture": "mixture._sgd_gaussian_mixture",
}


def __getattr__(name):
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = import_module(f"{__name__}.{_HOMES[name]}")
    globals()[name] = getattr(module, name)
    return globals()[name]


def __dir__():
    return sorted({*globals(), *__all__})
