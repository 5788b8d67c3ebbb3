"""What is done with networks: arrays, averages, inference, augmentation."""

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from skdeepgmm._torch_backend import convert
from skdeepgmm._torch_backend.inference import in_batches as in_batches

ModuleT = TypeVar("ModuleT", bound=nn.Module)

#: Of the decay of an average: it reaches 1 / 2 after so many updates.
WARM_UP = 9.0


# Weights as arrays ---------------------------------------------------------------


def to_arrays(module: nn.Module) -> dict[str, NDArray[Any]]:
    """Return the parameters and buffers as NumPy arrays, by torch's names."""
    return {
        name: convert.to_numpy(value) for name, value in module.state_dict().items()
    }


def load_arrays(module: nn.Module, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Put arrays of :func:`to_arrays` back, whatever device the module is on."""
    module.load_state_dict({k: convert.parameter_tensor(v) for k, v in arrays.items()})


def restore(
    make: Callable[[], ModuleT],
    arrays: Mapping[str, NDArray[Any]],
    device: torch.device,
    dtype: torch.dtype = torch.float32,
) -> ModuleT:
    """Return the module of ``make`` with the weights of ``arrays``, for inference."""
    with torch.device("meta"):
        module = make()
    # Before the weights come: the default type may be a short one.
    module = module.to_empty(device="cpu").to(dtype)
    load_arrays(module, arrays)
    return module.to(device, dtype).eval().requires_grad_(False)


class WeightAverage(Generic[ModuleT]):
    """Exponential moving average of a module's weights.

    Attributes
    ----------
    module : nn.Module
        A copy with the averaged weights, in evaluation mode. Buffers are copied.
    """

    def __init__(self, module: ModuleT, decay: float) -> None:
        self.decay = decay
        self.module: ModuleT = copy.deepcopy(module).eval().requires_grad_(False)
        self.updates = 0

    def update(self, module: nn.Module) -> None:
        """Add the weights of ``module``.

        The decay grows from 0 as t / (t + 9), so that the window is about a ninth of
        the past: first weights are forgotten.
        """
        keep = min(self.decay, self.updates / (self.updates + WARM_UP))
        self.updates += 1
        mine: list[Tensor] = [*self.module.parameters()]
        theirs: list[Tensor] = [*module.parameters()]
        with torch.no_grad():
            torch._foreach_lerp_(mine, theirs, 1.0 - keep)
            for old, new in zip(self.module.buffers(), module.buffers(), strict=True):
                old.copy_(new)

    def state_dict(self) -> dict[str, Any]:
        return {"updates": self.updates, **self.module.state_dict(prefix="module.")}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.updates = int(state["updates"])
        weights = {k.removeprefix("module."): v for k, v in state.items()}
        del weights["updates"]
        self.module.load_state_dict(weights)


# Batches ---------------------------------------------------------------------------


def at_least_two(index: Tensor) -> Tensor:
    """Return the rows of a batch; a lone one twice, for batch normalisation."""
    return index.expand(2) if len(index) == 1 else index


# Augmentation --------------------------------------------------------------------


@dataclass(frozen=True)
class Affine:
    """Largest random changes: pixels, degrees, share of the size."""

    shift: float
    rotation: float
    scale: float


def random_affine(
    images: Tensor,
    generator: torch.Generator,
    shift: float = 2.0,
    rotation: float = 9.0,
    scale: float = 0.1,
) -> Tensor:
    """Shift, turn and scale every image by its own random amount.

    Parameters
    ----------
    images : Tensor of shape (n, channels, height, width)
    generator : torch.Generator
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
        4, len(images), generator=generator, device=images.device, dtype=images.dtype
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
    grid = F.affine_grid(torch.stack(rows, 1), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)


def random_patches(images: Tensor, generator: torch.Generator, side: float) -> Tensor:
    """Put a rectangle of another image into each of half of the images.

    It covers the same place in both; its sides are drawn from one pixel to ``side``.

    Parameters
    ----------
    images : Tensor of shape (n, channels, height, width)
    generator : torch.Generator
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
    drawn = torch.rand(
        5, size, 1, generator=generator, device=device, dtype=torch.float32
    )
    down = _span(images.shape[2], side, drawn[0], drawn[1])
    across = _span(images.shape[3], side, drawn[2], drawn[3])
    covered = down[:, :, None] & across[:, None, :] & (drawn[4] < 0.5)[:, :, None]
    other = torch.randint(size, (size,), generator=generator, device=device)
    return torch.where(covered[:, None], images[other], images)


def _span(length: int, side: float, extent: Tensor, place: Tensor) -> Tensor:
    """Return which of ``length`` pixels a span covers; draws are uniform in [0, 1)."""
    longest = max(1, round(side * length))
    extent = (extent * longest).floor() + 1.0
    start = (place * (length + 1.0 - extent)).floor()
    pixels = torch.arange(length, device=extent.device)
    return (pixels >= start) & (pixels < start + extent)
