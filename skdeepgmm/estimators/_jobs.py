"""Independent runs of one call side by side, in processes that joblib starts."""

from joblib import effective_n_jobs
from sklearn.utils.parallel import Parallel, delayed

from skdeepgmm._torch_backend.device import one_thread, training_mode
from skdeepgmm._torch_backend.ranks import world
from skdeepgmm.estimators._base import without_callbacks
from skdeepgmm.estimators._collection import Collection
from skdeepgmm.estimators._interruption import part_of_another
from skdeepgmm.estimators._warnings import warn_caller


def jobs_of(estimator, n_runs, X=None, fitting=True):
    """Return how many of ``n_runs`` runs to compute at a time.

    That is 1, with a warning, on a GPU, and in a fit where something has to follow the
    runs as they go on.
    """
    n_jobs = min(effective_n_jobs(estimator.n_jobs), n_runs)
    obstacle = _obstacle(estimator, X, fitting) if n_jobs > 1 else None
    if obstacle is None:
        return n_jobs
    warn_caller(
        f"n_jobs={estimator.n_jobs} has no effect {obstacle}: the runs are computed "
        "one after the other. The result is the same.",
        UserWarning,
    )
    return 1


def on_one_thread(estimator, n_jobs, small=False):
    """Return the context of runs that do not depend on ``n_jobs``, given or found."""
    return one_thread(small or n_jobs > 1 or estimator.n_jobs is not None)


def rounds_of(n_runs, n_jobs):
    """Share long runs out, in parts, so that no job is idle in the end.

    Returns
    -------
    n_parts : int
        Into how many each run is cut.
    rounds : list of list of int
        The runs that go on in each round; they differ.
    """
    n_parts = 1 if n_runs % n_jobs == 0 else n_jobs
    order = [run for _ in range(n_parts) for run in range(n_runs)]
    return n_parts, [order[i : i + n_jobs] for i in range(0, len(order), n_jobs)]


def side_by_side(estimator, n_jobs, function, calls):
    """Return ``function(twin, *call)`` of all calls, in their order.

    Every call is computed on one thread. ``twin`` is the estimator without what would
    print or report from another process.
    """
    twin = _twin(estimator)
    return Parallel(n_jobs=n_jobs)(
        delayed(_on_one_thread)(function, twin, *call) for call in calls
    )


def _on_one_thread(function, estimator, *call):
    with part_of_another(), training_mode(), one_thread():
        return function(estimator, *call)


def _twin(estimator):
    twin = object.__new__(type(estimator))
    vars(twin).update(without_callbacks(estimator))
    twin.verbose, twin.random_state, twin.n_jobs = 0, None, 1
    return twin


def _obstacle(estimator, X, fitting):
    """Say where runs cannot be computed in other processes; None where they can."""
    if fitting and (world() is not None or isinstance(X, Collection)):
        return "on a collection, or where processes fit together"
    if estimator._device(X).type != "cpu":
        return "on a GPU"
    if fitting and getattr(estimator, "_is_truncated", False):
        return "with truncation"
    if fitting and getattr(estimator, "_skl_callbacks", None):
        return "with callbacks"
    if fitting and estimator.checkpoint_path is not None:
        return "with checkpoint_path"
    return None
