"""Warnings that point at the caller's line, however the estimators were called."""

import sys
import warnings

#: Packages whose lines are not the caller's.
INSIDE = ("skdeepgmm", "sklearn", "joblib")


def warn_caller(message, category):
    """Warn, pointing at the first line outside this package, scikit-learn and joblib.

    Parameters
    ----------
    message : str
    category : type
        Subclass of Warning.
    """
    frame, level = sys._getframe(1), 2
    while frame is not None and _is_inside(frame):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level)


def _is_inside(frame):
    name = frame.f_globals.get("__name__") or ""
    return name.partition(".")[0] in INSIDE
