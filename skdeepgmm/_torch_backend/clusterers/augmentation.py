"""Random augmentation of images: affine maps, patches of other images."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Affine:
    """Largest random shift (pixels), rotation (degrees) and relative change of size."""

    shift: float
    rotation: float
    scale: float

    def __call__(self, images: Tensor, rng: torch.Generator) -> Tensor:
        """Return images moved by :func:`random_affine`."""
        return random_affine(images, rng, self.shift, self.rotation, self.scale)


@dataclass(frozen=True)
class Augmentation:
    """What images go through before a network learns from them.

    Attributes
    ----------
    affine : Affine or None
    cutmix : float or None
        Largest sides, as shares of the image's, of what half of the images take from
        one another.
    """

    affine: Affine | None = None
    cutmix: float | None = None

    def __call__(self, images: Tensor, rng: torch.Generator) -> Tensor:
        """Return augmented images (n, channels, height, width)."""
        if self.affine is not None:
            images = self.affine(images, rng)
        return (
            images if self.cutmix is None else random_cutmix(images, rng, self.cutmix)
        )


NO_AUGMENTATION = Augmentation()


def random_affine(
    images: Tensor,
    rng: torch.Generator,
    shift: float = 2.0,
    rotation: float = 9.0,
    scale: float = 0.1,
) -> Tensor:
    """Shift, turn and scale every image by its own random amount.

    Parameters
    ----------
    images : Tensor of shape (n, channels, height, width)
    rng : torch.Generator
        On the device of the images.
    shift : float
        Largest shift along each axis, in pixels.
    rotation : float
        Largest angle, in degrees.
    scale : float
        Largest relative change of the size.

    Returns
    -------
    Tensor of shape (n, channels, height, width)
        Interpolated; the border's pixels continue outside.
    """
    drawn = torch.rand(
        4, len(images), generator=rng, device=images.device, dtype=images.dtype
    )
    across, down, turn, grow = drawn * 2.0 - 1.0
    angle = turn * math.radians(rotation)
    factor = 1.0 / (1.0 + grow * scale)
    cos, sin = angle.cos() * factor, angle.sin() * factor
    height, width = images.shape[2:]
    # grid_sample's coordinates run from -1 to 1 along each side.
    rows = [
        torch.stack([cos, -sin * (height / width), across * (2.0 * shift / width)], 1),
        torch.stack([sin * (width / height), cos, down * (2.0 * shift / height)], 1),
    ]
    return warped(images, torch.stack(rows, 1))


def warped(images: Tensor, maps: Tensor) -> Tensor:
    """Return images seen through affine maps, interpolated; the border continues.

    Parameters
    ----------
    images : Tensor of shape (n, channels, height, width)
    maps : Tensor of shape (n, 2, 3)
        From the places of the result to those of the image, -1 to 1 along each side.
    """
    grid = F.affine_grid(maps, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)


def random_cutmix(images: Tensor, rng: torch.Generator, side: float) -> Tensor:
    """Put a rectangle of another image into each of half of the images.

    It covers the same place in both; its sides are drawn from one pixel to ``side``.

    Parameters
    ----------
    images : Tensor of shape (n, channels, height, width)
    rng : torch.Generator
        On the device of the images.
    side : float
        Largest side as a share of the image's, above 0 and at most 1.

    Returns
    -------
    Tensor of shape (n, channels, height, width)

    References: Yun et al. (2019), "CutMix: regularization strategy to train strong
    classifiers with localizable features", ICCV. There labels are mixed as well.
    """
    size, device = len(images), images.device
    drawn = torch.rand(5, size, 1, generator=rng, device=device, dtype=torch.float32)
    down = _span(images.shape[2], side, drawn[0], drawn[1])
    across = _span(images.shape[3], side, drawn[2], drawn[3])
    covered = down[:, :, None] & across[:, None, :] & (drawn[4] < 0.5)[:, :, None]
    other = torch.randint(size, (size,), generator=rng, device=device)
    return torch.where(covered[:, None], images[other], images)


def _span(length: int, side: float, extent: Tensor, place: Tensor) -> Tensor:
    """Return which of ``length`` pixels a span covers; both tensors are in [0, 1)."""
    longest = max(1, round(side * length))
    extent = (extent * longest).floor() + 1.0
    first = (place * (length + 1.0 - extent)).floor()
    pixels = torch.arange(length, device=extent.device)
    return (pixels >= first) & (pixels < first + extent)
