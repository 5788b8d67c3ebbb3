"""Triangles, Cholesky factors of precisions and floors on eigenvalues."""

import numpy as np
import pytest
import torch

from skdeepgmm._torch_backend import linalg
from tests.oracles import random_spd

SIZES = [1, 2, 5, 6]


@pytest.mark.parametrize("size", range(8))
def test_every_pair_of_indices_comes_once(size):
    pairs = np.stack(linalg.triangle_indices(size), axis=1)
    found = sorted(map(tuple, np.sort(pairs, axis=1).tolist()))
    assert found == sorted(
        zip(*(index.tolist() for index in np.triu_indices(size)), strict=True)
    )


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_triangle_products_are_the_pairs_of_outer_products(rng, size, dtype):
    x = torch.tensor(rng.normal(size=(size, 7)), dtype=dtype)
    rows, columns = linalg.triangle_indices(size)
    expected = x[rows] * x[columns]
    np.testing.assert_array_equal(linalg.triangle_products(x), expected)
    out = x.new_empty(len(rows), 7)
    assert linalg.triangle_products(x, out) is out
    np.testing.assert_array_equal(out, expected)
    part = x.new_zeros(len(rows), 9)[:, :7]  # of a larger buffer
    linalg.triangle_products(x.T.contiguous().T, part)
    np.testing.assert_array_equal(part, expected)


@pytest.mark.parametrize("size", SIZES)
def test_pack_and_unpack_are_inverse(rng, size):
    matrices = torch.from_numpy(
        np.stack([random_spd(rng, size) for _ in range(3)])
    ).reshape(3, 1, size, size)
    packed = linalg.pack_triangle(matrices)
    assert packed.shape == (3, 1, size * (size + 1) // 2)
    torch.testing.assert_close(linalg.unpack_triangle(packed, size), matrices)


def test_pack_order_is_that_of_the_products(rng):
    x = torch.from_numpy(rng.normal(size=(4, 1)))
    packed = linalg.pack_triangle(x @ x.T)
    torch.testing.assert_close(packed, linalg.triangle_products(x)[:, 0])


@pytest.mark.parametrize("size", SIZES)
def test_precision_cholesky_inverts_the_covariance(rng, size):
    covariances = torch.from_numpy(np.stack([random_spd(rng, size) for _ in range(3)]))
    factors, failed = linalg.precision_cholesky(covariances)
    assert not failed.any()
    np.testing.assert_allclose(factors, torch.triu(factors), atol=0)
    inverses = np.linalg.inv(covariances.numpy())
    np.testing.assert_allclose(factors @ factors.mT, inverses, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(
        2 * linalg.log_det_triangular(factors),
        -np.linalg.slogdet(covariances.numpy())[1],
        rtol=1e-12,
    )
    again = linalg.precision_cholesky_from_precision(torch.from_numpy(inverses))
    np.testing.assert_allclose(again, factors, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("flaw", ["indefinite", "zero", "nan", "inf"])
def test_precision_cholesky_reports_each_failure_alone(rng, flaw):
    good = random_spd(rng, 3)
    bad = {
        "indefinite": -good,
        "zero": np.zeros((3, 3)),
        "nan": np.full((3, 3), np.nan),
        "inf": np.full((3, 3), np.inf),
    }[flaw]
    factors, failed = linalg.precision_cholesky(
        torch.from_numpy(np.stack([good, bad, good]))
    )
    assert failed.tolist() == [False, True, False]
    np.testing.assert_array_equal(factors[1], np.eye(3))
    inverse = (factors[2] @ factors[2].T).numpy()
    np.testing.assert_allclose(inverse @ good, np.eye(3), atol=1e-10)


def test_floor_eigenvalues_only_raises_what_is_too_low(rng):
    healthy = random_spd(rng, 4)
    floor = np.full(4, 1e-6)
    raised = linalg.floor_eigenvalues(
        torch.from_numpy(healthy), torch.from_numpy(floor)
    )
    np.testing.assert_allclose(raised, healthy, rtol=1e-8, atol=1e-9)


def test_floor_eigenvalues_repairs_singular_and_indefinite_matrices(rng):
    row = rng.normal(size=(1, 4))
    matrices = torch.from_numpy(np.stack([row.T @ row, -np.eye(4), np.zeros((4, 4))]))
    floor = torch.full((4,), 1e-3, dtype=torch.float64)
    values = np.linalg.eigvalsh(linalg.floor_eigenvalues(matrices, floor).numpy())
    assert (values > 1e-3 * (1 - 1e-9)).all()
    assert not linalg.precision_cholesky(linalg.floor_eigenvalues(matrices, floor))[
        1
    ].any()


def test_floor_eigenvalues_does_not_depend_on_the_features_scales(rng):
    row = rng.normal(size=(1, 3))
    matrix, floor = torch.from_numpy(row.T @ row), torch.ones(3, dtype=torch.float64)
    scale = torch.tensor([1e-5, 1.0, 1e5], dtype=torch.float64)
    units = scale[:, None] * scale
    expected = linalg.floor_eigenvalues(matrix, 0.01 * floor) * units
    found = linalg.floor_eigenvalues(matrix * units, 0.01 * floor * scale.square())
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=0)
