"""Lines printed by ``verbose``."""

import time


class VerboseReport:
    """Prints the progress of a fit, one line every ``interval`` iterations.

    Parameters
    ----------
    verbose : int
        0 prints nothing.
    interval : int
        Iterations a line.
    max_iter : int
        Iterations of a whole run, for the time estimate.
    """

    def __init__(self, verbose, interval, max_iter):
        self.verbose = verbose
        self.interval = interval
        self.max_iter = max_iter
        self.start = time.perf_counter()
        self.previous = None

    def begin(self, index):
        """Announce run ``index``."""
        self.start = time.perf_counter()
        self.previous = None
        if self.verbose:
            print(f"Initialization {index}")

    def iteration(self, n_iter, lower_bound):
        """Report iteration ``n_iter`` with its mean log-likelihood in nats."""
        if not self.verbose:
            return
        change = float("inf") if self.previous is None else lower_bound - self.previous
        self.previous = lower_bound
        if n_iter % self.interval == 0:
            each = (time.perf_counter() - self.start) / n_iter
            print(
                f"  Iteration {n_iter}\t log-likelihood {lower_bound:.5f}\t "
                f"ll change {change:.5f}\t {each:.3g} s/iteration, at most "
                f"{each * (self.max_iter - n_iter):.0f} s left"
            )

    def end(self, lower_bound, converged):
        """Say how the run ended."""
        if self.verbose:
            elapsed = time.perf_counter() - self.start
            state = "converged" if converged else "did not converge"
            print(
                f"Initialization {state}. time lapse {elapsed:.5f}s\t lower bound "
                f"{lower_bound:.5f}."
            )
