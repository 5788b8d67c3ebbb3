"""Data sources: rows of an array, a memory map or a tensor, in batches.

A pass never needs the data as a whole. Blocks are laid out features first,
(n_features, n_samples), so that every later operation is a matrix product or a
reduction along the leading axis, which vectorises over the samples.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from skdeepgmm._torch_backend.convert import ArrayLike2D, rows_to_tensor, torch_dtype
from skdeepgmm._torch_backend.moments import Moments
from skdeepgmm._torch_backend.standardization import (
    Standardization,
    without_rounding,
)

#: Standardised blocks are kept between passes while they need less than this.
CACHE_BYTES = 128 * 2**20
#: Rows from which on a pattern of missing features gets a pass of its own.
FREQUENT_ROWS = 64
#: Working set of one batch: about the outer caches of a CPU core, or a share of
#: device memory large enough to fill the chip.
BATCH_BYTES = {"cpu": 8 * 2**20, "cuda": 512 * 2**20}


#: A deviation this many times that of the middle half of the values is due to a few
#: extreme ones.
EXTREME = 1e3
#: Rows whose quartiles are taken, and what these are apart under a normal distribution.
QUARTILE_ROWS, NORMAL_QUARTILES = 2**10, 1.3489795
#: Largest standardised values: in float32 a square times the least responsibility must
#: be negligible.
LARGEST = {torch.float32: 1e13, torch.float64: 1e140}


@dataclass
class Block:
    """A standardised batch.

    Attributes
    ----------
    x : Tensor of shape (n_features, n_samples)
    index : slice or ndarray
        The rows of the source that the block holds.
    number : int
        Position of the block in its pass.
    weight : Tensor of shape (n_samples,) or None
        Sample weights, None when all are one.
    observed : Tensor of int64 or None
        The features that ``x`` holds, None for all.
    features : Tensor or None
        Second-moment features kept from an earlier pass (small data only).
    """

    x: Tensor
    index: slice | NDArray[np.int64]
    number: int
    weight: Tensor | None = None
    observed: Tensor | None = None
    features: Tensor | None = None

    @property
    def n_samples(self) -> int:
        return self.x.shape[1]


class ArraySource:
    """Rows of an array, memory map or tensor, read batch by batch.

    Parameters
    ----------
    X : ndarray or Tensor of shape (n_samples, n_features)
    device : torch.device
    batch_size : int
        Rows a batch.
    sample_weight : Tensor of shape (n_samples,) or None
        float64 weights on ``device``.

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
    ) -> None:
        self.X = X
        self.device = device
        self.dtype = torch_dtype(X)
        self.n_samples: int = X.shape[0]
        self.n_features: int = X.shape[1]
        self.batch_size = min(batch_size, self.n_samples)
        self.sample_weight = sample_weight
        self.standardization: Standardization | None = None
        self._kept: list[Block] | None = None
        self._kept_parts: dict[int, list[Block]] = {}
        self.patterns = find_patterns(X, self.batch_size)

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

    @property
    def n_counted(self) -> int:
        """How many rows have weight."""
        counted = self.counted()
        return self.n_samples if counted is None else len(counted)

    def total_weight(self) -> float:
        """Return the sum of the sample weights."""
        if self.sample_weight is None:
            return float(self.n_samples)
        return float(self.sample_weight.sum())

    def moments(self) -> tuple[Tensor, Tensor]:
        """Return the weighted mean and variance of every feature, float64.

        NaN entries do not count.
        """
        found = Moments.none(self.n_features, self.device)
        for start, stop, rows in self.rows():
            weight = self.weight_of(slice(start, stop))
            found = found.merged(rows, weight, complete=self.patterns is None)
        empty = (found.mass == 0).nonzero()[:, 0].tolist()
        if empty:
            raise ValueError(
                f"Features {empty} of X have no observed value (NaN in every row). "
                "Drop them."
            )
        return found.mean, found.scatter / found.mass

    def standardize(self, isotropic: bool = False) -> Standardization:
        """Measure mean and deviation; later blocks come standardised by them."""
        mean, variance = self.moments()
        self._check_range(variance)
        mean, variance = self._typical(mean, variance)
        # A shift that X's dtype holds exactly makes x - shift exact in that dtype.
        shift = mean.to(self.dtype).double()
        variance = without_rounding(mean, variance)
        scale = torch.where(variance > 0, variance, 1.0).sqrt()
        found = Standardization(shift, scale)
        if isotropic:
            pooled = variance.mean()
            common = pooled.sqrt() if pooled > 0 else torch.ones_like(pooled)
            found = Standardization(shift, common.expand_as(scale).contiguous())
        self.standardization = found
        self._kept = None
        self._kept_parts = {}
        return found

    def _typical(self, mean: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
        """Replace moments that a few extreme values dominate by robust ones.

        Fill values such as 1e20 would make a constant of everything else.
        """
        median, spread = quartiles(self._evenly_spaced(QUARTILE_ROWS))
        extreme = (spread > 0.0) & (variance > (EXTREME * spread).square())
        if not bool(extreme.any()):
            return mean, variance
        mean = torch.where(extreme, median, mean)
        variance = torch.where(extreme, spread.square(), variance)
        self._check_extremes(mean, variance.sqrt())
        return mean, variance

    def _evenly_spaced(self, n_rows: int) -> Tensor:
        """Return about so many rows, float64, from all over X."""
        step = max(1, self.n_samples // n_rows)
        return rows_to_tensor(self.X[::step], self.device, torch.float64)

    def _check_extremes(self, center: Tensor, spread: Tensor) -> None:
        """Raise where squares of standardised values leave the data's dtype."""
        limit = LARGEST[self.dtype]
        for start, _, rows in self.rows():
            far = ((rows.double() - center).abs() > limit * spread).nonzero()
            if len(far):
                row, feature = far[0].tolist()
                raise ValueError(
                    f"X has values too extreme for {self.dtype}: row {start + row}, "
                    f"feature {feature} holds {float(rows[row, feature]):g}, where "
                    f"most values are within {float(spread[feature]):g} of "
                    f"{float(center[feature]):g}. Remove such rows, or mark missing "
                    "entries by NaN."
                )

    def use_units(self, units: Standardization) -> Standardization:
        """Standardise later blocks by given units instead of measured ones."""
        shift = units.shift.to(self.dtype).double()
        scale = torch.where(units.scale > 0, units.scale, 1.0)
        self.standardization = Standardization(shift, scale)
        self._kept = None
        self._kept_parts = {}
        return self.standardization

    def mean_log_scale(self) -> float:
        """Return what a mean log-density gains in the standardised units, in nats.

        Missing entries have no density, so their scales do not count.
        """
        if self.standardization is None:
            return 0.0
        if self.patterns is None:
            return self.standardization.log_scale
        log_scale = self.standardization.scale.log()
        total = 0.0
        for pattern in self.patterns:
            weight = self.weight_of(pattern.rows)
            mass = len(pattern.rows) if weight is None else float(weight.sum())
            total += mass * float(log_scale[pattern.observed.to(self.device)].sum())
        return total / self.total_weight()

    def _check_range(self, variance: Tensor) -> None:
        """Raise where variances, or their inverses, leave the data's dtype."""
        limits = torch.finfo(self.dtype)
        used = variance[variance > 0]
        if bool((~(variance < limits.max)).any()):
            raise ValueError(
                f"X has features whose variance overflows {self.dtype}. Rescale X, for "
                "example with StandardScaler."
            )
        if bool((used < 1.0 / limits.max).any()):
            raise ValueError(
                f"X has features whose inverse variance overflows {self.dtype}. "
                "Rescale X, for example with StandardScaler."
            )

    def blocks(self) -> Iterator[Block]:
        """Yield the data once, as standardised blocks."""
        if self._kept is not None:
            yield from self._kept
            return
        keep, kept = self._fits_cache(), []
        for number, (start, stop, rows) in enumerate(self.rows()):
            weight = self.weight_of(slice(start, stop))
            block = Block(self._standardize(rows), slice(start, stop), number, weight)
            if keep:
                kept.append(block)
            yield block
        if keep:
            self._kept = kept

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
            yield Block(x, part, start, self.weight_of(part)), mask

    def _part(self, number: int, pattern: "Pattern") -> Iterator[Block]:
        observed = pattern.observed.to(self.device)
        for start in range(0, len(pattern.rows), self.batch_size):
            index = pattern.rows[start : start + self.batch_size]
            rows = rows_to_tensor(self.X[index], self.device, self.dtype)
            x = self._standardize(rows)[observed].contiguous()
            weight = self.weight_of(index)
            yield Block(x, index, number + start, weight, observed)

    def _fits_cache(self) -> bool:
        itemsize = torch.finfo(self.dtype).bits // 8
        return self.n_samples * self.n_features * itemsize <= CACHE_BYTES

    def _standardize(self, rows: Tensor) -> Tensor:
        if self.standardization is None:
            return rows.T.contiguous()
        return self.standardization(rows).T.contiguous()

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


def quartiles(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Return the median, and the deviation by the quartiles, of every feature.

    NaN entries do not count; a feature without others has zeros.
    """
    missing = torch.isnan(rows)
    levels = (0.25, 0.5, 0.75)
    if not bool(missing.any()):
        # Selecting takes a fraction of the time of sorting, and more along columns.
        columns = rows.T.contiguous()
        low, median, high = (
            columns.kthvalue(1 + int(level * (len(rows) - 1))).values
            for level in levels
        )
    else:
        ordered = rows.sort(dim=0).values  # NaN last
        most = (~missing).sum(0, keepdim=True).clamp_min(1) - 1
        low, median, high = (
            ordered.gather(0, (level * most).long())[0].nan_to_num(0.0)
            for level in levels
        )
    return median, (high - low) / NORMAL_QUARTILES


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
    return -(-n_samples // n_batches)


def default_batch_size(bytes_per_row: int, device: torch.device) -> int:
    """Return how many rows of working memory ``bytes_per_row`` fit one batch."""
    rows = BATCH_BYTES[device.type] // max(bytes_per_row, 1)
    return min(max(rows, 256), 2**17)
