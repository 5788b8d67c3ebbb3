"""Annealing: components as neighbours on a torus, coupled less and less.

With s_k(x) = log pi_k + log N(x; mu_k, Sigma_k) and coupling g_kj(s), every objective
of the training is a mean over samples of one of

    max_k sum_j g_kj s_j  <=  max_k s_k  <=  log sum_k exp s_k = log p(x)
    log sum_k exp(sum_j g_kj s_j)  <=  log p(x)

and its gradient is that of sum_j q_j s_j with weights q that sum to one: posterior
probabilities for the log-likelihood, the winner's row of g for the maximum. So one
function returns the objective and q, and one gradient serves all of them.

References: Gepperth & Pfülb (2021), "Gradient-based training of Gaussian mixture
models for high-dimensional streaming data", Neural Processing Letters.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

#: Returns the value and the weights of samples from log_joint and the coupling.
Objective: TypeAlias = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]

SINKHORN_STEPS = 200


def torus_shape(n_components: int) -> tuple[int, int]:
    """Return the most square grid (a, b) with a * b >= n_components."""
    rows = math.isqrt(n_components)
    return rows, -(-n_components // rows)


def torus_distances(n_components: int) -> Tensor:
    """Return squared distances between components on the torus.

    Returns
    -------
    Tensor of shape (n_components, n_components), float64
        In units of the grid spacing; the grid's last sites stay free when
        ``n_components`` does not fill it.
    """
    shape = torus_shape(n_components)
    site = torch.arange(n_components)
    total = torch.zeros(n_components, n_components, dtype=torch.float64)
    for position, size in zip((site // shape[1], site % shape[1]), shape, strict=True):
        straight = (position[:, None] - position).abs()
        total += torch.minimum(straight, size - straight).double().square()
    return total


def coupling(distances: Tensor, radius: float) -> Tensor:
    """Return g(s): non-negative, symmetric, every row and column summing to one.

    The Gaussian exp(-distance^2 / (2 radius^2)) is scaled from both sides (Sinkhorn).
    On a full grid that is the row normalisation of the paper; on an incomplete one it
    also keeps the column sums at one, which the bound of ``soft_maximum`` needs.
    """
    kernel = (-distances / (2.0 * radius**2)).exp()
    scale = kernel.sum(1).rsqrt()
    for _ in range(SINKHORN_STEPS):
        row_sums = scale * (kernel @ scale)
        if float((row_sums - 1.0).abs().max()) < 1e-12:
            break
        scale = scale * row_sums.rsqrt()
    balanced = scale[:, None] * kernel * scale
    # Columns may now miss one by the rest of the iteration, rows may not.
    return balanced / balanced.sum(1, keepdim=True)


def exact(log_joint: Tensor) -> tuple[Tensor, Tensor]:
    """Return log p(x) and the posterior probabilities.

    Parameters
    ----------
    log_joint : Tensor of shape (n_samples, n_components)

    Returns
    -------
    value : Tensor of shape (n_samples,)
    weights : Tensor of shape (n_samples, n_components)
    """
    return torch.logsumexp(log_joint, 1), torch.softmax(log_joint, 1)


def maximum(log_joint: Tensor, couple: Tensor) -> tuple[Tensor, Tensor]:
    """Return the annealed max-component objective and its weights (as ``exact``)."""
    value, winner = (log_joint @ couple.T).max(1)
    return value, couple[winner]


def soft_maximum(log_joint: Tensor, couple: Tensor) -> tuple[Tensor, Tensor]:
    """Return log sum_k exp(sum_j g_kj s_j) and its weights (as ``exact``).

    By Jensen it stays below log p(x) because the columns of g sum to one.
    """
    value, posterior = exact(log_joint @ couple.T)
    return value, posterior @ couple


#: Annealed objectives by the value of the ``annealing`` parameter.
OBJECTIVES: dict[str, Objective] = {"max": maximum, "soft": soft_maximum}


def objective(name: str) -> Objective:
    """Return the annealed objective; any for "none", which never anneals."""
    return OBJECTIVES.get(name, maximum)


@dataclass(frozen=True)
class Schedule:
    """Coupling radius over the run: constant, then exponentially down, then none.

    Attributes
    ----------
    start, stop : float
        Radii in grid spacings; the paper's are 0.25 sqrt(2 K) and 0.01.
    hold, end : float
        Fractions of the run at which the decay begins and at which the exact
        log-likelihood takes over.
    """

    start: float
    stop: float = 0.01
    hold: float = 0.1
    end: float = 0.4

    def radius(self, progress: float) -> float | None:
        """Return the radius at ``progress`` in [0, 1], None in the exact phase."""
        if progress >= self.end:
            return None
        if progress <= self.hold:
            return self.start
        fraction = (progress - self.hold) / (self.end - self.hold)
        return self.start * math.pow(self.stop / self.start, fraction)


def start_radius(n_components: int) -> float:
    """Return the paper's first radius, 0.25 sqrt(2 n_components)."""
    return 0.25 * math.sqrt(2.0 * n_components)


def schedule(n_components: int, fraction: float) -> Schedule:
    """Return the schedule that anneals over this fraction of a run."""
    return Schedule(start_radius(n_components), hold=0.25 * fraction, end=fraction)
