"""A prior of small patches, and an image."""

import torch
from torch.distributions import MultivariateNormal

from skdeepgmm._torch_backend.denoising import epll
from skdeepgmm._torch_backend.denoising.prior import (
    PatchPrior,
)

SIZE = (4, 4)
N_FEATURES = 15


def make_prior(n_components=3, seed=0, means=True, scale=0.05):
    """Return a prior whose components have falling spectra in random directions."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    vectors, _ = torch.linalg.qr(normal(n_components, N_FEATURES, N_FEATURES))
    values = (
        scale
        * 0.5 ** torch.arange(N_FEATURES)
        * (1 + torch.arange(n_components))[:, None].double() ** -1
    )
    covariances = (vectors * values[:, None, :]) @ vectors.mT
    centers = 0.05 * normal(n_components, N_FEATURES) * means
    weights = torch.arange(1.0, n_components + 1, dtype=torch.float64)
    return PatchPrior.from_parameters(
        SIZE, weights / weights.sum(), centers, covariances
    )


def draw_coefficients(n=200, dtype=torch.float64):
    generator = torch.Generator().manual_seed(5)
    return 0.1 * torch.randn(N_FEATURES, n, generator=generator, dtype=dtype)


def dense_scores(prior, coefficients, variance):
    eye = torch.eye(N_FEATURES, dtype=torch.float64)
    rows = [
        MultivariateNormal(mean, covariance + variance * eye).log_prob(coefficients.T)
        for mean, covariance in zip(prior.means, prior.covariances(), strict=True)
    ]
    return torch.stack(rows) + prior.log_weights[:, None]


def make_image(shape=(21, 18), seed=3):
    generator = torch.Generator().manual_seed(seed)
    ramp = torch.linspace(0.2, 0.8, shape[1], dtype=torch.float64)
    noise = torch.randn(shape, generator=generator, dtype=torch.float64)
    return ramp.expand(shape) + 0.1 * noise


def observe(image, sigma=0.1):
    precision = torch.full_like(image, 4 / sigma**2)
    return epll.Observation(image, precision)
