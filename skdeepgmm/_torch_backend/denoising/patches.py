"""Overlapping patches of an image: extraction, averaging, basis, noise level.

Patches are columns: (patch_height * patch_width, n_patches), so that later operations
are matrix products that vectorise over the patches. Places are ``range`` objects, so
that extraction and averaging are strided slices and nothing is indexed.
"""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

Size = tuple[int, int]
#: Rows and columns of the top-left corners of a rectangle of patches.
Tile = tuple[range, range]

#: Eigenvalues of the patch covariance need this many patches a pixel of a patch.
PATCHES_PER_PIXEL = 10
#: Median absolute deviation of a standard normal variable.
NORMAL_MAD = 0.6744897501960817


def positions(length: int, size: int, stride: int) -> list[range]:
    """Return the places along one axis: every ``stride``-th, and the last one.

    The last place is always taken and the stride is at most the size, so that every
    pixel is covered.
    """
    last, stride = length - size, min(stride, size)
    places = [range(0, last + 1, stride)]
    if last % stride:
        places.append(range(last, last + 1))
    return places


def tiles(shape: Size, size: Size, stride: int, max_patches: int) -> Iterator[Tile]:
    """Yield rectangles of at most ``max_patches`` places that cover the image."""
    for cols in positions(shape[1], size[1], stride):
        for col_start in range(0, len(cols), max_patches):
            some_cols = cols[col_start : col_start + max_patches]
            n_rows = max(1, max_patches // len(some_cols))
            for rows in positions(shape[0], size[0], stride):
                for row_start in range(0, len(rows), n_rows):
                    yield rows[row_start : row_start + n_rows], some_cols


def n_patches(shape: Size, size: Size, stride: int = 1) -> int:
    """Return how many patches an image has."""
    counts = (
        sum(len(places) for places in positions(length, width, stride))
        for length, width in zip(shape, size, strict=True)
    )
    return math.prod(counts)


def extract(image: Tensor, size: Size, tile: Tile) -> Tensor:
    """Return the patches at the places of ``tile``, (patch pixels, places).

    Parameters
    ----------
    image : Tensor of shape (height, width)
    """
    rows, cols = tile
    windows = image.unfold(0, size[0], 1).unfold(1, size[1], 1)
    chosen = windows[_slice(rows), _slice(cols)]
    return chosen.permute(2, 3, 0, 1).reshape(size[0] * size[1], -1)


def add_patches(total: Tensor, patches: Tensor, size: Size, tile: Tile) -> None:
    """Add patches to ``total`` where they lie: the transpose of :func:`extract`.

    Into a float64 ``total``, copies of a float32 image add without rounding, so that
    dividing by the coverage gives that image back bit by bit.
    """
    rows, cols = tile
    blocks = patches.reshape(*size, len(rows), len(cols))
    for i in range(size[0]):
        band = total[_slice(rows, i)]
        for j in range(size[1]):
            band[:, _slice(cols, j)] += blocks[i, j]


def coverage(shape: Size, size: Size, stride: int, device: torch.device) -> Tensor:
    """Return how many patches cover each pixel, (height, width) in float64."""
    counts = []
    for length, width in zip(shape, size, strict=True):
        count = torch.zeros(length, dtype=torch.float64, device=device)
        for places in positions(length, width, stride):
            for i in range(width):
                count[_slice(places, i)] += 1
        counts.append(count)
    return counts[0][:, None] * counts[1]


def dct_basis(size: Size, device: torch.device | str = "cpu") -> Tensor:
    """Return the DCT vectors of a patch except the constant one.

    An orthonormal basis of the mean-removed patches, (patch pixels, patch pixels - 1)
    in float64.
    """
    row, column = (dct_vectors(length, length, device) for length in size)
    return torch.kron(row, column)[:, 1:].contiguous()


def dct_vectors(length: int, n: int, device: torch.device | str = "cpu") -> Tensor:
    """Return the first ``n`` orthonormal DCT vectors, (length, n) in float64."""
    places = torch.arange(length, dtype=torch.float64, device=device)
    waves = torch.cos(math.pi / length * (places[:, None] + 0.5) * places[:n])
    waves[:, 0] *= math.sqrt(0.5)
    return waves * math.sqrt(2 / length)


def noise_level(image: Tensor, size: Size) -> float:
    """Return the standard deviation of white noise in an image.

    The largest set of smallest eigenvalues of the patch covariance whose mean is its
    median: clean patches lie near a subspace, and the eigenvalues across it are the
    noise variance (Chen, Zhu & Heng 2015). Images too small for that take the median
    absolute difference of neighbours.

    Parameters
    ----------
    image : Tensor of shape (height, width)
    """
    fitting = _largest_patch((image.shape[0], image.shape[1]), size)
    if fitting is None:
        return _noise_from_differences(image.double())
    n_pixels, count = math.prod(fitting), 0
    total = torch.zeros(n_pixels, dtype=torch.float64, device=image.device)
    outer = total.new_zeros(n_pixels, n_pixels)
    for tile in tiles((image.shape[0], image.shape[1]), fitting, 1, 2**15):
        patches = extract(image, fitting, tile).double()
        total += patches.sum(1)
        outer += patches @ patches.T
        count += patches.shape[1]
    mean = total / count
    covariance = outer / count - mean[:, None] * mean
    return _noise_from_eigenvalues(torch.linalg.eigvalsh(covariance).clamp_min(0))


def _noise_from_eigenvalues(ascending: Tensor) -> float:
    values = ascending.tolist()
    for stop in range(len(values), 0, -1):
        mean = math.fsum(values[:stop]) / stop
        above = sum(value > mean for value in values[:stop])
        below = sum(value < mean for value in values[:stop])
        if above >= below:
            return math.sqrt(mean)
    return math.sqrt(values[0])


def _noise_from_differences(image: Tensor) -> float:
    differences = [image.diff(dim=axis).flatten() for axis in (0, 1)]
    absolute = torch.cat(differences).abs()
    if absolute.numel() == 0:
        return 0.0
    return float(absolute.median()) / (NORMAL_MAD * math.sqrt(2))


def _largest_patch(shape: Size, size: Size) -> Size | None:
    """Return the largest patch up to ``size`` with enough patches in the image."""
    for longest in range(max(size), 1, -1):
        smaller = min(size[0], longest), min(size[1], longest)
        fits = smaller[0] <= shape[0] and smaller[1] <= shape[1]
        n_pixels = math.prod(smaller)
        if fits and n_patches(shape, smaller) >= PATCHES_PER_PIXEL * n_pixels:
            return smaller
    return None


def _slice(places: range, shift: int = 0) -> slice:
    return slice(places.start + shift, places.stop + shift, places.step)
