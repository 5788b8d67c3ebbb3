"""Building blocks of the deep clusterers: layers, trunks, generators, initial weights.

Networks are built without touching torch's global generator: :func:`build` makes the
module without memory and then draws its weights from a private generator. Images are
(n, channels, height, width) in ``channels_last`` order, vectors (n, features).
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from skdeepgmm._torch_backend.device import SMALL_NETWORKS

#: (channels, height, width) of an image, (features,) of a vector.
Shape = tuple[int, ...]
ModuleT = TypeVar("ModuleT", bound=nn.Module)

#: Slope of the leaky ReLU for negative values.
SLOPE = 0.2
#: Keeps the size of activations (He), and the smaller one that torch starts with.
HE_GAIN, TORCH_GAIN = 2.0 / (1.0 + SLOPE**2), 1.0 / 3.0
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.GroupNorm, nn.LayerNorm)
#: Images with a smaller side are treated as vectors.
SMALLEST_SIDE = 8
#: Images with sides of at least so many pixels are large.
LARGE_SIDE = 16
#: Images of at least so many pixels a side are halved before all else by a network of
#: photographs, which has these channels.
HUGE_SIDE, PHOTO_CHANNELS = 48, (32, 64, 128, 128)


class Constant(nn.Module):
    """A layer whose buffers follow from its settings."""

    def reset_parameters(self) -> None:
        """Fill the buffers."""
        raise NotImplementedError


# Building ------------------------------------------------------------------------


def build(
    make: Callable[[], ModuleT],
    rng: torch.Generator,
    device: torch.device | str = "cpu",
    std: float | None = None,
    gain: float = HE_GAIN,
) -> ModuleT:
    """Return the module of ``make`` with weights drawn from ``rng``.

    Parameters
    ----------
    make : callable
        Constructs the module from the layers that :func:`initialize` knows.
    rng : torch.Generator
        On the CPU, so that weights are the same on every device.
    std : float or None
        Standard deviation of the weights; None means by fan-in.
    gain : float
        Variance of the weights times their fan-in, where ``std`` is None.
    """
    with torch.device("meta"):
        module = make()
    module = module.to_empty(device=device).float()
    initialize(module, rng, std, gain)
    module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return module


def initialize(
    module: nn.Module,
    rng: torch.Generator,
    std: float | None = None,
    gain: float = HE_GAIN,
) -> None:
    """Fill every parameter and buffer: N(0, std^2) weights, zero biases."""
    with torch.no_grad():
        for layer in module.modules():
            if isinstance(layer, (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)):
                scale = math.sqrt(gain / _fan_in(layer)) if std is None else std
                _init_weights(layer, rng, scale)
            elif isinstance(layer, (*NORMS, Constant)):
                layer.reset_parameters()
            elif [*layer.parameters(recurse=False), *layer.buffers(recurse=False)]:
                raise TypeError(f"no initialisation for {type(layer).__name__}")


def _init_weights(
    layer: nn.Linear | nn.Conv2d | nn.ConvTranspose2d,
    rng: torch.Generator,
    scale: float,
) -> None:
    shape = layer.weight.shape
    drawn = torch.randn(shape, generator=rng, dtype=torch.float32, device="cpu")
    layer.weight.copy_(drawn * scale)
    if layer.bias is not None:
        layer.bias.zero_()
    if isinstance(layer, _Spectral):
        shape = layer.direction.shape
        direction = torch.randn(shape, generator=rng, dtype=torch.float32, device="cpu")
        layer.direction.copy_(F.normalize(direction, dim=0))


def _fan_in(layer: nn.Linear | nn.Conv2d | nn.ConvTranspose2d) -> float:
    """Return how many products a unit sums."""
    if isinstance(layer, nn.ConvTranspose2d):
        # Each output pixel is reached by one in stride^2 of the kernel's entries.
        kernel = layer.kernel_size[0] * layer.kernel_size[1]
        return layer.in_channels * kernel / (layer.stride[0] * layer.stride[1])
    return float(layer.weight[0].numel())


def are_small(makers: Iterable[Callable[[], nn.Module]]) -> bool:
    """Tell whether networks are so small that one thread is fast enough for them."""
    with torch.device("meta"):
        tensors = [value for make in makers for value in make().state_dict().values()]
    size: int = sum(value.numel() for value in tensors)
    return size <= SMALL_NETWORKS


# Spectral norm -------------------------------------------------------------------


class _Spectral(nn.Module):
    """Mixin: a layer whose weight has spectral norm one (power iteration).

    torch's own is initialised from the global random generator.
    """

    weight: Tensor
    direction: Tensor

    def _normalized(self) -> Tensor:
        matrix = self.weight.flatten(1)
        with torch.no_grad():
            right = F.normalize(matrix.T @ self.direction, dim=0)
            left = F.normalize(matrix @ right, dim=0)
            if self.training:
                self.direction.copy_(left)
        return self.weight / torch.dot(left, matrix @ right)


class SpectralLinear(_Spectral, nn.Linear):
    """Linear layer of spectral norm one."""

    def __init__(self, n_in: int, n_out: int) -> None:
        nn.Linear.__init__(self, n_in, n_out)
        self.register_buffer("direction", torch.empty(n_out))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self._normalized(), self.bias)


class SpectralConv2d(_Spectral, nn.Conv2d):
    """Convolution whose kernel, as a matrix, has spectral norm one."""

    def __init__(self, n_in: int, n_out: int, kernel: int, stride: int, padding: int):
        nn.Conv2d.__init__(self, n_in, n_out, kernel, stride, padding)
        self.register_buffer("direction", torch.empty(n_out))

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self._normalized(), self.bias, self.stride, self.padding)


# Layers --------------------------------------------------------------------------


def scaled(width: int, multiplier: float, least: int = 4) -> int:
    """Return a layer's width times ``multiplier``."""
    return max(least, round(width * multiplier))


