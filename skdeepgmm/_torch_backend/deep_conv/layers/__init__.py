"""Layers of deep convolutional mixtures on tensors (n, height, width, channels)."""

from skdeepgmm._torch_backend.deep_conv.layers.folding import FoldingLayer
from skdeepgmm._torch_backend.deep_conv.layers.low_rank import LowRankMixtureLayer
from skdeepgmm._torch_backend.deep_conv.layers.mixture import MixtureLayer
from skdeepgmm._torch_backend.deep_conv.layers.pooling import PoolingLayer

__all__ = ["FoldingLayer", "LowRankMixtureLayer", "MixtureLayer", "PoolingLayer"]
