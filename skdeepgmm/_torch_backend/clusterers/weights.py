"""Weights of networks: as arrays and back, and their moving average."""

import copy
from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from skdeepgmm._torch_backend import convert

ModuleT = TypeVar("ModuleT", bound=nn.Module)

#: Of the decay of an average: it reaches 1 / 2 after so many updates.
WARM_UP = 9.0


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
        the past: initial weights are forgotten.
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
