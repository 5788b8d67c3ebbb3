"""What covariance types of whole matrices share, and the algebra of missing entries."""

from abc import abstractmethod
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from skdeepgmm._torch_backend import linalg
from skdeepgmm._torch_backend.mixture.covariances.base import LOG_2PI
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

    def _log_normalizer(self) -> Tensor:
        log_det = linalg.log_det_triangular(self.precisions_chol)
        return log_det - 0.5 * self.precisions_chol.shape[-1] * LOG_2PI

    # Parts of the features -------------------------------------------------------

    def marginal(self, kept: Tensor) -> Self:
        return type(self).from_values(self.values[..., kept[:, None], kept])[0]

    def regress(self, diff: Tensor, observed: Tensor, missing: Tensor) -> Tensor:
        return self._gain(observed, missing).to(diff.dtype) @ diff

    def conditional(self, observed: Tensor, missing: Tensor) -> Self:
        return type(self).from_values(self._residual(observed, missing))[0]

    def _gain(self, observed: Tensor, missing: Tensor) -> Tensor:
        """Return Sigma_mo Sigma_oo^-1 of shape (..., n_missing, n_observed)."""
        cross = self.values[..., observed[:, None], missing]
        chol: Tensor = torch.linalg.cholesky(
            self.values[..., observed[:, None], observed]
        )
        return torch.cholesky_solve(cross, chol).mT

    def _residual(self, observed: Tensor, missing: Tensor) -> Tensor:
        """Return the covariances of x_missing given x_observed."""
        explained = (
            self._gain(observed, missing)
            @ (self.values[..., observed[:, None], missing])
        )
        residual = self.values[..., missing[:, None], missing] - explained
        return 0.5 * (residual + residual.mT)

    def expand(
        self, stats: Statistics, observed: Tensor, missing: Tensor
    ) -> tuple[Tensor, Tensor]:
        n_observed = len(observed)
        lift = self.values.new_zeros(*self.values.shape[:-1], n_observed)
        lift[..., observed, torch.arange(n_observed, device=lift.device)] = 1.0
        lift[..., missing, :] = self._gain(observed, missing)
        second = lift @ self.unpacked(stats.second, n_observed) @ lift.mT
        residual = self.mass_of(stats.nk) * self._residual(observed, missing)
        second[..., missing[:, None], missing] += residual
        return self.product(lift, stats.first), self.packed(second)

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


def masked_inverse(chol: Tensor, seen: Tensor) -> Tensor:
    """Return the inverses of the observed parts, zero elsewhere."""
    inverse: Tensor = torch.cholesky_inverse(chol)
    return inverse * (seen[..., :, None] * seen[..., None, :])
