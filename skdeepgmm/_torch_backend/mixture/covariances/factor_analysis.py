"""The algebra of factor analysers: Sigma_k = A_k A_k^T + diag(d_k).

Everything goes through the Woodbury identity with M = I + A^T D^-1 A (rank x rank);
no matrix of n_features x n_features is ever made. With M = L L^T and the whitener
W = L^-1 A^T D^-1,

    x^T Sigma^-1 x = x^T D^-1 x - |W x|^2,   log det Sigma = log det M + sum log d,

and the posterior of the factors is z | x ~ N(L^-T W (x - mu), M^-1).
"""

from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from torch import Tensor

from skdeepgmm._torch_backend import linalg
from skdeepgmm._torch_backend.mixture.covariances.base import (
    LOG_2PI,
    Covariance,
    MaskedStatistics,
    column_chunks,
    normal_like,
)
from skdeepgmm._torch_backend.mixture.covariances.checks import check_entries
from skdeepgmm._torch_backend.mixture.covariances.masked_factors import (
    MaskedFactors,
    masked_posterior,
)
from skdeepgmm._torch_backend.mixture.covariances.pairs import Pairs
from skdeepgmm._torch_backend.mixture.suffstats import Statistics

NO_PRECISIONS = (
    "precisions_init does not apply to covariance_type='low_rank'. Give means_init and "
    "weights_init, or start from from_parameters(...) with warm_start=True."
)


