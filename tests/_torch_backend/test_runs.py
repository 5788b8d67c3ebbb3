"""Passes on several threads."""

import multiprocessing
import os
import threading
import time

import numpy as np
import pytest
import torch

from skdeepgmm import GaussianMixture
from skdeepgmm._torch_backend import threads as threads_module
from skdeepgmm._torch_backend.device import one_thread
from skdeepgmm._torch_backend.threads import MOST_RUNS, in_runs
from tests.test_threads import threads as set_threads


def numbers():
    """Return a thread's function of a run: its numbers and who computed it."""
    return lambda run: (list(run), torch.get_num_threads())


@pytest.mark.parametrize("n_items", [1, 2, MOST_RUNS - 1, 3 * MOST_RUNS + 1])
@pytest.mark.parametrize("n_threads", [1, 2, 3])
def test_runs_come_in_order_whatever_the_number_of_threads(n_items, n_threads):
    with set_threads(n_threads):
        found = in_runs(numbers, n_items)
        assert torch.get_num_threads() == n_threads
    assert [item for run, _ in found for item in run] == list(range(n_items))
    assert all(inside == 1 for _, inside in found)
    with set_threads(1):
        assert found == in_runs(numbers, n_items)


def test_as_many_threads_work_as_torch_has():
    """Each waits for the others: fewer would never end."""
    barrier = threading.Barrier(3, timeout=20)

    def make():
        def function(run):
            barrier.wait()
            return threading.get_ident()

        return function

    with set_threads(3):
        assert len(set(in_runs(make, 3))) == 3


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
@pytest.mark.parametrize("where", [0, 1, 7])
def test_an_error_ends_the_work_and_threads_come_back(error, where):
    seen = []

    def function(run):
        seen.append(run.start)
        if run.start == where:
            raise error("here")

    with set_threads(2):
        in_runs(numbers, 8)  # the threads stay
        before = threading.active_count()
        with pytest.raises(error, match="here"):
            in_runs(lambda: function, 8)
        assert torch.get_num_threads() == 2
        assert in_runs(numbers, 8) == in_runs(numbers, 8)
    assert threading.active_count() == before


def test_a_pass_does_not_wait_for_that_of_another_caller():
    """Whose threads are all taken: it does the work itself."""
    started, go_on = threading.Event(), threading.Event()

    def hold(run):
        started.set()
        assert go_on.wait(20)

    def slow():
        with set_threads(2):
            in_runs(lambda: hold, 2)

    other = threading.Thread(target=slow)
    other.start()
    try:
        assert started.wait(20)
        with set_threads(2):
            found = in_runs(numbers, 5)
    finally:
        go_on.set()
        other.join()
    assert [item for run, _ in found for item in run] == list(range(5))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_process_has_threads_of_its_own():
    context = multiprocessing.get_context("fork")
    with set_threads(2):
        in_runs(numbers, 4)
        child = context.Process(target=in_runs, args=(numbers, 4))
        child.start()
        child.join(30)
    assert child.exitcode == 0


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kept", [True, False])
def test_fits_do_not_depend_on_the_number_of_threads(rng, monkeypatch, dtype, kept):
    """Neither where the blocks are kept nor where every pass makes them."""
    monkeypatch.setattr(GaussianMixture, "_small_work", 0)
    if not kept:
        monkeypatch.setattr("skdeepgmm._torch_backend.data.CACHE_BYTES", 0)
    X = rng.normal(size=(600, 6)).astype(dtype)
    X[300:] += 2.0
    fits = []
    for number in (1, 2, 3):
        with set_threads(number):
            model = GaussianMixture(3, batch_size=17, max_iter=4, tol=0.0)
            model.set_params(init_params="random_from_data", random_state=0)
            fits.append(model.fit(X))
    for other in fits[1:]:
        np.testing.assert_array_equal(other.means_, fits[0].means_)
        np.testing.assert_array_equal(other.covariances_, fits[0].covariances_)
        assert other.lower_bound_ == fits[0].lower_bound_


def test_new_threads_of_the_program_see_its_number(monkeypatch):
    """Also where the last to end has begun when this one had one thread for itself."""
    main, inside = threading.get_ident(), threading.Event()
    barrier = threading.Barrier(2, timeout=20)

    def late():
        if threading.get_ident() != main:
            inside.wait(20)
        return one_thread()

    def make():
        inside.set()
        return function

    def function(run):
        barrier.wait()
        if threading.get_ident() != main:
            time.sleep(0.1)

    monkeypatch.setattr(threads_module, "one_thread", late)
    monkeypatch.setattr(threads_module, "_pools", {})
    seen = []
    with set_threads(2):
        in_runs(make, 2)
        other = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
        other.start()
        other.join()
    assert seen == [2]
