"""Warnings and errors raised by skdeepgmm."""

from sklearn.exceptions import ConvergenceWarning, NotFittedError

__all__ = [
    "CheckpointWarning",
    "ConvergenceWarning",
    "DegenerateComponentWarning",
    "NotFittedError",
    "TrainingDivergedError",
]


class CheckpointWarning(UserWarning):
    """Warning that a checkpoint could not be written, or not be read.

    The fit goes on: without a checkpoint, or from the one before.

    Examples
    --------
    >>> import warnings
    >>> from skdeepgmm.exceptions import CheckpointWarning
    >>> with warnings.catch_warnings():
    ...     warnings.simplefilter("error", category=CheckpointWarning)
    ...     try:
    ...         warnings.warn("the disk is full", CheckpointWarning)
    ...     except CheckpointWarning as problem:
    ...         print(problem)
    the disk is full
    """


class DegenerateComponentWarning(UserWarning):
    """Warning that a mixture component does not describe a population.

    A component may collapse onto a few samples (its covariance is no longer
    positive definite), become empty (no sample is assigned to it), or have more
    parameters than the data can determine. The fit goes on, with collapsed and
    empty components re-seeded; the message names the component indices and why.

    Examples
    --------
    >>> import warnings
    >>> from skdeepgmm.exceptions import DegenerateComponentWarning
    >>> with warnings.catch_warnings():
    ...     warnings.simplefilter("error", category=DegenerateComponentWarning)
    ...     try:
    ...         warnings.warn("component 3 is empty", DegenerateComponentWarning)
    ...     except DegenerateComponentWarning as problem:
    ...         print(problem)
    component 3 is empty
    """


class TrainingDivergedError(RuntimeError):
    """Error raised when a loss stays non-finite after every attempt to recover.

    Training first goes back to the last good state and takes smaller steps. Only
    when that fails too is this error raised; its message says at which epoch and
    step the loss was lost and which parameter to change.

    Examples
    --------
    >>> from skdeepgmm.exceptions import TrainingDivergedError
    >>> try:
    ...     raise TrainingDivergedError("epoch 2: loss is nan; lower learning_rate")
    ... except RuntimeError as error:
    ...     print(error)
    epoch 2: loss is nan; lower learning_rate
    """
