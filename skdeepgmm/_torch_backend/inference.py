"""Results of rows in batches of one size, so that no row's depends on the others."""

from collections.abc import Callable, Iterable

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
    return over_parts(function, torch.split(rows, size), size)


def over_parts(
    function: Callable[[Tensor], Tensor], parts: Iterable[Tensor], size: int
) -> Tensor:
    """Apply ``function`` to each part, padded to ``size`` rows; join the results."""
    with torch.no_grad():
        found = [function(_padded(part, size))[: len(part)] for part in parts]
    return torch.cat(found)


def _padded(rows: Tensor, size: int) -> Tensor:
    missing = size - len(rows)
    return (
        rows
        if not missing
        else torch.cat([rows, rows[:1].expand(missing, *rows.shape[1:])])
    )
