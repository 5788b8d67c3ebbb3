"""Images far beyond the range of all others: they shall not set the units of a fit."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from skdeepgmm._torch_backend import convert
from skdeepgmm._torch_backend.ranks import Ranks
from skdeepgmm._torch_backend.standardization import Standardization

#: An image is extreme whose root mean square about the middle is so many times that
#: which all but this share of the images keep to.
EXTREME_RATIO, ORDINARY_SHARE = 30.0, 0.95
#: Fewer images do not tell what is ordinary.
LEAST_IMAGES = 10
#: Images read at a time, and those that tell where the middle is.
CHUNK_ROWS, MIDDLE_ROWS = 4096, 64


@dataclass(frozen=True)
class Ordinary:
    """Which images of X are ordinary, and the range of their values.

    Attributes
    ----------
    rows : ndarray of bool of shape (n_samples,)
    low, high : float
    """

    rows: NDArray[np.bool_]
    low: float
    high: float


@dataclass(frozen=True)
class Clipping(Standardization):
    """A standardization of values within a range; others take its ends."""

    low: float
    high: float

    def __call__(self, values: Tensor) -> Tensor:
        return super().__call__(values.clamp(self.low, self.high))


def ordinary_images(
    X: convert.ArrayLike2D,
    sample_weight: NDArray[np.float64] | None,
    device: torch.device,
) -> Ordinary | None:
    """Return which images are ordinary; None where none of them is extreme.

    Parameters
    ----------
    X : ndarray, memmap or Tensor of shape (n_samples, n_features)
    sample_weight : ndarray of shape (n_samples,) or None
        Images without weight do not count.
    """
    counted = np.ones(X.shape[0], dtype=bool)
    if sample_weight is not None:
        counted = np.asarray(sample_weight) > 0.0
    energy = _energies(X, device)
    seen = energy[torch.from_numpy(counted)]
    if len(seen) < LEAST_IMAGES:
        return None
    usual = seen.kthvalue(1 + int(ORDINARY_SHARE * (len(seen) - 1))).values
    extreme = energy > EXTREME_RATIO**2 * usual
    if usual == 0.0 or not bool((extreme & torch.from_numpy(counted)).any()):
        return None
    rows: NDArray[Any] = counted & ~extreme.numpy()
    return Ordinary(rows, *_range(X, rows, device))


def of_all_ranks(found: Ordinary | None, n_rows: int, ranks: Ranks) -> Ordinary | None:
    """Return the ordinary images of a rank, with the range of those of all ranks."""
    own = None if found is None else (found.low, found.high)
    ranges = [each for each in ranks.gathered(lambda: own) if each is not None]
    if not ranges:
        return None
    rows = np.ones(n_rows, dtype=bool) if found is None else found.rows
    lows, highs = zip(*ranges, strict=True)
    return Ordinary(rows, min(lows), max(highs))


def ordinary_weight(
    found: Ordinary | None, sample_weight: NDArray[np.float64] | None
) -> NDArray[np.float64] | None:
    """Return the sample weights, zero for images that are not ordinary."""
    if found is None:
        return sample_weight
    return found.rows * (1.0 if sample_weight is None else sample_weight)


def _energies(X: convert.ArrayLike2D, device: torch.device) -> Tensor:
    """Return the mean squares of images about the median image's mean, on the host."""
    step = max(1, X.shape[0] // MIDDLE_ROWS)
    some = convert.rows_to_tensor(X[::step], device, torch.float64)
    middle = some.mean(1).median()
    parts = [(x - middle).square().mean(1).cpu() for _, x in _parts(X, device)]
    return torch.cat(parts)


def _range(
    X: convert.ArrayLike2D, rows: NDArray[np.bool_], device: torch.device
) -> tuple[float, float]:
    """Return the least and the largest value of some rows."""
    low, high = np.inf, -np.inf
    for start, x in _parts(X, device):
        kept = x[torch.from_numpy(rows[start : start + len(x)]).to(device)]
        if len(kept):
            low, high = min(low, float(kept.min())), max(high, float(kept.max()))
    return low, high


def _parts(X: convert.ArrayLike2D, device: torch.device) -> Any:
    """Yield the number of the first row and the rows, part by part, float64."""
    for start in range(0, X.shape[0], CHUNK_ROWS):
        part = X[start : start + CHUNK_ROWS]
        yield start, convert.rows_to_tensor(part, device, torch.float64)
