"""Checks of single values that scikit-learn's parameter constraints do not reach."""

from numbers import Integral


def is_integer(value):
    """Tell whether ``value`` is an integer; True and False are none."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def check_integer(name, value, least, most=None):
    """Raise ValueError unless ``value`` is an integer from ``least`` to ``most``.

    Parameters
    ----------
    name : str
        The parameter, for the message.
    value : object
    least : int or None
        None for no lower bound.
    most : int, default=None
        None for no upper bound.
    """
    large = is_integer(value) and (least is None or least <= value)
    if large and (most is None or value <= most):
        return
    wanted = f" from {least} to {most}"
    if most is None:
        wanted = "" if least is None else f" of at least {least}"
    raise ValueError(f"{name} must be an integer{wanted}, got {value!r}.")
