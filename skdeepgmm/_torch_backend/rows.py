"""Training rows by index: standardised, weighted, kept in memory where they fit."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from skdeepgmm._torch_backend import convert
from skdeepgmm._torch_backend.standardization import Standardization

#: Rows are kept in memory, standardised, below this size.
CACHE_BYTES = 512 * 2**20
#: Rows converted at a time.
CHUNK_ROWS = 4096


class TrainingRows:
    """Rows of X in the units of the training, by index.

    Parameters
    ----------
    X : ndarray, memmap or Tensor of shape (n_samples, n_features)
    standardization : Standardization
    device : torch.device
    dtype : torch.dtype, default=None
        Type of what is returned; None for that of X.
    shape : tuple of int, default=None
        Shape of a row: (height, width, channels) for images, None for vectors.
    sample_weight : ndarray of shape (n_samples,), default=None
        Weights, scaled here to mean one.
    keep : bool, default=True
        Whether to convert all rows at once, if they are not too large.
    """

    def __init__(
        self,
        X: convert.ArrayLike2D,
        standardization: Standardization,
        device: torch.device,
        dtype: torch.dtype | None = None,
        shape: tuple[int, ...] | None = None,
        sample_weight: NDArray[np.float64] | None = None,
        keep: bool = True,
    ) -> None:
        self.X, self.standardization, self.device = X, standardization, device
        self.dtype = convert.torch_dtype(X) if dtype is None else dtype
        self.shape = (X.shape[1],) if shape is None else shape
        self.weight: Tensor | None = None
        if sample_weight is not None:
            scaled = sample_weight / max(sample_weight.mean(), 1e-300)
            self.weight = convert.float64_tensor(scaled, device).to(self.dtype)
        n_bytes = X.shape[0] * X.shape[1] * torch.finfo(self.dtype).bits // 8
        self.kept = self._everything() if keep and n_bytes <= CACHE_BYTES else None

    def __len__(self) -> int:
        return int(self.X.shape[0])

    def __call__(self, index: Tensor) -> Tensor:
        """Return the rows at ``index``, (n_rows, *shape)."""
        if self.kept is not None:
            return self.kept[index.to(self.device)]
        if isinstance(self.X, Tensor):
            return self._convert(self.X[index.to(self.X.device)])
        return self._convert(self.X[index.numpy()])

    def batch(self, index: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the rows and their weights (None for no weights)."""
        weight = self.weight
        return self(index), None if weight is None else weight[index.to(self.device)]

    def counted(self) -> Tensor:
        """Return the indices of the rows that count: not those of weight zero."""
        if self.weight is None:
            return torch.arange(len(self))
        return (self.weight > 0.0).nonzero()[:, 0].cpu()

    def _everything(self) -> Tensor:
        kept = torch.empty(
            (len(self), *self.shape), dtype=self.dtype, device=self.device
        )
        for start in range(0, len(self), CHUNK_ROWS):
            part = self.X[start : start + CHUNK_ROWS]
            kept[start : start + CHUNK_ROWS] = self._convert(part)
        return kept

    def _convert(self, rows: convert.ArrayLike2D) -> Tensor:
        # Differences are taken in the type of X, which may lie far from zero.
        values = convert.rows_to_tensor(rows, self.device, convert.torch_dtype(rows))
        return self.standardization(values.reshape(-1, *self.shape)).to(self.dtype)
