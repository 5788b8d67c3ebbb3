"""Fits that fail leave the estimator as it was. Imports no torch."""

from contextlib import contextmanager


@contextmanager
def undone_on_failure(estimator):
    """Undo what has been set on the estimator if the block raises, Ctrl-C included.

    Constructor parameters stay as they are then, and so does what scikit-learn's
    callbacks still have to tear down.
    """
    before = dict(vars(estimator))
    try:
        yield
    except BaseException:
        names = estimator.get_params(deep=False)
        kept = {
            name: value
            for name, value in vars(estimator).items()
            if name in names or "callback" in name
        }
        # In one go: a second Ctrl-C must not find half of it.
        estimator.__dict__ = before | kept
        raise
