"""What covariance types of whole matrices share, and the algebra of missing entries."""

from abc import abstractmethod
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from skdeepgmm._torch_backend import linalg
from skdeepgmm._torch_backend.mixture.covariances.base import (
    LOG_2PI,
    MaskedStatistics,
)
from skdeepgmm._torch_backend.mixture.covariances.checks import check_matrices
from skdeepgmm._torch_backend.mixture.covariances.cholesky import CholeskyCovariance
from skdeepgmm._torch_backend.mixture.suffstats import Statistics


@dataclass(frozen=True)
class MatrixCovariance(CholeskyCovariance):
    """Covariance matrices of shape (..., n_features, n_features)."""

    @classmethod
    def from_values(cls, values: Tensor) -> tuple[Self, Tensor]:
        factors, failed = linalg.precision_cholesky(values)
        return cls(values, factors), failed.reshape(-1)

    @classmethod
    def from_precisions(cls, precisions: Tensor) -> Self:
        return cls.from_precisions_chol(
            linalg.precision_cholesky_from_precision(precisions)
        )

    @classmethod
    def from_precisions_chol(cls, precisions_chol: Tensor) -> Self:
        eye = torch.eye(
            precisions_chol.shape[-1],
            dtype=precisions_chol.dtype,
            device=precisions_chol.device,
        )
        lower = torch.linalg.solve_triangular(
            precisions_chol, eye.expand_as(precisions_chol), upper=True
        ).mT
        return cls(lower @ lower.mT, precisions_chol)

    @classmethod
    def check_positive(cls, values: Tensor, what: str) -> None:
        check_matrices(values, what)

    @classmethod
    def floored(cls, values: Tensor, floor: Tensor) -> Tensor:
        return linalg.floor_eigenvalues(values, floor)

    def precisions(self) -> Tensor:
        return self.precisions_chol @ self.precisions_chol.mT

    def scaled(self, scale: Tensor) -> Self:
        return type(self)(
            self.values * scale[:, None] * scale, self.precisions_chol / scale[:, None]
        )

    def log_normalizer(self, n_features: int) -> Tensor:
        log_det = linalg.log_det_triangular(self.precisions_chol)
        return log_det - 0.5 * n_features * LOG_2PI

    @classmethod
    def log_normalizers(cls, values: Tensor, n_features: int) -> Tensor:
        # Without the inverse factors that an object holds.
        lower, info = torch.linalg.cholesky_ex(values)
        log_det = linalg.log_det_triangular(lower).reshape(-1)
        found = -log_det - 0.5 * n_features * LOG_2PI
        return found.masked_fill(info.reshape(-1) != 0, torch.nan)

    # Parts of the features -------------------------------------------------------

    @property
    def ill_conditioned(self) -> bool:
        """Whether parts of the matrices are better factored through their roots."""
        return linalg.ill_conditioned(self.values, self.precisions_chol)

    def marginal(self, kept: Tensor) -> Self:
        values = self.values[..., kept[:, None], kept]
        if self.ill_conditioned:
            return type(self)(values, linalg.marginal_chol(self.precisions_chol, kept))
        return type(self).from_values(values)[0]

    def regress(self, diff: Tensor, observed: Tensor, missing: Tensor) -> Tensor:
        return self._gain(observed, missing).to(diff.dtype) @ diff

    def conditional(self, observed: Tensor, missing: Tensor) -> Self:
        if self.ill_conditioned:
            return type(self).from_precisions_chol(
                linalg.conditional_chol(self.precisions_chol, missing)
            )
        return type(self).from_values(self._residual(observed, missing))[0]

    def _gain(self, observed: Tensor, missing: Tensor) -> Tensor:
        """Return Sigma_mo Sigma_oo^-1 of shape (..., n_missing, n_observed)."""
        if self.ill_conditioned:
            return linalg.gain(self.precisions_chol, observed, missing)
        cross = self.values[..., observed[:, None], missing]
        chol: Tensor = torch.linalg.cholesky(
            self.values[..., observed[:, None], observed]
        )
        return torch.cholesky_solve(cross, chol).mT

    def _residual(self, observed: Tensor, missing: Tensor) -> Tensor:
        """Return the covariances of x_missing given x_observed."""
        if self.ill_conditioned:
            return self.conditional(observed, missing).values
        chol: Tensor = torch.linalg.cholesky(
            self.values[..., observed[:, None], observed]
        )
        cross = self.values[..., observed[:, None], missing]
        # As a square it loses no more digits than the matrix itself has lost.
        root = linalg.solve_lower(chol, cross)
        residual = self.values[..., missing[:, None], missing] - root.mT @ root
        return 0.5 * (residual + residual.mT)

    def expand(
        self, stats: Statistics, observed: Tensor, missing: Tensor
    ) -> tuple[Tensor, Tensor]:
        n_observed = len(observed)
        lift = self.values.new_zeros(*self.values.shape[:-1], n_observed)
        lift[..., observed, torch.arange(n_observed, device=lift.device)] = 1.0
        lift[..., missing, :] = self._gain(observed, missing)
        seen = self.unpacked(stats.second, n_observed)
        second = lift @ seen @ lift.mT
        # What was observed is known, not computed.
        second[..., observed[:, None], observed] = seen
        residual = self.mass_of(stats.nk) * self._residual(observed, missing)
        second[..., missing[:, None], missing] += residual
        return self.product(lift, stats.first), self.packed(second)

    def masked_by_pattern(
        self, x: Tensor, mask: Tensor, means: Tensor
    ) -> tuple[Tensor, MaskedStatistics]:
        """Do as ``masked``, one pattern of missing features after the other.

        Slower, and right where the matrices are nearly singular.
        """
        patterns, which = torch.unique(mask.bool(), dim=1, return_inverse=True)
        parts = []
        log_prob = x.new_zeros(len(means), x.shape[1])
        for number, pattern in enumerate(patterns.T):
            columns = (which == number).nonzero()[:, 0]
            observed, missing = (i.nonzero()[:, 0] for i in (pattern, ~pattern))
            parts.append((columns, observed, missing))
            if len(observed):
                seen, centers = self.marginal(observed), means[:, observed]
                rows = x[observed[:, None], columns]
                log_prob[:, columns] = seen.log_prob(rows, centers)
        return log_prob, MaskedPatterns(self, x, means, parts)

    @staticmethod
    @abstractmethod
    def packed(matrices: Tensor) -> Tensor:
        """Return matrices in the shape of ``Statistics.second``."""

    @staticmethod
    @abstractmethod
    def unpacked(second: Tensor, n_features: int) -> Tensor:
        """Return ``Statistics.second`` as matrices."""

    @staticmethod
    @abstractmethod
    def mass_of(nk: Tensor) -> Tensor:
        """Return the mass behind each matrix, to multiply it with."""

    @staticmethod
    @abstractmethod
    def product(matrices: Tensor, vectors: Tensor) -> Tensor:
        """Return every component's matrix times its vector, (n_components, ...)."""


