"""Restoring images with the expected patch log-likelihood (EPLL).

At noise variance v (beta = 1 / v) the energy of an image x is

    F_v(x) = 1/2 sum_p w_p (x_p - y_p)^2
             - sum_i max_k log pi_k N(P_i x; mu_k, Sigma_k + v I),

over all patches i in the basis of mean-removed patches, with w the precision of the
observation in each pixel. For the best component of each patch,

    -log N(c; mu, Sigma + v I) <= |c - z|^2 / (2 v) + constant,

with equality where z is the Wiener estimate of the clean patch at the current image:
minimising the bound over x averages the filtered patches and the observation. That is
the half-quadratic step, and F_v never rises under it. The same z give the gradient,
F_v'(x) = w (x - y) + 1/v sum_i P_i^T (P_i x - z_i).
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from skdeepgmm._torch_backend.denoising.patches import (
    Size,
    Tile,
    add_patches,
    coverage,
    extract,
    tiles,
)
from skdeepgmm._torch_backend.denoising.prior import NoisyPrior, PatchPrior

#: Patches that are filtered at once; bounds the working memory.
MAX_PATCHES = 2**13
#: Sufficient decrease of Armijo's rule, and what a step is multiplied by.
ARMIJO, LONGER, SHORTER = 1e-4, 2.0, 0.5
MAX_HALVINGS = 30


@dataclass(frozen=True)
class EPLLConfig:
    """How an image is restored.

    Attributes
    ----------
    variances : tuple of float
        Noise variances v of the successive energies, falling.
    n_iter : int
        Steps at each variance.
    solver : {"half_quadratic", "gradient"}
    stride : int
        Distance of neighbouring patches, in pixels.
    search_stride : int
        The component is searched for every such patch of a row and column; the
        others take the component of the nearest before them. The energy is unknown
        if it is not 1.
    truncation : float
        Eigenvalues below this share of v are replaced by their mean.
    """

    variances: tuple[float, ...]
    n_iter: int = 1
    solver: str = "half_quadratic"
    stride: int = 1
    search_stride: int = 1
    truncation: float = 0.0


@dataclass(frozen=True)
class Observation:
    """What is known of an image.

    Attributes
    ----------
    image : Tensor of shape (height, width)
        y, finite everywhere.
    precision : Tensor of shape (height, width), float64
        w: 0 where nothing is known, infinite where y is exact.
    """

    image: Tensor
    precision: Tensor

    @property
    def shape(self) -> Size:
        return self.image.shape[0], self.image.shape[1]

    @property
    def exact(self) -> Tensor:
        return torch.isinf(self.precision)

    @property
    def weight(self) -> Tensor:
        """The precision, 0 where the pixel is exact and takes no part in the energy."""
        return torch.where(self.exact, 0.0, self.precision)


@dataclass
class Restoration:
    """A restored image and the course of its energy.

    Attributes
    ----------
    image : Tensor of shape (height, width)
    energies : list of list of float
        For each variance the energies before each step and after the last; empty
        where it is unknown.
    """

    image: Tensor
    energies: list[list[float]] = field(default_factory=list)


class Energy:
    """F_v of one observation."""

    def __init__(
        self,
        prior: PatchPrior,
        observation: Observation,
        variance: float,
        config: EPLLConfig,
    ) -> None:
        dtype = observation.image.dtype
        noisy = NoisyPrior.make(prior, variance, config.truncation)
        self.search = noisy.search(dtype)
        self.filters = noisy.wiener(dtype)
        self.basis = prior.basis.to(dtype)
        self.size = prior.size
        self.beta = 1 / variance
        self.observation = observation
        self.config = config
        self.coverage = coverage(
            observation.shape, prior.size, config.stride, observation.image.device
        )

    @property
    def is_exact(self) -> bool:
        """Whether every patch is searched, so that the energy is known."""
        return self.config.search_stride == 1

    def evaluate(self, x: Tensor) -> tuple[float, Tensor]:
        """Return F_v(x) and the sum of the filtered patches, (height, width).

        Parameters
        ----------
        x : Tensor of shape (height, width), float64
        """
        image = x.to(self.observation.image.dtype)
        total = torch.zeros_like(x)
        log_likelihood = 0.0
        for tile in tiles(
            self.observation.shape, self.size, self.config.stride, MAX_PATCHES
        ):
            patches = extract(image, self.size, tile)
            filtered, score = self._filter(patches, tile)
            add_patches(total, filtered, self.size, tile)
            log_likelihood += score
        misfit = (x - self.observation.image).square() * self.observation.weight
        return 0.5 * float(misfit.sum()) - log_likelihood, total

    def _filter(self, patches: Tensor, tile: Tile) -> tuple[Tensor, float]:
        """Return filtered patches and their log-likelihood."""
        mean = patches.mean(0)
        coefficients = self.basis.T @ patches
        labels, score = self._assign(coefficients, tile)
        clean = self.filters.apply(coefficients, labels)
        return self.basis @ clean + mean, score

    def _assign(self, coefficients: Tensor, tile: Tile) -> tuple[Tensor, float]:
        """Return the component of each patch and the sum of their log-densities."""
        shape = len(tile[0]), len(tile[1])
        step = min(self.config.search_stride, max(shape))
        searched = coefficients.reshape(-1, *shape)[:, ::step, ::step]
        best = self.search.scores(searched.flatten(1)).max(0)
        if step == 1:
            return best.indices, float(best.values.double().sum())
        labels = best.indices.reshape(searched.shape[1:])
        for axis in (0, 1):
            labels = labels.repeat_interleave(step, axis)
        return labels[: shape[0], : shape[1]].flatten(), torch.nan

    def half_quadratic(self, total: Tensor) -> Tensor:
        """Return the minimiser of the bound whose patches sum to ``total``."""
        y = self.observation.image.double()
        weight = self.observation.weight
        numerator = weight * y + self.beta * total
        blended = numerator / (weight + self.beta * self.coverage)
        return torch.where(self.observation.exact, y, blended)

    def gradient(self, x: Tensor, total: Tensor) -> Tensor:
        """Return F_v'(x), 0 in the exact pixels."""
        misfit = self.observation.weight * (x - self.observation.image)
        slope = misfit + self.beta * (self.coverage * x - total)
        return torch.where(self.observation.exact, 0.0, slope)

    def curvature(self) -> float:
        """Return a bound of the second derivatives of the quadratic bound."""
        return float((self.observation.weight + self.beta * self.coverage).max())


