"""Batches of one size: no row's result depends on the others."""

import torch

from skdeepgmm._torch_backend.inference import in_batches, over_parts
from skdeepgmm._torch_backend.rng import new_generator


def rows(n=23, width=5):
    return torch.randn(n, width, generator=new_generator(0))


def test_all_batches_have_the_size():
    sizes = []

    def function(x):
        sizes.append(len(x))
        return x.square()

    x = rows()
    torch.testing.assert_close(in_batches(function, x, 8), x.square(), rtol=0, atol=0)
    assert sizes == [8, 8, 8]


def test_parts_of_any_size_are_padded_and_cut():
    x = rows()
    parts = [x[:3], x[3:4], x[4:12], x[12:]]
    found = over_parts(lambda part: 2.0 * part[:, 0], parts, 11)
    torch.testing.assert_close(found, 2.0 * x[:, 0])


def test_subsets_get_the_results_of_the_whole_bit_by_bit():
    x, matrix = rows(60, 300), rows(300, 300)
    whole = in_batches(lambda part: part @ matrix, x, 32)
    for start, stop in ((0, 1), (5, 6), (10, 59)):
        part = in_batches(lambda part: part @ matrix, x[start:stop], 32)
        torch.testing.assert_close(part, whole[start:stop], rtol=0, atol=0)


def test_no_gradients_are_recorded():
    x = rows().requires_grad_()
    assert not in_batches(torch.square, x).requires_grad
