"""Weights of networks as arrays, and their moving average."""

import pytest
import torch
from torch import nn

from skdeepgmm._torch_backend.clusterers import networks
from skdeepgmm._torch_backend.clusterers.weights import (
    WeightAverage,
    load_arrays,
    to_arrays,
)
from skdeepgmm._torch_backend.rng import new_generator


def test_weights_survive_the_way_through_arrays():
    make = lambda: networks.strided_trunk((1, 8, 8), (8, 16), "batch")[0]  # noqa: E731
    first, second = (networks.build(make, new_generator(seed)) for seed in (0, 1))
    first(
        torch.rand(5, 1, 8, 8, generator=new_generator(5))
    )  # moves the running statistics
    load_arrays(second, to_arrays(first))
    images = torch.rand(3, 1, 8, 8, generator=new_generator(5))
    assert torch.equal(first.eval()(images), second.eval()(images))


def test_weight_average_is_the_weighted_sum():
    module = networks.build(lambda: nn.Linear(1, 1, bias=False), new_generator(0))
    average = WeightAverage(module, decay=0.9)
    expected = None
    for step in range(1, 120):
        with torch.no_grad():
            module.weight.fill_(step**2)
        average.update(module)
        keep = min(0.9, (step - 1) / (step + 8))
        old = 0.0 if expected is None else expected
        expected = keep * old + (1.0 - keep) * step**2
    assert average.module.weight.item() == pytest.approx(expected, rel=1e-5)
    restored = WeightAverage(module, decay=0.9)
    restored.load_state_dict(average.state_dict())
    assert torch.equal(restored.module.weight, average.module.weight)
    assert restored.updates == average.updates
