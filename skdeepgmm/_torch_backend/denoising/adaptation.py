"""Adapting a mixture of patches to one noisy image before it is restored.

A few steps of EM on the noisy patches c = z + noise of variance v, with a prior on the
parameters that is worth r patches a component at the fitted mixture: with n_k
patches whose likeliest component is k,

    Sigma_k' = (r Sigma_k + sum_i E[(z_i - mu_k)(z_i - mu_k)^T | c_i, k]) / (r + n_k),
    pi_k' = (r pi_k + n_k) / (r + n),

the maximum a-posteriori estimates under an inverse Wishart and a Dirichlet prior. The
fitted mixture stays the prior in every step.

References: Luo, Chan & Nguyen (2016), "Adaptive image denoising by mixture adaptation",
IEEE Transactions on Image Processing 25.
"""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from skdeepgmm._torch_backend.denoising.epll import MAX_PATCHES
from skdeepgmm._torch_backend.denoising.patches import extract, tiles
from skdeepgmm._torch_backend.denoising.prior import NoisyPrior, PatchPrior

#: Patches that the fitted mixture is worth, a component, where all patches are taken.
#: Overlapping patches tell less: with a stride s there are 1 / s^2 as many of either.
RELEVANCE = 400.0


@dataclass
class Scatter:
    """Statistics of the patches of one image.

    Attributes
    ----------
    counts : Tensor of shape (n_components,), float64
    products : Tensor of shape (n_components, n_features, n_features), float64
        Sums of (z - mu_k)(z - mu_k)^T over the filtered patches z.
    """

    counts: Tensor
    products: Tensor

    @classmethod
    def zeros(cls, prior: PatchPrior) -> "Scatter":
        zeros = torch.zeros_like(prior.eigenvectors)
        return cls(zeros[:, 0, 0].clone(), zeros)

    def add(self, clean: Tensor, labels: Tensor, means: Tensor) -> None:
        """Add filtered coefficients (n_features, n_patches) of these components."""
        counts = torch.bincount(labels, minlength=len(self.counts))
        columns = torch.split(clean[:, labels.argsort()], counts.tolist(), dim=1)
        for component in torch.nonzero(counts)[:, 0].tolist():
            centered = columns[component].double() - means[component][:, None]
            self.products[component].addmm_(centered, centered.T)
        self.counts += counts


def adapt(
    prior: PatchPrior,
    image: Tensor,
    variance: float,
    n_iter: int,
    stride: int = 1,
    truncation: float = 0.0,
) -> PatchPrior:
    """Return the mixture after ``n_iter`` steps on the patches of a noisy image.

    Parameters
    ----------
    image : Tensor of shape (height, width)
    variance : float
        Of the noise in each pixel, v.
    stride : int
        Distance of neighbouring patches, in pixels.
    truncation : float
        As in :meth:`NoisyPrior.make`.
    """
    adapted = prior
    thinned = math.prod(min(stride, side) for side in prior.size)
    for _ in range(n_iter):
        noisy = NoisyPrior.make(adapted, variance, truncation)
        scatter = collect(noisy, image, stride)
        adapted = _update(prior, noisy, scatter, RELEVANCE / thinned)
    return adapted


def collect(noisy: NoisyPrior, image: Tensor, stride: int) -> Scatter:
    """Return the statistics of the patches of an image."""
    prior = noisy.prior
    search, filters = noisy.search(image.dtype), noisy.wiener(image.dtype)
    scatter = Scatter.zeros(prior)
    shape = image.shape[0], image.shape[1]
    for tile in tiles(shape, prior.size, stride, MAX_PATCHES):
        coefficients = prior.coefficients(extract(image, prior.size, tile))
        labels = search.scores(coefficients).argmax(0)
        scatter.add(filters.apply(coefficients, labels), labels, prior.means)
    return scatter


def _update(
    prior: PatchPrior, noisy: NoisyPrior, scatter: Scatter, relevance: float
) -> PatchPrior:
    """Return the M-step; components without patches keep their shape."""
    counts = scatter.counts
    used = torch.nonzero(counts)[:, 0]
    n = counts[used, None, None]
    products = scatter.products[used] + n * _posterior_covariances(noisy, used)
    prior_products = relevance * prior.covariances(used)
    values, vectors = torch.linalg.eigh((prior_products + products) / (relevance + n))
    eigenvalues, eigenvectors = prior.eigenvalues.clone(), prior.eigenvectors.clone()
    eigenvalues[used] = values.flip(-1).clamp_min(torch.finfo(values.dtype).tiny)
    eigenvectors[used] = vectors.flip(-1)
    weights = relevance * prior.log_weights.exp() + counts
    weights = weights / weights.sum()
    return replace(
        prior,
        log_weights=weights.log(),
        eigenvalues=eigenvalues,
        eigenvectors=eigenvectors,
    )


def _posterior_covariances(noisy: NoisyPrior, used: Tensor) -> Tensor:
    """Return Cov[z | c, k] of these components, the same for every patch."""
    vectors = noisy.prior.eigenvectors[used]
    clean = noisy.noisy_eigenvalues()[used] - noisy.variance
    kept = clean * noisy.variance / (clean + noisy.variance)
    return (vectors * kept[:, None, :]) @ vectors.mT
