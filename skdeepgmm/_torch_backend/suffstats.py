"""Additive sufficient statistics of a Gaussian mixture."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class Statistics:
    """Expected sufficient statistics of the samples seen so far, in float64.

    They add: over batches, over chunks of a stream, over processes. Moments are
    taken about ``center``, so that a component that is tight and far from the
    origin loses no digits; sums of statistics must share their centre.

    Attributes
    ----------
    log_likelihood : Tensor of shape ()
        Weighted sum of log p(x), in nats.
    total : Tensor of shape ()
        Sum of the sample weights.
    nk : Tensor of shape (n_components,)
        Sum of the responsibilities.
    first : Tensor of shape (n_components, n_features)
        Sum of responsibility times (x - center).
    second : Tensor
        Sum of responsibility times second moments about the centre; its shape is
        the covariance type's.
    center : Tensor of shape (n_components, n_features)
    """

    log_likelihood: Tensor
    total: Tensor
    nk: Tensor
    first: Tensor
    second: Tensor
    center: Tensor

    @classmethod
    def zeros(cls, center: Tensor, second_shape: tuple[int, ...]) -> "Statistics":
        """Return the statistics of no data."""
        scalar = torch.zeros((), dtype=torch.float64, device=center.device)
        return cls(
            log_likelihood=scalar,
            total=scalar.clone(),
            nk=center.new_zeros(center.shape[0]),
            first=torch.zeros_like(center),
            second=center.new_zeros(second_shape),
            center=center,
        )

    def add(self, log_likelihood: Tensor, total: Tensor | float) -> None:
        """Count a batch's log-likelihood and weight."""
        self.log_likelihood = self.log_likelihood + log_likelihood
        self.total = self.total + total

    def merge(self, other: "Statistics") -> "Statistics":
        """Return the statistics of both data sets (equal centres)."""
        if not torch.equal(self.center, other.center):
            raise ValueError("Statistics about different centres do not add.")
        return Statistics(
            self.log_likelihood + other.log_likelihood,
            self.total + other.total,
            self.nk + other.nk,
            self.first + other.first,
            self.second + other.second,
            self.center,
        )

    def scaled(self, factor: float) -> "Statistics":
        """Return the statistics of the same data at ``factor`` times the weight."""
        return Statistics(
            self.log_likelihood * factor,
            self.total * factor,
            self.nk * factor,
            self.first * factor,
            self.second * factor,
            self.center,
        )

    @property
    def mean_log_likelihood(self) -> float:
        """Mean log p(x) a sample, in nats."""
        return float(self.log_likelihood / self.total)
