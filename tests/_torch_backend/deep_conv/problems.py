"""Pictures of four kinds, and networks that learn them."""

import torch

from skdeepgmm._torch_backend import annealing
from skdeepgmm._torch_backend.deep_conv.layers import FoldingLayer, PoolingLayer
from skdeepgmm._torch_backend.deep_conv.layers.low_rank import low_rank
from skdeepgmm._torch_backend.deep_conv.layers.mixture import random_init
from skdeepgmm._torch_backend.deep_conv.network import Learner, Network
from skdeepgmm._torch_backend.deep_conv.schedules import RunPlan
from skdeepgmm._torch_backend.rng import new_generator

SHAPE = (6, 6, 1)


def network(dtype=torch.float64, pooling=False, rank=None, passes=False):
    generator = new_generator(0)
    layers = [FoldingLayer(SHAPE, (3, 3), (1, 1))]
    layers.append(random_init(layers[-1].output_shape, 5, True, 0.1, generator, dtype))
    if rank is not None:
        layers[-1] = low_rank(layers[-1], rank, passes_factors=passes)
    if pooling:
        layers.append(PoolingLayer(layers[-1].output_shape, (2, 2), (2, 2)))
    grid = layers[-1].output_shape
    layers.append(FoldingLayer(grid, grid[:2], (1, 1)))
    layers.append(random_init(layers[-1].output_shape, 4, True, 0.01, generator, dtype))
    if rank is not None:
        layers[-1] = low_rank(layers[-1], rank)
    return Network(layers)


def pictures(n=60):
    """Images with a bright square in one of four corners, and noise."""
    generator = new_generator(1)
    x = 0.3 * torch.randn(n, *SHAPE, generator=generator, dtype=torch.float64)
    for i in range(n):
        row, col = 3 * (i % 2), 3 * (i // 2 % 2)
        x[i, row : row + 3, col : col + 3] += 2.0
    return x


def learner(plans=None, **settings):
    if plans is None:
        plans = [
            RunPlan(0.3, 60, annealing.schedule(k, 0.4), begin=0.1 * i)
            for i, k in ((0, 5), (1, 4))
        ]
    return Learner(network(**settings), plans, new_generator(2))


def trained(**settings):
    model, x = learner(**settings), pictures()
    for _ in range(60):
        model.step((x, None))
    return model.network


def parameters(mixture):
    return [getattr(mixture, name).clone() for name in mixture.names]
