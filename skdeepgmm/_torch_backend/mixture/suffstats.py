"""Additive sufficient statistics of a Gaussian mixture."""

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from skdeepgmm._torch_backend.mixture.covariances import Covariance


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
    cancellation_bound : float
        Largest cancellation of a mixture that these statistics determine accurately.
    """

    log_likelihood: Tensor
    total: Tensor
    nk: Tensor
    first: Tensor
    second: Tensor
    center: Tensor
    cancellation_bound: float = math.inf

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
        return replace(
            self,
            log_likelihood=self.log_likelihood + other.log_likelihood,
            total=self.total + other.total,
            nk=self.nk + other.nk,
            first=self.first + other.first,
            second=self.second + other.second,
            cancellation_bound=min(self.cancellation_bound, other.cancellation_bound),
        )

    def scaled(self, factor: float) -> "Statistics":
        """Return the statistics of the same data at ``factor`` times the weight."""
        return replace(
            self,
            log_likelihood=self.log_likelihood * factor,
            total=self.total * factor,
            nk=self.nk * factor,
            first=self.first * factor,
            second=self.second * factor,
        )

    def recentered(
        self, covariance_class: type["Covariance"], center: Tensor
    ) -> "Statistics":
        """Return the same statistics about another centre."""
        shift = center - self.center
        return replace(
            self,
            first=self.first - self.nk[:, None] * shift,
            second=covariance_class.recentered(self.second, self.first, self.nk, shift),
            center=center,
        )

    @property
    def mean_log_likelihood(self) -> float:
        """Mean log p(x) a sample, in nats."""
        return float(self.log_likelihood / self.total)
