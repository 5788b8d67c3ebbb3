"""What all estimators share: input validation, device, seeds, output containers."""

from contextlib import ExitStack, contextmanager, nullcontext, suppress
from functools import update_wrapper, wraps
from inspect import getattr_static, isfunction, unwrap
from numbers import Integral
from types import FunctionType

import numpy as np
from sklearn import get_config
from sklearn.base import BaseEstimator
from sklearn.callback import CallbackSupportMixin
from sklearn.utils import check_array, check_random_state
from sklearn.utils.validation import validate_data

from skdeepgmm._torch_backend import convert
from skdeepgmm._torch_backend.device import (
    one_thread,
    own_state,
    resolve_device,
    training_mode,
)
from skdeepgmm._torch_backend.ranks import SWITCH, together, world
from skdeepgmm._torch_backend.rng import new_generator
from skdeepgmm.chunked import ChunkedArray, masked_as_nan
from skdeepgmm.estimators._checks import check_finite
from skdeepgmm.estimators._collection import Collection, is_collection
from skdeepgmm.estimators._sklearn_compat import (
    Interval,
    InvalidParameterError,
    _check_feature_names,
    _check_n_features,
    _check_sample_weight,
)

#: Attributes that a fit has when its training begins.
SET_BEFORE_TRAINING = (
    "n_features_in_",
    "feature_names_in_",
    "image_shape_",
    "_metadata_request",
    "_sklearn_output_config",
)
MAX_SEED = np.iinfo(np.int32).max
#: Methods with a result for every row: lazy ones for lazy rows.
LAZY = {
    *("predict", "predict_proba", "score_samples", "decision_function"),
    *("impute", "transform"),
}


