"""The door between NumPy and torch: nothing of the user's is aliased or written."""

import numpy as np
import pytest
import torch

from skdeepgmm._torch_backend import convert
from tests._torch_backend.mixture.problems import CPU

FLOATS = [(np.float32, torch.float32), (np.float64, torch.float64)]


@pytest.mark.parametrize("dtype, expected", FLOATS)
def test_torch_dtype_follows_float_input(dtype, expected):
    assert convert.torch_dtype(np.zeros((1, 1), dtype)) == expected
    assert convert.torch_dtype(torch.zeros(1, 1, dtype=expected)) == expected


@pytest.mark.parametrize("dtype", [np.int32, np.float16, bool])
def test_torch_dtype_of_other_input_is_float64(dtype):
    assert convert.torch_dtype(np.zeros((1, 1), dtype)) == torch.float64


def read_only(X):
    X.flags.writeable = False
    return X


LAYOUTS = {
    "C": lambda X: X,
    "Fortran": np.asfortranarray,
    "read-only": read_only,
    "reversed rows": lambda X: X[::-1],
    "reversed columns": lambda X: X[:, ::-1],
    "strided": lambda X: np.repeat(X, 2, axis=0)[::2],
    "broadcast": lambda X: np.broadcast_to(X[:1], X.shape),
    "big-endian then native": lambda X: X.astype(">f8").astype("f8"),
    "tensor": torch.from_numpy,
    "transposed tensor": lambda X: torch.from_numpy(X.T.copy()).T,
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("target", [torch.float32, torch.float64])
def test_rows_to_tensor_keeps_the_values_of_every_layout(rng, layout, target):
    X = LAYOUTS[layout](rng.normal(size=(6, 3)))
    rows = convert.rows_to_tensor(X, CPU, target)
    assert rows.dtype == target
    np.testing.assert_array_equal(
        rows.numpy(), np.asarray(X, dtype=convert.to_numpy(rows).dtype)
    )


def test_read_only_memory_is_never_aliased(rng, tmp_path):
    path = tmp_path / "rows.bin"
    X = rng.normal(size=(8, 2))
    X.tofile(path)
    mapped = np.memmap(path, dtype=float, mode="r", shape=X.shape)
    rows = convert.rows_to_tensor(mapped[2:6], CPU, torch.float64)
    assert not np.shares_memory(rows.numpy(), mapped)
    rows.zero_()
    np.testing.assert_array_equal(mapped, X)


def test_writeable_rows_are_not_copied(rng):
    X = rng.normal(size=(8, 2))
    rows = convert.rows_to_tensor(X[2:6], CPU, torch.float64)
    assert np.shares_memory(rows.numpy(), X)


@pytest.mark.parametrize("dtype", [None, torch.float32])
def test_to_numpy_owns_its_memory(dtype):
    tensor = torch.arange(4.0, dtype=torch.float64, requires_grad=True)
    array = convert.to_numpy(tensor, dtype)
    assert array.flags.owndata
    assert array.flags.writeable
    array[:] = -1
    assert tensor.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    "given, expected",
    [
        (torch.float16, torch.float32),
        (torch.bfloat16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
        (torch.int64, torch.float64),
        (torch.bool, torch.float64),
    ],
)
def test_check_tensor_gives_a_floating_point_type(given, expected):
    assert convert.check_tensor(torch.ones(2, 2, dtype=given)).dtype == expected


def test_check_tensor_drops_the_graph_and_refuses_complex():
    assert not convert.check_tensor(torch.ones(2, 2, requires_grad=True)).requires_grad
    with pytest.raises(ValueError, match="Complex data"):
        convert.check_tensor(torch.ones(2, 2, dtype=torch.complex64))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_check_tensor_refuses_what_is_not_finite(bad):
    with pytest.raises(ValueError, match="infinity"):
        convert.check_tensor(torch.tensor([[1.0, bad]]))


def test_check_tensor_may_allow_nan_but_not_infinity():
    X = torch.tensor([[1.0, np.nan]])
    assert convert.check_tensor(X, allow_nan=True) is not None
    with pytest.raises(ValueError, match="infinity"):
        convert.check_tensor(torch.tensor([[np.nan, np.inf]]), allow_nan=True)


def test_wider_and_parameter_copies(rng):
    assert convert.wider(torch.float32, torch.float64) == torch.float64
    array = rng.normal(size=3).astype(np.float32)
    copy = convert.float64_tensor(array, CPU)
    assert copy.dtype == torch.float64
    copy.zero_()
    assert array.any()
    assert convert.index_tensor(np.array([2, 0], dtype=np.int32)).dtype == torch.int64


def test_like_returns_on_the_device_of_the_input():
    X = torch.zeros(1, dtype=torch.float32)
    assert convert.like(torch.zeros(2, dtype=torch.float64), X).dtype == torch.float64
    assert convert.like(torch.zeros(2), X, torch.float64).dtype == torch.float64
