"""Measures of clusterings, of generated samples and of restored images."""

from skdeepgmm.metrics._clustering import clustering_accuracy, purity
from skdeepgmm.metrics._image import psnr, ssim
from skdeepgmm.metrics._ndb import NDBResult, ndb_score

__all__ = [
    "clustering_accuracy",
    "purity",
    "ndb_score",
    "NDBResult",
    "psnr",
    "ssim",
]
