"""Passes over blocks of rows on several threads, with the sums of one."""

import os
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from threading import Lock
from typing import TypeVar

import torch

from skdeepgmm._torch_backend.device import one_thread

T = TypeVar("T")

#: Threads beside the caller's, kept for later passes: a new thread takes about as long
#: as a small pass, because torch and its libraries prepare each one.
_pools: dict[int, ThreadPoolExecutor] = {}
_lock = Lock()


def _forget() -> None:
    """Begin without threads: they do not survive a fork, and a lock might be held."""
    global _lock
    _lock = Lock()
    _pools.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)

#: Runs of blocks that are summed one after the other: so many threads may work.
MOST_RUNS = 32


def in_runs(make: Callable[[], Callable[[range], T]], n_items: int) -> list[T]:
    """Return what a function gives for runs of consecutive items, in their order.

    As many runs are computed side by side as torch has threads, each on one of them:
    products with few rows gain little from a second thread inside, and a small
    operation waits for it longer than it takes. The runs, and so the rounding of sums,
    are the same for every number of threads.

    Parameters
    ----------
    make : callable
        Returns a thread's own function of a run.
    n_items : int
    """
    n_runs = min(n_items, MOST_RUNS)
    edges = [n_items * number // n_runs for number in range(n_runs + 1)]
    pending = deque(enumerate(map(range, edges[:-1], edges[1:])))
    found: dict[int, T] = {}
    n_threads = min(torch.get_num_threads(), n_runs)
    if n_threads == 1:
        with one_thread():
            _work(make(), pending, found)
    else:
        _work_together(make, pending, found, n_threads)
    return [found[number] for number in range(n_runs)]


def _work(
    function: Callable[[range], T],
    pending: deque[tuple[int, range]],
    found: dict[int, T],
) -> None:
    """Compute runs as long as some are pending."""
    while True:
        try:
            number, run = pending.popleft()
        except IndexError:
            return
        found[number] = function(run)


def _work_together(
    make: Callable[[], Callable[[range], T]],
    pending: deque[tuple[int, range]],
    found: dict[int, T],
    n_threads: int,
) -> None:
    """Compute all runs on this thread and others; errors end the work of all."""

    def work() -> None:
        try:
            with one_thread():  # a number of each thread
                _work(make(), pending, found)
        finally:
            # Empty by now, but for an error or Ctrl-C.
            pending.clear()

    others: list[Future[None]] = []
    # Around all: threads to come take the number that was set last, and it is to be the
    # one that comes back here, not what one of the others began with.
    with one_thread():
        try:
            pool = _pool_of(n_threads - 1)
            others.extend(pool.submit(work) for _ in range(n_threads - 1))
            work()
        finally:
            pending.clear()
            # What has not begun waits for the threads of another caller, and is done.
            others = [other for other in others if not other.cancel()]
            wait(others)
    for other in others:
        other.result()


def _pool_of(n_threads: int) -> ThreadPoolExecutor:
    """Return the pool of so many threads; they start when they are needed."""
    with _lock:
        if n_threads not in _pools:
            _pools[n_threads] = ThreadPoolExecutor(n_threads, "skdeepgmm")
        return _pools[n_threads]
