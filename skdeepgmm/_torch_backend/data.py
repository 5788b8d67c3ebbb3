"""Data sources: rows of an array, a memory map or a tensor, in batches.

A pass never needs the data as a whole. Blocks are laid out features first,
(n_features, n_samples), so that every later operation is a matrix product or a
reduction along the leading axis, which vectorises over the samples.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from skdeepgmm._torch_backend.convert import ArrayLike2D, rows_to_tensor, torch_dtype

#: Standardised blocks are kept between passes while they need less than this.
CACHE_BYTES = 128 * 2**20
#: Working set of one batch: about the outer caches of a CPU core, or a share of
#: device memory large enough to fill the chip.
BATCH_BYTES = {"cpu": 8 * 2**20, "cuda": 512 * 2**20}


@dataclass(frozen=True)
class Standardization:
    """The affine map x -> (x - shift) / scale to the units in which models are fitted.

    Attributes
    ----------
    shift, scale : Tensor of shape (n_features,), float64
    """

    shift: Tensor
    scale: Tensor

    @property
    def log_scale(self) -> float:
        """What a log-density gains (in nats) in the standardised units."""
        return float(self.scale.log().sum())


@dataclass
class Block:
    """A standardised batch.

    Attributes
    ----------
    x : Tensor of shape (n_features, n_samples)
    start, stop : int
        The rows of the source that the block holds.
    weight : Tensor of shape (n_samples,) or None
        Sample weights, None when all are one.
    features : Tensor or None
        Second-moment features kept from an earlier pass (small data only).
    """

    x: Tensor
    start: int
    stop: int
    weight: Tensor | None = None
    features: Tensor | None = None


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
        """Return the standardised rows at ``indices``, (n_features, n_indices)."""
        rows = rows_to_tensor(self.X[indices], self.device, torch.float64)
        return self._standardize(rows).contiguous()

    def total_weight(self) -> float:
        """Return the sum of the sample weights."""
        if self.sample_weight is None:
            return float(self.n_samples)
        return float(self.sample_weight.sum())

    def moments(self) -> tuple[Tensor, Tensor]:
        """Return the weighted mean and variance of every feature, float64.

        Batches are merged by Chan's update, so that an offset that is large beside
        the spread costs no digits.
        """
        total = torch.zeros((), dtype=torch.float64, device=self.device)
        mean = torch.zeros(self.n_features, dtype=torch.float64, device=self.device)
        scatter = torch.zeros_like(mean)
        for start, stop, rows in self.rows():
            rows = rows.double()
            weight = self._weight(start, stop, rows)
            mass = weight.sum()
            if mass == 0:
                continue
            batch_mean = weight @ rows / mass
            batch_scatter = weight @ (rows - batch_mean).square()
            delta = batch_mean - mean
            new_total = total + mass
            mean = mean + delta * (mass / new_total)
            scatter += batch_scatter + delta.square() * (total * mass / new_total)
            total = new_total
        return mean, scatter / total

    def standardize(self, isotropic: bool = False) -> Standardization:
        """Measure mean and deviation; later blocks come standardised by them."""
        mean, variance = self.moments()
        # A shift that X's dtype holds exactly makes x - shift exact in that dtype.
        shift = mean.to(self.dtype).double()
        # A constant feature has the variance of its mean's rounding error, if any.
        rounding = (100 * torch.finfo(torch.float64).eps * mean).square()
        variance = torch.where(variance > rounding, variance, 0.0)
        scale = torch.where(variance > 0, variance, 1.0).sqrt()
        found = Standardization(shift, scale)
        if isotropic:
            pooled = variance.mean()
            common = pooled.sqrt() if pooled > 0 else torch.ones_like(pooled)
            found = Standardization(shift, common.expand_as(scale).contiguous())
        self.standardization = found
        self._kept = None
        return found

    def blocks(self) -> Iterator[Block]:
        """Yield the data once, as standardised blocks."""
        if self._kept is not None:
            yield from self._kept
            return
        itemsize = torch.finfo(self.dtype).bits // 8
        keep = self.n_samples * self.n_features * itemsize <= CACHE_BYTES
        kept: list[Block] = []
        for start, stop, rows in self.rows():
            block = Block(
                self._standardize(rows), start, stop, self._block_weight(start, stop)
            )
            if keep:
                kept.append(block)
            yield block
        if keep:
            self._kept = kept

    def _standardize(self, rows: Tensor) -> Tensor:
        if self.standardization is None:
            return rows.T.contiguous()
        shift = self.standardization.shift.to(rows.dtype)
        scale = self.standardization.scale.to(rows.dtype)
        return ((rows - shift) / scale).T.contiguous()

    def _block_weight(self, start: int, stop: int) -> Tensor | None:
        if self.sample_weight is None:
            return None
        return self.sample_weight[start:stop]

    def _weight(self, start: int, stop: int, rows: Tensor) -> Tensor:
        weight = self._block_weight(start, stop)
        return rows.new_ones(stop - start) if weight is None else weight


def balanced(batch_size: int, n_samples: int) -> int:
    """Return a batch size of at most ``batch_size`` that makes equal batches."""
    n_batches = -(-n_samples // batch_size)
    return -(-n_samples // n_batches)


def default_batch_size(bytes_per_row: int, device: torch.device) -> int:
    """Return how many rows of working memory ``bytes_per_row`` fit one batch."""
    rows = BATCH_BYTES[device.type] // max(bytes_per_row, 1)
    return min(max(rows, 256), 2**17)
