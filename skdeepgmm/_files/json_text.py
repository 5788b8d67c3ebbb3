"""JSON of unknown origin: limits of size and nesting, no key twice, finite numbers."""

import json
import math

#: Bytes of a header. A model's arrays are no part of it.
HEADER_BYTES = 8 * 2**20
#: Values in a header: the objects that Python makes of them take up to 72 bytes each.
HEADER_VALUES = 300_000
#: Characters of a number: integers of 128 bits and all floats have fewer.
NUMBER_LENGTH = 48


def parse(text):
    """Return the value of a JSON text.

    Parameters
    ----------
    text : str
        ASCII, as ``json.dumps`` writes it: other characters are escaped.

    Raises
    ------
    ValueError
        If the text is no JSON, is beyond a limit, or has NaN, infinity, a number of
        absurd length or an object with the same key twice.
    """
    check_size(text)
    try:
        return json.loads(
            text,
            object_pairs_hook=_object,
            parse_int=_integer,
            parse_float=_float,
            parse_constant=_constant,
        )
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def check_size(text):
    """Raise ValueError unless a header of this text may be written and read."""
    if len(text) > HEADER_BYTES:
        raise ValueError(f"it has {len(text)} bytes, more than {HEADER_BYTES}")
    if not text.isascii():
        raise ValueError("it has characters beyond ASCII that are not escaped")
    # Each value follows one of these. Those in strings count too: no great matter.
    n_values = sum(map(text.count, "[{,:"))
    if n_values > HEADER_VALUES:
        raise ValueError(f"it has {n_values} values, more than {HEADER_VALUES}")


def _object(pairs):
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("it has an object with the same key twice")
    return found


def _integer(text):
    return int(_checked_number(text))


def _float(text):
    value = float(_checked_number(text))
    if not math.isfinite(value):
        raise ValueError(f"it has the number {text}, which is beyond float64")
    return value


def _checked_number(text):
    if len(text) > NUMBER_LENGTH:
        raise ValueError(f"it has a number of {len(text)} digits")
    return text


def _constant(text):
    raise ValueError(f"it has the number {text}, which JSON does not know")