@dataclass(frozen=True)
class MaskedPatterns:
    """Expected statistics of samples, pattern by pattern of missing features.

    Attributes
    ----------
    covariance : MatrixCovariance
    x : Tensor of shape (n_features, n_samples)
    means : Tensor of shape (n_components, n_features)
    parts : list of tuple of Tensor
        Indices of samples, of their observed and of their missing features.
    """

    covariance: MatrixCovariance
    x: Tensor
    means: Tensor
    parts: list[tuple[Tensor, Tensor, Tensor]]

    def __call__(self, resp: Tensor) -> tuple[Tensor, Tensor]:
        shape = self.covariance.second_shape(*self.means.shape)
        first, second = torch.zeros_like(self.means), self.means.new_zeros(shape)
        for columns, observed, missing in self.parts:
            mine, centers = resp[:, columns].double(), self.means[:, observed]
            rows = self.x[observed[:, None], columns].double()
            stats = Statistics.zeros(
                centers, self.covariance.second_shape(*centers.shape)
            )
            stats.nk += mine.sum(1)
            diff = rows - centers[..., None]
            stats.first += torch.bmm(diff, mine[..., None])[..., 0]
            seen = self.covariance.marginal(observed)
            stats.second += seen.second_about(rows, mine, centers)
            whole = self.covariance.expand(stats, observed, missing)
            first, second = first + whole[0], second + whole[1]
        return first, second


def masked_cholesky(sigma: Tensor, seen: Tensor) -> Tensor:
    """Return the Cholesky factors of the observed parts, padded by the identity.

    Parameters
    ----------
    sigma : Tensor of shape (..., n_features, n_features)
    seen : Tensor of shape (..., n_features)
        1 where observed, 0 where missing.
    """
    padded = sigma * (seen[..., :, None] * seen[..., None, :])
    padded = padded + torch.diag_embed(1.0 - seen)
    chol: Tensor = torch.linalg.cholesky(padded)
    return chol


def masked_density(chol: Tensor, diff: Tensor, seen: Tensor) -> Tensor:
    """Return log N(diff; 0, L L^T) of the observed entries, (..., n_columns)."""
    whitened = torch.linalg.solve_triangular(chol, diff, upper=False)
    log_det = linalg.log_det_triangular(chol)[..., None]
    constant = 0.5 * LOG_2PI * seen.sum(-1)[..., None]
    density: Tensor = -0.5 * whitened.square().sum(-2) - log_det - constant
    return density


@dataclass(frozen=True)
class Completion:
    """Samples completed by what their observed features say of the missing ones.

    Attributes
    ----------
    values : Tensor of shape (n_samples, n_features, n_columns)
        x - mu; observed entries as they are, missing ones by regression.
    root : Tensor of shape (n_samples, n_features, n_features)
        Columns of missing features are L^-1 Sigma_om: the square is what is known of
        their covariance.
    missing : Tensor of shape (n_samples, n_features)
        1 where missing, 0 where observed.
    """

    values: Tensor
    root: Tensor
    missing: Tensor

    @classmethod
    def of(cls, chol: Tensor, sigma: Tensor, diff: Tensor, seen: Tensor) -> Self:
        """Complete samples with the factors of their observed parts.

        Parameters
        ----------
        chol : Tensor of shape (n_samples, n_features, n_features)
            As from ``masked_cholesky``.
        sigma : Tensor that broadcasts to the shape of ``chol``
        diff : Tensor of shape (n_samples, n_features, n_columns)
            x - mu, 0 where missing.
        seen : Tensor of shape (n_samples, n_features)
        """
        missing = 1.0 - seen
        cross = sigma * (seen[:, :, None] * missing[:, None])
        root = linalg.solve_lower(chol, cross)
        return cls(diff + root.mT @ linalg.solve_lower(chol, diff), root, missing)

    def unexplained(self, sigma: Tensor, weight: Tensor) -> Tensor:
        """Return the weighted sum of the covariances of missing given observed.

        Zero but for pairs of missing features, (n_features, n_features).
        """
        pairs = (self.missing * weight[:, None]).T @ self.missing
        root = (self.root * weight.sqrt()[:, None, None]).flatten(0, 1)
        return pairs * sigma - root.T @ root
