"""Densities and posteriors of all rows of a source, batch by batch."""

from collections.abc import Iterator

import torch
from torch import Tensor

from skdeepgmm._torch_backend.convert import ArrayLike2D, torch_dtype
from skdeepgmm._torch_backend.data import ArraySource, default_batch_size
from skdeepgmm._torch_backend.expectation import normalize
from skdeepgmm._torch_backend.mixture import Mixture


def scoring_source(
    mixture: Mixture, X: ArrayLike2D, batch_size: int | None
) -> ArraySource:
    """Return X as a source on the mixture's device."""
    device = mixture.means.device
    itemsize = torch.finfo(torch_dtype(X)).bits // 8
    row_bytes = itemsize * (2 * mixture.n_features + 3 * mixture.n_components)
    return ArraySource(X, device, batch_size or default_batch_size(row_bytes, device))


def log_joint_batches(
    mixture: Mixture, source: ArraySource, dtype: torch.dtype
) -> Iterator[tuple[int, int, Tensor]]:
    """Yield (start, stop, log(pi_k N(x_n)) of shape (n_components, stop - start))."""
    for start, stop, rows in source.rows():
        yield start, stop, mixture.log_joint(rows.to(dtype).T.contiguous())


def score_samples(mixture: Mixture, source: ArraySource, dtype: torch.dtype) -> Tensor:
    """Return log p(x) of every row, (n_samples,)."""
    out = torch.empty(source.n_samples, dtype=dtype, device=source.device)
    for start, stop, log_joint in log_joint_batches(mixture, source, dtype):
        out[start:stop] = normalize(log_joint)
    return out


def predict(mixture: Mixture, source: ArraySource, dtype: torch.dtype) -> Tensor:
    """Return the most probable component of every row, (n_samples,) int64."""
    out = torch.empty(source.n_samples, dtype=torch.int64, device=source.device)
    for start, stop, log_joint in log_joint_batches(mixture, source, dtype):
        out[start:stop] = log_joint.argmax(0)
    return out


def predict_proba(mixture: Mixture, source: ArraySource, dtype: torch.dtype) -> Tensor:
    """Return the posterior of every row, (n_samples, n_components)."""
    shape = (source.n_samples, mixture.n_components)
    out = torch.empty(shape, dtype=dtype, device=source.device)
    for start, stop, log_joint in log_joint_batches(mixture, source, dtype):
        normalize(log_joint)
        out[start:stop] = log_joint.T
    return out
