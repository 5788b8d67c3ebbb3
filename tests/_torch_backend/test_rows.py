"""Training rows: the standardised samples of any container, by index."""

import numpy as np
import pytest
import torch

from skdeepgmm._torch_backend import rows as rows_module
from skdeepgmm._torch_backend.rng import new_generator
from skdeepgmm._torch_backend.rows import TrainingRows
from skdeepgmm._torch_backend.standardization import from_arrays
from skdeepgmm.chunked import ChunkedArray

CPU = torch.device("cpu")
X = np.random.default_rng(0).normal(3.0, 2.0, size=(50, 6))
STANDARDIZATION = from_arrays([3.0] * 6, [2.0] * 6, CPU)
EXPECTED = (X - 3.0) / 2.0


def make(data=X, **options):
    return TrainingRows(data, STANDARDIZATION, CPU, **options)


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize(
    "container", [np.asarray, torch.from_numpy, lambda X: ChunkedArray([X[:9], X[9:]])]
)
def test_rows_are_standardised_whatever_the_container(container, keep):
    rows = make(container(X), keep=keep)
    index = torch.tensor([3, 49, 3, 0])
    np.testing.assert_allclose(rows(index), EXPECTED[[3, 49, 3, 0]])
    assert rows.dtype == torch.float64
    assert len(rows) == 50


def test_images_have_their_shape_and_type():
    one = from_arrays([3.0], [2.0], CPU)
    rows = TrainingRows(X, one, CPU, torch.float32, (2, 3, 1))
    found = rows(torch.arange(4))
    assert found.shape == (4, 2, 3, 1)
    assert found.dtype == torch.float32
    expected = EXPECTED[:4].reshape(4, 2, 3, 1)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_large_data_are_read_as_they_are_needed(monkeypatch):
    monkeypatch.setattr(rows_module, "CACHE_BYTES", 100)
    rows = make()
    assert rows.kept is None
    np.testing.assert_allclose(rows(torch.arange(50)), EXPECTED)


def test_an_epoch_visits_every_row_once_with_its_weight():
    weight = np.arange(1.0, 51.0)
    rows, index = make(sample_weight=weight), torch.arange(5, 50)
    found = list(rows.batches(index, 8, new_generator(0)))
    seen = torch.cat([x for x, _ in found])
    weights = torch.cat([w for _, w in found])
    order = weights.argsort()
    np.testing.assert_allclose(seen[order], EXPECTED[5:])
    np.testing.assert_allclose(weights[order], weight[5:] / weight.mean())
    assert max(len(x) for x, _ in found) <= 8
    other = list(rows.batches(index, 8, new_generator(1)))
    assert not torch.equal(other[0][0], found[0][0])


@pytest.mark.parametrize("skip", [False, True])
def test_rows_of_weight_zero_are_skipped_on_request(skip):
    weight = np.ones(50)
    weight[::2] = 0.0
    rows = make(sample_weight=weight, skip_weightless=skip)
    expected = list(range(1, 50, 2)) if skip else list(range(50))
    assert rows.usable().tolist() == expected
    assert sorted(rows.permutation(new_generator(0)).tolist()) == expected
    assert rows.counted().tolist() == list(range(1, 50, 2))


def test_the_order_does_not_depend_on_weights_of_one():
    plain = make().permutation(new_generator(0))
    weighted = make(sample_weight=np.ones(50), skip_weightless=True)
    torch.testing.assert_close(weighted.permutation(new_generator(0)), plain)


def test_parts_join_to_the_whole():
    rows = make(keep=False)
    np.testing.assert_allclose(torch.cat(list(rows.split(7))), EXPECTED)
    index = torch.tensor([4, 2, 9])
    parts = list(rows.split(2, index))
    assert [len(part) for part in parts] == [2, 1]
    np.testing.assert_allclose(torch.cat(parts), EXPECTED[[4, 2, 9]])


def test_the_mean_counts_rows_not_parts():
    index = torch.arange(10)
    found = make().mean(lambda x: x[:, 0].mean(), index, 4)
    assert found == pytest.approx(EXPECTED[:10, 0].mean())
