"""Images far beyond the range of all others: they shall not set the units of a fit."""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from skdeepgmm._torch_backend import convert
from skdeepgmm._torch_backend.ranks import Ranks

#: An image is extreme whose root mean square about the middle is so many times that
#: which all but this share of the images keep to.
EXTREME_RATIO, ORDINARY_SHARE = 30.0, 0.95
#: Fewer images do not tell what is ordinary.
LEAST_IMAGES = 10
#: Images read at a time, and those that tell where the middle is.
CHUNK_ROWS, MIDDLE_ROWS = 4096, 64


def ordinary_weight(
    X: convert.ArrayLike2D,
    sample_weight: NDArray[np.float64] | None,
    device: torch.device,
    ranks: Ranks | None,
) -> NDArray[np.float64] | None:
    """Return the sample weights, zero for extreme images: at most 5 % of them.

    Where no image of any rank is extreme, these are ``sample_weight`` itself.

    Parameters
    ----------
    X : ndarray, memmap or Tensor of shape (n_samples, n_features)
    sample_weight : ndarray of shape (n_samples,) or None
        Images without weight do not tell what is ordinary.
    """
    one = np.ones(X.shape[0]) if sample_weight is None else np.asarray(sample_weight)
    extreme = extreme_images(X, one > 0.0, device)
    found = bool(extreme.any())
    if ranks is not None:
        found = any(ranks.gathered(lambda: found))
    return np.where(extreme, 0.0, one) if found else sample_weight


def extreme_images(
    X: convert.ArrayLike2D, counted: NDArray[np.bool_], device: torch.device
) -> NDArray[np.bool_]:
    """Tell which images are extreme among those that count."""
    energy = _energies(X, device)
    seen = energy[torch.from_numpy(counted)]
    if len(seen) < LEAST_IMAGES:
        return np.zeros_like(counted)
    usual = seen.kthvalue(1 + int(ORDINARY_SHARE * (len(seen) - 1))).values
    extreme: NDArray[np.bool_] = (energy > EXTREME_RATIO**2 * usual).numpy()
    return extreme & counted & bool(usual > 0.0)


def _energies(X: convert.ArrayLike2D, device: torch.device) -> Tensor:
    """Return the mean squares of images about the median image's mean, on the host."""
    step = max(1, X.shape[0] // MIDDLE_ROWS)
    some = convert.rows_to_tensor(X[::step], device, torch.float64)
    middle = some.mean(1).median()
    parts = (x - middle for x in _parts(X, device))
    return torch.cat([part.square().mean(1).cpu() for part in parts])


def _parts(X: convert.ArrayLike2D, device: torch.device) -> Iterator[Tensor]:
    """Yield the rows part by part, float64."""
    for start in range(0, X.shape[0], CHUNK_ROWS):
        part = X[start : start + CHUNK_ROWS]
        yield convert.rows_to_tensor(part, device, torch.float64)
