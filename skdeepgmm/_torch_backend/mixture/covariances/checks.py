"""Checks of user-supplied covariances, with scikit-learn's messages."""

import torch
from torch import Tensor


def check_shape(values: Tensor, shape: tuple[int, ...], what: str) -> None:
    """Raise scikit-learn's error unless a parameter has this shape."""
    if tuple(values.shape) != shape:
        raise ValueError(
            f"The parameter '{what}' should have the shape of {shape}, but got "
            f"{tuple(values.shape)}"
        )


def check_entries(values: Tensor, what: str) -> None:
    """Raise scikit-learn's error unless every entry is positive."""
    if bool((values <= 0.0).any()):
        raise ValueError(f"'{what}' should be positive")


def check_matrices(matrices: Tensor, what: str) -> None:
    """Raise scikit-learn's error unless (..., D, D) are positive-definite."""
    symmetric = torch.allclose(matrices, matrices.mT)
    if not symmetric or bool((torch.linalg.eigvalsh(matrices) <= 0.0).any()):
        raise ValueError(f"'{what}' should be symmetric, positive-definite")
