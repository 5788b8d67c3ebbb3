"""Estimators: scikit-learn classes on the private tensor engine."""

from skdeepgmm.estimators._gaussian_mixture import GaussianMixture

__all__ = ["GaussianMixture"]
