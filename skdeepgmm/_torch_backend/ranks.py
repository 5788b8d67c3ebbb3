"""Processes that fit one model together: torch.distributed, started by torchrun.

Every process, a *rank*, has its own rows. All of them run the same program; what they
know together they get by collectives: objects of all ranks, in the order of ranks, and
sums of tensors. Decisions are made by the first rank.
"""

import atexit
import io
import multiprocessing
import os
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import timedelta
from functools import lru_cache, reduce
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

T = TypeVar("T")

#: Set to 0, it turns fits together off.
SWITCH = "SKDEEPGMM_DISTRIBUTED"
#: Seconds after which a rank gives up on the others.
TIMEOUT = "SKDEEPGMM_TIMEOUT"
#: Whether fits are the business of this process alone, whatever started it.
_ALONE = ContextVar("alone", default=False)


class RankError(RuntimeError):
    """Another process of the same fit has failed."""


class Ranks:
    """The processes that fit together.

    Attributes
    ----------
    rank, size : int
        Number of this process, and of all.
    failed : bool
        Whether all ranks know that the present fit has failed.
    """

    def __init__(self) -> None:
        self.rank, self.size = dist.get_rank(), dist.get_world_size()
        self.failed = False
        on_gpu = dist.get_backend() == "nccl"
        #: Where collectives take place.
        self.device = local_device() if on_gpu else torch.device("cpu")

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def gathered(self, compute: Callable[[], T]) -> list[T]:
        """Return what ``compute`` gives on every rank, in their order.

        Raises
        ------
        RankError
            On all ranks but those where ``compute`` raises, which raise that.
        """
        error: Exception | None = None
        mine: tuple[str | None, T | None]
        try:
            mine = (None, compute())
        except Exception as problem:
            error, mine = problem, (f"{type(problem).__name__}: {problem}", None)
        found = self._exchange(mine)
        failures = [(rank, text) for rank, (text, _) in enumerate(found) if text]
        self.failed = bool(failures)
        if error is not None:
            raise error
        for rank, text in failures:
            raise RankError(f"Rank {rank} of {self.size} has failed: {text}")
        values: list[T] = [value for _, value in found]
        return values

    def merged(self, compute: Callable[[], T], merge: Callable[[T, T], T]) -> T:
        """Return what all ranks give, merged in their order."""
        return reduce(merge, self.gathered(compute))

    def first(self, compute: Callable[[], T]) -> T:
        """Return what ``compute`` gives on the first rank; it is called there alone."""

        def here() -> T | None:
            return compute() if self.is_first else None

        return self.gathered(here)[0]  # type: ignore[return-value]

    def sum_(self, *tensors: Tensor) -> None:
        """Sum tensors over the ranks, in place."""
        flat = torch.cat([t.detach().reshape(-1).double() for t in tensors])
        with self._collective():
            place = flat.to(self.device)
            dist.all_reduce(place)
            flat = place.to(flat.device)
        sizes = [t.numel() for t in tensors]
        for tensor, part in zip(tensors, torch.split(flat, sizes), strict=True):
            tensor.copy_(part.view_as(tensor))

    def mean_(self, masses: float | list[float], *tensors: Tensor) -> float:
        """Average tensors over the ranks, in place; returns the sum of the masses.

        ``masses`` are this rank's: one for all tensors, or one for each. Masses of zero
        on all ranks give zeros.
        """
        if not isinstance(masses, list):
            masses = [masses] * len(tensors)
        totals = torch.tensor(masses, dtype=torch.float64)
        weighted = [t.double() * m for t, m in zip(tensors, masses, strict=True)]
        self.sum_(totals, *weighted)
        for tensor, value, total in zip(tensors, weighted, totals, strict=True):
            tensor.copy_(value / max(float(total), 1e-300))
        return float(totals[0])

    def average_(self, tensors: list[Tensor]) -> None:
        """Average float32 tensors over the ranks, in place: gradients, buffers."""
        if not tensors:
            return
        flat = torch.cat([t.detach().reshape(-1).float() for t in tensors])
        with self._collective():
            place = flat.to(self.device)
            dist.all_reduce(place)
            flat = place.to(flat.device) / self.size
        sizes = [t.numel() for t in tensors]
        for tensor, part in zip(tensors, torch.split(flat, sizes), strict=True):
            tensor.detach().copy_(part.view_as(tensor))

    def tell(self, error: BaseException) -> None:
        """Let the other ranks fail too, at their next exchange."""
        if self.failed or isinstance(error, RankError) or not dist.is_initialized():
            return
        self.failed = True
        self._exchange((f"{type(error).__name__}: {error}", None))

    def _exchange(self, value: Any) -> list[Any]:
        """Return the objects of all ranks; tensors come to the host."""
        data = _packed(value)
        with self._collective():
            size = torch.tensor([len(data)], device=self.device)
            sizes = [torch.zeros_like(size) for _ in range(self.size)]
            dist.all_gather(sizes, size)
            most = int(torch.cat(sizes).max())
            mine = torch.zeros(most, dtype=torch.uint8)
            mine[: len(data)] = torch.frombuffer(bytearray(data), dtype=torch.uint8)
            mine = mine.to(self.device)
            parts = [torch.empty_like(mine) for _ in range(self.size)]
            dist.all_gather(parts, mine)
        return [
            pickle.loads(part[: int(n)].cpu().numpy().tobytes())
            for part, n in zip(parts, sizes, strict=True)
        ]

    @contextmanager
    def _collective(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            self.failed = True
            raise RankError(
                f"Rank {self.rank} of {self.size} has lost another one: it has died, "
                "is in another place of the program, or has not answered within "
                f"{_timeout().total_seconds():.0f} seconds ({TIMEOUT}). See its own "
                f"output. ({error})"
            ) from error


def world() -> Ranks | None:
    """Return the processes that fit together, None where this one fits alone.

    They do where torch.distributed has been initialised, or where torchrun has started
    this process; it is initialised then: gloo, or NCCL where there are CUDA devices for
    all processes of the machine.
    """
    if _ALONE.get() or os.environ.get(SWITCH) == "0" or not dist.is_available():
        return None
    if not dist.is_initialized():
        if not _by_torchrun():
            return None
        n_local = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        on_gpu = 0 < n_local <= torch.cuda.device_count()
        backend = "nccl" if on_gpu and dist.is_nccl_available() else "gloo"
        dist.init_process_group(backend, timeout=_timeout())
        atexit.register(_leave)
    return _ranks_of(id(dist.group.WORLD)) if dist.get_world_size() > 1 else None


def _leave() -> None:
    """Leave the group before Python ends: its threads may still hold tensors."""
    _ranks_of.cache_clear()
    if dist.is_initialized():
        dist.destroy_process_group()


@lru_cache(maxsize=1)
def _ranks_of(group: int) -> Ranks:
    """Return the ranks of a process group: one object, which knows what failed.

    By the identity of the group, which nothing here may keep alive.
    """
    return Ranks()


def is_rank() -> bool:
    """Tell whether this process may be one of several that fit together."""
    off = _ALONE.get() or os.environ.get(SWITCH) == "0" or not dist.is_available()
    return not off and (dist.is_initialized() or _by_torchrun())


def local_device() -> torch.device:
    """Return the device of this process: a CUDA device of its own if there are any."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    number = int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count()
    return torch.device("cuda", number)


@contextmanager
def together() -> Iterator[Ranks | None]:
    """Let all ranks come to the end of a fit, or none.

    Yields them, None where this process fits alone.
    """
    ranks = world()
    if ranks is None:
        yield None
        return
    ranks.failed = False
    try:
        yield ranks
        ranks.gathered(lambda: None)
    except Exception as error:
        ranks.tell(error)
        raise


@contextmanager
def alone() -> Iterator[None]:
    """Let fits within be those of this process alone."""
    token = _ALONE.set(True)
    try:
        yield
    finally:
        _ALONE.reset(token)


def _by_torchrun() -> bool:
    """Tell whether torchrun has started this very process, not a parent of it."""
    started = "TORCHELASTIC_RUN_ID" in os.environ and "RANK" in os.environ
    several = int(os.environ.get("WORLD_SIZE", "1")) > 1
    return (
        started
        and several
        and multiprocessing.current_process().name == ("MainProcess")
    )


def _timeout() -> timedelta:
    return timedelta(seconds=float(os.environ.get(TIMEOUT, "600")))


class _HostPickler(pickle.Pickler):
    """Pickles tensors as they are on the host."""

    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, Tensor) and value.device.type != "cpu":
            return _tensor, (value.detach().cpu().numpy(),)
        return NotImplemented


def _tensor(array: Any) -> Tensor:
    return torch.tensor(array)


def _packed(value: Any) -> bytes:
    buffer = io.BytesIO()
    _HostPickler(buffer, protocol=pickle.HIGHEST_PROTOCOL).dump(value)
    return buffer.getvalue()