@dataclass(frozen=True)
class FactorAnalysisCovariance(Covariance):
    """Factors and noise of mixture components.

    ``values`` has shape (n_components, n_features, rank + 1): the factors A_k, then
    the noise variances d_k as last column. Statistics.second has shape
    (n_components, n_features + rank, rank + 1)::

        [ sum r x z^T   sum r x^2 ]
        [ sum r z z^T   sum r z   ]

    with z the posterior mean of the factors and z z^T including their posterior
    covariance: the complete-data statistics of factor analysis, so that they add
    over batches and over parameters.
    """

    whitener: Tensor
    posterior_chol: Tensor

    attribute_names: ClassVar[tuple[str, ...]] = ("factors_", "noise_variance_")
    stored: ClassVar[tuple[str, ...]] = ("factors_", "noise_variance_")

    @classmethod
    def values_shape(cls, n_components: int, n_features: int) -> tuple[int, ...]:
        return n_components, n_features, cls.rank + 1

    @classmethod
    def second_shape(cls, n_components: int, n_features: int) -> tuple[int, ...]:
        return n_components, n_features + cls.rank, cls.rank + 1

    @classmethod
    def n_parameters(cls, n_components: int, n_features: int) -> int:
        # Factors are determined up to a rotation of rank (rank - 1) / 2 angles.
        rank = min(cls.rank, n_features)
        own = n_features * (rank + 1) - rank * (rank - 1) // 2
        # No more than the matrix A A^T + diag(d) itself has.
        return n_components * min(own, n_features * (n_features + 1) // 2)

    @classmethod
    def n_moment_features(cls, n_features: int) -> int:
        return n_features

    @classmethod
    def least_samples(cls, n_components: int, n_features: int) -> int:
        return cls.rank + 1

    @classmethod
    def from_values(cls, values: Tensor) -> tuple[Self, Tensor]:
        good = torch.isfinite(values).all(-1) & (values[..., -1] > 0)
        failed = ~good.all(-1)
        fallback = torch.zeros_like(values)
        fallback[..., -1] = 1.0
        safe = torch.where(failed[:, None, None], fallback, values)
        factors, noise = safe[..., :-1], safe[..., -1]
        whitener, lower, broken = linalg.factor_whitener(factors, noise)
        return cls(values, whitener, lower), failed | broken

    @classmethod
    def from_precisions(cls, precisions: Tensor) -> Self:
        raise ValueError(NO_PRECISIONS)

    @classmethod
    def from_stored(cls, *attributes: Tensor) -> Self:
        factors, noise = attributes
        return cls.from_values(torch.cat([factors, noise[..., None]], dim=-1))[0]

    @classmethod
    def from_sgd_factor(cls, factor: Tensor) -> Self:
        return cls.from_values(factor.double())[0]

    def to_sgd_factor(self) -> Tensor:
        return self.values

    @classmethod
    def check_positive(cls, values: Tensor, what: str) -> None:
        check_entries(values[..., -1], what)

    def attributes(self) -> dict[str, Tensor]:
        return {"factors_": self.factors, "noise_variance_": self.noise}

    def dense(self, n_components: int, n_features: int) -> Tensor:
        return self.factors @ self.factors.mT + self.noise.diag_embed()

    @property
    def factors(self) -> Tensor:
        """A of shape (n_components, n_features, rank)."""
        return self.values[..., :-1]

    @property
    def noise(self) -> Tensor:
        """d of shape (n_components, n_features)."""
        return self.values[..., -1]

    @classmethod
    def estimate(cls, stats: Statistics, delta: Tensor, ridge: Tensor) -> Tensor:
        # Regression of x on z; then the factors' covariance V is absorbed into A
        # (parameter-expanded EM, Liu, Rubin & Wu 1998), which keeps the likelihood
        # rising and converges even where the noise is tiny.
        n_features, rank = delta.shape[1], stats.second.shape[2] - 1
        second = stats.second / stats.nk[:, None, None]
        factor_mean = second[:, n_features:, rank]
        cross = second[:, :n_features, :rank] - delta[..., None] * factor_mean[:, None]
        spread = second[:, n_features:, :rank]
        spread = spread - factor_mean[..., None] * factor_mean[:, None]
        spread = 0.5 * (spread + spread.mT)
        chol, info = torch.linalg.cholesky_ex(spread)
        regression = torch.cholesky_solve(cross.mT, chol).mT
        variance = second[:, :n_features, rank] - delta.square()
        noise = variance - (regression * cross).sum(-1)
        noise = torch.maximum(noise, ridge)
        values = torch.cat([regression @ chol, noise[..., None]], dim=-1)
        return torch.where((info != 0)[:, None, None], torch.nan, values)

    @classmethod
    def floored(cls, values: Tensor, floor: Tensor) -> Tensor:
        clean = values.nan_to_num(0.0)
        noise = torch.maximum(clean[..., -1], floor)
        return torch.cat([clean[..., :-1], noise[..., None]], dim=-1)

    @classmethod
    def from_variances(cls, variances: Tensor, n_components: int) -> Tensor:
        # Zero factors are a saddle point of EM: start with weak, distinct ones.
        n_features = len(variances)
        factors = torch.zeros(n_features, cls.rank, dtype=variances.dtype)
        index = torch.arange(n_features)
        factors[index, index % cls.rank] = 0.1
        factors = factors.to(variances.device) * variances.sqrt()[:, None]
        noise = variances[:, None] * 0.99
        return torch.cat([factors, noise], dim=1).repeat(n_components, 1, 1)

    @classmethod
    def pooled(cls, values: Tensor, weights: Tensor) -> Tensor:
        # Factors have no common orientation, so they cannot be averaged.
        return values[weights.argmax()]

    def scaled(self, scale: Tensor) -> Self:
        factors = self.factors * scale[:, None]
        noise = self.noise * scale.square()
        values = torch.cat([factors, noise[..., None]], dim=-1)
        return type(self).from_values(values)[0]

    # Densities -------------------------------------------------------------------

    def log_prob(self, x: Tensor, means: Tensor) -> Tensor:
        out = x.new_empty(len(means), x.shape[1])
        root = self.noise.rsqrt().to(x.dtype)[..., None]
        whitener = self.whitener.to(x.dtype)
        centers = means.to(x.dtype)[..., None]
        for columns in column_chunks(x, len(means)):
            diff = x[:, columns] - centers
            explained = torch.bmm(whitener, diff).square_().sum(1)
            out[:, columns] = diff.mul_(root).square_().sum(1) - explained
        return self.log_normalizer(len(x))[:, None].to(x.dtype) - 0.5 * out

    def log_normalizer(self, n_features: int) -> Tensor:
        log_det = 2.0 * linalg.log_det_triangular(self.posterior_chol)
        log_det = log_det + self.noise.log().sum(1)
        return -0.5 * (log_det + n_features * LOG_2PI)

    # Merging ---------------------------------------------------------------------

    @classmethod
    def pair_size(cls, n_features: int) -> int:
        return n_features * (2 * cls.rank + 2)

    @classmethod
    def matched(cls, values: Tensor, weights: Tensor, pairs: Pairs) -> Tensor:
        """Return the largest factors of the pairs, the rest as noise.

        Their variances are exact. Largest in units of the noise, so that it does not
        depend on the features' scales.
        """
        factors, noise = cls._stacked(values, pairs)
        scaled = factors / noise.sqrt()[..., None]
        _, vectors = torch.linalg.eigh(scaled.mT @ scaled)
        kept = factors @ vectors[..., -(values.shape[-1] - 1) :]
        rest = (factors.square().sum(-1) - kept.square().sum(-1)).clamp_min(0.0)
        return torch.cat([kept, (noise + rest)[..., None]], dim=-1)

    @classmethod
    def merge_costs(
        cls, values: Tensor, own: Tensor, weights: Tensor, pairs: Pairs
    ) -> Tensor:
        n_features = pairs.diff.shape[1]
        factors, noise = cls._stacked(values, pairs)
        stacked = torch.cat([factors, noise[..., None]], dim=-1)
        after = cls.log_normalizers(stacked, n_features)
        both = torch.stack([own[pairs.first], own[pairs.second]])
        return (pairs.weights * both).sum(0) - pairs.mass * after

    @staticmethod
    def _stacked(values: Tensor, pairs: Pairs) -> tuple[Tensor, Tensor]:
        """Return the factors of pairs, both and the means' difference, and noise."""
        share = pairs.share[:, None, None]
        first, second = values[pairs.first], values[pairs.second]
        parts = (
            share.sqrt() * first[..., :-1],
            (1.0 - share).sqrt() * second[..., :-1],
            (share * (1.0 - share)).sqrt() * pairs.diff[..., None],
        )
        noise = share[..., 0] * first[..., -1] + (1.0 - share[..., 0]) * second[..., -1]
        return torch.cat(parts, dim=-1), noise

    def variances(self) -> Tensor:
        return self.factors.square().sum(-1) + self.noise

    def rounding(self, means: Tensor) -> float:
        # x^T D^-1 x and the factors' share of it cancel, even about the mean; for some
        # samples they are several times the expected ones.
        shared = (self.variances() / self.noise).sum(1).max()
        return super().rounding(means) + 10.0 * float(shared)

    def precision_diagonal(self) -> Tensor:
        # Terms of the product form are as large as those of D^-1 alone.
        return self.noise.reciprocal()

    def natural(self, means: Tensor, log_weights: Tensor) -> Tensor:
        """Return the coefficients of the D^-1 part; factors come on top."""
        precisions = self.noise.reciprocal()
        linear = precisions * means
        constant = (
            log_weights
            + self.log_normalizer(means.shape[1])
            - 0.5 * (linear * means).sum(1)
        )
        return torch.cat([constant[:, None], linear, -0.5 * precisions], dim=1)

    @staticmethod
    def features(x: Tensor, out: Tensor) -> None:
        torch.mul(x, x, out=out)

    def other_log_prob(
        self, x: Tensor, means: Tensor
    ) -> tuple[Tensor | None, Tensor | None]:
        scores = self.factor_scores(x, means)
        return scores.square().sum(1).mul_(0.5), scores

    # Statistics ------------------------------------------------------------------

    def second_from_features(
        self,
        products: Tensor,
        x: Tensor,
        total: Tensor | None,
        resp: Tensor,
        cache: Tensor | None,
    ) -> Tensor:
        if cache is None:
            raise RuntimeError("log_joint of a block comes before its statistics")
        return self.second_from_scores(x, products, cache, resp)

    def factor_scores(self, x: Tensor, means: Tensor) -> Tensor:
        """Return W_k (x - mu_k), (n_components, rank, n_samples)."""
        n_components, rank, n_features = self.whitener.shape
        offset = torch.bmm(self.whitener, means[..., None]).to(x.dtype)
        stacked = self.whitener.reshape(-1, n_features).to(x.dtype)
        return (stacked @ x).reshape(n_components, rank, -1).sub_(offset)

    def second_from_scores(
        self, x: Tensor, squares: Tensor, scores: Tensor, resp: Tensor
    ) -> Tensor:
        """Return Statistics.second from factor scores.

        Parameters
        ----------
        x : Tensor of shape (n_features, n_samples)
        squares : Tensor of shape (n_components, n_features)
            sum r x^2.
        scores : Tensor of shape (n_components, rank, n_samples)
        resp : Tensor of shape (n_components, n_samples)
        """
        n_components, rank, _ = scores.shape
        weighted = scores * resp[:, None]
        cross = (x @ weighted.reshape(n_components * rank, -1).T).double()
        cross = cross.reshape(len(x), n_components, rank).permute(1, 0, 2)
        spread = torch.bmm(weighted, scores.mT).double()
        # z = L^-T scores; M^-1 = L^-T L^-1.
        eye = torch.eye(rank, dtype=torch.float64, device=x.device)
        inverse = self._posterior_root().mT
        nk = resp.double().sum(1)[:, None, None]
        top = torch.cat([cross @ inverse, squares[..., None]], dim=-1)
        spread = inverse.mT @ (spread + nk * eye) @ inverse
        mean = inverse.mT @ weighted.double().sum(-1, keepdim=True)
        return torch.cat([top, torch.cat([spread, mean], dim=-1)], dim=1)

    def second_about(self, x: Tensor, resp: Tensor, center: Tensor) -> Tensor:
        # About component centres the products cannot be shared: one at a time.
        parts = []
        for k in range(len(center)):
            one = type(self)(
                self.values[k : k + 1],
                self.whitener[k : k + 1],
                self.posterior_chol[k : k + 1],
            )
            diff = x - center[k].to(x.dtype)[:, None]
            part = resp[k : k + 1]
            scores = one.factor_scores(diff, torch.zeros_like(center[:1]))
            squares = (diff.square() @ part.T).T.double()
            parts.append(one.second_from_scores(diff, squares, scores, part))
        return torch.cat(parts)

    def expected_second(self, nk: Tensor, ridge: Tensor) -> Tensor:
        n_components, n_features, width = self.values.shape
        second = self.values.new_zeros(n_components, n_features + width - 1, width)
        second[:, :n_features, :-1] = self.factors
        second[:, :n_features, -1] = self.variances()
        second[:, n_features:, :-1] = torch.eye(width - 1, dtype=second.dtype)
        return second * nk[:, None, None]

    @classmethod
    def recentered(
        cls, second: Tensor, first: Tensor, nk: Tensor, shift: Tensor
    ) -> Tensor:
        n_features, rank = shift.shape[1], second.shape[2] - 1
        moved = second.clone()
        mean = second[:, n_features:, rank]
        moved[:, :n_features, :rank] -= shift[..., None] * mean[:, None]
        squares = -2.0 * shift * first + nk[:, None] * shift.square()
        moved[:, :n_features, rank] += squares
        return moved

    @classmethod
    def unobserved_second(cls, nk: Tensor) -> Tensor:
        # Their factors have mean 0 and covariance I.
        second = nk.new_zeros(cls.second_shape(len(nk), 0))
        eye = torch.eye(cls.rank, dtype=nk.dtype, device=nk.device)
        second[:, :, : cls.rank] += nk[:, None, None] * eye
        return second

    def marginal(self, kept: Tensor) -> Self:
        return type(self).from_values(self.values[:, kept])[0]

    def regress(self, diff: Tensor, observed: Tensor, missing: Tensor) -> Tensor:
        seen = self.marginal(observed)
        scores = torch.bmm(seen.whitener.to(diff.dtype), diff)
        loadings = self.factors[:, missing] @ seen._posterior_root()
        return torch.bmm(loadings.to(diff.dtype), scores)

    def _posterior_root(self) -> Tensor:
        """Return L^-T, a root of the posterior covariance M^-1 of the factors."""
        eye = torch.eye(
            self.posterior_chol.shape[-1],
            dtype=self.values.dtype,
            device=self.values.device,
        )
        return linalg.solve_lower(
            self.posterior_chol, eye.expand_as(self.posterior_chol)
        ).mT

    def conditional(self, observed: Tensor, missing: Tensor) -> Self:
        # z | x_o ~ N(., L^-T L^-1): its root goes into the missing part's factors.
        factors = self.factors[:, missing] @ self.marginal(observed)._posterior_root()
        values = torch.cat([factors, self.noise[:, missing, None]], dim=-1)
        return type(self).from_values(values)[0]

    def expand(
        self, stats: Statistics, observed: Tensor, missing: Tensor
    ) -> tuple[Tensor, Tensor]:
        n_components, n_features, width = self.values.shape
        rank, n_observed = width - 1, len(observed)
        hidden = stats.second[:, n_observed:]
        spread, mean = hidden[..., :rank], hidden[..., rank]
        loadings = self.factors[:, missing]
        second = self.values.new_empty(n_components, n_features + rank, width)
        second[:, n_features:] = hidden
        second[:, observed] = stats.second[:, :n_observed]
        cross = loadings @ spread
        second[:, missing, :rank] = cross
        second[:, missing, rank] = (cross * loadings).sum(-1) + (
            stats.nk[:, None] * self.noise[:, missing]
        )
        first = self.values.new_empty(n_components, n_features)
        first[:, observed] = stats.first
        first[:, missing] = (loadings @ mean[..., None])[..., 0]
        return first, second

    @classmethod
    def masked_bytes(cls, n_components: int, n_features: int) -> int:
        return 8 * 4 * n_components * (n_features + cls.rank**2)

    def masked(
        self, x: Tensor, mask: Tensor, means: Tensor
    ) -> tuple[Tensor, MaskedStatistics]:
        factors, noise = self.factors.to(x.dtype), self.noise.to(x.dtype)
        scaled = factors / noise[..., None]
        chol = masked_posterior(scaled, factors, mask)
        diff = (x - means.to(x.dtype)[..., None]) * mask
        scores = torch.bmm(scaled.mT, diff).permute(2, 0, 1)[..., None]
        whitened = torch.linalg.solve_triangular(chol, scores, upper=False)
        distance = (diff.square() / noise[..., None]).sum(1)
        distance = distance - whitened.square().sum((2, 3)).T
        log_det = (noise.log() + LOG_2PI) @ mask
        log_det = log_det + 2.0 * linalg.log_det_triangular(chol).T
        statistics = MaskedFactors(factors, noise, mask, chol, diff, scores)
        return -0.5 * (distance + log_det), statistics

    def sample(
        self, component: int, shape: tuple[int, int], generator: torch.Generator
    ) -> Tensor:
        factors, noise = self.factors[component], self.noise[component]
        hidden = normal_like(factors, (shape[0], factors.shape[1]), generator)
        own = normal_like(factors, shape, generator)
        return hidden @ factors.T + own * noise.sqrt()
