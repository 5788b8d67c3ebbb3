"""Training runs of the deep clusterers: interrupted, failed, and their history."""

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from skdeepgmm._torch_backend.training import DivergenceError, train
from skdeepgmm.estimators._warnings import warn_caller
from skdeepgmm.exceptions import TrainingDivergedError


class InterruptibleRun:
    """Runs the training loop; Ctrl-C ends it with what has been learned.

    A further call goes on from ``state``. What a fit does besides is done in
    ``keeping`` and ``complete``: Ctrl-C there is noted too, a second one raises.

    Attributes
    ----------
    state : TrainingState or None
        What was reached after the last whole iteration, None before the first.
    interrupted : bool
    """

    def __init__(self):
        self.state = None
        self.interrupted = False

    def __call__(self, model, epoch, config, on_epoch, *hooks):
        """Train; see :func:`skdeepgmm._torch_backend.training.train`."""

        def observe(state):
            self.state = state
            return on_epoch(state)

        try:
            self.state = train(model, epoch, config, observe, *hooks, state=self.state)
        except KeyboardInterrupt:
            self.interrupted = True
        except DivergenceError as error:
            raise TrainingDivergedError(str(error)) from error
        return self.state

    def keeping(self):
        """Return a context in which Ctrl-C is noted; the second one of a fit raises."""
        return _Keeping(self)

    def complete(self, function):
        """Return ``function()``, called again if Ctrl-C is noted in it."""
        with self.keeping():
            return function()
        return function()

    @property
    def n_iter(self):
        return 0 if self.state is None else self.state.epoch


class _Keeping:
    """Notes Ctrl-C in what may be left undone, once.

    No generator: Ctrl-C before its ``yield`` would end in a RuntimeError.
    """

    def __init__(self, run):
        self.run = run

    def __enter__(self):
        return self

    def __exit__(self, kind, error, traceback):
        if not isinstance(error, KeyboardInterrupt) or self.run.interrupted:
            return False
        self.run.interrupted = True
        return True


def warn_interrupted(n_iter, max_iter, what):
    """Say that the fit was cut short."""
    warn_caller(
        f"The fit was interrupted after {n_iter} of {max_iter} {what}. The estimator "
        "has what it had learned by then; fit again for more.",
        ConvergenceWarning,
    )


def history_arrays(history):
    """Return the losses of every epoch as arrays by name."""
    names = dict.fromkeys(name for entry in history for name in entry)
    return {
        name: np.array([entry.get(name, np.nan) for entry in history]) for name in names
    }
