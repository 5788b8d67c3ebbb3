"""Mixtures of factor analysers over the positions of a grid, and how they learn.

A component is N(mu_k, A_k A_k^T + diag(d_k)): factors z ~ N(0, I) move all values
together, x = mu_k + A_k z + noise. ``MixtureLayer.variances`` holds the noise d_k.

A step keeps to the sufficient statistics of the complete data (x, z), as that of a
diagonal mixture does to those of x. In place of running statistics stand those of the
model: z has mean 0 and covariance I, and A_k is the covariance of x and z. After a step
of share s, with the batch's moments under the posterior of z,

    V = (1 - s) I + s cov(z),    C = (1 - s) A + s cov(x, z),

the regression C V^-1 of x on z and the covariance V give A = C L^-T, L L^T = V, and
what A explains leaves the variance, d = var(x) - diag(A A^T). With s = 1 this is one
iteration of parameter-expanded EM; with A = 0 it is the step of a diagonal mixture.

References: Ghahramani & Hinton (1996), "The EM algorithm for mixtures of factor
analyzers"; Liu, Rubin & Wu (1998), "Parameter expansion to accelerate EM", Biometrika
85; Gepperth (2023), "Large-scale gradient-based training of mixtures of factor
analyzers", arXiv:2308.13778.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from skdeepgmm._torch_backend import linalg
from skdeepgmm._torch_backend.deep_conv.layers.mixture import (
    ComponentMoments,
    Hidden,
    MixtureLayer,
    Natural,
    component_moments,
    log_joint_rows,
)
from skdeepgmm._torch_backend.rng import new_generator

#: Standard deviation of first factors, as a share of that of the values.
INITIAL_FACTORS = 0.3


@dataclass
class LowRankNatural(Natural):
    """A natural form with factors on top.

    Attributes
    ----------
    whitener : Tensor of shape (n_sites, n_features, n_components * rank)
        W^T of ``linalg.factor_whitener``.
    center : Tensor of shape (n_sites, 1, n_components * rank)
        W mu.
    """

    whitener: Tensor
    center: Tensor


@dataclass
class LowRankMoments(ComponentMoments):
    """Sums over the rows of a batch with those of the factors, as means over rows.

    Attributes
    ----------
    cross : Tensor of shape (n_sites, n_components, n_features, rank)
        Of q x z^T.
    spread : Tensor of shape (n_sites, n_components, rank, rank)
        Of q z z^T, with the posterior covariance.
    factor : Tensor of shape (n_sites, n_components, rank)
        Of q z.
    """

    cross: Tensor
    spread: Tensor
    factor: Tensor


@dataclass
class LowRankMixtureLayer(MixtureLayer):
    """Mixtures of factor analysers on a grid of one shape.

    Attributes
    ----------
    factors : Tensor of shape (n_sites, n_components, n_features, rank)
        Zero until they begin to learn.
    seed : int
        Of the first factors: a layer's own, so that it learns the same whatever the
        layers above draw.
    passes_factors : bool
        Whether the output has the posterior means of the factors.
    """

    factors: Tensor
    seed: int = 0
    passes_factors: bool = False

    names: ClassVar[tuple[str, ...]] = (*MixtureLayer.names, "factors")

    @property
    def rank(self) -> int:
        return self.factors.shape[3]

    @property
    def n_passed(self) -> int:
        return self.rank if self.passes_factors else 0

    @property
    def has_factors(self) -> bool:
        """Whether factors have begun to learn: those of all components at once."""
        return bool(self.factors[0, 0].any())

    def open_factors(self) -> None:
        """Give components without factors small random ones, of the same variance.

        Where the factors are passed up, all components begin with the same directions
        and keep near them, so that a factor means much the same in each of them.
        """
        if self.has_factors:
            return
        shape, generator = self.factors.shape, new_generator(self.seed)
        if self.passes_factors:
            shape = torch.Size((1, 1, *shape[2:]))
        noise = torch.randn(shape, generator=generator, dtype=torch.float64)
        share = (INITIAL_FACTORS / math.sqrt(self.rank)) * noise.to(self.factors)
        # At most half of a variance leaves the noise.
        share /= (2.0 * share.square().sum(3, keepdim=True)).sqrt().clamp_min(1.0)
        self.factors = share * self.variances.sqrt()[..., None]
        self.variances = self.variances - self.factors.square().sum(3)

    def noise(self) -> Tensor:
        """Return the variances of the noise, not below the floor."""
        return self.variances.clamp_min(self.floor)

    def factor_root(self) -> Tensor:
        """Return L^-T of all components, a root of cov(z | x)."""
        _, lower, _ = linalg.factor_whitener(self.factors, self.noise())
        return linalg.solve_lower(lower, _eye_like(lower)).mT

    def natural(self, tempered: bool = False) -> Natural:
        found = super().natural(tempered)
        if tempered or not self.has_factors:
            return found
        whitener, lower, _ = linalg.factor_whitener(self.factors, self.noise())
        log_det = linalg.log_det_triangular(lower).double()
        constant = found.constant[:, 0].double() + found.offset[:, None] - log_det
        offset = constant.max(1).values
        relative = (constant - offset[:, None])[:, None].to(found.constant)
        center = (whitener @ self.means[..., None]).reshape(self.n_sites, 1, -1)
        return LowRankNatural(
            *(found.linear, found.quadratic, relative, offset),
            *(whitener.flatten(1, 2).mT, center),
        )

    def pooled_variance(self) -> Tensor:
        whole = self.variances + self.factors.square().sum(3)
        share = self.weights / self.weights.sum(1, keepdim=True)
        mean = (share[:, :, None] * whole).sum(1).mean(1)
        return mean.clamp_min(self.floor)[:, None, None]

    def log_joint(
        self, natural: Natural, rows: Tensor, square: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """Return ``log_joint_rows``, and W (x - mu), (n_sites, n_rows, K, rank)."""
        found = log_joint_rows(natural, rows, square)
        if not isinstance(natural, LowRankNatural):
            return found, None
        scores = torch.baddbmm(natural.center, rows, natural.whitener, beta=-1.0)
        scores = scores.reshape(*rows.shape[:2], self.n_components, self.rank)
        return found + 0.5 * scores.square().sum(3), scores

    def moments(
        self,
        rows: Tensor,
        square: Tensor,
        weights: Tensor,
        total: Tensor | float,
        scores: Tensor | None,
    ) -> ComponentMoments:
        found = component_moments(rows, square, weights, total)
        if scores is None:
            return found
        root = self.factor_root()
        weighted = scores * weights[..., None]
        cross = (rows.mT @ weighted.flatten(2)) / total
        cross = cross.reshape(*cross.shape[:2], -1, self.rank).transpose(1, 2)
        spread = weighted.permute(0, 2, 3, 1) @ scores.transpose(1, 2) / total
        factor = root @ (weighted.sum(1) / total)[..., None]
        eye = found.mass[..., None, None] * _eye_like(spread)
        return LowRankMoments(
            *(found.mass, found.first, found.second),
            *(cross @ root.mT, root @ (spread + eye) @ root.mT, factor[..., 0]),
        )

    def move(self, moments: ComponentMoments, lr: float) -> None:
        if not isinstance(moments, LowRankMoments):
            super().move(moments, lr)
            return
        step = self.step_of(moments.mass, lr)[1][..., None]
        safe = moments.mass.clamp_min(1e-12)[:, :, None]
        mean, batch_mean = moments.factor / safe, moments.first / safe
        between = (step * (1.0 - step)) * mean[:, :, None]
        inner = moments.spread / safe[..., None] - mean[..., None] * mean[:, :, None]
        spread = torch.lerp(_eye_like(inner), inner, step)
        spread = spread + between * mean[..., None]
        cross = moments.cross / safe[..., None]
        cross = cross - batch_mean[..., None] * mean[:, :, None]
        cross = torch.lerp(self.factors, cross, step)
        cross = cross + between * (batch_mean - self.means)[..., None]
        # The variances of all, of which factors and noise get their parts.
        self.variances = self.variances + self.factors.square().sum(3)
        super().move(moments, lr)
        self._split(cross, spread)

    def _split(self, cross: Tensor, spread: Tensor) -> None:
        """Set the factors of cov(x, z) and cov(z), and the rest as noise."""
        lower, info = torch.linalg.cholesky_ex(spread)
        finite = torch.isfinite(lower).flatten(2).all(2)
        good = ((info == 0) & finite)[..., None, None]
        lower = torch.where(good, lower, _eye_like(lower))
        found = torch.linalg.solve_triangular(lower, cross.mT, upper=False).mT
        self.factors = torch.where(good, found, self.factors).contiguous()
        rest = self.variances - self.factors.square().sum(3)
        self.variances = rest.clamp_min_(0.0)

    def factor_rows(self, components: Tensor, z: Tensor) -> Tensor:
        """Return A_k z of chosen components, (n, height, width, n_features).

        Parameters
        ----------
        components : Tensor of int of shape (n, height, width)
        z : Tensor of shape (n, height, width, rank)
        """
        factors = self.factors[self.sites(components), components]
        return (factors @ z[..., None])[..., 0]

    def output(self, resp: Tensor, scores: Tensor | None) -> Tensor:
        if not self.passes_factors:
            return super().output(resp, scores)
        found = [resp, self.mean_factors(resp, scores)]
        return self.grid(torch.cat(found, 2))

    def mean_factors(self, resp: Tensor, scores: Tensor | None) -> Tensor:
        """Return E[z | x] = sum_k r_k E[z | x, k], (n_sites, n_rows, rank)."""
        if scores is None:
            return resp.new_zeros((*resp.shape[:2], self.rank))
        root = self.factor_root().mT.flatten(1, 2)
        return (scores * resp[..., None]).flatten(2) @ root

    def joined(self, resp: Tensor, hidden: Hidden | None) -> Tensor:
        if not self.passes_factors or hidden is None:
            return resp
        mean = (self.rows(resp)[..., None] * hidden.means).sum(2)
        return torch.cat([resp, self.grid(mean)], -1)

    def parts(self, signal: Tensor) -> tuple[Tensor, Tensor | None]:
        if not self.passes_factors:
            return signal, None
        return signal[..., : self.n_components], signal[..., self.n_components :]

    def given(self, z: Tensor | None) -> Hidden | None:
        if z is None:
            return None
        means = self.rows(z)[:, :, None].expand(-1, -1, self.n_components, -1)
        return Hidden(means, means.new_zeros(()).expand_as(means))

    def marginal(self, x: Tensor, known: Tensor) -> tuple[Tensor, Hidden | None]:
        found, _ = super().marginal(x, known)
        rows, seen = self.rows(x), self.rows(known)
        shape = (*rows.shape[:2], self.n_components)
        gain = rows.new_empty(shape)
        hidden = Hidden(*(rows.new_empty((*shape, self.rank)) for _ in range(2)))
        scaled = self.factors / self.noise()[..., None]
        for site in range(self.n_sites):
            for k in range(self.n_components):
                mean, variance, gain[site, :, k] = known_posterior(
                    seen[site] * (rows[site] - self.means[site, k]),
                    *(seen[site], self.factors[site, k], scaled[site, k]),
                )
                hidden.means[site, :, k], hidden.variances[site, :, k] = mean, variance
        return found + self.grid(gain), hidden

    def expect(
        self, resp: Tensor, hidden: Hidden | None = None
    ) -> tuple[Tensor, Tensor]:
        rows = self.rows(resp)
        flat = self.factors.transpose(2, 3).flatten(1, 2)
        centre = rows @ self.means
        variance = rows @ (self.means.square() + self.noise()) - centre.square()
        if hidden is None:
            spread = rows.repeat_interleave(self.rank, 2)
            mean = centre
        else:
            spread = (rows[..., None] * hidden.variances).flatten(2)
            mean = centre + (rows[..., None] * hidden.means).flatten(2) @ flat
        variance = (variance + spread @ flat.square()).clamp_min(self.floor)
        return self.grid(mean), self.grid(variance.reciprocal())


def known_posterior(
    diff: Tensor, seen: Tensor, factors: Tensor, scaled: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return mean, variance and evidence of a component's factors, given a part of x.

    Parameters
    ----------
    diff, seen : Tensor of shape (n_rows, n_features)
        (x - mu) times ``seen``, the exponents of the values.
    factors, scaled : Tensor of shape (n_features, rank)
        A, and D^-1 A.
    """
    size = factors.shape[1]
    products = (factors[:, :, None] * scaled[:, None]).flatten(1)
    inner = (seen @ products).reshape(-1, size, size)
    eye = torch.eye(size, dtype=inner.dtype, device=inner.device)
    lower = torch.linalg.cholesky_ex(eye + inner)[0]
    white = linalg.solve_lower(lower, (diff @ scaled)[..., None])
    inverse = linalg.solve_lower(lower, eye.expand_as(lower))
    mean = (inverse.mT @ white)[..., 0]
    gain = 0.5 * white.square().sum((1, 2)) - linalg.log_det_triangular(lower)
    return mean, inverse.square().sum(1), gain


def low_rank(
    layer: MixtureLayer, rank: int, seed: int = 0, passes_factors: bool = False
) -> LowRankMixtureLayer:
    """Return a new mixture with factors, which do not learn yet."""
    shape = (*layer.means.shape, min(rank, layer.input_shape[2]))
    factors = layer.means.new_zeros(shape)
    return with_factors(layer, factors, seed, passes_factors)


def with_factors(
    layer: MixtureLayer, factors: Tensor, seed: int = 0, passes_factors: bool = False
) -> LowRankMixtureLayer:
    """Return a diagonal mixture with factors, whose variances are the noise."""
    return LowRankMixtureLayer(
        layer.input_shape,
        layer.shared,
        layer.weights,
        layer.means,
        layer.variances,
        layer.floor,
        factors,
        seed,
        passes_factors,
    )


def _eye_like(matrices: Tensor) -> Tensor:
    eye = torch.eye(matrices.shape[-1], dtype=matrices.dtype, device=matrices.device)
    return eye.expand_as(matrices)
