"""Denoising and in-painting of one grey image: schedules, scales, observations."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from skdeepgmm._torch_backend.denoising.adaptation import adapt
from skdeepgmm._torch_backend.denoising.epll import EPLLConfig, Observation, restore
from skdeepgmm._torch_backend.denoising.patches import Size, dct_vectors
from skdeepgmm._torch_backend.denoising.prior import PatchPrior

#: Noise variances of the schedule, as divisors of sigma^2, and the weight of the
#: observation beside what its noise says when patches were independent. Chosen on the
#: held-out training images of the shipped prior.
DENOISING_SCHEDULE = (1.4, 6.0, 12.0)
DATA_WEIGHT = 3 / 16
#: Share of the frequencies of the half-size image that it gives.
LOW_FREQUENCIES = 0.5
#: Standard deviations that filled-in pixels are filtered with, in the image's range.
INPAINTING_STDS = (0.1, 0.07, 0.05, 0.035, 0.025, 0.017, 0.012, 0.008)
#: Half-quadratic steps at each of them: values travel far into missing areas.
INPAINTING_STEPS = 3
#: Default of ``n_iter``.
DEFAULT_STEPS = {"half_quadratic": 1, "gradient": 10}


@dataclass(frozen=True)
class Settings:
    """How an image is restored, whatever its noise; see :class:`EPLLConfig`.

    Attributes
    ----------
    n_iter : int or None
        None is the solver's default.
    n_scales : int
        Scales of denoising.
    adapt_iter : int
        EM steps that adapt the prior to a noisy image.
    on_step : callable or None
        Hears after each noise variance how many are done and how many there are.
    """

    solver: str = "half_quadratic"
    n_iter: int | None = None
    stride: int = 1
    search_stride: int = 1
    truncation: float = 0.3
    n_scales: int = 1
    adapt_iter: int = 0
    on_step: Callable[[int, int], None] | None = None

    def at(self, variances: tuple[float, ...], repeat: int = 1) -> EPLLConfig:
        """Return the configuration; ``repeat`` multiplies the default steps."""
        return EPLLConfig(
            variances,
            self.n_iter or repeat * DEFAULT_STEPS[self.solver],
            self.solver,
            self.stride,
            self.search_stride,
            self.truncation,
        )


def denoise(
    prior: PatchPrior, image: Tensor, sigma: float, settings: Settings
) -> Tensor:
    """Return the image without its white noise of standard deviation ``sigma``.

    With several scales the image of half the size is denoised too and gives the lowest
    frequencies, which patches of the full image see too little of.

    Parameters
    ----------
    image : Tensor of shape (height, width)
    """
    fine = denoise_one_scale(prior, image, sigma, settings)
    height, width = image.shape
    small = height < 4 * prior.size[0] or width < 4 * prior.size[1]
    if settings.n_scales == 1 or small:
        return fine
    coarse_settings = replace(settings, n_scales=settings.n_scales - 1)
    pyramid = HalfSize((height, width), image)
    coarse = denoise(
        prior, pyramid.down(image), sigma * pyramid.noise_gain, coarse_settings
    )
    return pyramid.replace_low(fine, coarse)


def denoise_one_scale(
    prior: PatchPrior, image: Tensor, sigma: float, settings: Settings
) -> Tensor:
    """Return the minimiser of the energies of the denoising schedule."""
    prior = adapt(
        prior,
        image,
        sigma**2,
        settings.adapt_iter,
        settings.stride,
        settings.truncation,
    )
    places = math.prod(max(1.0, size / settings.stride) for size in prior.size)
    precision = DATA_WEIGHT * places / sigma**2
    observation = Observation(
        image, torch.full_like(image, precision, dtype=torch.float64)
    )
    variances = tuple(sigma**2 / factor for factor in DENOISING_SCHEDULE)
    config = settings.at(variances)
    return restore(prior, observation, config, settings.on_step).image


class HalfSize:
    """Half-size images by their lowest DCT coefficients, which keep noise white.

    Parameters
    ----------
    shape : tuple of int
        Of the full image.
    like : Tensor
        Gives dtype and device.
    """

    def __init__(self, shape: Size, like: Tensor) -> None:
        half = shape[0] // 2, shape[1] // 2
        self.full = [
            dct_vectors(n, m).to(like) for n, m in zip(shape, half, strict=True)
        ]
        self.half = [dct_vectors(n, n).to(like) for n in half]
        self.kept = [max(1, int(LOW_FREQUENCIES * n)) for n in half]
        #: What a coefficient of the full image is multiplied by, and its noise.
        self.noise_gain = math.sqrt(math.prod(half) / math.prod(shape))

    def down(self, image: Tensor) -> Tensor:
        """Return the image of half the size with the same grey values."""
        rows, cols = self.full
        low = rows.T @ image @ cols
        return self.noise_gain * (self.half[0] @ low @ self.half[1].T)

    def replace_low(self, fine: Tensor, coarse: Tensor) -> Tensor:
        """Return ``fine`` with the lowest frequencies of ``coarse``."""
        rows, cols = (a[:, :n] for a, n in zip(self.full, self.kept, strict=True))
        half_rows, half_cols = (
            a[:, :n] for a, n in zip(self.half, self.kept, strict=True)
        )
        wanted = half_rows.T @ coarse @ half_cols / self.noise_gain
        return fine + rows @ (wanted - rows.T @ fine @ cols) @ cols.T


def inpaint(
    prior: PatchPrior, image: Tensor, missing: Tensor, settings: Settings
) -> Tensor:
    """Return the image with new values where ``missing`` is True.

    Parameters
    ----------
    image : Tensor of shape (height, width)
        Initial values where pixels are missing.
    missing : Tensor of shape (height, width), bool
    """
    precision = torch.where(missing, 0.0, torch.inf).double()
    variances = tuple(std**2 for std in INPAINTING_STDS)
    config = settings.at(variances, INPAINTING_STEPS)
    observation = Observation(image, precision)
    return restore(prior, observation, config, settings.on_step).image
