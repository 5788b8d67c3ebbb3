"""Estimators: scikit-learn classes on the private tensor engine."""

from skdeepgmm.estimators._gaussian_mixture import GaussianMixture
from skdeepgmm.estimators._outlier import DensityOutlierDetector

__all__ = ["DensityOutlierDetector", "GaussianMixture"]
