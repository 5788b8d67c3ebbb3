"""Images that the tests of layers share."""

import torch

from skdeepgmm._torch_backend.rng import new_generator


def images(shape, n=4):
    return torch.randn(n, *shape, generator=new_generator(0), dtype=torch.float64)
