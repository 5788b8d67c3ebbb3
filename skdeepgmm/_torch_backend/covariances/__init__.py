"""Covariance types, one class each, found by scikit-learn's names."""

from skdeepgmm._torch_backend.covariances.base import Covariance
from skdeepgmm._torch_backend.covariances.diag import DiagCovariance
from skdeepgmm._torch_backend.covariances.full import FullCovariance
from skdeepgmm._torch_backend.covariances.low_rank import LowRankCovariance
from skdeepgmm._torch_backend.covariances.spherical import SphericalCovariance
from skdeepgmm._torch_backend.covariances.tied import TiedCovariance

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
