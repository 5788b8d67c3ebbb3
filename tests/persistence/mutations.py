"""Random damage to model files, by strangers who know the format or do not.

``blind`` mutations leave the checksum as it was and must all be refused. ``skilled``
ones put the right checksum on the result: what still loads must work.
"""

import copy
import json
import time
import traceback

import numpy as np

from skdeepgmm import load
from tests.persistence.forge import put_together, take_apart
from tests.persistence.models import ask

VALUES = (
    *(None, True, False, 0, 1, -1, 2, 3, 7, 2**31, 2**53, 2**63, 10**30, -(2**63)),
    *(0.0, 0.5, -1.5, 1e-300, 1e300, "", "x", "0", "full", "low_rank", "MT19937"),
    *([], {}, [[]], [0], {"type": "float", "value": "nan"}),
    {"type": "float", "value": "inf"},
    {"type": "tuple", "items": []},
    {"type": "dict", "items": []},
    {"type": "strings", "values": ["a"], "shape": [1], "object": True},
)
NUMBERS = (np.nan, np.inf, -np.inf, 0.0, -1.0, 1e-40, 1e30, 1e300, -1e300)
TYPES = ("F64", "F32", "F16", "I64", "U8", "BOOL", "BF16")


# Mutations of bytes --------------------------------------------------------------


def flip(raw, rng):
    """Flip one to three bits."""
    raw = bytearray(raw)
    for _ in range(rng.integers(1, 4)):
        raw[rng.integers(len(raw))] ^= 1 << int(rng.integers(8))
    return bytes(raw)


def flip_head(raw, rng):
    """Flip a bit of the header."""
    size = 8 + int.from_bytes(raw[:8], "little")
    raw = bytearray(raw)
    raw[rng.integers(size)] ^= 1 << int(rng.integers(8))
    return bytes(raw)


def cut(raw, rng):
    """Cut the file, or leave out a piece."""
    first, last = sorted(rng.integers(len(raw) + 1, size=2).tolist())
    return raw[:first] if rng.random() < 0.5 else raw[:first] + raw[last:]


def grow(raw, rng):
    """Insert random bytes."""
    place = rng.integers(len(raw) + 1)
    return raw[:place] + rng.bytes(int(rng.integers(1, 40))) + raw[place:]


# Mutations of the content --------------------------------------------------------


def edit_header(header, entries, data, rng):
    """Change, drop, rename or double a value anywhere in the header."""
    places = list(_places(header["estimator"]))
    node, key = places[rng.integers(len(places))]
    kind = rng.integers(4)
    if kind == 0:
        node[key] = copy.deepcopy(VALUES[rng.integers(len(VALUES))])
    elif kind == 1:
        del node[key]
    elif kind == 2:
        other, name = places[rng.integers(len(places))]
        node[key] = copy.deepcopy(other[name])
    elif isinstance(node, dict):
        other, name = places[rng.integers(len(places))]
        node[str(name)] = node.pop(key)
    else:
        node.insert(key, copy.deepcopy(node[key]))


def swap_tensors(header, entries, data, rng):
    """Let two arrays change their places."""
    nodes = [
        node[key]
        for node, key in _places(header["estimator"])
        if isinstance(node[key], dict) and "tensor" in node[key]
    ]
    first, second = rng.choice(len(nodes), size=2)
    first, second = nodes[first], nodes[second]
    first["tensor"], second["tensor"] = second["tensor"], first["tensor"]


def edit_numbers(header, entries, data, rng):
    """Write other numbers into a tensor."""
    entry = entries[rng.choice(list(entries))]
    start, stop = entry["data_offsets"]
    types = {"F64": "<f8", "F32": "<f4", "I64": "<i8"}
    dtype = np.dtype(types.get(entry["dtype"], "u1"))
    array = np.frombuffer(bytes(data[start:stop]), dtype).copy()
    if not len(array):
        return
    with np.errstate(all="ignore"):
        value = np.array(NUMBERS[rng.integers(len(NUMBERS))]).astype(dtype)
    if rng.random() < 0.3:
        array[:] = value
    else:
        array[rng.integers(len(array))] = value
    data[start:stop] = array.tobytes()


def edit_entry(header, entries, data, rng):
    """Change the type, shape or place of a tensor."""
    entry = entries[rng.choice(list(entries))]
    kind = rng.integers(4)
    if kind == 0:
        entry["dtype"] = str(rng.choice(TYPES))
    elif kind == 1:
        entry["shape"] = entry["shape"][::-1]
    elif kind == 2:
        entry["shape"] = [int(np.prod(entry["shape"]))]
    else:
        entry["data_offsets"][rng.integers(2)] += int(rng.integers(-8, 9))


def _places(node):
    """Yield (container, key) of every value below a JSON value."""
    keys = node if isinstance(node, dict) else range(len(node))
    for key in list(keys):
        yield node, key
        if isinstance(node[key], (dict, list)):
            yield from _places(node[key])


BLIND = (flip, flip_head, cut, grow)
SKILLED = (edit_header, edit_header, swap_tensors, edit_numbers, edit_entry)


def blind(raw, rng):
    """Return a damaged file with the checksum of the other."""
    return BLIND[rng.integers(len(BLIND))](raw, rng)


def skilled(raw, rng):
    """Return a forged file: of version 2 with its right checksum, or of version 1."""
    header, entries, data = take_apart(raw)
    for _ in range(rng.integers(1, 3)):
        try:
            SKILLED[rng.integers(len(SKILLED))](header, entries, data, rng)
        except (KeyError, TypeError, IndexError, ValueError):
            continue  # the first mutation left nothing to mutate
    signed = bool(rng.random() < 0.7)
    header["format_version"] = 2 if signed else 1
    return put_together(json.dumps(header), entries, data, signed)


# The verdict ---------------------------------------------------------------------


def verdict(path, original, content):
    """Write ``content``, load it and ask the model.

    Returns
    -------
    outcome : {"same", "refused", "works", "refuses input", "fails to load", \
"fails in use", "slow"}
    note : str
        Of the exception.
    """
    path.write_bytes(content)
    if content == original:
        return "same", ""
    start = time.perf_counter()
    try:
        model = load(path, device="cpu")
    except ValueError as error:
        seconds = time.perf_counter() - start
        return ("slow" if seconds > 1.0 else "refused"), str(error)
    except Exception:
        return "fails to load", traceback.format_exc()
    if time.perf_counter() - start > 1.0:
        return "slow", ""
    try:
        ask(model)
    except ValueError as error:
        return "refuses input", str(error)
    except Exception:
        return "fails in use", traceback.format_exc()
    return "works", ""
