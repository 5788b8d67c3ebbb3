"""Layers of deep convolutional mixtures on tensors (n, height, width, channels)."""

from skdeepgmm._torch_backend.layers.folding import FoldingLayer
from skdeepgmm._torch_backend.layers.mixture import MixtureLayer
from skdeepgmm._torch_backend.layers.pooling import PoolingLayer

__all__ = ["FoldingLayer", "MixtureLayer", "PoolingLayer"]
