"""Estimators: scikit-learn classes on the private tensor engine."""

from skdeepgmm.estimators.clusterers.gan_em._clusterer import GANEMClusterer
from skdeepgmm.estimators.clusterers.minmax_em._clusterer import MinMaxEMClusterer
from skdeepgmm.estimators.deep_conv._deep_conv_gmm import DeepConvGMM
from skdeepgmm.estimators.denoising._patch_denoiser import PatchGMMDenoiser
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
    "PatchGMMDenoiser",
    "SGDGaussianMixture",
]
