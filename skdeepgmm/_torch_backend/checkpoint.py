"""What a checkpoint holds of a training: trees of tensors, as plain arrays and back.

A tensor that comes back has the type, the device and the memory order that it had:
matrix products may round differently in another order.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

#: Key of what stands for a tensor.
_TENSOR = "tensor"


def to_arrays(tree: Any) -> Any:
    """Return a copy of a tree of dicts, lists and tuples with arrays for tensors."""
    if isinstance(tree, Tensor):
        return _packed(tree.detach())
    if isinstance(tree, Mapping):
        return {key: to_arrays(value) for key, value in tree.items()}
    if isinstance(tree, (list, tuple)):
        return type(tree)(map(to_arrays, tree))
    return tree


def to_tensors(tree: Any, device: torch.device) -> Any:
    """Return a tree of :func:`to_arrays` with its tensors on ``device`` again."""
    if isinstance(tree, dict):
        if _TENSOR in tree:
            return _unpacked(tree, device)
        return {key: to_tensors(value, device) for key, value in tree.items()}
    if isinstance(tree, (list, tuple)):
        return type(tree)(to_tensors(value, device) for value in tree)
    return tree


def _packed(tensor: Tensor) -> dict[str, Any]:
    strides = tensor.stride()
    order = sorted(range(tensor.ndim), key=lambda axis: -strides[axis])
    array = tensor.permute(order).cpu().contiguous().clone().numpy()
    return {_TENSOR: array, "order": order, "host": tensor.device.type == "cpu"}


def _unpacked(packed: dict[str, Any], device: torch.device) -> Tensor:
    array, order, host = packed[_TENSOR], packed["order"], packed["host"]
    place = "cpu" if host else device
    # A copy in torch's own memory, whose alignment decides how kernels round.
    tensor = torch.tensor(array, device=place)
    back = sorted(range(len(order)), key=order.__getitem__)
    return tensor.permute(back)


def check_like(found: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    """Raise ValueError unless one state has the tensors of another, in their shapes."""
    if set(found) != set(expected):
        raise ValueError("is damaged: it has the state of another model")
    for name, value in expected.items():
        if not isinstance(value, Tensor):
            continue
        other = found[name]
        if not isinstance(other, Tensor) or (other.shape, other.dtype) != (
            value.shape,
            value.dtype,
        ):
            raise ValueError(f"is damaged: its {name} does not fit the model")


def generator_states(generators: Mapping[str, torch.Generator]) -> dict[str, Tensor]:
    """Return the states of random generators."""
    return {name: generator.get_state() for name, generator in generators.items()}


def set_generator_states(
    generators: Mapping[str, torch.Generator], states: Mapping[str, Tensor]
) -> None:
    """Let random generators go on from these states."""
    for name, generator in generators.items():
        generator.set_state(states[name].cpu())