def norm(kind: str, width: int, image: bool) -> list[nn.Module]:
    """Return the normalisation layers called ``kind``.

    ``"none"``, ``"batch"``, ``"group"`` (groups of about eight channels, all units of a
    vector) or ``"layer"`` (one group).
    """
    if kind == "none":
        return []
    if kind == "batch":
        return [nn.BatchNorm2d(width) if image else nn.BatchNorm1d(width)]
    if kind not in ("group", "layer"):
        raise ValueError(f"norm must be none, batch, group or layer, got {kind!r}.")
    if not image:
        return [nn.LayerNorm(width)]
    groups = max(1, width // 8) if kind == "group" else 1
    return [nn.GroupNorm(groups if width % groups == 0 else 1, width)]


def linear(n_in: int, n_out: int, spectral: bool = False) -> nn.Module:
    return SpectralLinear(n_in, n_out) if spectral else nn.Linear(n_in, n_out)


def conv(
    n_in: int, n_out: int, kernel: int, stride: int, padding: int, spectral: bool
) -> nn.Module:
    if spectral:
        return SpectralConv2d(n_in, n_out, kernel, stride, padding)
    return nn.Conv2d(n_in, n_out, kernel, stride, padding)


def activation() -> nn.Module:
    return nn.LeakyReLU(SLOPE, inplace=True)


def dense(
    sizes: Sequence[int], norm_kind: str = "none", spectral: bool = False
) -> nn.Sequential:
    """Return fully connected layers, each with normalisation and leaky ReLU."""
    layers: list[nn.Module] = []
    for n_in, n_out in pairwise(sizes):
        layers += [linear(n_in, n_out, spectral), *norm(norm_kind, n_out, False)]
        layers.append(activation())
    return nn.Sequential(*layers)


# Trunks: image or vector to features ---------------------------------------------


def is_image(shape: Shape) -> bool:
    """Tell whether convolutions apply to this shape."""
    return len(shape) == 3 and min(shape[1:]) >= SMALLEST_SIDE


def is_large_image(shape: Shape) -> bool:
    """Tell whether this is the shape of an image, and a large one."""
    return len(shape) == 3 and min(shape[1:]) >= LARGE_SIDE


def n_halvings(shape: Shape) -> int:
    """Return how often a trunk halves an image: to a side of 2 to 4 pixels."""
    return max(2, math.ceil(math.log2(min(shape[1:]))) - 2)


def strided_trunk(
    shape: Shape, channels: Sequence[int], norm_kind: str, spectral: bool = False
) -> tuple[nn.Sequential, int]:
    """Return 4x4 convolutions of stride 2, flattened, and the number of features.

    The first has no normalisation, as is usual for discriminators.
    """
    layers: list[nn.Module] = []
    n_in, height, width = shape
    for level, n_out in enumerate(channels):
        layers.append(conv(n_in, n_out, 4, 2, 1, spectral))
        layers += norm(norm_kind, n_out, True) if level else []
        layers.append(activation())
        n_in, height, width = n_out, height // 2, width // 2
    return nn.Sequential(*layers, nn.Flatten()), n_in * height * width


def pooled_trunk(
    shape: Shape,
    channels: Sequence[int],
    kernels: Sequence[int] = (5, 5, 3),
    norm_kind: str = "none",
    dropout: float = 0.0,
) -> tuple[nn.Sequential, int]:
    """Return convolutions with 2x2 max-pooling, flattened, and the number of features.

    Further kernels are as the last. Odd sides are rounded up.
    """
    layers: list[nn.Module] = []
    n_in, height, width = shape
    for level, n_out in enumerate(channels):
        kernel = kernels[min(level, len(kernels) - 1)]
        layers.append(conv(n_in, n_out, kernel, 1, kernel // 2, False))
        layers += norm(norm_kind, n_out, True)
        # Pooling first leaves the activation a quarter of the work; they commute.
        layers += [nn.MaxPool2d(2, ceil_mode=True), activation()]
        n_in, height, width = n_out, -(-height // 2), -(-width // 2)
    layers.append(nn.Flatten())
    if dropout:
        layers.append(Dropout(dropout))
    return nn.Sequential(*layers), n_in * height * width


def photo_trunk(shape: Shape, width: float = 1.0) -> tuple[nn.Sequential, int]:
    """Return 3x3 convolutions with pooling for photographs, and the number of features.

    Four levels of 32, 64, 128 and 128 channels, each pooled and then normalised in
    groups; a larger image is first halved by a stride.
    """
    layers: list[nn.Module] = []
    n_in, height, width_ = shape
    for level, channels in enumerate(PHOTO_CHANNELS):
        n_out = scaled(channels, width, least=8)
        stride = 2 if level == 0 and min(height, width_) >= HUGE_SIDE else 1
        layers.append(conv(n_in, n_out, 3, stride, 1, False))
        height, width_ = -(-height // stride), -(-width_ // stride)
        # Pooling first leaves norm and activation a quarter of the work.
        layers.append(nn.MaxPool2d(2, ceil_mode=True))
        layers += [*norm("group", n_out, True), activation()]
        n_in, height, width_ = n_out, -(-height // 2), -(-width_ // 2)
    return nn.Sequential(*layers, nn.Flatten()), n_in * height * width_


class Dropout(nn.Module):
    """Dropout with a private random generator; without one it does nothing.

    Set ``rng`` after building, on the device of the module.
    """

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share
        self.rng: torch.Generator | None = None

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.rng is None:
            return x
        drawn = torch.rand(x.shape, generator=self.rng, device=x.device, dtype=x.dtype)
        return x * (drawn >= self.share) / (1.0 - self.share)


# Generators: noise to image or vector --------------------------------------------

#: Output ranges: [0, 1], [-1, 1], or any value.
OUTPUTS: Mapping[str, Callable[[], nn.Module]] = {
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "linear": nn.Identity,
}


class Crop(nn.Module):
    """Keep the middle ``height`` x ``width`` pixels."""

    def __init__(self, height: int, width: int) -> None:
        super().__init__()
        self.height, self.width = height, width

    def forward(self, x: Tensor) -> Tensor:
        top, left = (x.shape[2] - self.height) // 2, (x.shape[3] - self.width) // 2
        return x[:, :, top : top + self.height, left : left + self.width]


def n_doublings(shape: Shape) -> int:
    """Return how often a generator doubles its image, from a side of 4 to 8 pixels."""
    return max(1, math.ceil(math.log2(min(shape[1:]))) - 3)


def deconv_generator(
    n_inputs: int,
    shape: Shape,
    hidden: Sequence[int],
    channels: Sequence[int],
    norm_kind: str = "batch",
    output: str = "sigmoid",
) -> nn.Sequential:
    """Return fully connected layers and 4x4 transposed convolutions of stride 2.

    Parameters
    ----------
    hidden : sequence of int
        Widths of the fully connected layers before the first image.
    channels : sequence of int
        Channels of the first image and after every doubling but the last.
    output : {"sigmoid", "tanh", "linear"}
    """
    n_out, height, width = shape
    factor = 2 ** len(channels)
    first = (channels[0], -(-height // factor), -(-width // factor))
    layers = [*dense([n_inputs, *hidden], norm_kind)]
    n_hidden = [n_inputs, *hidden][-1]
    layers += [nn.Linear(n_hidden, math.prod(first)), nn.Unflatten(1, first)]
    layers += [*norm(norm_kind, channels[0], True), activation()]
    for n_in, n_next in pairwise(channels):
        layers.append(nn.ConvTranspose2d(n_in, n_next, 4, 2, 1))
        layers += [*norm(norm_kind, n_next, True), activation()]
    layers.append(nn.ConvTranspose2d(channels[-1], n_out, 4, 2, 1))
    layers += [Crop(height, width), OUTPUTS[output]()]
    return nn.Sequential(*layers)


def dense_generator(
    n_inputs: int,
    n_outputs: int,
    hidden: Sequence[int],
    norm_kind: str = "batch",
    output: str = "linear",
) -> nn.Sequential:
    """Return a fully connected generator of vectors."""
    sizes = [n_inputs, *hidden]
    last = nn.Linear(sizes[-1], n_outputs)
    return nn.Sequential(*dense(sizes, norm_kind), last, OUTPUTS[output]())
