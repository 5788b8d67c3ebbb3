"""ChunkedArray reads like the array that its chunks make."""

import itertools
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.model_selection import KFold, cross_val_score

from skdeepgmm import ChunkedArray, GaussianMixture

N, WIDTH = 17, 3
WHOLE = np.random.default_rng(0).normal(size=(N, WIDTH))
CUTS = [0, 4, 4, 11, N]  # the second chunk is empty


def chunked(cuts=CUTS):
    parts = [WHOLE[a:b] for a, b in itertools.pairwise(cuts)]
    return ChunkedArray([parts[0], *(lambda part=part: part for part in parts[1:])])


INTEGERS = st.integers(-N, N - 1)
SLICES = st.slices(N)
LISTS = st.lists(INTEGERS, max_size=2 * N).map(lambda i: np.array(i, dtype=int))
MASKS = st.lists(st.booleans(), min_size=N, max_size=N).map(np.array)


@settings(deadline=None, max_examples=200)
@given(index=st.one_of(INTEGERS, SLICES, LISTS, MASKS))
def test_rows_are_those_of_the_array(index):
    np.testing.assert_array_equal(chunked()[index], WHOLE[index])


@pytest.mark.parametrize(
    "index",
    [
        (slice(None), 1),
        ([2, -1], ...),
        (3, slice(1, None)),
        ...,
        (slice(2, 9), [2, 0]),
        np.int64(-3),
        [0, 16, 0],
    ],
    ids=str,
)
def test_rows_and_columns_are_those_of_the_array(index):
    found = chunked()[index]
    np.testing.assert_array_equal(found, WHOLE[index])
    assert found.shape == WHOLE[index].shape


@pytest.mark.parametrize("index", [N, -N - 1, [0, N], 1.0, [0.5], "a", None])
def test_a_wrong_index_is_an_index_error(index):
    with pytest.raises(IndexError):
        chunked()[index]


def test_as_one_array():
    np.testing.assert_array_equal(np.asarray(chunked()), WHOLE)
    assert np.asarray(chunked(), dtype=np.float32).dtype == np.float32
    np.testing.assert_array_equal(list(chunked()), WHOLE)
    with pytest.raises(ValueError, match="copy"):
        chunked().__array__(copy=False)  # what np.array(..., copy=False) asks


def test_splitters_take_chunks():
    estimator = GaussianMixture(2, covariance_type="diag", random_state=0)
    found = cross_val_score(estimator, chunked(), cv=KFold(3))
    expected = cross_val_score(estimator, WHOLE, cv=KFold(3))
    np.testing.assert_allclose(found, expected)


def test_a_fit_with_an_empty_chunk_is_that_of_the_array():
    estimator = GaussianMixture(2, covariance_type="diag", random_state=0)
    found, expected = clone(estimator).fit(chunked()), estimator.fit(WHOLE)
    np.testing.assert_allclose(found.means_, expected.means_)


def test_masked_entries_of_chunks_are_missing():
    mask = np.zeros(WHOLE.shape, dtype=bool)
    mask[2, 1] = mask[12, 0] = True
    hidden = np.ma.MaskedArray(np.where(mask, 1e9, WHOLE), mask)
    found = ChunkedArray([hidden[:5], lambda: hidden[5:]])
    np.testing.assert_array_equal(found[:], np.where(mask, np.nan, WHOLE))


def test_a_chunk_that_changes_its_shape_is_refused():
    sizes = iter([5, 4])
    chunks = ChunkedArray([WHOLE, lambda: WHOLE[: next(sizes)]])
    chunks._loaded.clear()
    with pytest.raises(ValueError, match="Chunk 1 had the shape"):
        chunks[-1]


def test_threads_keep_a_chunk_each():
    """Threads that read in turns load a chunk once, not again for every batch."""
    X = np.arange(80.0).reshape(40, 2)
    loads = []

    def loader(number):
        loads.append(number)
        return X[10 * number : 10 * (number + 1)]

    chunked = ChunkedArray([partial(loader, number) for number in range(4)])
    loads.clear()
    chunked._loaded.clear()
    turns = threading.Barrier(2)

    def read(start):
        parts = []
        for row in range(start, start + 20, 2):
            turns.wait(timeout=20)
            parts.append(chunked[row : row + 2])
        return np.concatenate(parts)

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(read, [0, 20])
        assert len(chunked._loaded) <= 2
    np.testing.assert_array_equal(np.concatenate([first, second]), X)
    assert sorted(loads) == [0, 1, 2, 3]
    copy = pickle.loads(pickle.dumps(ChunkedArray([X])))
    np.testing.assert_array_equal(copy[:], X)
