"""Where the training of a mixture by stochastic gradients begins."""

import math

import torch
from torch import Tensor

from skdeepgmm._torch_backend.rows import TrainingRows


def equal_logits(n_components: int) -> Tensor:
    """Return the logits of equal weights."""
    return torch.full((n_components,), -math.log(n_components))


def unit_variances(n_features: int, device: torch.device) -> Tensor:
    """Return the variances of standardised data, float64."""
    return torch.ones(n_features, dtype=torch.float64, device=device)


def random_rows(
    rows: TrainingRows, n_components: int, generator: torch.Generator
) -> Tensor:
    """Return the means of random components: rows, missing entries as the mean."""
    chosen = torch.randperm(len(rows), generator=generator)[:n_components]
    return rows(chosen).nan_to_num(0.0)
