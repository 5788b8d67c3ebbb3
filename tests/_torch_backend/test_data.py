"""Batches, moments and standardised units of a data source."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from skdeepgmm._torch_backend import data, source
from skdeepgmm._torch_backend.data import SHARED_BATCHES, balanced, default_batch_size
from tests._torch_backend.mixture.problems import CPU, source_of


@settings(max_examples=25, deadline=None)
@given(n_samples=st.integers(1, 30), batch_size=st.integers(1, 40))
def test_batches_partition_the_rows(n_samples, batch_size):
    X = np.arange(2.0 * n_samples).reshape(n_samples, 2)
    blocks = list(source_of(X, batch_size).blocks())
    assert [block.number for block in blocks] == list(range(len(blocks)))
    assert max(block.n_samples for block in blocks) <= batch_size
    for block in blocks:
        np.testing.assert_array_equal(block.x.T, X[block.index])
    np.testing.assert_array_equal(torch.cat([b.x for b in blocks], dim=1).T, X)


@settings(max_examples=50, deadline=None)
@given(n_samples=st.integers(1, 10**6), batch_size=st.integers(1, 10**6))
def test_balanced_batches_are_near_equal(n_samples, batch_size):
    size = balanced(batch_size, n_samples)
    assert 1 <= size <= batch_size
    least, n_batches = -(-n_samples // batch_size), -(-n_samples // size)
    assert n_batches <= (1 if least == 1 else least + SHARED_BATCHES - 1)


@pytest.mark.parametrize("n_samples", [1001, 5000, 99_999])
def test_threads_share_balanced_batches_equally(n_samples):
    n_batches = -(-n_samples // balanced(1000, n_samples))
    assert n_batches % SHARED_BATCHES == 0


@pytest.mark.parametrize("bytes_per_row", [0, 1, 10**3, 10**9])
def test_default_batch_size_stays_within_bounds(bytes_per_row):
    assert 256 <= default_batch_size(bytes_per_row, CPU) <= 2**17


@pytest.mark.parametrize("offset", [0.0, 1e8, -1e8])
@pytest.mark.parametrize("batch_size", [1, 7, 1000])
def test_moments_lose_no_digits_to_an_offset(rng, offset, batch_size):
    # Multiples of 2^-20 plus the offset are exact, so the truth is known exactly.
    noise = np.round(rng.normal(size=(200, 3)) * 2**20) / 2**20
    mean, variance = source_of(noise + offset, batch_size).moments()
    np.testing.assert_allclose(mean, noise.mean(0) + offset, rtol=1e-14, atol=1e-14)
    np.testing.assert_allclose(variance, noise.var(0), rtol=1e-7 if offset else 1e-12)


def test_moments_of_float32_data_are_float64(rng):
    X = (rng.normal(size=(500, 2)) + 1e4).astype(np.float32)
    mean, variance = source_of(X, 7).moments()
    np.testing.assert_allclose(mean, X.astype(float).mean(0), rtol=1e-13)
    np.testing.assert_allclose(variance, X.astype(float).var(0), rtol=1e-9)


@pytest.mark.parametrize("batch_size", [1, 4, 50])
def test_weighted_moments_equal_repeated_rows(rng, batch_size):
    X = rng.normal(size=(20, 2))
    counts = rng.integers(0, 4, size=20)
    source = source_of(X, batch_size, counts)
    mean, variance = source.moments()
    repeated = np.repeat(X, counts, axis=0)
    np.testing.assert_allclose(mean, repeated.mean(0), rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(variance, repeated.var(0), rtol=1e-12)
    assert source.total_weight() == counts.sum()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("as_tensor", [False, True])
def test_standardised_blocks_have_mean_zero_and_variance_one(rng, dtype, as_tensor):
    X = (rng.normal(size=(300, 3)) * [1e-3, 1.0, 1e3] + 50.0).astype(dtype)
    source = source_of(torch.from_numpy(X) if as_tensor else X, 77, standardize=True)
    x = torch.cat([block.x for block in source.blocks()], dim=1).double().numpy()
    # In float32 the first feature keeps about 8 bits beside its offset of 50,000.
    np.testing.assert_allclose(
        x.mean(1), 0.0, atol=2e-3 if dtype == np.float32 else 1e-9
    )
    np.testing.assert_allclose(
        x.var(1), 1.0, rtol=1e-3 if dtype == np.float32 else 1e-9
    )


def test_isotropic_units_share_one_scale(rng):
    X = rng.normal(size=(100, 3)) * [1.0, 10.0, 100.0]
    units = source_of(X).standardize(isotropic=True)
    np.testing.assert_allclose(units.scale, np.sqrt(X.var(0).mean()), rtol=1e-12)
    assert units.log_scale == pytest.approx(3 * 0.5 * np.log(X.var(0).mean()))


@pytest.mark.parametrize("value", [0.0, 5.0])
@pytest.mark.parametrize("isotropic", [False, True])
def test_constant_features_have_scale_one(value, isotropic):
    source = source_of(np.full((20, 2), value))
    assert source.standardize(isotropic).scale.tolist() == [1.0, 1.0]
    assert not next(iter(source.blocks())).x.any()


@pytest.mark.parametrize("value", [0.1, 1e8 / 3, 1e-30, -1e100 / 3])
@pytest.mark.parametrize("batch_size", [3, 20])
def test_constant_features_whose_mean_rounds_have_scale_one(value, batch_size):
    source = source_of(np.full((20, 2), value), batch_size)
    assert source.standardize().scale.tolist() == [1.0, 1.0]


def test_the_shift_is_exact_in_the_dtype_of_the_data(rng):
    X = (rng.normal(size=(100, 2)) + 1e4).astype(np.float32)
    units = source_of(X).standardize()
    np.testing.assert_array_equal(units.shift.float().double(), units.shift)


def test_small_data_are_standardised_once_and_new_units_take_effect(rng):
    source = source_of(rng.normal(size=(20, 2)), 6, standardize=True)
    first = list(source.blocks())
    assert all(a is b for a, b in zip(first, source.blocks(), strict=True))
    source.standardize(isotropic=True)
    assert next(iter(source.blocks())) is not first[0]


def test_an_abandoned_pass_is_not_kept(rng):
    source = source_of(rng.normal(size=(20, 2)), 6)
    next(iter(source.blocks()))
    assert sum(block.x.shape[1] for block in source.blocks()) == 20


def test_large_data_are_not_kept(rng, monkeypatch):
    monkeypatch.setattr(data, "CACHE_BYTES", 100)
    source = source_of(rng.normal(size=(20, 2)), 6, standardize=True)
    first, second = list(source.blocks()), list(source.blocks())
    assert first[0] is not second[0]
    torch.testing.assert_close(first[0].x, second[0].x)


@pytest.mark.parametrize("container", ["array", "tensor", "memmap"])
def test_take_returns_standardised_columns(rng, container, tmp_path):
    X = rng.normal(size=(20, 3)) + 4.0
    given = X
    if container == "tensor":
        given = torch.from_numpy(X)
    if container == "memmap":
        X.tofile(tmp_path / "rows.bin")
        given = np.memmap(tmp_path / "rows.bin", dtype=float, mode="r", shape=X.shape)
    source = source_of(given, 6, standardize=True)
    expected = (X[[3, 0, 3]] - X.mean(0)) / X.std(0)
    np.testing.assert_allclose(source.take([3, 0, 3]), expected.T, rtol=1e-12)


@pytest.mark.parametrize("n_features", [1, 3])
@pytest.mark.parametrize("order", ["C", "F"])
def test_reading_never_writes_the_users_data(rng, n_features, order):
    X = np.array(rng.normal(size=(20, n_features)), order=order)
    before = X.copy()
    source = source_of(X, 6)
    source.moments()
    list(source.blocks())
    source.standardize()
    for block in source.blocks():
        block.x.zero_()
    np.testing.assert_array_equal(X, before)


def test_sample_weights_follow_their_rows(rng):
    weight = rng.uniform(size=20)
    source = source_of(rng.normal(size=(20, 2)), 6, weight)
    np.testing.assert_array_equal(
        torch.cat([b.weight for b in source.blocks()]), weight
    )


@pytest.mark.parametrize("missing", [False, True])
def test_quartiles_are_those_of_the_observed_values(rng, missing):
    X = rng.normal(size=(101, 4)) * [1, 10, 1e-3, 5] + [0, 3, 0, 1e6]
    if missing:
        X[rng.random(X.shape) < 0.3] = np.nan
        X[:, 3] = np.nan
    median, deviation = source.quartiles(torch.from_numpy(X))
    seen = np.where(np.isnan(X).all(axis=0), 0.0, X)
    low, middle, high = np.nanquantile(seen, [0.25, 0.5, 0.75], axis=0, method="lower")
    np.testing.assert_array_equal(median, middle)
    # Of a normal distribution the quartiles are 1.349 deviations apart.
    np.testing.assert_allclose(deviation, (high - low) / 1.3489795)
