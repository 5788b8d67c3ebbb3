"""Image data sets: one that ships with scikit-learn, others from a folder or OpenML."""

from skdeepgmm.datasets._digits import load_digits_images
from skdeepgmm.datasets._mnist import fetch_fashion_mnist, fetch_mnist

__all__ = ["load_digits_images", "fetch_mnist", "fetch_fashion_mnist"]
