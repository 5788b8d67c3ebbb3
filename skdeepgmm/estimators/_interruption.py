"""Ctrl-C in fits: the first one ends a fit with what it has learned."""

from contextlib import contextmanager
from contextvars import ContextVar

from sklearn.exceptions import ConvergenceWarning

from skdeepgmm.estimators._warnings import warn_caller

#: Whether a fit is part of another one, which Ctrl-C is to end as a whole.
_PART_OF_ANOTHER = ContextVar("part_of_another_fit", default=False)


class Interruption:
    """Ctrl-C in a fit: the first is noted and ends the training, the second raises.

    A context: what has been learned when the first Ctrl-C leaves it is kept. Contexts
    may be nested. (No generator function, which could itself be interrupted before its
    ``yield``.)

    Parameters
    ----------
    unit : str, default="EM iterations"
        What a fit consists of.

    Attributes
    ----------
    happened : bool
    """

    def __init__(self, unit="EM iterations"):
        self.unit = unit
        self.happened = False
        self.raises = _PART_OF_ANOTHER.get()

    def __enter__(self):
        return self

    def __exit__(self, kind, error, traceback):
        if not isinstance(error, KeyboardInterrupt) or self.happened or self.raises:
            return False
        # A second one, while the first was on its way, has left things undone.
        if isinstance(error.__context__, KeyboardInterrupt):
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
                f"The fit was interrupted after {n_iter} of {max_iter} {self.unit}. "
                "The estimator has what it had learned by then; fit again for more.",
                ConvergenceWarning,
            )


@contextmanager
def part_of_another():
    """Let Ctrl-C in fits of other estimators raise: they are part of a larger one."""
    token = _PART_OF_ANOTHER.set(True)
    try:
        yield
    finally:
        _PART_OF_ANOTHER.reset(token)
