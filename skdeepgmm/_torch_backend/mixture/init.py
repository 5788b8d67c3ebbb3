"""Initialization from labels, centres or responsibilities, batch by batch."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from skdeepgmm._torch_backend.data import ArraySource, Block
from skdeepgmm._torch_backend.mixture.covariances import Covariance
from skdeepgmm._torch_backend.mixture.covariances.base import MAX_CANCELLATION
from skdeepgmm._torch_backend.mixture.density import MixtureDensity
from skdeepgmm._torch_backend.mixture.e_step import (
    completed,
    statistics_of,
    unit_mixture,
)
from skdeepgmm._torch_backend.mixture.em import maximize
from skdeepgmm._torch_backend.mixture.suffstats import Statistics
from skdeepgmm._torch_backend.source import Source

#: Returns the responsibilities (n_samples, n_components) of one batch.
ResponsibilityFunction = Callable[[Block], Tensor]


def from_responsibilities(
    covariance_class: type[Covariance],
    source: Source,
    n_components: int,
    responsibilities: ResponsibilityFunction,
    center: Tensor | None = None,
) -> Statistics:
    """Return the statistics of responsibilities that are made batch by batch.

    About ``center`` (n_components, n_features); None for the origin.
    """
    if center is None:
        shape = n_components, source.n_features
        center = torch.zeros(shape, dtype=torch.float64, device=source.device)
    function = partial(_of_part, covariance_class, responsibilities, center)
    return source.reduced(function, Statistics.merge)


def _of_part(
    covariance_class: type[Covariance],
    responsibilities: ResponsibilityFunction,
    center: Tensor,
    source: ArraySource,
) -> Statistics:
    def pairs(blocks: Iterable[Block]) -> Iterator[tuple[Block, Tensor]]:
        for block in blocks:
            resp = responsibilities(block).to(source.device, torch.float64)
            yield block, resp.T

    if source.patterns is None:
        return statistics_of(covariance_class, center, pairs(source.blocks()))
    # Missing entries count as the feature's mean with its whole variance.
    unit = unit_mixture(covariance_class, center)
    total = Statistics.zeros(center, covariance_class.second_shape(*center.shape))
    for pattern, blocks in source.parts():
        observed = pattern.observed.to(source.device)
        stats = statistics_of(covariance_class, center[:, observed], pairs(blocks))
        missing = pattern.missing.to(source.device)
        total = total.merge(completed(unit, stats, observed, missing))
    _add_mixed(total, unit, source, responsibilities)
    return total


def _add_mixed(
    total: Statistics,
    unit: MixtureDensity,
    source: ArraySource,
    responsibilities: ResponsibilityFunction,
) -> None:
    """Add the samples whose pattern of missing features is rare."""
    for block, mask in source.mixed(source.batch_size):
        resp = responsibilities(block).to(source.device, torch.float64).T
        weight = block.n_samples if block.weight is None else block.weight.sum()
        total.add(torch.zeros_like(total.total), weight)
        if block.weight is not None:
            resp = resp * block.weight
        _, statistics = unit.covariance.masked(block.x, mask, unit.means)
        first, second = statistics(resp)
        total.nk += resp.sum(1)
        total.first += first
        total.second += second


def initial_mixture(
    covariance_class: type[Covariance],
    source: Source,
    n_components: int,
    responsibilities: ResponsibilityFunction,
    ridge: Tensor,
) -> tuple[MixtureDensity, Tensor, Tensor]:
    """Return the M-step of initial responsibilities.

    Returns
    -------
    mixture : MixtureDensity
    failed : Tensor of shape (n_components,) or (1,)
        Which covariances have no Cholesky factor.
    nk : Tensor of shape (n_components,)
    """
    first = covariance_class.initial_class or covariance_class
    stats = from_responsibilities(first, source, n_components, responsibilities)
    mixture, failed = maximize(first, stats, ridge)
    needed = mixture.cancellation
    if not needed <= MAX_CANCELLATION[torch.float64]:
        # Far components, or failed ones: again, about the means found.
        center = mixture.means
        stats = from_responsibilities(
            first, source, n_components, responsibilities, center
        )
        mixture, failed = maximize(first, stats, ridge)
    if first is covariance_class:
        return mixture, failed, stats.nk
    if bool(failed.any()):
        values = covariance_class.from_variances(
            torch.ones_like(mixture.means[0]), n_components
        )
    else:
        values = covariance_class.initial_values(
            mixture.covariance.variances().expand_as(mixture.means),
            stats.nk,
            lambda basis: source.reduced(
                partial(_scatter_times, mixture, basis, responsibilities), torch.add
            ),
        )
    covariance, failed = covariance_class.from_values(values)
    return replace(mixture, covariance=covariance), failed, stats.nk


def _scatter_times(
    mixture: MixtureDensity,
    basis: Tensor,
    responsibilities: ResponsibilityFunction,
    source: ArraySource,
) -> Tensor:
    """Return sum_n r (x - mu_k)(x - mu_k)^T basis_k for every component."""
    n_components, n_features, width = basis.shape
    product = torch.zeros_like(basis)
    stacked = basis.mT.reshape(-1, n_features)
    offset = torch.bmm(basis.mT, mixture.means[..., None])
    for block in source.blocks():
        x = block.x.double().nan_to_num(0.0)
        resp = responsibilities(block).to(x).T
        if block.weight is not None:
            resp = resp * block.weight
        scores = (stacked @ x).reshape(n_components, width, -1) - offset
        weighted = scores * resp[:, None]
        cross = (x @ weighted.reshape(n_components * width, -1).T).reshape(
            n_features, n_components, width
        )
        total = weighted.sum(-1)[:, None]
        product += cross.permute(1, 0, 2) - mixture.means[..., None] * total
    return product


def labels_function(labels: Tensor, n_components: int) -> ResponsibilityFunction:
    """Return one-hot responsibilities of ``labels`` (n_samples,)."""

    def responsibilities(block: Block) -> Tensor:
        part = labels[block.index].long()
        return torch.nn.functional.one_hot(part, n_components).double()

    return responsibilities


def samples_function(indices: Tensor) -> ResponsibilityFunction:
    """Return responsibilities that give sample ``indices[k]`` to component k alone."""

    def responsibilities(block: Block) -> Tensor:
        if isinstance(block.index, slice):
            rows = torch.arange(block.index.start, block.index.stop)
        else:
            rows = torch.from_numpy(block.index)
        return (rows[:, None] == indices).double()

    return responsibilities


def nearest_function(centers: Tensor) -> ResponsibilityFunction:
    """Return one-hot responsibilities of the nearest of ``centers``.

    Parameters
    ----------
    centers : Tensor of shape (n_components, n_features)
        Standardised as the blocks are.
    """

    def responsibilities(block: Block) -> Tensor:
        x = block.x.to(centers.dtype).nan_to_num(0.0)
        kept = centers if block.observed is None else centers[:, block.observed]
        half_norms = 0.5 * kept.square().sum(1)
        nearest = (kept @ x - half_norms[:, None]).argmax(0)
        return torch.nn.functional.one_hot(nearest, len(centers)).double()

    return responsibilities
