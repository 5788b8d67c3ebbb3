"""Linear algebra shared by the covariance classes."""

from collections.abc import Callable

import torch
from torch import Tensor

#: Squared Cholesky pivots below this share of the variance are rounding errors.
SINGULAR_PIVOT = 1e-14
#: ... and below this share they have lost half of their digits.
POOR_PIVOT = 1e-8


def triangle_indices(
    size: int, device: torch.device | None = None
) -> tuple[Tensor, Tensor]:
    """Return rows and columns of the pairs of indices, in the order of packed matrices.

    Cyclic diagonals one after the other, (i, i + s mod size) for s = 0, 1, ...: the
    products of all pairs are then two products of matrices that overlap in memory.
    Half of the last one is left out where size is even, as its pairs come twice.
    """
    rows = torch.arange(size * (size + 1) // 2, device=device)
    shift = rows.div(max(size, 1), rounding_mode="floor")
    rows = rows - shift * size
    return rows, (rows + shift) % max(size, 1)


def triangle_products(x: Tensor, out: Tensor | None = None) -> Tensor:
    """Return the products x_i x_j, i <= j, in the order of ``triangle_indices``.

    Parameters
    ----------
    x : Tensor of shape (n_features, n_samples)
    out : Tensor of shape (n_features * (n_features + 1) / 2, n_samples), optional
    """
    size, n_samples = x.shape
    if out is None:
        out = x.new_empty(size * (size + 1) // 2, n_samples)
    triangle_writer(x)(0, out)
    return out


def triangle_writer(x: Tensor) -> Callable[[int, Tensor], None]:
    """Return a function that writes some of the products of ``triangle_products``.

    It takes the number of the first one, a multiple of the number of features, and
    where to write as many as there is room for, (n_products, n_samples).
    """
    size, n_samples = x.shape
    around = torch.cat([x, x[: size // 2]])
    shape, strides = (size, n_samples), (n_samples, 1)

    def write(first: int, out: Tensor) -> None:
        shift = first // max(size, 1)
        n_whole, rest = divmod(len(out), max(size, 1))
        if n_whole:
            whole = out[: n_whole * size].view(n_whole, *shape)
            shifted = around[shift:].as_strided(whole.shape, (n_samples, *strides))
            torch.mul(x, shifted, out=whole)
        if rest:
            start = shift + n_whole
            torch.mul(x[:rest], around[start : start + rest], out=out[-rest:])

    return write


def pack_triangle(matrix: Tensor) -> Tensor:
    """Return the pairs of symmetric (..., D, D) as (..., D (D + 1) / 2)."""
    rows, cols = triangle_indices(matrix.shape[-1], matrix.device)
    return matrix[..., rows, cols]


def unpack_triangle(packed: Tensor, size: int) -> Tensor:
    """Return the symmetric matrices whose pairs are ``packed``."""
    rows, cols = triangle_indices(size, packed.device)
    matrix = packed.new_empty(*packed.shape[:-1], size, size)
    matrix[..., rows, cols] = packed
    matrix[..., cols, rows] = packed
    return matrix


def precision_cholesky(covariances: Tensor) -> tuple[Tensor, Tensor]:
    """Return U with U U^T = inverse(covariance), and which matrices have none.

    U = L^-T for the Cholesky factor L of the covariance: upper triangular, as
    scikit-learn stores it. Where the factorisation fails U is the identity and the
    returned mask is True.

    Parameters
    ----------
    covariances : Tensor of shape (..., n_features, n_features)
    """
    finite = torch.isfinite(covariances).all(-1).all(-1)
    eye = torch.eye(
        covariances.shape[-1], dtype=covariances.dtype, device=covariances.device
    )
    safe = torch.where(finite[..., None, None], covariances, eye)
    lower, info = torch.linalg.cholesky_ex(safe)
    # A pivot that is rounding error is no pivot: the matrix is singular.
    diagonal = safe.diagonal(dim1=-2, dim2=-1)
    pivots = lower.diagonal(dim1=-2, dim2=-1).square()
    singular = (pivots < SINGULAR_PIVOT * diagonal).any(-1)
    failed = (info != 0) | ~finite | singular
    lower = torch.where(failed[..., None, None], eye, lower)
    upper = solve_lower(lower, eye.expand_as(lower)).mT
    return upper.contiguous(), failed


def ill_conditioned(matrices: Tensor, precisions_chol: Tensor) -> bool:
    """Tell whether a covariance has a pivot that loses half of its digits.

    Parameters
    ----------
    matrices, precisions_chol : Tensor of shape (..., D, D)
        Covariances, and upper triangular U with U U^T = inverse covariance: its
        diagonal holds the inverse pivots.
    """
    pivots = precisions_chol.diagonal(dim1=-2, dim2=-1).square()
    relative = pivots * matrices.diagonal(dim1=-2, dim2=-1)
    return bool((relative > 1.0 / POOR_PIVOT).any())


def marginal_chol(precisions_chol: Tensor, kept: Tensor) -> Tensor:
    """Return the precision factor of some features of N(0, (U U^T)^-1).

    With Sigma = L L^T, L = U^-T, the rows L_k of the features kept give Sigma_kk =
    R^T R by the QR decomposition of L_k^T: no covariance is squared and factored
    again, so that nothing is lost where it is nearly singular.
    """
    eye = torch.eye(
        precisions_chol.shape[-1],
        dtype=precisions_chol.dtype,
        device=precisions_chol.device,
    )
    lower = torch.linalg.solve_triangular(
        precisions_chol, eye.expand_as(precisions_chol), upper=True
    ).mT
    upper = _positive_upper(lower[..., kept, :].mT)
    small = torch.eye(len(kept), dtype=eye.dtype, device=eye.device)
    factor: Tensor = torch.linalg.solve_triangular(
        upper, small.expand_as(upper), upper=True
    )
    return factor


def conditional_chol(precisions_chol: Tensor, rest: Tensor) -> Tensor:
    """Return the precision factor of some features given all others.

    Their precision is U_r U_r^T, U_r the rows of U; a QR decomposition with the order
    of the features reversed gives its upper triangular factor.
    """
    rows = precisions_chol[..., rest.flip(0), :]
    return _positive_upper(rows.mT).mT.flip(-1, -2).contiguous()


def gain(precisions_chol: Tensor, observed: Tensor, missing: Tensor) -> Tensor:
    """Return Sigma_mo Sigma_oo^-1 = -P_mm^-1 P_mo, by least squares on rows of U."""
    solution: Tensor = torch.linalg.lstsq(
        precisions_chol[..., missing, :].mT, precisions_chol[..., observed, :].mT
    ).solution
    return -solution


def _positive_upper(matrix: Tensor) -> Tensor:
    """Return R of the QR decomposition, with a positive diagonal."""
    upper: Tensor = torch.linalg.qr(matrix, mode="r").R
    signs = torch.where(upper.diagonal(dim1=-2, dim2=-1) < 0.0, -1.0, 1.0)
    return upper * signs[..., :, None]


def solve_lower(lower: Tensor, right: Tensor) -> Tensor:
    """Return the solution of lower @ solution = right."""
    solution: Tensor = torch.linalg.solve_triangular(lower, right, upper=False)
    return solution


def factor_whitener(factors: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return W = L^-1 A^T D^-1, L with L L^T = I + A^T D^-1 A, and where L is I.

    They are the algebra of Sigma = A A^T + D (Woodbury): x^T Sigma^-1 x is
    x^T D^-1 x - |W x|^2, log det Sigma is log det D + 2 log det L, and factors z with
    x = A z + noise have the posterior N(L^-T W x, L^-T L^-1). L is the identity, and W
    zero, where factors are so far above the noise that 1 is lost beside them.

    Parameters
    ----------
    factors : Tensor of shape (..., n_features, rank)
    noise : Tensor of shape (..., n_features)
    """
    scaled = (factors / noise[..., None]).mT
    eye = torch.eye(factors.shape[-1], dtype=factors.dtype, device=factors.device)
    lower, info = torch.linalg.cholesky_ex(eye + scaled @ factors)
    broken = info != 0
    if bool(broken.any()):
        lower = torch.where(broken[..., None, None], eye, lower)
        scaled = torch.where(broken[..., None, None], 0.0, scaled)
    return solve_lower(lower, scaled), lower, broken


def precision_cholesky_from_precision(precisions: Tensor) -> Tensor:
    """Return the upper-triangular U with U U^T = precision.

    The Cholesky factor of the precision with rows and columns reversed, reversed
    back: J P J = L L^T gives P = (J L J)(J L J)^T with J L J upper triangular.
    """
    flipped: Tensor = torch.linalg.cholesky(precisions.flip(-1, -2))
    return flipped.flip(-1, -2)


def log_det_triangular(upper: Tensor) -> Tensor:
    """Return the log-determinants of triangular matrices (..., D, D)."""
    return upper.diagonal(dim1=-2, dim2=-1).log().sum(-1)


def floor_eigenvalues(matrix: Tensor, floor: Tensor) -> Tensor:
    """Raise the eigenvalues of symmetric matrices to ``floor`` (a feature vector).

    Eigenvalues are taken in units where ``floor`` is 1 for every feature, so the
    result does not depend on the features' scales.
    """
    root = floor.sqrt()
    units = root[:, None] * root[None, :]
    values, vectors = torch.linalg.eigh(matrix / units)
    raised: Tensor = (
        (vectors * values.clamp_min(1.0)[..., None, :]) @ vectors.mT * units
    )
    return raised
