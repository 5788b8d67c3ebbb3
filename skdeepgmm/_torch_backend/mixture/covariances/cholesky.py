"""Covariance types that have an explicit Cholesky-type factor of the precision."""

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from torch import Tensor

from skdeepgmm._torch_backend.mixture.covariances.base import Covariance, normal_like


@dataclass(frozen=True)
class CholeskyCovariance(Covariance):
    """A covariance with an explicit Cholesky-type factor.

    Attributes
    ----------
    precisions_chol : Tensor
        U with U U^T = inverse covariance, in the shape of ``values``.
    """

    precisions_chol: Tensor

    attribute_names: ClassVar[tuple[str, ...]] = (
        "covariances_",
        "precisions_cholesky_",
        "precisions_",
    )
    stored: ClassVar[tuple[str, ...]] = ("precisions_cholesky_",)

    @abstractmethod
    def precisions(self) -> Tensor:
        """Return the inverse covariances, in the shape of ``values``."""

    @classmethod
    @abstractmethod
    def from_precisions_chol(cls, precisions_chol: Tensor) -> Self:
        """Return the object with these factors."""

    @classmethod
    def from_stored(cls, *attributes: Tensor) -> Self:
        return cls.from_precisions_chol(*attributes)

    def attributes(self) -> dict[str, Tensor]:
        return {
            "covariances_": self.values,
            "precisions_cholesky_": self.precisions_chol,
            "precisions_": self.precisions(),
        }

    def to_sgd_factor(self) -> Tensor:
        return self.precisions_chol

    @classmethod
    def from_sgd_factor(cls, factor: Tensor) -> Self:
        return cls.from_precisions_chol(factor.double())

    @abstractmethod
    def color(self, noise: Tensor, component: int) -> Tensor:
        """Turn standard normal rows into samples of N(0, Sigma_component)."""

    def sample(
        self, component: int, shape: tuple[int, int], generator: torch.Generator
    ) -> Tensor:
        return self.color(normal_like(self.values, shape, generator), component)
