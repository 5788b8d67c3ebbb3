"""Inference in batches of one size, so that results do not depend on their number."""

from collections.abc import Callable

import torch
from torch import Tensor

#: Rows of one inference batch.
INFERENCE_ROWS = 256


def in_batches(
    function: Callable[[Tensor], Tensor], rows: Tensor, size: int = INFERENCE_ROWS
) -> Tensor:
    """Apply ``function`` to ``rows`` in batches of exactly ``size`` rows.

    The last batch is padded, because kernels are chosen by shape and round
    differently: so a row's result does not depend on how many others there are.
    """
    with torch.no_grad():
        parts = [function(_padded(part, size)) for part in torch.split(rows, size)]
    return torch.cat(parts)[: len(rows)]


def _padded(rows: Tensor, size: int) -> Tensor:
    missing = size - len(rows)
    return (
        rows
        if not missing
        else torch.cat([rows, rows[:1].expand(missing, *rows.shape[1:])])
    )
