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
#: Entries of states whose form is not that of a new model.
_VARYING = {"events", "state"}


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


def check_like(found: Any, expected: Any, name: str = "state") -> None:
    """Raise ValueError unless a tree has the form of another.

    That is the same names, lengths and types, and tensors of the same shapes. What
    happened in the training, and what optimisers have averaged, varies: see
    :func:`check_optimizer`.
    """
    if isinstance(expected, Mapping):
        if not isinstance(found, Mapping) or set(found) != set(expected):
            raise ValueError(f"is damaged: its {name} is that of another model")
        for key in set(expected) - _VARYING:
            check_like(found[key], expected[key], str(key))
    elif isinstance(expected, (list, tuple)):
        if type(found) is not type(expected) or len(found) != len(expected):
            raise ValueError(f"is damaged: its {name} does not fit the model")
        for each, other in zip(found, expected, strict=True):
            check_like(each, other, name)
    elif _form(found) != _form(expected):
        raise ValueError(f"is damaged: its {name} does not fit the model")


def _form(value: Any) -> Any:
    if isinstance(value, Tensor):
        return Tensor, value.shape, value.dtype
    return type(value)


def check_optimizer(found: Mapping[str, Any], optimizer: torch.optim.Optimizer) -> None:
    """Raise ValueError unless an optimiser can go on from what another has averaged.

    Its kernels read what they are given, whatever its shape.
    """
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    twins = [torch.zeros_like(p, requires_grad=True) for p in parameters]
    for twin in twins:
        twin.grad = torch.zeros_like(twin)
    twin_optimizer = type(optimizer)(twins, **optimizer.defaults)
    twin_optimizer.step()
    expected = twin_optimizer.state_dict()["state"]
    for index, values in found["state"].items():
        check_like(values, expected[index], "optimizer")


def generator_states(generators: Mapping[str, torch.Generator]) -> dict[str, Tensor]:
    """Return the states of random generators."""
    return {name: generator.get_state() for name, generator in generators.items()}


def set_generator_states(
    generators: Mapping[str, torch.Generator], states: Mapping[str, Tensor]
) -> None:
    """Let random generators go on from these states."""
    for name, generator in generators.items():
        generator.set_state(states[name].cpu())
