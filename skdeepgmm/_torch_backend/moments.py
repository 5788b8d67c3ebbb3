"""Mean and variance of every feature, merged part by part."""

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

TINY = torch.finfo(torch.float64).tiny


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

    @property
    def variance(self) -> Tensor:
        """Variances, 0 where nothing was observed."""
        return self.scatter / self.mass.clamp_min(TINY)

    def merged(self, rows: Tensor, weight: Tensor | None = None) -> Self:
        """Return the moments with these rows too.

        Parameters
        ----------
        rows : Tensor of shape (n_rows, n_features)
            NaN entries do not count.
        weight : Tensor of shape (n_rows,) or None
            float64 weights; None for ones.
        """
        rows = rows.double()
        each = rows.new_ones(len(rows), 1) if weight is None else weight[:, None]
        missing = torch.isnan(rows)
        if bool(missing.any()):
            each = each * ~missing
            rows = rows.nan_to_num(0.0)
        mass = each.sum(0).expand_as(self.mean)
        mean = (each * rows).sum(0) / mass.clamp_min(TINY)
        scatter = (each * (rows - mean).square()).sum(0)
        delta = mean - self.mean
        total = (self.mass + mass).clamp_min(TINY)
        return type(self)(
            self.mass + mass,
            self.mean + delta * (mass / total),
            self.scatter + (scatter + delta.square() * (self.mass * mass / total)),
        )
