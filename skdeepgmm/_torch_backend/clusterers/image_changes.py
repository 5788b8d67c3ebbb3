"""Changes of images that keep their class: weak ones and strong ones.

A network that calls an image and its changed copy the same learns features from images
without labels. Batches are changed at once, every image by its own random amounts.
"""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from skdeepgmm._torch_backend.clusterers.augmentation import warped

#: Uniform random numbers that :meth:`ImageChanges.apply` needs of an image.
N_DRAWN = 18
#: What turns RGB into grey (ITU-R BT.601).
LUMINANCE = (0.299, 0.587, 0.114)


@dataclass(frozen=True)
class ImageChanges:
    """Largest amounts of random changes; without any, images stay as they are.

    Attributes
    ----------
    low, high : float
        Range of the values: changed ones stay in it.
    rotation : float
        Angle in degrees.
    scale : float
        Relative change of the size.
    shift : float
        Along each axis, as a share of half the side.
    shear : float
        Of one axis along the other.
    contrast : float
        Relative change of the differences from an image's mean.
    brightness : float
        As a share of the range.
    colour : float
        Relative change of the differences of channels from their mean, and a quarter of
        it, as a share of the range, of the brightness of each. Of RGB images only.
    square : float
        Side of a square of the range's middle, as a share of the image's.
    invert : float
        Share of the images whose values are turned round.
    mirror : bool
        Whether half of the images are mirrored, left to right.
    """

    low: float = 0.0
    high: float = 1.0
    rotation: float = 0.0
    scale: float = 0.0
    shift: float = 0.0
    shear: float = 0.0
    contrast: float = 0.0
    brightness: float = 0.0
    colour: float = 0.0
    square: float = 0.0
    invert: float = 0.0
    mirror: bool = False

    def __call__(self, images: Tensor, rng: torch.Generator) -> Tensor:
        """Return changed images.

        Parameters
        ----------
        images : Tensor of shape (n, channels, height, width)
        rng : torch.Generator
            On the device of the images.
        """
        size, kind = (len(images), N_DRAWN), images.dtype
        drawn = torch.rand(size, generator=rng, device=images.device, dtype=kind)
        return self.apply(images, drawn)

    def apply(self, images: Tensor, drawn: Tensor) -> Tensor:
        """Return images changed by given random numbers in [0, 1), (n, N_DRAWN)."""
        if not len(images):
            return images
        place, values, rest = torch.split(drawn.T, [6, 8, 4])
        images = self._moved(images, place)
        images = self._coloured(images, values)
        return self._covered(images, rest)

    # One kind of change each -----------------------------------------------------

    @property
    def _moves(self) -> bool:
        sizes = self.rotation, self.scale, self.shift, self.shear, self.mirror
        return any(sizes)

    def _moved(self, images: Tensor, drawn: Tensor) -> Tensor:
        if not self._moves:
            return images
        turn, grow, across, down, shear, flip = drawn * 2.0 - 1.0
        angle = turn * math.radians(self.rotation)
        factor = 1.0 / (1.0 + grow * self.scale)
        cos, sin = angle.cos() * factor, angle.sin() * factor
        sheared = shear * self.shear
        side = torch.where(flip < 0.0, -1.0, 1.0) if self.mirror else 1.0
        # Angles are of pixels, and coordinates run from -1 to 1 along each side.
        ratio = images.shape[2] / images.shape[3]
        tilt = (cos * sheared - sin) * ratio
        x = torch.stack([side * cos, side * tilt, across * self.shift])
        y = torch.stack([sin / ratio, sin * sheared + cos, down * self.shift])
        return warped(images, torch.stack([x, y]).permute(2, 0, 1))

    def _coloured(self, images: Tensor, drawn: Tensor) -> Tensor:
        signed = (drawn * 2.0 - 1.0)[..., None, None, None]
        contrast, brightness, saturation, *channels = signed[:6]
        extent = self.high - self.low
        if self.contrast or self.brightness:
            mean = images.mean((1, 2, 3), keepdim=True)
            factor = 1.0 + contrast * self.contrast
            level = mean + brightness * self.brightness * extent
            images = (images - mean) * factor + level
        if self.colour and images.shape[1] == 3:
            grey = _grey(images)
            offset = torch.cat(channels, 1) * (0.25 * self.colour * extent)
            images = grey + (images - grey) * (1.0 + saturation * self.colour) + offset
        if self.invert:
            turned = (drawn[6] < self.invert)[:, None, None, None]
            images = torch.where(turned, self.low + self.high - images, images)
        return images.clamp(self.low, self.high)

    def _covered(self, images: Tensor, drawn: Tensor) -> Tensor:
        if not self.square:
            return images
        height, width = images.shape[2:]
        down = _span(height, self.square * min(height, width), drawn[0])
        across = _span(width, self.square * min(height, width), drawn[1])
        covered = down[:, None, :, None] & across[:, None, None, :]
        return images.masked_fill(covered, 0.5 * (self.low + self.high))


#: For images in the range [0, 1].
WEAK = ImageChanges(rotation=5.0, scale=0.05, shift=0.1)
STRONG = ImageChanges(
    rotation=25.0,
    scale=0.25,
    shift=0.2,
    shear=0.25,
    contrast=0.6,
    brightness=0.2,
    colour=0.4,
    square=0.4,
)


def weak(low: float, high: float, mirror: bool = False) -> ImageChanges:
    """Return small changes of place, after which a network is asked for targets."""
    return replace(WEAK, low=low, high=high, mirror=mirror)


def strong(
    low: float, high: float, mirror: bool = False, invert: float = 0.0
) -> ImageChanges:
    """Return large changes of place, contrast and colour, from which it learns."""
    return replace(STRONG, low=low, high=high, mirror=mirror, invert=invert)


def polarity_varies(images: Tensor) -> bool:
    """Tell whether there are bright things before dark ground and the opposite.

    The middle of an image is compared with its rim: both orders must be common.
    """
    height, width = images.shape[2:]
    top, left = height // 4, width // 4
    middle = images[:, :, top : height - top, left : width - left]
    rim = (images.sum((1, 2, 3)) - middle.sum((1, 2, 3))) / (
        images[0].numel() - middle[0].numel()
    )
    brighter = (middle.mean((1, 2, 3)) > rim).float().mean()
    return 0.2 < float(brighter) < 0.8


def _grey(images: Tensor) -> Tensor:
    weights = images.new_tensor(LUMINANCE)[:, None, None]
    return (images * weights).sum(1, keepdim=True)


def _span(length: int, extent: float, place: Tensor) -> Tensor:
    """Return which of ``length`` pixels a span of ``extent`` pixels covers."""
    first = (place * (length + 1.0 - round(extent))).floor()[:, None]
    pixels = torch.arange(length, device=place.device)
    return (pixels >= first) & (pixels < first + round(extent))
