"""The one door between NumPy and torch."""

from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

#: What a data source reads rows from: an array (in memory or mapped) or a tensor.
ArrayLike2D: TypeAlias = NDArray[Any] | torch.Tensor


def is_tensor(X: object) -> bool:
    """Tell whether ``X`` is a torch tensor."""
    return isinstance(X, torch.Tensor)


def check_tensor(X: torch.Tensor, allow_nan: bool = False) -> torch.Tensor:
    """Return a finite floating-point tensor with the values of ``X``.

    Mirrors what scikit-learn checks for arrays, without a copy to the host.
    Integer and half-precision tensors become float64 and float32.
    """
    X = X.detach()
    if X.layout != torch.strided:
        raise TypeError(
            "Sparse data was passed, but dense data is required: X is a tensor of "
            f"layout {X.layout}. Use X.to_dense()."
        )
    if X.is_complex():
        raise ValueError("Complex data not supported: X is a complex tensor.")
    if X.dtype in (torch.float16, torch.bfloat16):
        X = X.float()
    elif not X.is_floating_point():
        X = X.double()
    bad = torch.isinf(X).any() if allow_nan else ~torch.isfinite(X).all()
    if X.numel() and bool(bad):
        raise ValueError(
            "Input X contains infinity or a value too large."
            if allow_nan
            else "Input X contains NaN or infinity."
        )
    return X


def torch_dtype(X: ArrayLike2D) -> torch.dtype:
    """Return float32 for float32 input and float64 for everything else."""
    if isinstance(X, torch.Tensor):
        return torch.float32 if X.dtype == torch.float32 else torch.float64
    return torch.float32 if X.dtype == np.float32 else torch.float64


def largest_value(dtype: torch.dtype) -> float:
    """Return the largest number of a floating-point type."""
    return torch.finfo(dtype).max


def rows_to_tensor(
    rows: ArrayLike2D, device: torch.device, dtype: torch.dtype
) -> torch.Tensor:
    """Return ``rows`` as a tensor, without copying where torch may alias them.

    Read-only memory (a mapped file, a frozen array) is copied, because torch has no
    read-only tensors: aliasing it would warn and could write into the user's data.
    """
    if isinstance(rows, torch.Tensor):
        return rows.to(device=device, dtype=dtype)
    if not rows.flags.writeable or any(step < 0 for step in rows.strides):
        rows = np.array(rows)
    return torch.from_numpy(np.asarray(rows)).to(device=device, dtype=dtype)


def to_numpy(tensor: torch.Tensor, dtype: torch.dtype | None = None) -> NDArray[Any]:
    """Return a NumPy copy of ``tensor`` that owns its memory; bfloat16 as float32."""
    if tensor.dtype == torch.bfloat16:
        tensor = tensor.float()
    array: NDArray[Any] = tensor.detach().to("cpu", dtype or tensor.dtype).numpy()
    return array.copy()


def like(
    result: torch.Tensor, X: torch.Tensor, dtype: torch.dtype | None = None
) -> torch.Tensor:
    """Return ``result`` on the device of ``X`` (the array API's rule)."""
    return result.to(device=X.device, dtype=dtype or result.dtype)


def wider(first: torch.dtype, second: torch.dtype) -> torch.dtype:
    """Return the dtype that holds both."""
    return torch.promote_types(first, second)


def float64_tensor(array: NDArray[Any], device: torch.device) -> torch.Tensor:
    """Return a float64 copy of ``array`` (parameters, not data) on ``device``."""
    return torch.tensor(array, dtype=torch.float64, device=device)


def index_tensor(array: NDArray[Any]) -> torch.Tensor:
    """Return labels or indices as an int64 copy on the CPU."""
    return torch.tensor(array, dtype=torch.int64, device="cpu")


def parameter_tensor(array: NDArray[Any]) -> torch.Tensor:
    """Return a copy of ``array`` on the CPU with its own dtype."""
    return torch.tensor(array, device="cpu")
