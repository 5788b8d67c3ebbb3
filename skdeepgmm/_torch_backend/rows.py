"""Training rows by index: standardised, weighted, kept in memory where they fit."""

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from skdeepgmm._torch_backend import convert
from skdeepgmm._torch_backend.ranks import Ranks
from skdeepgmm._torch_backend.standardization import Standardization
from skdeepgmm._torch_backend.training import Epoch, Steppable, batched, shuffled

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
    skip_weightless : bool, default=False
        Whether rows of weight zero take no part in the training: they may be anything.
    ranks : Ranks, default=None
        Processes that train together, each on rows of its own.
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
        skip_weightless: bool = False,
        ranks: Ranks | None = None,
    ) -> None:
        self.X, self.standardization, self.device = X, standardization, device
        self.dtype = convert.torch_dtype(X) if dtype is None else dtype
        self.shape = (X.shape[1],) if shape is None else shape
        self.skip_weightless, self.ranks = skip_weightless, ranks
        self.weight: Tensor | None = None
        if sample_weight is not None:
            mean = torch.tensor([sample_weight.mean()])
            if ranks is not None:
                ranks.mean_(len(sample_weight), mean)
            scaled = sample_weight / max(float(mean), 1e-300)
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

    def usable(self) -> Tensor:
        """Return the indices of the rows to train on."""
        return self.counted() if self.skip_weightless else torch.arange(len(self))

    def permutation(self, generator: torch.Generator) -> Tensor:
        """Return the indices of the rows to train on in random order."""
        order = torch.randperm(len(self), generator=generator)
        if self.weight is None or not self.skip_weightless:
            return order
        return order[(self.weight > 0.0).cpu()[order]]

    def split(self, size: int, index: Tensor | None = None) -> Iterator[Tensor]:
        """Yield the rows at ``index`` (None for all), ``size`` at a time."""
        index = torch.arange(len(self)) if index is None else index
        return map(self, torch.split(index, size))

    def batches(
        self, index: Tensor, batch_size: int, generator: torch.Generator
    ) -> Iterator[tuple[Tensor, Tensor | None]]:
        """Yield the rows at ``index`` and their weights once, in random order."""
        n_batches = None
        if self.ranks is not None:
            n_batches = self.n_batches(index, batch_size)
        for part in shuffled(len(index), batch_size, generator, n_batches):
            yield self.batch(index[part])

    def n_batches(self, index: Tensor, batch_size: int) -> int:
        """Return the steps of an epoch, whose batches all ranks make together."""
        n_samples = torch.tensor([float(len(index))])
        if self.ranks is not None:
            self.ranks.sum_(n_samples)
        return -(-int(n_samples) // batch_size)

    def epoch(
        self,
        model: Steppable,
        index: Tensor,
        batch_size: int,
        generator: torch.Generator,
    ) -> Epoch:
        """Return the epoch in which a model steps through the rows at ``index``."""
        return batched(model, partial(self.batches, index, batch_size, generator))

    def mean(
        self, function: Callable[[Tensor], Tensor], index: Tensor, size: int
    ) -> float:
        """Return the mean over rows of what ``function`` gives as means of parts."""
        parts = torch.split(index, size)
        total = sum(float(function(self(part))) * len(part) for part in parts)
        found = torch.tensor([total / len(index)], dtype=torch.float64)
        if self.ranks is not None:
            self.ranks.mean_(len(index), found)
        return float(found)

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
