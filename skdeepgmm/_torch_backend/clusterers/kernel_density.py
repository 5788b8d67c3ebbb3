"""Density of a generator: a mixture of Gaussians around its outputs (Parzen).

With generated samples g_m of weights v_m, p(x) = sum_m v_m N(x; g_m, sigma^2 I): the
Monte-Carlo form of E_z N(x; G(z), sigma^2 I). Everything is float64.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from skdeepgmm._torch_backend.inference import in_batches
from skdeepgmm._torch_backend.rng import new_generator

#: Steps of EM for sigma; it stops when sigma changes by less than RELATIVE_CHANGE.
EM_STEPS, RELATIVE_CHANGE = 100, 1e-4
#: Sigma stays above this, after standardization.
SMALLEST_SIGMA = 1e-3
#: Generated samples of a cluster.
KERNELS = 300


@dataclass(frozen=True)
class Kernels:
    """Generated samples, flattened, and the logarithms of their weights.

    Attributes
    ----------
    centers : Tensor of shape (n_kernels, n_features), float64
    log_weights : Tensor of shape (n_kernels,), float64
    """

    centers: Tensor
    log_weights: Tensor

    def cluster_means(self, n_clusters: int) -> Tensor:
        """Return the mean of the generated samples of each cluster, flattened."""
        return self.centers.reshape(n_clusters, -1, self.centers.shape[1]).mean(1)

    def distances(self, rows: Tensor) -> Tensor:
        """Return squared distances of rows (n, n_features) to the centers."""
        products = rows @ self.centers.T
        squares = self.centers.square().sum(1)
        total = rows.square().sum(1, keepdim=True) + squares - 2.0 * products
        return total.clamp_min(0.0)

    def log_density(self, rows: Tensor, sigma: float) -> Tensor:
        """Return log p(x) of rows (n, ...), in nats."""
        return in_batches(
            lambda part: self._log_density(part.flatten(1).double(), sigma), rows
        )

    def _log_density(self, rows: Tensor, sigma: float) -> Tensor:
        exponents = self.log_weights - self.distances(rows) / (2.0 * sigma**2)
        n_features = rows.shape[1]
        constant = 0.5 * n_features * math.log(2.0 * math.pi * sigma**2)
        return torch.logsumexp(exponents, 1) - constant

    def best_sigma(self, rows: Tensor) -> float:
        """Return the sigma of highest likelihood on rows (n, ...), by EM.

        sigma^2 = E_n sum_m r_nm |x_n - g_m|^2 / n_features with the posterior r.
        """
        flat = rows.flatten(1).double()
        distances = self.distances(flat)
        sigma = math.sqrt(float(distances.amin(1).mean()) / flat.shape[1])
        for _ in range(EM_STEPS):
            sigma, previous = max(sigma, SMALLEST_SIGMA), sigma
            exponents = self.log_weights - distances / (2.0 * sigma**2)
            posterior = torch.softmax(exponents, 1)
            mean = float((posterior * distances).sum(1).mean())
            sigma = math.sqrt(mean / flat.shape[1])
            if abs(sigma - previous) < RELATIVE_CHANGE * sigma:
                break
        return max(sigma, SMALLEST_SIGMA)


def generated_kernels(
    sample: Callable[[Tensor, torch.Generator], Tensor], weights: Tensor, seed: int
) -> Kernels:
    """Return ``KERNELS`` generated samples of each cluster as kernels.

    Parameters
    ----------
    sample : callable
        Generates samples of these clusters from a random generator on the CPU.
    weights : Tensor of shape (n_clusters,), float64
        Cluster weights, on the device of the samples.
    seed : int
    """
    labels = torch.arange(len(weights), device="cpu").repeat_interleave(KERNELS)
    rows = sample(labels, new_generator(seed))
    log_weights = (weights / KERNELS).log().repeat_interleave(KERNELS)
    return Kernels(rows.flatten(1).double(), log_weights)


def nearest(wanted: Tensor, candidates: Tensor) -> Tensor:
    """Return the index of the nearest candidate to each row of ``wanted``."""
    return in_batches(lambda rows: torch.cdist(rows, candidates).argmin(1), wanted)
