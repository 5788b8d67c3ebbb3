"""The parameters of a Gaussian mixture and what follows from them alone."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from skdeepgmm._torch_backend.convert import float64_tensor, to_numpy
from skdeepgmm._torch_backend.mixture.covariances import Covariance
from skdeepgmm._torch_backend.mixture.covariances.base import MAX_CANCELLATION
from skdeepgmm._torch_backend.mixture.suffstats import Statistics
from skdeepgmm._torch_backend.standardization import Standardization


@dataclass(frozen=True)
class MixtureDensity:
    """Weights, means and covariances, all float64 on one device.

    Attributes
    ----------
    weights : Tensor of shape (n_components,)
    means : Tensor of shape (n_components, n_features)
    covariance : Covariance
    """

    weights: Tensor
    means: Tensor
    covariance: Covariance

    @classmethod
    def from_attributes(
        cls,
        covariance_class: type[Covariance],
        attributes: Mapping[str, NDArray[Any]],
        device: torch.device,
    ) -> "MixtureDensity":
        """Return the mixture with these fitted attributes (copied, float64).

        ``attributes`` holds "weights_", "means_" and what the class's ``stored`` names.
        """
        weights, means, *covariance = (
            float64_tensor(attributes[name], device)
            for name in ("weights_", "means_", *covariance_class.stored)
        )
        return cls(weights, means, covariance_class.from_stored(*covariance))

    def to_attributes(self, dtype: torch.dtype) -> dict[str, NDArray[Any]]:
        """Return the parameters as arrays under scikit-learn's attribute names."""
        tensors = {"weights_": self.weights, "means_": self.means}
        tensors |= self.covariance.attributes()
        return {name: to_numpy(value, dtype) for name, value in tensors.items()}

    @property
    def is_finite(self) -> bool:
        """Whether weights and means are finite."""
        return all(bool(torch.isfinite(t).all()) for t in (self.weights, self.means))

    def dense_covariances(self) -> Tensor:
        """Return the matrices (n_components, n_features, n_features)."""
        return self.covariance.dense(*self.means.shape)

    @property
    def n_components(self) -> int:
        return self.means.shape[0]

    @property
    def n_features(self) -> int:
        return self.means.shape[1]

    @cached_property
    def cancellation(self) -> float:
        """What the natural form cancels (``Covariance.cancellation``)."""
        return self.covariance.cancellation(self.means)

    def n_parameters(self) -> int:
        """Return the number of free parameters."""
        return n_parameters(type(self.covariance), *self.means.shape)

    def log_joint(self, x: Tensor) -> Tensor:
        """Return log(pi_k N(x; mu_k, Sigma_k)) of shape (n_components, n_samples).

        Parameters
        ----------
        x : Tensor of shape (n_features, n_samples)
        """
        log_weights = self.weights.log().to(x.dtype)
        return self.covariance.log_prob(x, self.means).add_(log_weights[:, None])

    def arithmetic(self, dtype: torch.dtype) -> torch.dtype:
        """Return the type in which log-densities are right to about 1e-3 nats."""
        if dtype == torch.float64:
            return dtype
        error = self.covariance.rounding(self.means)
        return dtype if error <= MAX_CANCELLATION[dtype] else torch.float64

    def subset(self, index: Tensor) -> "MixtureDensity":
        """Return some components, at their weights."""
        return MixtureDensity(
            self.weights[index], self.means[index], self.covariance.subset(index)
        )

    def marginal(self, kept: Tensor) -> "MixtureDensity":
        """Return the mixture of the features at the indices ``kept``."""
        return MixtureDensity(
            self.weights, self.means[:, kept], self.covariance.marginal(kept)
        )

    def conditional(
        self, observed: Tensor, rest: Tensor, values: Tensor
    ) -> "MixtureDensity":
        """Return the mixture of the features ``rest`` given ``observed`` = values."""
        seen = self.marginal(observed)
        log_joint = seen.log_joint(values[:, None])[:, 0]
        diff = (values - seen.means)[..., None]
        shift = self.covariance.regress(diff, observed, rest)[..., 0]
        return MixtureDensity(
            log_joint.softmax(0),
            self.means[:, rest] + shift,
            self.covariance.conditional(observed, rest),
        )

    def standardization(self) -> Standardization:
        """Return the mean and standard deviation of the mixture's own distribution."""
        mean = self.weights @ self.means
        variances = self.covariance.variances() + (self.means - mean).square()
        variance = self.weights @ variances
        if self.covariance.isotropic:
            variance = variance.mean().expand_as(variance)
        return Standardization(mean, variance.sqrt())

    def typical_units(self) -> Standardization:
        """Return means and standard deviations of components, the weighted medians.

        A component far from all others does not move them.
        """
        variances = self.covariance.variances().expand_as(self.means)
        shift, variance = (
            _weighted_median(values, self.weights) for values in (self.means, variances)
        )
        if self.covariance.isotropic:
            variance = variance.mean().expand_as(variance)
        return Standardization(shift, variance.sqrt())

    def expected_statistics(self, ridge: Tensor) -> Statistics:
        """Return the statistics of one sample of mass 1, about the means."""
        shape = self.covariance.second_shape(*self.means.shape)
        stats = Statistics.zeros(self.means, shape)
        stats.add(torch.zeros_like(stats.total), 1.0)
        second = self.covariance.expected_second(self.weights, ridge)
        return replace(stats, nk=self.weights, second=second)

    def unstandardized(self, standardization: Standardization) -> "MixtureDensity":
        """Return the mixture of the data whose standardised form this one models."""
        return MixtureDensity(
            self.weights,
            standardization.inverse(self.means),
            self.covariance.scaled(standardization.scale),
        )

    def standardized(self, standardization: Standardization) -> "MixtureDensity":
        """Return the mixture of the standardised data."""
        return MixtureDensity(
            self.weights,
            standardization(self.means),
            self.covariance.scaled(1.0 / standardization.scale),
        )

    def sample(
        self, counts: list[int], generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Draw ``counts[k]`` samples from every component k, in component order.

        Returns
        -------
        x : Tensor of shape (sum(counts), n_features)
        labels : Tensor of shape (sum(counts),), int64
        """
        parts = []
        for component, count in enumerate(counts):
            shape = (count, self.n_features)
            offset = self.covariance.sample(component, shape, generator)
            parts.append(self.means[component] + offset)
        device = self.means.device
        labels = torch.repeat_interleave(
            torch.arange(len(counts), device=device),
            torch.tensor(counts, device=device),
        )
        return torch.cat(parts), labels


def _weighted_median(values: Tensor, weights: Tensor) -> Tensor:
    """Return the medians of rows that count as their weights, (n_features,)."""
    ordered, order = values.sort(dim=0)
    below = weights[order].cumsum(0) < 0.5 * weights.sum()
    return ordered.gather(0, below.sum(0, keepdim=True))[0]


def n_parameters(
    covariance_class: type[Covariance], n_components: int, n_features: int
) -> int:
    """Return the free parameters of weights, means and covariances."""
    means = n_components * n_features
    return (
        n_components
        - 1
        + means
        + covariance_class.n_parameters(n_components, n_features)
    )
