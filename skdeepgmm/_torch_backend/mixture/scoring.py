"""Densities, posteriors and missing entries of all samples, in batches."""

from collections.abc import Iterator
from functools import partial
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from skdeepgmm._torch_backend.convert import ArrayLike2D, rows_to_tensor, torch_dtype
from skdeepgmm._torch_backend.data import ArraySource, Pattern, default_batch_size
from skdeepgmm._torch_backend.mixture.density import MixtureDensity
from skdeepgmm._torch_backend.mixture.e_step import MIXED_BYTES, normalize
from skdeepgmm._torch_backend.mixture.truncation import (
    Truncation,
    nearest_neighbours,
)
from skdeepgmm._torch_backend.rng import new_generator
from skdeepgmm._torch_backend.source import Source

Rows: TypeAlias = slice | NDArray[np.int64]

#: Memory of the samples whose candidates are sought together.
TOGETHER_BYTES = 256 * 2**20


def scoring_source(
    mixture: MixtureDensity,
    X: ArrayLike2D,
    batch_size: int | None,
    sample_weight: Tensor | None = None,
) -> ArraySource:
    """Return X as a source on the mixture's device."""
    device = mixture.means.device
    n_bytes = row_bytes(mixture, torch_dtype(X))
    size = batch_size or default_batch_size(n_bytes, device)
    return ArraySource(X, device, size, sample_weight)


def row_bytes(mixture: MixtureDensity, dtype: torch.dtype) -> int:
    """Return the working memory of scoring one sample."""
    itemsize = torch.finfo(dtype).bits // 8
    return itemsize * (2 * mixture.n_features + 3 * mixture.n_components)


