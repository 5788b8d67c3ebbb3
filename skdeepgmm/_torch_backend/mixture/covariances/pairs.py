"""Pairs of components that may become one."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Pairs:
    """Pairs (i, j) of a mixture's components, and the moments of their means.

    Attributes
    ----------
    first, second : Tensor of shape (n_pairs,), int64
        Indices i and j.
    weights : Tensor of shape (2, n_pairs)
        w_i and w_j.
    diff : Tensor of shape (n_pairs, n_features)
        mu_i - mu_j.
    """

    first: Tensor
    second: Tensor
    weights: Tensor
    diff: Tensor

    @classmethod
    def of(
        cls, weights: Tensor, means: Tensor, first: Tensor, second: Tensor
    ) -> "Pairs":
        """Return the pairs of components ``first`` and ``second``."""
        both = torch.stack([weights[first], weights[second]])
        both = both.clamp_min(torch.finfo(both.dtype).tiny)
        return cls(first, second, both, means[first] - means[second])

    def __len__(self) -> int:
        return len(self.first)

    @property
    def mass(self) -> Tensor:
        """w_i + w_j."""
        return self.weights.sum(0)

    @property
    def share(self) -> Tensor:
        """w_i / (w_i + w_j)."""
        return self.weights[0] / self.mass

    def offsets(self) -> tuple[Tensor, Tensor]:
        """Return both means minus the mean of the pair, (n_pairs, n_features)."""
        share = self.share[:, None]
        return (1.0 - share) * self.diff, -share * self.diff

    def split(self, size: int) -> Iterator["Pairs"]:
        """Yield parts of at most ``size`` pairs."""
        for start in range(0, len(self), size):
            part = slice(start, start + size)
            yield Pairs(
                self.first[part],
                self.second[part],
                self.weights[:, part],
                self.diff[part],
            )
