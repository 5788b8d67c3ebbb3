"""Labelled samples: drawn evenly from the clusters."""

import pytest
import torch

from skdeepgmm._torch_backend.clusterers.minmax_em.labelled import LabelledSampler
from skdeepgmm._torch_backend.rng import new_generator


def test_labelled_samples_are_drawn_evenly():
    labels = torch.tensor([-1, 2, 0, 0, 0, 0, 0, -1, 2, 0])
    labelled = LabelledSampler(labels)
    assert len(labelled) == 8
    drawn = torch.cat([labelled.sample(10, new_generator(seed)) for seed in range(50)])
    assert set(drawn.tolist()) == set(torch.nonzero(labels >= 0)[:, 0].tolist())
    assert torch.bincount(labels[drawn]).tolist() == [250, 0, 250]


@pytest.mark.parametrize("labels", [None, torch.full((4,), -1)])
def test_without_labels_nothing_is_drawn(labels):
    assert len(LabelledSampler(labels).sample(10, new_generator(0))) == 0