def log_joint_batches(
    mixture: MixtureDensity, source: ArraySource, dtype: torch.dtype
) -> Iterator[tuple[Rows, Tensor]]:
    """Yield (rows, log(pi_k p(observed entries | k))), (n_components, n_rows)."""
    if source.patterns is None:
        exact = mixture.arithmetic(dtype)
        for start, stop, rows in source.rows():
            x = rows.to(exact).T.contiguous()
            yield slice(start, stop), mixture.log_joint(x)
        return
    for pattern in source.patterns:
        if pattern.frequent:
            yield from _log_joint_of_pattern(mixture, source, pattern, dtype)
    log_weights = mixture.weights.log()[:, None]
    n_bytes = mixture.covariance.masked_bytes(*mixture.means.shape)
    for block, mask in source.mixed(max(1, MIXED_BYTES // n_bytes)):
        log_prob, _ = mixture.covariance.masked(block.x, mask, mixture.means)
        yield block.index, log_prob.add_(log_weights)


def _log_joint_of_pattern(
    mixture: MixtureDensity, source: ArraySource, pattern: Pattern, dtype: torch.dtype
) -> Iterator[tuple[Rows, Tensor]]:
    observed = pattern.observed.to(source.device)
    if len(observed) == 0:
        log_weights = mixture.weights.log().to(dtype)
        yield pattern.rows, log_weights[:, None].repeat(1, len(pattern.rows))
        return
    seen = mixture.marginal(observed)
    for rows, x in pattern_batches(source, pattern, seen.arithmetic(dtype)):
        yield rows, seen.log_joint(x[observed])


def pattern_batches(
    source: ArraySource, pattern: Pattern, dtype: torch.dtype
) -> Iterator[tuple[NDArray[np.int64], Tensor]]:
    """Yield (sample indices, samples of shape (n_features, n_rows)) of one pattern."""
    for start in range(0, len(pattern.rows), source.batch_size):
        index = pattern.rows[start : start + source.batch_size]
        rows = rows_to_tensor(source.X[index], source.device, dtype)
        yield index, rows.T.contiguous()


def score_samples(
    mixture: MixtureDensity, source: ArraySource, dtype: torch.dtype
) -> Tensor:
    """Return log p(x) of every sample, (n_samples,)."""
    out = torch.empty(source.n_samples, dtype=dtype, device=source.device)
    for rows, log_joint in log_joint_batches(mixture, source, dtype):
        out[rows] = normalize(log_joint).to(dtype)
    return out


def predict(mixture: MixtureDensity, source: ArraySource, dtype: torch.dtype) -> Tensor:
    """Return the most probable component of every sample, (n_samples,) int64."""
    out = torch.empty(source.n_samples, dtype=torch.int64, device=source.device)
    for rows, log_joint in log_joint_batches(mixture, source, dtype):
        out[rows] = log_joint.argmax(0)
    return out


def predict_proba(
    mixture: MixtureDensity, source: ArraySource, dtype: torch.dtype
) -> Tensor:
    """Return the posterior of every sample, (n_samples, n_components)."""
    shape = (source.n_samples, mixture.n_components)
    out = torch.empty(shape, dtype=dtype, device=source.device)
    for rows, log_joint in log_joint_batches(mixture, source, dtype):
        normalize(log_joint)
        out[rows] = log_joint.T.to(dtype)
    return out


def effective_counts(
    mixture: MixtureDensity, source: Source, dtype: torch.dtype
) -> Tensor:
    """Return how many samples stand behind each component, (n_components,) float64.

    (sum r)^2 / sum r^2 of the weighted responsibilities: the number of samples where
    they are certain, more than their sum where they are shared.
    """
    sums = source.reduced(partial(_responsibility_sums, mixture, dtype), torch.add)
    return sums[0].square() / sums[1].clamp_min(torch.finfo(torch.float64).tiny)


def _responsibility_sums(
    mixture: MixtureDensity, dtype: torch.dtype, source: ArraySource
) -> Tensor:
    """Return the sums of weighted responsibilities and of their squares."""
    sums = torch.zeros(2, mixture.n_components, dtype=torch.float64).to(source.device)
    for rows, resp in log_joint_batches(mixture, source, dtype):
        normalize(resp)
        weight = source.weight_of(rows)
        resp = resp.double() if weight is None else resp.double() * weight
        sums += torch.stack([resp.sum(1), resp.square().sum(1)])
    return sums


def impute(mixture: MixtureDensity, source: ArraySource, dtype: torch.dtype) -> Tensor:
    """Return X with missing entries at their conditional mean."""
    out = _copy(source, dtype)
    for rows, missing, resp, centers in _conditionals(mixture, source, dtype):
        filled = (resp[:, None] * centers).sum(0).T.to(dtype)
        out[rows[:, None], missing] = filled
    return out


def sample_conditional(
    mixture: MixtureDensity,
    source: ArraySource,
    dtype: torch.dtype,
    n_draws: int,
    generator: torch.Generator,
) -> Tensor:
    """Return draws of X given its observed entries.

    Returns
    -------
    Tensor of shape (n_draws, n_samples, n_features)
    """
    out = _copy(source, dtype).repeat(n_draws, 1, 1)
    for pattern in source.patterns or []:
        missing = pattern.missing.to(source.device)
        if len(missing) == 0:
            continue
        rest = mixture.covariance.conditional(
            pattern.observed.to(source.device), missing
        )
        part = _conditionals_of_pattern(mixture, source, pattern, dtype)
        for rows, missing, resp, centers in part:
            for draw in range(n_draws):
                chosen = torch.multinomial(resp.T, 1, generator=generator)[:, 0]
                values = centers[chosen, :, torch.arange(len(chosen))]
                for k in sorted(set(chosen.tolist())):
                    mine = (chosen == k).nonzero()[:, 0]
                    shape = (len(mine), len(missing))
                    values[mine] += rest.sample(k, shape, generator).to(values)
                out[draw, rows[:, None], missing] = values.to(dtype)
    return out


def _copy(source: ArraySource, dtype: torch.dtype) -> Tensor:
    rows = [rows.to(dtype) for _, _, rows in source.rows()]
    return torch.cat(rows).clone()


def _conditionals(
    mixture: MixtureDensity, source: ArraySource, dtype: torch.dtype
) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
    for pattern in source.patterns or []:
        if len(pattern.missing):
            yield from _conditionals_of_pattern(mixture, source, pattern, dtype)


def _conditionals_of_pattern(
    mixture: MixtureDensity, source: ArraySource, pattern: Pattern, dtype: torch.dtype
) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """Yield rows, missing features, posteriors and conditional means.

    Posteriors have shape (n_components, n_rows), conditional means (n_components,
    n_missing, n_rows).
    """
    observed = pattern.observed.to(source.device)
    missing = pattern.missing.to(source.device)
    seen = mixture.marginal(observed) if len(observed) else None
    dtype = dtype if seen is None else seen.arithmetic(dtype)
    means = mixture.means.to(dtype)
    for index, x in pattern_batches(source, pattern, dtype):
        rows = torch.from_numpy(index).to(source.device)
        offset = means[:, missing, None]
        if seen is None:
            resp = mixture.weights.to(dtype)[:, None].repeat(1, len(rows))
            yield rows, missing, resp, offset.repeat(1, 1, len(rows))
            continue
        resp = seen.log_joint(x[observed])
        normalize(resp)
        diff = x[observed] - means[:, observed, None]
        regressed = mixture.covariance.regress(diff, observed, missing)
        yield rows, missing, resp, offset + regressed


def truncated(
    mixture: MixtureDensity, source: ArraySource, n_candidates: int
) -> Iterator[tuple[slice, Truncation, MixtureDensity]]:
    """Yield samples, their candidates, and the mixture in their units."""
    n_bytes = source.n_features * torch.finfo(source.dtype).bits // 8
    size = max(1, TOGETHER_BYTES // n_bytes)
    parts = ArraySource(source.X, source.device, size, keep=False, complete=True)
    mixture = mixture.standardized(parts.use_units(mixture.typical_units()))
    neighbours, generator = nearest_neighbours(mixture, n_candidates), new_generator(0)
    for block in parts.blocks():
        rows = block.x.T.contiguous()
        found = Truncation.of(mixture, rows, neighbours, generator)
        found.settle(mixture)
        assert isinstance(block.index, slice)
        yield block.index, found, mixture


def truncated_predict(
    n_candidates: int,
    mixture: MixtureDensity,
    source: ArraySource,
    dtype: torch.dtype,
) -> Tensor:
    """Do as ``predict``, among few candidates of each sample."""
    if source.has_missing:
        return predict(mixture, source, dtype)
    out = torch.empty(source.n_samples, dtype=torch.int64, device=source.device)
    for rows, found, standardized in truncated(mixture, source, n_candidates):
        out[rows] = found.labels(standardized)
    return out


def truncated_predict_proba(
    n_candidates: int,
    mixture: MixtureDensity,
    source: ArraySource,
    dtype: torch.dtype,
) -> Tensor:
    """Do as ``predict_proba``, among few candidates of each sample."""
    if source.has_missing:
        return predict_proba(mixture, source, dtype)
    shape = (source.n_samples, mixture.n_components)
    out = torch.empty(shape, dtype=dtype, device=source.device)
    for rows, found, standardized in truncated(mixture, source, n_candidates):
        out[rows] = found.posterior(standardized).to(dtype)
    return out
