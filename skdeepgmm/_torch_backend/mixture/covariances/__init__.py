"""Covariance types, one class each, found by scikit-learn's names."""

from skdeepgmm._torch_backend.mixture.covariances.base import Covariance
from skdeepgmm._torch_backend.mixture.covariances.diag import DiagCovariance
from skdeepgmm._torch_backend.mixture.covariances.full import FullCovariance
from skdeepgmm._torch_backend.mixture.covariances.low_rank import LowRankCovariance
from skdeepgmm._torch_backend.mixture.covariances.spherical import SphericalCovariance
from skdeepgmm._torch_backend.mixture.covariances.tied import TiedCovariance

#: Covariance classes by the value of ``covariance_type``.
COVARIANCES: dict[str, type[Covariance]] = {
    cls.name: cls
    for cls in (
        FullCovariance,
        TiedCovariance,
        DiagCovariance,
        SphericalCovariance,
        LowRankCovariance,
    )
}

__all__ = [
    "COVARIANCES",
    "Covariance",
    "DiagCovariance",
    "FullCovariance",
    "LowRankCovariance",
    "SphericalCovariance",
    "TiedCovariance",
]
