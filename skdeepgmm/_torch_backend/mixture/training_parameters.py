"""A mixture as the training by stochastic gradients has it: the way in and back."""

import math

import torch
from torch import Tensor

from skdeepgmm._torch_backend.mixture.sgd import Parameters
from skdeepgmm._torch_backend.rows import TrainingRows
from skdeepgmm._torch_backend.standardization import Standardization

#: Variances stay above this share of the feature's variance.
RELATIVE_FLOOR = 1e-6


def variance_floor(
    standardization: Standardization, reg_covar: float, relative: bool
) -> Tensor:
    """Return the smallest variance of each feature, standardised, float64.

    Parameters
    ----------
    reg_covar : float
        In squared units of the data, or a share of each feature's variance where
        ``relative``.
    """
    floor = reg_covar / standardization.variance
    if relative:
        floor = floor * standardization.variance
    return floor.clamp_min(RELATIVE_FLOOR)


def equal_logits(n_components: int) -> Tensor:
    """Return the logits of equal weights."""
    return torch.full((n_components,), -math.log(n_components))


def random_rows(
    rows: TrainingRows, n_components: int, generator: torch.Generator
) -> Tensor:
    """Return random rows as means; missing entries take the data's mean.

    Raises
    ------
    ValueError
        If fewer rows than components have weight.
    """
    order = torch.randperm(len(rows), generator=generator)
    if rows.weight is not None:
        order = order[(rows.weight > 0.0).cpu()[order]]
    if len(order) < n_components:
        raise ValueError(
            f"init_params='random_from_data' needs n_components={n_components} samples "
            f"with weight, got {len(order)}. Give more, or set init_params='random'."
        )
    return rows(order[:n_components]).nan_to_num(0.0)


def parameters_like(
    rows: TrainingRows, logits: Tensor, means: Tensor, factor: Tensor
) -> Parameters:
    """Return parameters with the type and on the device of the training rows."""
    values = (value.to(rows.device, rows.dtype) for value in (logits, means, factor))
    return Parameters(*(value.contiguous() for value in values))
