"""Start values from labels, centres or random responsibilities, batch by batch."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from skdeepgmm._torch_backend.covariances import Covariance
from skdeepgmm._torch_backend.data import ArraySource, Block
from skdeepgmm._torch_backend.expectation import statistics_of
from skdeepgmm._torch_backend.suffstats import Statistics

#: Returns the responsibilities (n_samples, n_components) of one batch of rows.
ResponsibilityFunction = Callable[[Block], Tensor]


def from_responsibilities(
    kind: type[Covariance],
    source: ArraySource,
    n_components: int,
    responsibilities: ResponsibilityFunction,
) -> Statistics:
    """Return the statistics of responsibilities that are made batch by batch."""
    center = torch.zeros(
        n_components, source.n_features, dtype=torch.float64, device=source.device
    )

    def pairs() -> Iterator[tuple[Block, Tensor]]:
        for block in source.blocks():
            resp = responsibilities(block).to(source.device, torch.float64)
            yield block, resp.T

    return statistics_of(kind, center, pairs())


def labels_function(labels: Tensor, n_components: int) -> ResponsibilityFunction:
    """Return one-hot responsibilities of given ``labels`` (n_samples,)."""

    def responsibilities(block: Block) -> Tensor:
        part = labels[block.start : block.stop].long()
        return torch.nn.functional.one_hot(part, n_components).double()

    return responsibilities


def rows_function(indices: Tensor, n_components: int) -> ResponsibilityFunction:
    """Return responsibilities that give row ``indices[k]`` to component k alone."""

    def responsibilities(block: Block) -> Tensor:
        resp = torch.zeros(block.stop - block.start, n_components, dtype=torch.float64)
        inside = (indices >= block.start) & (indices < block.stop)
        components = inside.nonzero()[:, 0]
        resp[indices[components] - block.start, components] = 1.0
        return resp

    return responsibilities


def nearest_function(centers: Tensor) -> ResponsibilityFunction:
    """Return one-hot responsibilities of the nearest of ``centers``.

    Parameters
    ----------
    centers : Tensor of shape (n_components, n_features)
        In the units of the blocks.
    """
    half_norms = 0.5 * centers.square().sum(1)

    def responsibilities(block: Block) -> Tensor:
        x = block.x.to(centers.dtype)
        nearest = (centers @ x - half_norms[:, None]).argmax(0)
        return torch.nn.functional.one_hot(nearest, len(centers)).double()

    return responsibilities
