"""Mean and variance of every feature, merged part by part."""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from skdeepgmm._torch_backend import convert

TINY = torch.finfo(torch.float64).tiny
#: Rows read at a time.
CHUNK_ROWS = 4096


@dataclass(frozen=True)
class Moments:
    """Weighted moments of the rows seen so far, float64.

    Parts are merged by the update of Chan, Golub & LeVeque (1983), so that an offset
    that is large beside the spread costs no digits.

    Attributes
    ----------
    mass : Tensor of shape (n_features,)
        Weight of the observed entries.
    mean : Tensor of shape (n_features,)
    scatter : Tensor of shape (n_features,)
        Weighted sum of squared differences from the mean.
    """

    mass: Tensor
    mean: Tensor
    scatter: Tensor

    @classmethod
    def none(cls, n_features: int, device: torch.device) -> Self:
        """Return the moments of no rows."""
        zero = torch.zeros(n_features, dtype=torch.float64, device=device)
        return cls(zero, zero.clone(), zero.clone())

    @classmethod
    def of(
        cls,
        X: convert.ArrayLike2D,
        sample_weight: NDArray[np.float64] | None,
        device: torch.device,
        earlier: tuple[NDArray[Any], NDArray[Any], NDArray[Any]] | None = None,
    ) -> Self:
        """Return the moments of X, and of the ``earlier`` ones' rows (to_arrays)."""
        if earlier is None:
            return cls.none(X.shape[1], device).with_data(X, sample_weight)
        return cls.from_arrays(*earlier, device).with_data(X, sample_weight)

    @classmethod
    def from_arrays(
        cls,
        mass: NDArray[Any],
        mean: NDArray[Any],
        variance: NDArray[Any],
        device: torch.device,
    ) -> Self:
        """Return the moments that :meth:`to_arrays` stored."""
        weight, center, spread = (
            convert.float64_tensor(value, device) for value in (mass, mean, variance)
        )
        return cls(weight, center, spread * weight)

    def to_arrays(self) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        """Return mass, mean and variance."""
        return (
            convert.to_numpy(self.mass),
            convert.to_numpy(self.mean),
            convert.to_numpy(self.variance),
        )

    @property
    def variance(self) -> Tensor:
        """Variances, 0 where nothing was observed."""
        return self.scatter / self.mass.clamp_min(TINY)

    def with_data(
        self,
        X: convert.ArrayLike2D,
        sample_weight: NDArray[np.float64] | None = None,
    ) -> Self:
        """Return the moments with the rows of X too, read chunk by chunk.

        Parameters
        ----------
        X : ndarray, memmap or Tensor of shape (n_samples, n_features)
        sample_weight : ndarray of shape (n_samples,) or None
        """
        found, device = self, self.mean.device
        for start in range(0, X.shape[0], CHUNK_ROWS):
            part = slice(start, start + CHUNK_ROWS)
            rows = convert.rows_to_tensor(X[part], device, torch.float64)
            weight = None
            if sample_weight is not None:
                weight = convert.float64_tensor(sample_weight[part], device)
            found = found.merged(rows, weight)
        return found

    def merged(
        self, rows: Tensor, weight: Tensor | None = None, complete: bool = False
    ) -> Self:
        """Return the moments with these rows too.

        Parameters
        ----------
        rows : Tensor of shape (n_rows, n_features)
            NaN entries do not count.
        weight : Tensor of shape (n_rows,) or None
            float64 weights; None for ones.
        complete : bool
            Whether it is known that nothing is missing.
        """
        rows = rows.double()
        each = rows.new_ones(len(rows), 1) if weight is None else weight[:, None]
        if not complete and bool(torch.isnan(rows).any()):
            each = each * ~torch.isnan(rows)
            rows = rows.nan_to_num(0.0)
        mass = each.sum(0).expand_as(self.mean)
        mean = (each * rows).sum(0) / mass.clamp_min(TINY)
        scatter = (each * (rows - mean).square()).sum(0)
        return self.plus(type(self)(mass, mean, scatter))

    def plus(self, other: Self) -> Self:
        """Return the moments of both sets of rows."""
        delta = other.mean - self.mean
        total = (self.mass + other.mass).clamp_min(TINY)
        between = delta.square() * (self.mass * other.mass / total)
        # Of first rows there is nothing between, though they may lie very far from 0.
        between = torch.where(self.mass > 0.0, between, 0.0)
        return type(self)(
            self.mass + other.mass,
            self.mean + delta * (other.mass / total),
            self.scatter + (other.scatter + between),
        )
