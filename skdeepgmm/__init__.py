"""Generative mixture models with scikit-learn's API on a private PyTorch engine."""

from skdeepgmm import datasets, metrics
from skdeepgmm.estimators import GaussianMixture

__version__ = "0.1.0.dev0"

__all__ = [
    "GaussianMixture",
    "datasets",
    "metrics",
    "__version__",
]