class TorchEstimator(CallbackSupportMixin, BaseEstimator):
    """Base of the estimators: tensors inside, arrays outside.

    A subclass has the constructor parameters ``device`` and ``random_state``. Its
    public methods compute in a torch state of their own; fits do so by
    :func:`all_or_nothing`.
    """

    #: Fitted attributes with NaN where there was nothing to measure.
    _attributes_with_gaps = ("history_",)
    #: Whether processes that torchrun has started can fit together.
    _fits_together = False

    def __init_subclass__(cls, **kwargs):
        for name in dir(cls):
            method = getattr_static(cls, name)
            if _is_inherited(cls, name, method):
                setattr(cls, name, _renamed(cls, name, method))
        super().__init_subclass__(**kwargs)  # wraps transform, for set_output
        for name in dir(cls):
            method = getattr_static(cls, name)
            if _computes(name, method):
                setattr(cls, name, _in_own_state(method))

    def _validate_params(self):
        """Check types and ranges; numbers are no truth values and fit into 64 bits."""
        super()._validate_params()
        for name, constraints in self._parameter_constraints.items():
            value = getattr(self, name, None)
            if not isinstance(value, (bool, np.bool_, Integral)) or not any(
                kind is Integral or isinstance(kind, Interval) for kind in constraints
            ):
                continue
            if isinstance(value, (bool, np.bool_)):
                raise InvalidParameterError(
                    f"The {name!r} parameter of {type(self).__name__} must be a number "
                    f"or another value that its documentation lists. Got {value!r} "
                    "instead."
                )
            if not -(2**63) <= value < 2**63:
                raise InvalidParameterError(
                    f"The {name!r} parameter of {type(self).__name__} must be a number "
                    f"of 64 bits. Got the integer {value!r} instead."
                )

    def _check_X(self, X, *, reset, min_samples=1, allow_nan=False):
        """Return X as a float32 or float64 array, or as a tensor if it came as one."""
        if is_collection(X):
            return self._check_collection(X, reset, min_samples, allow_nan)
        if convert.is_tensor(X) or isinstance(X, ChunkedArray):
            return self._check_tensor_X(X, reset, min_samples, allow_nan)
        if isinstance(X, np.ma.MaskedArray):
            X = masked_as_nan(X)
        return validate_data(
            self,
            X,
            dtype=[np.float64, np.float32],
            reset=reset,
            ensure_min_samples=min_samples,
            ensure_all_finite="allow-nan" if allow_nan else True,
        )

    def _check_collection(self, X, reset, min_samples, allow_nan):
        """Return a dask collection as a Collection, where an estimator reads these."""
        raise TypeError(
            f"{type(self).__name__} does not learn from dask collections, got "
            f"{type(X).__name__}. Start it with torchrun on arrays, memory maps or "
            "ChunkedArray, or give it X.compute()."
        )

    def _check_data(self, X, sample_weight, *, reset, min_samples):
        """Return validated rows and weights: those of all ranks that fit together."""
        ranks = world()
        if ranks is None or is_collection(X):
            X = self._check_X(X, reset=reset, min_samples=min_samples, allow_nan=True)
        else:
            from skdeepgmm.estimators._ranks import Shards

            X = self._check_X(X, reset=reset, allow_nan=True)
            X = Shards(X, ranks, self, min_samples)
        return X, self._check_weight(sample_weight, X)

    def _check_columns(self, X):
        """Check number and names of the columns of a dask collection."""
        _check_feature_names(self, getattr(X, "_meta", None), reset=False)
        if X.ndim == 2 and X.shape[1] != self.n_features_in_:
            _check_n_features(self, np.empty((0, X.shape[1])), reset=False)

    def _check_tensor_X(self, X, reset, min_samples, allow_nan):
        """Validate a tensor where it lives, or chunks one by one."""
        if X.ndim != 2:
            raise ValueError(
                f"Expected 2D array, got {X.ndim}D tensor of shape {tuple(X.shape)} "
                "instead. Reshape X to (n_samples, n_features)."
            )
        for size, least, axis in zip(
            X.shape, (min_samples, 1), ("sample", "feature"), strict=True
        ):
            if size < least:
                raise ValueError(
                    f"Found array with {size} {axis}(s) (shape={tuple(X.shape)}) "
                    f"while a minimum of {least} is required."
                )
        if isinstance(X, ChunkedArray):
            for chunk in map(X._load, range(len(X.chunks))):
                check_array(
                    chunk,
                    ensure_all_finite="allow-nan" if allow_nan else True,
                    ensure_min_samples=0,
                )
            names = None
        else:
            X, names = convert.check_tensor(X, allow_nan), X
        if names is not None:
            _check_feature_names(self, names, reset=reset)
        _check_n_features(self, X, reset=reset)
        return X

    def _check_weight(self, sample_weight, X):
        """Return float64 sample weights for the rows of X, None for no weights."""
        if isinstance(X, Collection):
            return X.weighted(sample_weight)
        if sample_weight is None:
            return None
        if convert.is_tensor(sample_weight):
            sample_weight = convert.to_numpy(sample_weight)
        return _check_sample_weight(
            sample_weight,
            np.empty((X.shape[0], 0)),
            dtype=np.float64,
            ensure_non_negative=True,
        )

    def _weighted_mean(self, values, sample_weight):
        """Return the (weighted) mean of one value a sample, a float."""
        sample_weight = self._check_weight(sample_weight, values)
        if sample_weight is None:
            return float(values.mean())
        return float(np.average(np.asarray(values), weights=sample_weight))

    def _is_small(self):
        """Tell whether the fitted model is for one thread, whatever the input."""
        return False

    def _device(self, X=None):
        """Return the torch device on which to compute with X."""
        if isinstance(X, Collection):
            return X.device(self.device)
        return resolve_device(self.device, X)

    def _generator(self, random_state, device="cpu"):
        """Return a torch generator seeded by the next draw of ``random_state``."""
        return new_generator(int(random_state.randint(MAX_SEED)), device)

    def _random_state(self):
        """Return a RandomState; None means fresh entropy, not NumPy's global one."""
        if self.random_state is None:
            return np.random.RandomState()
        return check_random_state(self.random_state)

    def _output(self, tensor, X, dtype=None):
        """Return a result in the container that the caller of X expects.

        NumPy, or a tensor on X's device when X is a tensor and scikit-learn's array
        API dispatch is on.
        """
        if convert.is_tensor(X) and get_config()["array_api_dispatch"]:
            return convert.like(tensor, X, dtype)
        return convert.to_numpy(tensor, dtype)

    @contextmanager
    def _fit_tasks(self, data, max_subtasks, ending=nullcontext):
        """Open the root callback task of a fit; yields its context.

        Parameters
        ----------
        data : dict
            What the callbacks get: see :func:`callback_data`.
        max_subtasks : int
            Number of tasks below the root.
        ending : callable
            Returns the context in which callbacks are told of the end.
        """
        context = self._init_callback_context(max_subtasks=max_subtasks)
        with marked_as_callbacks():
            context.call_on_fit_task_begin(estimator=self, **data)
        yield context
        with ending(), marked_as_callbacks():
            context.call_on_fit_task_end(
                estimator=self,
                reconstruction_attributes=lambda: whole_state(without_callbacks(self)),
                **data,
            )

    def _initialization(self, tasks, n_iter, data, train, attributes):
        """Run ``train(task)`` as the sub-task of one of several initializations.

        Parameters
        ----------
        tasks : CallbackContext
            Parent task.
        n_iter : int
            Most iterations, each a task below.
        data : dict
            What the callbacks get.
        train : callable
            Takes the task, returns the result of the run.
        attributes : callable
            Returns the fitted attributes of a result; called only if a callback
            wants an estimator.

        Returns
        -------
        result : object
        asked_to_stop : bool
            Whether a callback asked for the end of the fit.
        """
        task = tasks.subcontext("initialization", max_subtasks=n_iter)
        with marked_as_callbacks():
            task.call_on_fit_task_begin(estimator=self, **data)
        result = train(task)
        with marked_as_callbacks():
            asked_to_stop = task.call_on_fit_task_end(
                estimator=self,
                reconstruction_attributes=lambda: self._so_far(attributes(result)),
                **data,
            )
        return result, asked_to_stop

    def _run_task(self, context, name, data, attributes):
        """Report one finished iteration to the callbacks; True asks to stop.

        Parameters
        ----------
        context : CallbackContext or None
            Parent task; None reports nothing.
        name : str
            Name of the task.
        data : dict
            What the callbacks get.
        attributes : callable
            Returns the fitted attributes at this point; called only if a callback
            wants an estimator.
        """
        if context is None or not getattr(self, "_skl_callbacks", None):
            return False
        task = context.subcontext(task_name=name)
        with marked_as_callbacks():
            task.call_on_fit_task_begin(estimator=self, **data)
            return task.call_on_fit_task_end(
                estimator=self,
                reconstruction_attributes=lambda: self._so_far(attributes()),
                **data,
            )

    def _so_far(self, attributes):
        """Return what makes a copy of this estimator in mid-fit a fitted one.

        It has the parameters, what the validation of X has set and ``attributes``:
        nothing of an earlier fit, and no callbacks.
        """
        kept = {*self.get_params(deep=False), *SET_BEFORE_TRAINING}
        state = {name: v for name, v in vars(self).items() if name in kept}
        return whole_state({**state, **attributes})


