"""What a fit asks of its data, wherever these lie: passes that add up.

A pass is a function of rows in memory (``ArraySource``) whose results merge: sums,
moments, sufficient statistics. One source applies it to all rows at once; another one
to parts of them, in other processes, and merges in an order that depends on the parts
alone. Everything here is the same for both.
"""

import operator
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor

from skdeepgmm._torch_backend.moments import Moments
from skdeepgmm._torch_backend.standardization import (
    Standardization,
    without_rounding,
)

if TYPE_CHECKING:
    from skdeepgmm._torch_backend.data import ArraySource

T = TypeVar("T")

#: A deviation this many times that of the middle half of the values is due to a few
#: extreme ones.
EXTREME = 1e3
#: Rows whose quartiles are taken, and what these are apart under a normal distribution.
QUARTILE_ROWS, NORMAL_QUARTILES = 2**10, 1.3489795
#: Largest standardised values: in float32 a square times the least responsibility must
#: be negligible.
LARGEST = {torch.float32: 1e13, torch.float64: 1e140}


class Source(ABC):
    """Rows to learn from, in the units of the training once these are measured.

    Attributes
    ----------
    device : torch.device
        Where results are.
    dtype : torch.dtype
        Type of the rows.
    n_samples, n_features : int
    standardization : Standardization or None
    """

    device: torch.device
    dtype: torch.dtype
    n_samples: int
    n_features: int
    standardization: Standardization | None = None

    @abstractmethod
    def reduced(
        self, function: Callable[["ArraySource"], T], merge: Callable[[T, T], T]
    ) -> T:
        """Return ``function`` of all rows: of parts of them, its results merged."""

    @property
    @abstractmethod
    def has_missing(self) -> bool:
        """Whether an entry is NaN."""

    @property
    @abstractmethod
    def n_counted(self) -> int:
        """Number of the rows with weight."""

    @abstractmethod
    def take_counted(self, index: Tensor) -> Tensor:
        """Return rows with weight by their numbers among these, as ``take``."""

    @abstractmethod
    def total_weight(self) -> float:
        """Return the sum of the sample weights."""

    @abstractmethod
    def _all_moments(self) -> Moments:
        """Return the weighted moments of the features; NaN entries do not count."""

    @abstractmethod
    def _spaced_rows(self) -> Tensor:
        """Return evenly spaced rows, (n_rows, n_features), float64."""

    def agreed(self, value: T) -> T:
        """Return a value that processes which fit together have to share."""
        return value

    def _set_units(self, units: Standardization) -> Standardization:
        self.standardization = units
        return units

    def moments(self) -> tuple[Tensor, Tensor]:
        """Return the weighted mean and variance of every feature, float64.

        NaN entries do not count.
        """
        found = self._all_moments()
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
        return self._set_units(found)

    def use_units(self, units: Standardization) -> Standardization:
        """Standardise later blocks by given units instead of measured ones."""
        shift = units.shift.to(self.dtype).double()
        scale = torch.where(units.scale > 0, units.scale, 1.0)
        return self._set_units(Standardization(shift, scale))

    def mean_log_scale(self) -> float:
        """Return what a mean log-density gains in the standardised units, in nats.

        Missing entries have no density, so their scales do not count.
        """
        if self.standardization is None:
            return 0.0
        if not self.has_missing:
            return self.standardization.log_scale
        log_scale = self.standardization.scale.log()
        total: float = self.reduced(partial(_log_scale_sum, log_scale), operator.add)
        return total / self.total_weight()

    def _typical(self, mean: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
        """Replace moments that a few extreme values dominate by robust ones.

        Fill values such as 1e20 would make a constant of everything else.
        """
        median, spread = quartiles(self._spaced_rows())
        extreme = (spread > 0.0) & (variance > (EXTREME * spread).square())
        if not bool(extreme.any()):
            return mean, variance
        mean = torch.where(extreme, median, mean)
        variance = torch.where(extreme, spread.square(), variance)
        self._check_extremes(mean, variance.sqrt())
        return mean, variance

    def _check_extremes(self, center: Tensor, spread: Tensor) -> None:
        """Raise where squares of standardised values leave the data's dtype."""
        limit = LARGEST[self.dtype]
        found: list[tuple[int, int, float]] = self.reduced(
            partial(_first_beyond, center, limit * spread), operator.add
        )
        for row, feature, value in found:
            raise ValueError(
                f"X has values too extreme for {self.dtype}: row {row}, "
                f"feature {feature} holds {value:g}, where "
                f"most values are within {float(spread[feature]):g} of "
                f"{float(center[feature]):g}. Remove such rows, or mark missing "
                "entries by NaN."
            )

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


def _first_beyond(
    center: Tensor, most: Tensor, source: "ArraySource"
) -> list[tuple[int, int, float]]:
    """Return row, feature and value of the first value too far from the centre."""
    for start, _, rows in source.rows():
        far = ((rows.double() - center).abs() > most).nonzero()
        if len(far):
            row, feature = far[0].tolist()
            number = source.first_row + start + row
            return [(number, feature, float(rows[row, feature]))]
    return []


def _log_scale_sum(log_scale: Tensor, source: "ArraySource") -> float:
    """Return the sum over rows of the log-scales of their observed features."""
    if source.patterns is None:
        return source.total_weight() * float(log_scale.sum())
    total = 0.0
    for pattern in source.patterns:
        weight = source.weight_of(pattern.rows)
        mass = len(pattern.rows) if weight is None else float(weight.sum())
        total += mass * float(log_scale[pattern.observed.to(source.device)].sum())
    return total


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