Solver = Callable[[Energy, Tensor, int], tuple[Tensor, list[float]]]


def half_quadratic_steps(
    energy: Energy, x: Tensor, n_iter: int
) -> tuple[Tensor, list[float]]:
    """Return the image after ``n_iter`` steps and the energy before each."""
    energies = []
    for _ in range(n_iter):
        value, total = energy.evaluate(x)
        energies.append(value)
        x = energy.half_quadratic(total)
    return x, energies if energy.is_exact else []


def gradient_steps(
    energy: Energy, x: Tensor, n_iter: int
) -> tuple[Tensor, list[float]]:
    """Return the image after gradient descent with Armijo's rule, and the energies."""
    step = 1 / energy.curvature()
    value, total = energy.evaluate(x)
    energies = [value]
    for _ in range(n_iter):
        slope = energy.gradient(x, total)
        decrease = ARMIJO * float(slope.square().sum())
        for _ in range(MAX_HALVINGS):
            trial = x - step * slope
            trial_value, trial_total = energy.evaluate(trial)
            if trial_value <= value - step * decrease:
                break
            step *= SHORTER
        else:
            break
        x, value, total = trial, trial_value, trial_total
        energies.append(value)
        step *= LONGER
    return x, energies


SOLVERS: dict[str, Solver] = {
    "half_quadratic": half_quadratic_steps,
    "gradient": gradient_steps,
}


def restore(
    prior: PatchPrior,
    observation: Observation,
    config: EPLLConfig,
    on_step: Callable[[int, int], None] | None = None,
) -> Restoration:
    """Return the image of low energy that the observation and the prior suggest.

    Parameters
    ----------
    on_step : callable, optional
        Called after each variance with how many are done and how many there are.
    """
    solver = SOLVERS[config.solver]
    x = observation.image.double()
    result = Restoration(observation.image)
    for done, variance in enumerate(config.variances, start=1):
        energy = Energy(prior, observation, variance, config)
        x, energies = solver(energy, x, config.n_iter)
        result.energies.append(energies)
        if on_step is not None:
            on_step(done, len(config.variances))
    result.image = x.to(observation.image.dtype)
    return result