@contextmanager
def marked_as_callbacks():
    """Mark the errors of the user's callbacks as such."""
    try:
        yield
    except Exception as error:
        with suppress(AttributeError):
            error.is_of_callback = True
        raise


def is_of_callback(error):
    """Tell whether a callback of the user has raised this."""
    return getattr(error, "is_of_callback", False)


def without_callbacks(estimator):
    """Return the attributes of an estimator but those of its callbacks."""
    return {k: v for k, v in vars(estimator).items() if "callback" not in k}


def whole_state(state):
    """Return attributes that replace all those of a copy of an estimator.

    scikit-learn sets what it gets one by one.
    """
    return {"__dict__": state}


def _is_inherited(cls, name, method):
    """Tell whether a class of ours has this public method of ours from another."""
    function = getattr(method, "__func__", method)
    ours = getattr(function, "__module__", "") or ""
    public = isfunction(function) and not name.startswith("_")
    return (
        public
        and name not in vars(cls)
        and all(home.startswith("skdeepgmm.") for home in (ours, cls.__module__))
    )


def _renamed(cls, name, method):
    """Return a copy of a method that bears the name of the class that has it.

    Python's own TypeErrors name it: users know nothing of our bases.
    """
    if isinstance(method, classmethod):
        return classmethod(_renamed(cls, name, method.__func__))
    # What is wrapped around it here is put around the copy again.
    function = method.__wrapped__ if hasattr(method, "in_own_state") else method
    function = unwrap(function) if name == "transform" else function
    code, names = function.__code__, function.__globals__
    copy = FunctionType(code, names, name, function.__defaults__, function.__closure__)
    update_wrapper(copy, function)
    del copy.__wrapped__
    vars(copy).update(vars(function))
    copy.__kwdefaults__ = function.__kwdefaults__
    copy.__qualname__ = f"{cls.__qualname__}.{name}"
    copy.__module__ = cls.__module__  # where pickle finds it by this name
    return copy


def _computes(name, method):
    """Tell whether this is a public method of this package, fits aside."""
    ours = isfunction(method) and method.__module__.startswith("skdeepgmm.")
    public = not name.startswith("_") and "fit" not in name
    return ours and public and not hasattr(method, "in_own_state")


def _in_own_state(method):
    @wraps(method)
    def call(self, *args, **kwargs):
        X = args[0] if args else kwargs.get("X")
        if method.__name__ in LAZY and is_collection(X):
            from skdeepgmm.estimators._dask import lazily

            return lazily(self, method.__name__, X)
        with own_state():
            if not self._is_small():
                return method(self, *args, **kwargs)
            with one_thread():
                return method(self, *args, **kwargs)

    call.in_own_state = True
    return call


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


@contextmanager
def all_or_nothing(estimator):
    """Run a fit in its own torch state; if it raises, undo what it has set.

    Yields an ExitStack, for contexts that begin when X is known and end with the fit.

    Raises
    ------
    ValueError
        If a fitted attribute is not finite.
    """
    with undone_on_failure(estimator), training_mode(), ExitStack() as stack:
        stack.enter_context(together())
        if not estimator._fits_together:
            check_alone(estimator)
        yield stack
        check_finite(estimator)


def check_alone(estimator):
    """Raise where several processes were to fit together what they cannot."""
    ranks = world()
    if ranks is not None:
        raise NotImplementedError(
            f"{type(estimator).__name__} cannot be fitted by {ranks.size} processes "
            f"together. Set {SWITCH}=0 in the environment for fits of each process by "
            "itself."
        )


def callback_data(X, y=None, sample_weight=None):
    """Return the training data as callbacks expect them.

    Labels that were not given are -1 for every row: scikit-learn's monitors compute
    a score, the log-likelihood too, only where y is given.
    """
    if isinstance(X, Collection):
        return X.callback_data(y)
    metadata = None if sample_weight is None else {"sample_weight": sample_weight}
    if y is None:

        def y():
            return np.full(X.shape[0] if hasattr(X, "shape") else len(X), -1)

    return {"X": X, "y": y, "metadata": metadata}
