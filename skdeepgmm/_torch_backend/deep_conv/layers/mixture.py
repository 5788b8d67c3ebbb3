"""Gaussian mixtures over the positions of a grid, and how they learn.

All tensors of a mixture have a leading axis of sites: one site where all positions
share a mixture, else one a position. A batch becomes rows (n_sites, n_rows, D), and
with precisions t = 1 / v, in natural form,

    s_k(x) = log pi_k - 1/2 sum_d (log 2 pi v_kd + t_kd mu_kd^2)
             + sum_d t_kd mu_kd x_d - 1/2 sum_d t_kd x_d^2,

two matrix products. A step moves the expectation parameters pi_k, pi_k mu_k and
pi_k (v_k + mu_k^2) by the learning rate towards the batch's, sums of q, q x and q x^2
with the weights q of the objective (``annealing``): two more. That is the natural
gradient of the objective in the metric of the complete data, in closed form. It needs
no derivatives, so a layer cannot touch the parameters of another one.

Reference: Cappé & Moulines (2009), "On-line expectation-maximization algorithm for
latent data models", JRSS B 71.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from skdeepgmm._torch_backend.deep_conv.layers.folding import Shape

LOG_2PI = math.log(2.0 * math.pi)
#: Initial means are this many standard deviations of the data from their mean.
INIT_SPREAD = 0.1


@dataclass
class Natural:
    """A mixture as a function of (x, x^2); see the module's text.

    Attributes
    ----------
    linear : Tensor of shape (n_sites, n_features, n_components)
    quadratic : Tensor of the same shape, or (n_sites, n_features, 1)
        The latter where components have one variance.
    constant : Tensor of shape (n_sites, 1, n_components)
        Less ``offset``, so that float32 keeps its digits for differences.
    offset : Tensor of shape (n_sites,), float64
    """

    linear: Tensor
    quadratic: Tensor
    constant: Tensor
    offset: Tensor


@dataclass
class ComponentMoments:
    """Sums over the rows of a batch, by site and component, as means over rows.

    Attributes
    ----------
    mass : Tensor of shape (n_sites, n_components)
    first, second : Tensor of shape (n_sites, n_components, n_features)
        Of q x and q x^2.
    """

    mass: Tensor
    first: Tensor
    second: Tensor


@dataclass
class Hidden:
    """Posterior of the factors of every component at every row.

    Attributes
    ----------
    means, variances : Tensor of shape (n_sites, n_rows, n_components, rank)
    """

    means: Tensor
    variances: Tensor

    def updated(self, mean: Tensor, precision: Tensor) -> "Hidden":
        """Return the posterior with another prior than N(0, I), factor by factor.

        Parameters
        ----------
        mean, precision : Tensor of shape (n_sites, n_rows, rank)
            Of the new prior, the same for all components.
        """
        own = self.variances.clamp_min(1e-12).reciprocal()
        whole = (own - 1.0).clamp_min(0.0) + precision[:, :, None]
        told = own * self.means + (precision * mean)[:, :, None]
        return Hidden(told / whole, whole.reciprocal())


@dataclass
class MixtureLayer:
    """Diagonal Gaussian mixtures on a grid of one shape.

    Attributes
    ----------
    input_shape : tuple of int
        (height, width, n_features).
    shared : bool
        Whether one mixture serves all positions.
    weights : Tensor of shape (n_sites, n_components)
    means, variances : Tensor of shape (n_sites, n_components, n_features)
        Variances before the floor.
    floor : float
        Smallest variance.
    """

    input_shape: Shape
    shared: bool
    weights: Tensor
    means: Tensor
    variances: Tensor
    floor: float

    #: What a step changes.
    names: ClassVar[tuple[str, ...]] = ("weights", "means", "variances")

    @property
    def n_components(self) -> int:
        return self.weights.shape[1]

    @property
    def n_sites(self) -> int:
        return self.weights.shape[0]

    @property
    def n_passed(self) -> int:
        """Number of factors that the layers above see beside the responsibilities."""
        return 0

    @property
    def output_shape(self) -> Shape:
        return (*self.input_shape[:2], self.n_components + self.n_passed)

    def to(self, device: torch.device) -> None:
        """Move the parameters to a device."""
        for name in self.names:
            setattr(self, name, getattr(self, name).to(device))

    def rows(self, x: Tensor) -> Tensor:
        """Return (n, height, width, D) as (n_sites, n_rows, D)."""
        if self.shared:
            return x.reshape(1, -1, x.shape[3])
        return x.flatten(1, 2).transpose(0, 1)

    def grid(self, rows: Tensor) -> Tensor:
        """Return (n_sites, n_rows, ...) as (n, height, width, ...)."""
        height, width, _ = self.input_shape
        if not self.shared:
            rows = rows.transpose(0, 1)
        return rows.reshape(-1, height, width, *rows.shape[2:])

    def natural(self, tempered: bool = False) -> Natural:
        """Return the natural form of the mixture.

        ``tempered`` is the early form: equal weights and one variance for all
        components and features, so that the nearest mean wins.
        """
        if tempered:
            variances = self.pooled_variance().expand(-1, -1, self.means.shape[2])
            log_weights = torch.full_like(self.weights, -math.log(self.n_components))
        else:
            variances = self.variances.clamp_min(self.floor)
            log_weights = self.weights.clamp_min(torch.finfo(torch.float32).tiny).log()
        return natural_form(log_weights, self.means, variances)

    def pooled_variance(self) -> Tensor:
        """Return the mean variance, (n_sites, 1, 1)."""
        share = self.weights / self.weights.sum(1, keepdim=True)
        mean = (share[:, :, None] * self.variances).sum(1).mean(1)
        return mean.clamp_min(self.floor)[:, None, None]

    def log_joint(
        self, natural: Natural, rows: Tensor, square: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """Return ``log_joint_rows``, and the factor scores of a low-rank mixture."""
        return log_joint_rows(natural, rows, square), None

    def moments(
        self,
        rows: Tensor,
        square: Tensor,
        weights: Tensor,
        total: Tensor | float,
        scores: Tensor | None,
    ) -> ComponentMoments:
        """Return what ``move`` learns from; ``scores`` are those of ``log_joint``."""
        return component_moments(rows, square, weights, total)

    def open_factors(self) -> None:
        """Let factors, if there are any, begin to learn."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the output (n, height, width, channels) of (n, h, w, D)."""
        rows = self.rows(x)
        log_joint, scores = self.log_joint(self.natural(), rows, rows.square())
        return self.output(torch.softmax(log_joint, 2), scores)

    def output(self, resp: Tensor, scores: Tensor | None) -> Tensor:
        """Return what the layers above see, for rows of responsibilities.

        ``scores`` are those of ``log_joint``.
        """
        return self.grid(resp)

    def joined(self, resp: Tensor, hidden: Hidden | None) -> Tensor:
        """Return the output for responsibilities (n, h, w, K) and a posterior."""
        return resp

    def parts(self, signal: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return what a signal from above says of the components and of factors."""
        return signal, None

    def given(self, z: Tensor | None) -> Hidden | None:
        """Return the posterior of factors that the layers above have chosen."""
        return None

    def log_prob(self, x: Tensor) -> Tensor:
        """Return the log-densities of the positions, (n, height, width), float64."""
        rows = self.rows(x)
        natural = self.natural()
        log_joint, _ = self.log_joint(natural, rows, rows.square())
        _, value = posterior(log_joint)
        value = value.double() + natural.offset[:, None]
        return self.grid(value)

    def move(self, moments: ComponentMoments, lr: float) -> None:
        """Step towards the moments of a batch."""
        mass = moments.mass
        weights, step = self.step_of(mass, lr)
        safe = mass.clamp_min(1e-12)[:, :, None]
        batch_mean = moments.first / safe
        spread = (moments.second / safe - batch_mean.square()).clamp_min_(0.0)
        delta = batch_mean - self.means
        # The variance of two parts: theirs, and that of their means.
        spread += (1.0 - step) * delta.square()
        self.variances = torch.lerp(self.variances, spread, step)
        self.means = self.means + step * delta
        self.weights = weights

    def step_of(self, mass: Tensor, lr: float) -> tuple[Tensor, Tensor]:
        """Return new weights, and the batch's share in a component, (n_sites, K, 1)."""
        weights = self.weights + lr * (mass - self.weights)
        return weights, (lr * mass / weights.clamp_min(1e-30))[:, :, None]

    def draw(
        self, components: Tensor, temperature: float, noise: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Draw from N(mu_k, temperature^2 v_k) at every position: the way down.

        Returns the draws and their precisions 1 / v_k.

        Parameters
        ----------
        components : Tensor of int of shape (n, height, width)
        temperature : float
            Factor on the standard deviations.
        noise : Tensor of shape (n, height, width, n_features)
            Standard normal.
        """
        means, stds = self.at(components)
        drawn = means + temperature * stds * noise
        return drawn, stds.square().reciprocal()

    def sites(self, components: Tensor) -> Tensor:
        """Return the sites of components at every position, (n, height, width)."""
        n_positions = self.input_shape[0] * self.input_shape[1]
        site = torch.arange(n_positions, device=components.device)
        site = site.reshape(self.input_shape[:2]) * (0 if self.shared else 1)
        return site.expand_as(components)

    def at(self, components: Tensor) -> tuple[Tensor, Tensor]:
        """Return means and standard deviations of components, (n, h, w, D)."""
        site = self.sites(components)
        variances = self.variances[site, components].clamp_min(self.floor)
        return self.means[site, components], variances.sqrt()

    def marginal(self, x: Tensor, known: Tensor) -> tuple[Tensor, Hidden | None]:
        """Return log pi_k N(known part of x; k), (n, h, w, K), up to a constant.

        With it comes the posterior of a low-rank mixture's factors. ``known`` in
        [0, 1] is the exponent of every value's factor: 0 marginalises it.
        """
        rows, seen = self.rows(x), self.rows(known)
        variances = self.variances.clamp_min(self.floor)
        precisions = variances.reciprocal()
        linear = precisions * self.means
        constant = -0.5 * (variances.log() + linear * self.means)
        found = (seen * rows) @ linear.mT + seen @ constant.mT
        found = found - 0.5 * ((seen * rows.square()) @ precisions.mT)
        log_weights = self.weights.clamp_min(1e-30).log()
        return self.grid(found + log_weights[:, None]), None

    def expect(
        self, resp: Tensor, hidden: Hidden | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return mean and precision of the input, given responsibilities.

        Parameters
        ----------
        resp : Tensor of shape (n, height, width, n_components)
        hidden : Hidden or None
            Posterior of a low-rank mixture's factors; None for their prior.

        Returns
        -------
        mean, precision : Tensor of shape (n, height, width, n_features)
        """
        rows = self.rows(resp)
        mean = rows @ self.means
        square = rows @ (self.means.square() + self.variances.clamp_min(self.floor))
        variance = (square - mean.square()).clamp_min(self.floor)
        return self.grid(mean), self.grid(variance.reciprocal())


def natural_form(log_weights: Tensor, means: Tensor, variances: Tensor) -> Natural:
    """Return the natural form of mixtures; shapes as in ``MixtureLayer``.

    Variances of shape (n_sites, 1, n_features) are those of all components.
    """
    precisions = variances.reciprocal()
    linear = precisions * means
    squares = variances.log() + linear * means
    constant = log_weights.double() - 0.5 * squares.sum(2, dtype=torch.float64)
    constant -= 0.5 * means.shape[2] * LOG_2PI
    offset = constant.max(1).values
    relative = (constant - offset[:, None])[:, None, :].to(means.dtype)
    return Natural(linear.mT, -0.5 * precisions.mT, relative, offset)


def log_joint_rows(natural: Natural, rows: Tensor, square: Tensor) -> Tensor:
    """Return log pi_k N(x; k) less the offset, (n_sites, n_rows, n_components)."""
    if len(rows) == 1:  # a plain product is faster than a batch of one
        found = torch.addmm(natural.constant[0], rows[0], natural.linear[0])[None]
    else:
        found = torch.baddbmm(natural.constant, rows, natural.linear)
    if natural.quadratic.shape[2] == 1:
        return found.add_(square @ natural.quadratic)
    if len(rows) == 1:
        return found[0].addmm_(square[0], natural.quadratic[0])[None]
    return found.baddbmm_(square, natural.quadratic)


def posterior(log_joint: Tensor) -> tuple[Tensor, Tensor]:
    """Return softmax and log-sum-exp over the last axis."""
    resp = torch.softmax(log_joint, -1)
    # log sum exp s = s_k - log r_k for any k: the largest is exact, and no second exp.
    return resp, log_joint.amax(-1) - resp.amax(-1).log()


def component_moments(
    rows: Tensor, square: Tensor, weights: Tensor, total: Tensor | float
) -> ComponentMoments:
    """Return sums under weights (n_sites, n_rows, n_components), over ``total``."""
    transposed = weights.mT
    return ComponentMoments(
        transposed.sum(2) / total,
        (transposed @ rows) / total,
        (transposed @ square) / total,
    )


def random_init(
    input_shape: Shape,
    n_components: int,
    shared: bool,
    floor: float,
    generator: torch.Generator,
    dtype: torch.dtype = torch.float32,
) -> MixtureLayer:
    """Return a mixture before training: equal weights, means near zero, variances one.

    The first batch moves it to the data; see ``init_from_batch``.
    """
    n_sites = 1 if shared else input_shape[0] * input_shape[1]
    shape = (n_sites, n_components, input_shape[2])
    noise = torch.rand(shape, generator=generator, dtype=torch.float64)
    means = (INIT_SPREAD * (2.0 * noise - 1.0)).to(dtype)
    weights = torch.full(shape[:2], 1.0 / n_components, dtype=dtype)
    return MixtureLayer(
        input_shape, shared, weights, means, torch.ones(shape, dtype=dtype), floor
    )


def init_from_batch(
    layer: MixtureLayer, x: Tensor, weight: Tensor | None = None
) -> None:
    """Put a new mixture around the mean of a first batch, in its standard deviations.

    ``weight`` holds the weights of rows, (1, n_rows, 1), not all zero.
    """
    rows = layer.rows(x)
    if weight is None:
        mean = rows.mean(1, keepdim=True)
        variance = rows.var(1, correction=0, keepdim=True)
    else:
        share = weight / weight.sum()
        mean = (share * rows).sum(1, keepdim=True)
        variance = (share * (rows - mean).square()).sum(1, keepdim=True)
    layer.means = mean + layer.means * variance.sqrt()
    layer.variances = variance.expand_as(layer.means).contiguous()


def split_heaviest(
    layer: MixtureLayer, site: int, k: int, generator: torch.Generator
) -> None:
    """Replace component k of a site by half of the heaviest one.

    Both halves move by half a standard deviation in every feature, in opposite
    directions of random sign: far enough apart to be told from each other, near enough
    to share.
    """
    owner = int(layer.weights[site].argmax())
    size = (layer.means.shape[2],)
    sign = torch.randint(0, 2, size, generator=generator).to(layer.means) * 2.0 - 1.0
    shift = 0.5 * layer.variances[site, owner].sqrt() * sign
    layer.means[site, k] = layer.means[site, owner] + shift
    layer.means[site, owner] -= shift
    for name in layer.names[2:]:
        getattr(layer, name)[site, k] = getattr(layer, name)[site, owner]
    layer.weights[site, owner] *= 0.5
    layer.weights[site, k] = layer.weights[site, owner]
