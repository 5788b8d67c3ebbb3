"""Data sources: rows of an array, a memory map or a tensor, in batches.

A pass never needs the data as a whole. Blocks are laid out features first,
(n_features, n_samples), so that every later operation is a matrix product or a
reduction along the leading axis, which vectorises over the samples.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from skdeepgmm._torch_backend.convert import ArrayLike2D, rows_to_tensor, torch_dtype
from skdeepgmm._torch_backend.moments import Moments
from skdeepgmm._torch_backend.source import QUARTILE_ROWS, Source
from skdeepgmm._torch_backend.standardization import Standardization

T = TypeVar("T")

#: Standardised blocks are kept between passes while they need less than this.
CACHE_BYTES = 128 * 2**20
#: Rows from which on a pattern of missing features gets a pass of its own.
FREQUENT_ROWS = 64
#: Working set of one batch: about the outer caches of a CPU core (measured: products in
#: float64 take twice the time at 8 MiB), or a share of device memory large enough to
#: fill the chip.
BATCH_BYTES = {"cpu": 4 * 2**20, "cuda": 512 * 2**20}
#: Several batches are a multiple of these, for the threads that share them.
SHARED_BATCHES = 4


@dataclass
class Block:
    """A standardised batch.

    Attributes
    ----------
    x : Tensor of shape (n_features, n_samples)
    index : slice or ndarray
        The rows of the data that the block holds.
    number : int
        Position of the block in its pass.
    weight : Tensor of shape (n_samples,) or None
        Sample weights, None when all are one.
    observed : Tensor of int64 or None
        The features that ``x`` holds, None for all.
    features : Tensor or None
        Second-moment features kept from an earlier pass (small data only).
    part : int
        The part of the data that it is of.
    """

    x: Tensor
    index: slice | NDArray[np.int64]
    number: int
    weight: Tensor | None = None
    observed: Tensor | None = None
    features: Tensor | None = None
    part: int = 0

    @property
    def n_samples(self) -> int:
        return self.x.shape[1]


class ArraySource(Source):
    """Rows of an array, memory map or tensor, read batch by batch.

    Parameters
    ----------
    X : ndarray or Tensor of shape (n_samples, n_features)
    device : torch.device
    batch_size : int
        Rows a batch.
    sample_weight : Tensor of shape (n_samples,) or None
        float64 weights on ``device``.
    part, first_row : int
        Of a part of larger data: its number, and the number of its first row.
    keep : bool
        Whether passes may keep what fits in a cache: other passes follow.
    complete : bool
        Whether X is known to have no NaN.

    Attributes
    ----------
    patterns : list of Pattern or None
        Groups of rows that miss the same features; None for data without NaN.
    """

    def __init__(
        self,
        X: ArrayLike2D,
        device: torch.device,
        batch_size: int,
        sample_weight: Tensor | None = None,
        *,
        part: int = 0,
        first_row: int = 0,
        keep: bool = True,
        complete: bool = False,
    ) -> None:
        self.X = X
        self.device = device
        self.dtype = torch_dtype(X)
        self.n_samples: int = X.shape[0]
        self.n_features: int = X.shape[1]
        self.batch_size = min(batch_size, self.n_samples)
        self.sample_weight = sample_weight
        self.part, self.first_row, self.keep = part, first_row, keep
        self._kept: dict[int, Block] = {}
        self._kept_parts: dict[int, list[Block]] = {}
        self.patterns = None if complete else find_patterns(X, self.batch_size)

    def reduced(
        self, function: Callable[["ArraySource"], T], merge: Callable[[T, T], T]
    ) -> T:
        return function(self)

    @property
    def has_missing(self) -> bool:
        return self.patterns is not None

    def rows(self) -> Iterator[tuple[int, int, Tensor]]:
        """Yield (start, stop, rows of shape (stop - start, n_features))."""
        for start in range(0, self.n_samples, self.batch_size):
            stop = min(start + self.batch_size, self.n_samples)
            yield (
                start,
                stop,
                rows_to_tensor(self.X[start:stop], self.device, self.dtype),
            )

    def take(self, indices: list[int]) -> Tensor:
        """Return the standardised rows at ``indices``, (n_features, n_indices).

        Missing entries take the feature's mean, which is 0 in these units.
        """
        rows = rows_to_tensor(self.X[indices], self.device, torch.float64)
        return self._standardize(rows).nan_to_num_(0.0)

    def counted(self) -> Tensor | None:
        """Return the indices of the rows with weight, None when all have some."""
        if self.sample_weight is None or bool((self.sample_weight > 0.0).all()):
            return None
        return (self.sample_weight > 0.0).nonzero()[:, 0].cpu()

    def total_weight(self) -> float:
        """Return the sum of the sample weights."""
        if self.sample_weight is None:
            return float(self.n_samples)
        return float(self.sample_weight.sum())

    @property
    def n_counted(self) -> int:
        counted = self.counted()
        return self.n_samples if counted is None else len(counted)

    def take_counted(self, index: Tensor) -> Tensor:
        counted = self.counted()
        return self.take((index if counted is None else counted[index]).tolist())

    def _all_moments(self) -> Moments:
        found = Moments.none(self.n_features, self.device)
        for start, stop, rows in self.rows():
            weight = self.weight_of(slice(start, stop))
            found = found.merged(rows, weight, complete=self.patterns is None)
        return found

    def _spaced_rows(self) -> Tensor:
        step = max(1, self.n_samples // QUARTILE_ROWS)
        return rows_to_tensor(self.X[::step], self.device, torch.float64)

    def _set_units(self, units: Standardization) -> Standardization:
        self._kept, self._kept_parts = {}, {}
        return super()._set_units(units)

    def blocks(self) -> Iterator[Block]:
        """Yield the data once, as standardised blocks."""
        return map(self.block, range(self.n_blocks))

    @property
    def n_blocks(self) -> int:
        return -(-self.n_samples // self.batch_size)

    def block(self, number: int) -> Block:
        """Return a standardised block; several threads may ask for different ones."""
        if number in self._kept:
            return self._kept[number]
        start = number * self.batch_size
        index = slice(start, min(start + self.batch_size, self.n_samples))
        rows = rows_to_tensor(self.X[index], self.device, self.dtype)
        x, weight = self._standardize(rows), self.weight_of(index)
        block = self._block(x, index, number, weight)
        if self._fits_cache():
            self._kept[number] = block
        return block

    def parts(self) -> Iterator[tuple["Pattern", Iterable[Block]]]:
        """Yield the data once, by pattern of missing features.

        The blocks of a part hold the observed features only.
        """
        for number, pattern in enumerate(self.patterns or []):
            if not pattern.frequent:
                continue
            if number in self._kept_parts:
                yield pattern, self._kept_parts[number]
            elif self._fits_cache():
                self._kept_parts[number] = list(self._part(number, pattern))
                yield pattern, self._kept_parts[number]
            else:
                yield pattern, self._part(number, pattern)

    def mixed(self, batch_size: int) -> Iterator[tuple[Block, Tensor]]:
        """Yield rows of rare patterns, and where they are observed (1, else 0).

        Missing entries are 0 in the blocks.
        """
        rare = [p.rows for p in self.patterns or [] if not p.frequent]
        index = np.concatenate(rare) if rare else np.empty(0, dtype=np.int64)
        for start in range(0, len(index), batch_size):
            part = index[start : start + batch_size]
            rows = rows_to_tensor(self.X[part], self.device, torch.float64)
            mask = (~torch.isnan(rows)).T.double()
            x = self._standardize(rows).nan_to_num_(0.0)
            yield self._block(x, part, start, self.weight_of(part)), mask

    def _part(self, number: int, pattern: "Pattern") -> Iterator[Block]:
        observed = pattern.observed.to(self.device)
        for start in range(0, len(pattern.rows), self.batch_size):
            index = pattern.rows[start : start + self.batch_size]
            rows = rows_to_tensor(self.X[index], self.device, self.dtype)
            x = self._standardize(rows)[observed].contiguous()
            weight = self.weight_of(index)
            yield self._block(x, index, number + start, weight, observed)

    def _block(
        self,
        x: Tensor,
        rows: slice | NDArray[np.int64],
        number: int,
        weight: Tensor | None,
        observed: Tensor | None = None,
    ) -> Block:
        """Return standardised rows as a block, numbered as in the whole data."""
        index: slice | NDArray[np.int64]
        if isinstance(rows, slice):
            index = slice(rows.start + self.first_row, rows.stop + self.first_row)
        else:
            index = rows + self.first_row
        return Block(x, index, number, weight, observed, part=self.part)

    def _fits_cache(self) -> bool:
        itemsize = torch.finfo(self.dtype).bits // 8
        n_bytes = self.n_samples * self.n_features * itemsize
        return self.keep and n_bytes <= CACHE_BYTES

    def _standardize(self, rows: Tensor) -> Tensor:
        if self.standardization is None:
            return rows.T.contiguous()
        return self.standardization.columns(rows)

    def weight_of(self, index: slice | NDArray[np.int64]) -> Tensor | None:
        """Return the weights of rows, None when all are one."""
        if self.sample_weight is None:
            return None
        if isinstance(index, slice):
            return self.sample_weight[index]
        return self.sample_weight[torch.from_numpy(index).to(self.device)]


@dataclass(frozen=True)
class Pattern:
    """Rows that miss the same features.

    Attributes
    ----------
    observed, missing : Tensor of int64
        Feature indices.
    rows : ndarray of int64
        Row indices.
    """

    observed: Tensor
    missing: Tensor
    rows: NDArray[np.int64]

    @property
    def frequent(self) -> bool:
        """Whether the pattern is worth a pass of its own."""
        return len(self.rows) >= FREQUENT_ROWS


def find_patterns(X: ArrayLike2D, batch_size: int) -> list[Pattern] | None:
    """Group the rows of X by their missing features; None when nothing is missing."""
    starts = range(0, X.shape[0], batch_size)
    if not any(_may_miss(X[start : start + batch_size]) for start in starts):
        return None
    masks = (missing_mask(X[start : start + batch_size]) for start in starts)
    packed = np.concatenate([np.packbits(mask, axis=1) for mask in masks])
    if not packed.any():
        return None
    codes, inverse = np.unique(packed, axis=0, return_inverse=True)
    order = np.argsort(inverse, axis=None, kind="stable")
    counts = np.bincount(inverse.ravel(), minlength=len(codes))
    rows = np.split(order, np.cumsum(counts)[:-1])
    missing = np.unpackbits(codes, axis=1, count=X.shape[1]).astype(bool)
    return [
        Pattern(
            torch.from_numpy(np.flatnonzero(~mask)),
            torch.from_numpy(np.flatnonzero(mask)),
            group,
        )
        for mask, group in zip(missing, rows, strict=True)
    ]


def _may_miss(rows: ArrayLike2D) -> bool:
    """Tell, by one sum, that ``rows`` may hold NaN (never wrongly that not)."""
    with np.errstate(over="ignore", invalid="ignore"):
        return bool(rows.sum() != rows.sum())


def missing_mask(rows: ArrayLike2D) -> NDArray[np.bool_]:
    """Return where ``rows`` are NaN."""
    if isinstance(rows, torch.Tensor):
        mask: NDArray[np.bool_] = torch.isnan(rows).cpu().numpy()
        return mask
    return np.isnan(rows)


def balanced(batch_size: int, n_samples: int) -> int:
    """Return a batch size of at most ``batch_size`` that makes equal batches."""
    n_batches = -(-n_samples // batch_size)
    if n_batches > 1:
        n_batches += -n_batches % SHARED_BATCHES
    return -(-n_samples // n_batches)


def default_batch_size(bytes_per_row: int, device: torch.device) -> int:
    """Return how many rows of working memory ``bytes_per_row`` fit one batch."""
    rows = BATCH_BYTES[device.type] // max(bytes_per_row, 1)
    return min(max(rows, 256), 2**17)
