"""The latent mixture of MinMax+EM: fixed unit-covariance Gaussians, learned weights.

P(x | k) = N(E(x); mu_k, I) for an encoder E. All functions take latents E(x) of shape
(n, dim), means of shape (n_clusters, dim) and weights of shape (n_clusters,).

References: Pande and Awate (2020), "Generative deep-neural-network mixture modeling
with semi-supervised MinMax+EM learning", ICPR.
"""

import math

import torch
from torch import Tensor

#: How torch takes distances without losing digits where a latent is close to its mean.
NOT_EXPANDED = "donot_use_mm_for_euclid_dist"
#: Rounds and halvings of the search for the factors of bounded responsibilities.
SWEEPS, BISECTIONS = 50, 40


def component_means(n_clusters: int, dim: int, separation: float) -> Tensor:
    """Return fixed means whose nearest neighbours are sqrt(2) * ``separation`` apart.

    ``separation`` times the unit vectors where ``dim`` allows it, zero along further
    axes; else points of a grid around zero.
    """
    if dim >= n_clusters:
        return torch.eye(n_clusters, dim, dtype=torch.float32) * separation
    return math.sqrt(2.0) * separation * _grid(n_clusters, dim)


def _grid(n_points: int, dim: int) -> Tensor:
    """Return the points of a grid of spacing one that lie closest to its centre."""
    # The corners of a cube in log2 dimensions are enough points.
    used = min(dim, max(1, math.ceil(math.log2(n_points))))
    side = math.ceil(n_points ** (1.0 / used) - 1e-9)
    axis = torch.arange(side, dtype=torch.float32) - (side - 1) / 2.0
    points = torch.cartesian_prod(*[axis] * used).reshape(-1, used)
    nearest = points.square().sum(1).argsort(stable=True)[:n_points]
    return torch.nn.functional.pad(points[nearest], (0, dim - used))


def square_distances(latents: Tensor, means: Tensor) -> Tensor:
    """Return ||z_n - mu_k||^2, (n, n_clusters)."""
    # The expanded square would lose digits where a latent is close to its mean.
    return (latents[:, None] - means).square().sum(2)


def log_joint(latents: Tensor, means: Tensor, weights: Tensor) -> Tensor:
    """Return log omega_k + log N(z_n; mu_k, I) in nats, (n, n_clusters)."""
    constant = 0.5 * means.shape[1] * math.log(2.0 * math.pi)
    # All differences at once would fill the memory where all samples are placed.
    distances = torch.cdist(latents, means, compute_mode=NOT_EXPANDED).square()
    return weights.log() - 0.5 * distances - constant


def log_likelihood(latents: Tensor, means: Tensor, weights: Tensor) -> Tensor:
    """Return log sum_k omega_k N(z_n; mu_k, I) in nats, (n,)."""
    return torch.logsumexp(log_joint(latents, means, weights), 1)


def posterior(latents: Tensor, means: Tensor, weights: Tensor) -> Tensor:
    """Return gamma_nk = P(k | z_n), the E-step, (n, n_clusters)."""
    return torch.softmax(log_joint(latents, means, weights), 1)


def bounding_factors(joint: Tensor, least: Tensor) -> Tensor:
    """Return logs b of factors that keep mean responsibilities at ``least`` or above.

    Of all responsibilities with such means, softmax(joint + b) has the highest evidence
    bound: by Lagrange, b_k >= 0, and b_k > 0 only where the mean is least_k. Where the
    posterior has such means, b is zero.

    Parameters
    ----------
    joint : Tensor of shape (n, n_clusters)
    least : Tensor of shape (n_clusters,)
        Their sum is at most one.

    Returns
    -------
    factors : Tensor of shape (n_clusters,)
        Means may be below ``least`` by a thousandth of it, and by more where there are
        few samples for many clusters and none may be below its even share.
    """
    factors = torch.zeros_like(least)
    usable = torch.isfinite(joint).all(0)
    # Factors that are raised to what their clusters need are never too large: the
    # others only rise, too. So all that are too small may rise at once.
    for _ in range(SWEEPS):
        resp = torch.softmax(joint + factors, 1)
        short = usable & (resp.mean(0) < least * (1.0 - 1e-3))
        if not short.any():
            break
        factors[short] += _needed(joint + factors, resp, short, least[short])
    return factors


def _needed(joint: Tensor, resp: Tensor, short: Tensor, least: Tensor) -> Tensor:
    """Return b >= 0 by which each of the ``short`` columns must rise, were it alone."""
    # Of column k, the log-odds against all others: joint_k - log sum_j exp joint_j.
    rest = (1.0 - resp[:, short]).clamp_min(torch.finfo(resp.dtype).eps)
    margin = joint[:, short] - torch.logsumexp(joint, 1, keepdim=True) - rest.log()
    low = torch.zeros_like(least)
    # Here every single responsibility is that large.
    high = (torch.logit(least) - margin.amin(0)).clamp_min(0.0)
    for _ in range(BISECTIONS):
        middle = 0.5 * (low + high)
        enough = torch.sigmoid(margin + middle).mean(0) >= least
        low, high = torch.where(enough, low, middle), torch.where(enough, middle, high)
    return high


def evidence_bound(resp: Tensor, joint: Tensor) -> Tensor:
    """Return sum_k gamma_nk (joint_nk - log gamma_nk) <= log-likelihood, (n,).

    Tight where ``resp`` is the posterior.
    """
    return (resp * joint - torch.xlogy(resp, resp)).sum(1)


def expected_weights(resp: Tensor, prior: float) -> Tensor:
    """Return the M-step of omega: a Dirichlet prior adds ``prior`` samples a cluster.

    No weight falls below prior / (n + n_clusters * prior).
    """
    counts = resp.sum(0) + prior
    return counts / counts.sum()


def expected_energy(latents: Tensor, means: Tensor, resp: Tensor) -> Tensor:
    """Return 1/2 sum_k gamma_nk ||z_n - mu_k||^2, averaged over samples.

    Minus this is, but for constants, what the encoder maximises in the M-step.
    """
    return 0.5 * (resp * square_distances(latents, means)).sum(1).mean()


def consistency(latents: Tensor, found: Tensor) -> Tensor:
    """Return ||y - E(G(y))||^2, averaged over latents y."""
    return (latents - found).square().sum(1).mean()


def normal_latents(means: Tensor, rng: torch.Generator) -> Tensor:
    """Return a latent around each of these means, (n, dim).

    Drawn on the CPU, like ``rng``: all devices make the same ones.
    """
    noise = torch.randn(means.shape, generator=rng, dtype=torch.float32, device="cpu")
    return means + noise.to(means)


def line(first: Tensor, last: Tensor, n_points: int) -> Tensor:
    """Return points at even distances from ``first`` to ``last``, both included."""
    share = torch.linspace(
        0.0, 1.0, n_points, dtype=torch.float64, device=first.device
    )[:, None]
    return (1.0 - share) * first + share * last
