"""Measures of clusterings, of generated samples and of restored images."""

from skdeepgmm.metrics._clustering import clustering_accuracy, purity
from skdeepgmm.metrics._image import psnr, ssim
from skdeepgmm.metrics._ndb import NDBResult, ndb_score
from skdeepgmm.metrics._scorers import aic_scorer, bic_scorer, icl_scorer

__all__ = [
    "clustering_accuracy",
    "purity",
    "ndb_score",
    "NDBResult",
    "psnr",
    "ssim",
    "bic_scorer",
    "aic_scorer",
    "icl_scorer",
]
