"""Ctrl-C in fits of the deep clusterers."""

from sklearn.exceptions import ConvergenceWarning

from skdeepgmm.estimators._warnings import warn_caller


class Interruption:
    """Ctrl-C in a fit: the first is noted and ends the training, the second raises.

    A context: what has been learned when the first Ctrl-C leaves it is kept. Contexts
    may be nested. (No generator function, which could itself be interrupted before its
    ``yield``.)

    Attributes
    ----------
    happened : bool
    """

    def __init__(self):
        self.happened = False

    def __enter__(self):
        return self

    def __exit__(self, kind, error, traceback):
        if not isinstance(error, KeyboardInterrupt) or self.happened:
            return False
        self.happened = True
        return True

    def complete(self, function):
        """Return ``function()``, called again if Ctrl-C is noted in it."""
        with self:
            return function()
        # Reached only where the context has swallowed the Ctrl-C of the first call.
        return function()

    def warn(self, n_iter, max_iter):
        """Say, if it happened, that the fit was cut short."""
        if self.happened:
            warn_caller(
                f"The fit was interrupted after {n_iter} of {max_iter} EM iterations. "
                "The estimator has what it had learned by then; fit again for more.",
                ConvergenceWarning,
            )
