"""Generative mixture models with scikit-learn's API on a private PyTorch engine."""

__version__ = "0.1.0.dev0"

__all__ = ["__version__"]
