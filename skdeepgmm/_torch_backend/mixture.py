"""The parameters of a Gaussian mixture and what follows from them alone."""

from dataclasses import dataclass
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from skdeepgmm._torch_backend.convert import to_numpy
from skdeepgmm._torch_backend.covariances import Covariance
from skdeepgmm._torch_backend.data import Standardization


@dataclass(frozen=True)
class Mixture:
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
    def from_arrays(
        cls,
        kind: type[Covariance],
        weights: NDArray[Any],
        means: NDArray[Any],
        precisions_chol: NDArray[Any],
        device: torch.device,
    ) -> "Mixture":
        """Return the mixture with these parameters (copied, float64)."""
        weight, mean, factor = (
            torch.tensor(array, dtype=torch.float64, device=device)
            for array in (weights, means, precisions_chol)
        )
        return cls(weight, mean, kind.from_precisions_chol(factor))

    def to_arrays(self, dtype: torch.dtype) -> dict[str, NDArray[Any]]:
        """Return the parameters under scikit-learn's attribute names."""
        tensors = {
            "weights_": self.weights,
            "means_": self.means,
            "covariances_": self.covariance.values,
            "precisions_cholesky_": self.covariance.precisions_chol,
            "precisions_": self.covariance.precisions(),
        }
        return {name: to_numpy(value, dtype) for name, value in tensors.items()}

    @property
    def n_components(self) -> int:
        return self.means.shape[0]

    @property
    def n_features(self) -> int:
        return self.means.shape[1]

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

    def from_units(self, units: Standardization) -> "Mixture":
        """Return the mixture of the data whose standardised form this one models."""
        return Mixture(
            self.weights,
            self.means * units.scale + units.shift,
            self.covariance.scaled(units.scale),
        )

    def to_units(self, units: Standardization) -> "Mixture":
        """Return the mixture of the standardised data."""
        return Mixture(
            self.weights,
            (self.means - units.shift) / units.scale,
            self.covariance.scaled(1.0 / units.scale),
        )

    def sample(
        self, counts: list[int], generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Draw ``counts[k]`` rows from every component k, in component order.

        Returns
        -------
        rows : Tensor of shape (sum(counts), n_features)
        labels : Tensor of shape (sum(counts),), int64
        """
        parts = []
        for component, count in enumerate(counts):
            noise = torch.randn(
                count,
                self.n_features,
                generator=generator,
                dtype=self.means.dtype,
                device=self.means.device,
            )
            parts.append(
                self.means[component] + self.covariance.color(noise, component)
            )
        device = self.means.device
        labels = torch.repeat_interleave(
            torch.arange(len(counts), device=device),
            torch.tensor(counts, device=device),
        )
        return torch.cat(parts), labels


def n_parameters(kind: type[Covariance], n_components: int, n_features: int) -> int:
    """Return the free parameters of weights, means and covariances."""
    means = n_components * n_features
    return n_components - 1 + means + kind.n_parameters(n_components, n_features)
