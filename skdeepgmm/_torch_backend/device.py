"""Choice of the compute device, and the state of torch that a fit needs."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext

import torch

from skdeepgmm._torch_backend.ranks import is_rank, local_device


def resolve_device(name: str, tensor: object = None) -> torch.device:
    """Return the torch device that ``name`` means for the input ``tensor``.

    ``"auto"`` follows a tensor input to its device and otherwise takes CUDA when
    present, one device for each process that torchrun has started. Raises ValueError
    for a name torch does not know or a device that this machine lacks.
    """
    if not isinstance(name, str):
        raise ValueError(
            "device must be 'auto', 'cpu', 'cuda' or 'cuda:<index>', got "
            f"{name!r} of type {type(name).__name__}."
        )
    if name == "auto":
        if isinstance(tensor, torch.Tensor):
            return tensor.device
        if is_rank():
            return local_device()
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(
            f"device must be 'auto', 'cpu', 'cuda' or 'cuda:<index>', got {name!r}."
        ) from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(
            f"device={name!r} was requested, but torch sees "
            f"{torch.cuda.device_count()} CUDA devices here. Use device='cpu' or "
            "'auto', or install a CUDA build of torch."
        )
    if device.type not in ("cpu", "cuda"):
        raise ValueError(f"device must be a CPU or CUDA device, got {name!r}.")
    return device


def own_state() -> AbstractContextManager[None]:
    """Compute as if the caller had set nothing: no autocast, tensors on the CPU.

    Global settings that would change results are overridden, not changed.
    """
    # Each torch call in a device context pays for it. A tensor tells where it would be;
    # torch.get_default_device() of torch 2.4 does not see the context of a device.
    is_elsewhere = torch.empty(0).device.type != "cpu"
    autocast = [kind for kind in ("cpu", "cuda") if torch.is_autocast_enabled(kind)]
    if is_elsewhere or autocast:
        return _overridden(is_elsewhere, autocast)
    return nullcontext()


@contextmanager
def _overridden(is_elsewhere: bool, autocast: list[str]) -> Iterator[None]:
    with ExitStack() as stack:
        if is_elsewhere:
            stack.enter_context(torch.device("cpu"))
        for kind in autocast:
            stack.enter_context(torch.autocast(kind, enabled=False))
        yield


#: Multiply-adds of a step, and weights of networks, up to which one thread computes:
#: to hand such steps to several costs about what it saves on an idle machine, and many
#: times the whole where another program holds a core.
SMALL_WORK, SMALL_NETWORKS = 10**8, 4_000_000


def one_thread(small: bool = True) -> AbstractContextManager[None]:
    """Compute on one thread where the work is small; the caller's number comes back.

    Sums then are in one order, whatever the number of threads was. torch keeps that
    number for each thread of the program, and MKL's products in a new one take all
    processors until it is set there.
    """
    if not small:
        return nullcontext()
    return _one_of_several()


@contextmanager
def _one_of_several() -> Iterator[None]:
    previous = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        yield
    finally:
        torch.set_num_threads(previous)


@contextmanager
def training_mode() -> Iterator[None]:
    """Record gradients, in a state of our own, whatever the caller has set."""
    with own_state(), torch.inference_mode(False), torch.enable_grad():
        yield
