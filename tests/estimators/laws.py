"""What may come of a random input: lawful results, or an error that names the reason.

:func:`verdict` tells what comes of an :class:`~tests.estimators.fuzzing.Attack`.
"""

import contextlib
import io
import re
import signal
import traceback
import warnings

import numpy as np

from skdeepgmm.exceptions import TrainingDivergedError
from tests.estimators.fuzzing import SUBJECTS

#: Seconds of computing after which a fit counts as hanging; most take hundredths.
HANGS_AFTER = 20
#: Every feature of data that no model has seen.
FAR = 1e100
#: What a message must have where the data are the matter.
NAMES_DATA = re.compile(
    r"\bX\b|\by\b|\bZ\b|sample|feature|array|input|image|row|column|data|value|signal"
    r"|sparse|could not convert",  # of NumPy, as in scikit-learn
    re.IGNORECASE,
)
#: What only torch says.
TORCH = re.compile(
    r"\baten|\bat::|\bmat1|tensor a \(|Expected all tensors|\bc10|_cpu"
    r"|not implemented for"
)


class Hung(BaseException):
    """A fit took too long."""


def verdict(found):
    """Return (outcome, note): "lawful", "refused" or a fault, which the note tells."""
    try:
        with alarm(), quiet():
            return outcome(found)
    except Hung:
        return "hung", f"{found}\n{traceback.format_exc()}"
    except BaseException:
        return "another exception", f"{found}\n{traceback.format_exc()[-3000:]}"


def outcome(found):
    constructor = SUBJECTS[found.name][0]
    # Not clones: a constructor may be given anything.
    model = constructor(**{**found.params, **found.changes})
    try:
        model.fit(found.X, **found.fit_params)
    except ERRORS as error:
        return judged(error, found)
    faults = [*unlawful_attributes(model)]
    far = np.full((2, getattr(model, "n_features_in_", 1)), FAR)
    for name, X in (("its data", found.X), ("far data", far)):
        try:
            faults += [
                f"{fault} of {name}" for fault in broken_laws(model, X, X is far)
            ]
        except ERRORS as error:
            kind, note = judged(error, found, ())
            if kind != "refused":
                return kind, f"after the fit, {name}: {note}"
    if faults:
        return "unlawful", f"{found}\n    {'; '.join(faults)}"
    return "lawful", ""


#: What a fit may raise: training that goes wrong and networks too large say which
#: parameters to change, and there may be no file where ``checkpoint_path`` says.
ERRORS = (ValueError, TypeError, TrainingDivergedError, MemoryError, OSError)


def judged(error, found, changes=None):
    """Return the verdict on an error: does it name what is wrong?"""
    message = str(error)
    changes = found.changes if changes is None else changes
    names, named = changes, False
    if found.what or found.fit_params or not changes:
        names = SUBJECTS[found.name][0]().get_params(deep=False)
        named = NAMES_DATA.search(message) or "sample_weight" in message
    # scikit-learn's messages on initial parameters leave the ending out.
    endings = (name.removesuffix("s_init").removeprefix("image_") for name in names)
    named = named or any(name in message for name in endings)
    if isinstance(error, OSError):
        named = "checkpoint_path" in message
    named = named or isinstance(error, (TrainingDivergedError, MemoryError))
    if named and not TORCH.search(message):
        return "refused", ""
    trace = "".join(traceback.format_exception(error))[-2500:]
    return "says too little", f"{found}\n{trace}"


@contextlib.contextmanager
def alarm():
    def hung(*_):
        raise Hung

    before = signal.signal(signal.SIGPROF, hung)
    signal.setitimer(signal.ITIMER_PROF, HANGS_AFTER)  # of this process, not the clock
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


@contextlib.contextmanager
def quiet():
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


def unlawful_attributes(model):
    """Yield the fitted attributes that are not finite.

    Those with gaps are NaN where there was nothing to measure.
    """
    gaps = getattr(model, "_attributes_with_gaps", ())
    for name, value in vars(model).items():
        # A mixture that no iteration has seen has no bound.
        is_unknown = name == "lower_bound_" and value == -np.inf
        if name.endswith("_") and not name.startswith("__") and not is_unknown:
            yield from not_finite(value, name, name in gaps)


def not_finite(value, name, has_gaps=False):
    """Yield the names of what is NaN, unless there may be gaps, or infinite."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from not_finite(item, f"{name}[{key!r}]", has_gaps)
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from not_finite(item, f"{name}[{index}]", has_gaps)
    elif hasattr(value, "get_params"):
        yield from (f"{name}.{each}" for each in unlawful_attributes(value))
    elif isinstance(value, (float, np.floating, np.ndarray)):
        value = np.asarray(value)
        is_gap = has_gaps & (value != value)
        if value.dtype.kind == "f" and not (np.isfinite(value) | is_gap).all():
            yield f"{name} is not finite"


def broken_laws(model, X, is_far):
    """Yield what is wrong with the results of a fitted model for X."""
    if hasattr(model, "patch_shape_"):
        yield from wrong_pictures(model, X)
        return
    yield from wrong_scores(model, X, is_far)
    labels = np.asarray(model.predict(X))
    if labels.dtype.kind not in "iu":
        yield "predict gives no integers"
    if hasattr(model, "predict_proba"):
        yield from wrong_probabilities(np.asarray(model.predict_proba(X)), labels)
    if hasattr(model, "transform"):
        yield from not_finite(np.asarray(model.transform(X)), "transform")
    if hasattr(model, "sample"):
        drawn = model.sample(3)
        yield from not_finite(drawn[0] if isinstance(drawn, tuple) else drawn, "sample")


def wrong_scores(model, X, is_far):
    scores = np.asarray(model.score_samples(X))
    if np.isnan(scores).any() or (scores == np.inf).any():
        yield "score_samples is NaN or inf"
    # Far from everything the logarithm itself may be below all numbers.
    if (scores == -np.inf).any() and not is_far and not has_bounds(model):
        yield "score_samples is -inf"


def has_bounds(model):
    """Tell whether a density is zero far from the data."""
    return getattr(getattr(model, "estimator_", None), "kernel", None) == "tophat"


def wrong_probabilities(proba, labels):
    if not (np.isfinite(proba).all() and (proba >= 0).all()):
        yield "predict_proba is no probability"
    elif not np.allclose(proba.sum(axis=1), 1.0, atol=1e-4):
        yield "predict_proba does not sum to one"
    elif len(labels) and labels.max() >= proba.shape[1]:
        yield "predict gives a component that is not there"


def wrong_pictures(model, X):
    restored = model.transform(X)
    parts = restored if isinstance(restored, list) else [restored]
    for part in parts:
        yield from not_finite(np.asarray(part), "transform")
