"""The selection score on assignments whose information is known."""

import math

import pytest
import torch

from skdeepgmm._torch_backend.clusterers.augmentation import Affine
from skdeepgmm._torch_backend.clusterers.selection import (
    entropy,
    random_rows,
    selection_score,
)
from skdeepgmm._torch_backend.rng import new_generator


def score(resp, affine=None):
    """Return the score of samples that are their own probabilities."""
    return selection_score(lambda rows: rows, resp, affine, new_generator(0))


def test_certain_and_even_clusters_have_the_highest_score():
    assert score(torch.eye(4).repeat(5, 1)) == pytest.approx(math.log(4))
    assert score(torch.full((20, 4), 0.25)) == pytest.approx(0.0, abs=1e-6)
    assert score(torch.eye(4)[:1].repeat(20, 1)) == pytest.approx(0.0, abs=1e-6)


def test_the_score_is_the_mutual_information():
    resp = torch.tensor([[0.9, 0.1], [0.3, 0.7]])
    mean = resp.mean(0)
    expected = (resp * (resp / mean).log()).sum(1).mean()
    assert score(resp) == pytest.approx(float(expected), rel=1e-6)


def test_unstable_assignments_cost():
    rng = new_generator(1)
    images = torch.rand(30, 1, 8, 8, generator=rng)

    def by_corner(images):
        certain = (images[:, 0, 0, 0] > 0.5).long()
        return torch.eye(2)[certain]

    affine = Affine(3.0, 30.0, 0.2)
    plain = selection_score(by_corner, images, None, new_generator(0))
    moved = affine(images, new_generator(0))
    changed = (by_corner(moved) != by_corner(images)).any(1).double().mean()
    assert changed > 0.0
    found = selection_score(by_corner, images, affine, new_generator(0))
    assert found == pytest.approx(plain - math.log(2) * float(changed))


def test_entropy_of_zeros_is_finite():
    assert entropy(torch.tensor([1.0, 0.0])) == 0.0


def test_random_rows_are_different_ones():
    rows = torch.arange(10.0)[:, None]
    assert sorted(random_rows(rows, 20, new_generator(0))[:, 0].tolist()) == [
        *range(10)
    ]
    assert len(random_rows(rows, 4, new_generator(0)).unique()) == 4
