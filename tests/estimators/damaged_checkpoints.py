"""Checkpoints that are damaged or forged, and what fits may make of them.

``damaged`` ones have the checksum of the file that they were: they are refused, left
alone, and the previous generation is used. ``forged`` ones are of the right fit and
have their right checksum, but other content: the fit refuses them, or goes on from what
they say.
"""

import copy
import json
import traceback
import warnings

import numpy as np

from skdeepgmm._files.container import pack
from skdeepgmm._files.tree import flatten
from skdeepgmm.estimators import _checkpoint
from skdeepgmm.exceptions import TrainingDivergedError
from tests.estimators.iterative import FAMILIES, At, assert_same, fail, learned
from tests.estimators.laws import Hung, alarm, quiet, unlawful_attributes
from tests.persistence import mutations

VALUES = (
    *(None, True, False, 0, 1, -1, 2, 7, 2**31, 2**63, 10**30, 0.5, -1.5, 1e300),
    *(float("nan"), float("inf"), "", "x", [], {}, [0.0], (), {"tensor": 1}),
    *(
        np.zeros(0),
        np.zeros(3),
        np.zeros((2, 2), np.float32),
        np.array(1),
        np.array("a"),
    ),
)
NUMBERS = (np.nan, np.inf, -np.inf, 0.0, -1.0, 1e30, 1e300, -1e300)


def written(family, folder):
    """Begin a fit that is cut off; returns the path of its checkpoint."""
    construct, data = FAMILIES[family]
    path = folder / f"{family}.checkpoint"
    model = construct(checkpoint_path=path, checkpoint_every=1)
    try:
        model.set_callbacks(At(min(3, model.max_iter - 1), fail)).fit(data())
    except RuntimeError:
        return path
    raise AssertionError("the fit was not cut off")


# Damaged -------------------------------------------------------------------------


def damaged_verdict(family, path, files, rng):
    """Damage one of both generations, or both; returns (outcome, note).

    Parameters
    ----------
    family : str
    path : Path
        Of the checkpoint.
    files : list of bytes
        The checkpoint and the one before.
    rng : Generator

    Returns
    -------
    outcome : {"refused", "went on", "same"} or a fault
    note : str
    """
    places = [path, path.with_name(f"{path.name}.previous")]
    which = rng.integers(3)
    now = [
        mutations.blind(raw, rng) if which in (2, number) else raw
        for number, raw in enumerate(files)
    ]
    for place, raw in zip(places, now, strict=True):
        place.write_bytes(raw)
    is_damaged = [a != b for a, b in zip(now, files, strict=True)]
    outcome, note = _opened(family, path)
    expected = "refused" if all(is_damaged) else "went on"
    if [place.read_bytes() for place in places] != now:
        return "touched", note
    return (outcome, note) if outcome == expected else (f"but {outcome}", note)


def _opened(family, path):
    """Read a checkpoint as a fit does."""
    construct, data = FAMILIES[family]
    model = construct(checkpoint_path=path, checkpoint_every=1)
    try:
        with alarm(), quiet():
            for name in (path, f"{path}.previous"):
                try:
                    _checkpoint.read_tree(name)
                except (ValueError, OSError):
                    continue
                return "went on", ""
            _checkpoint.Checkpoint(model, "cpu", {"X": data()})
    except (ValueError, OSError) as error:
        return "refused", str(error)
    except BaseException:
        return "another exception", traceback.format_exc()
    return "accepted", ""


# Forged --------------------------------------------------------------------------


def forged(tree, rng):
    """Return the tree of a checkpoint with one or two values changed."""
    tree = copy.deepcopy(tree)
    for _ in range(rng.integers(1, 3)):
        places = list(_places(tree["state"]))
        if not places:
            break
        _change(*places[rng.integers(len(places))], rng)
    return tree


def _places(node):
    """Yield (container, key) of every value below a value."""
    keys = node if isinstance(node, dict) else range(len(node))
    for key in list(keys):
        if not isinstance(node, tuple):
            yield node, key
        if isinstance(node[key], (dict, list, tuple)):
            yield from _places(node[key])


def _change(node, key, rng):
    value, kind = node[key], rng.integers(4)
    if isinstance(value, np.ndarray) and kind:
        node[key] = _changed_array(value, rng)
    elif kind == 1 and isinstance(node, dict):
        del node[key]
    elif kind == 2 and isinstance(value, list):
        node[key] = value[:-1] if rng.random() < 0.5 else value * 2
    else:
        node[key] = copy.deepcopy(VALUES[rng.integers(len(VALUES))])


def _changed_array(array, rng):
    kind = rng.integers(4)
    if kind == 0 and array.ndim:
        return np.ascontiguousarray(array[:-1])
    if kind == 1:
        return array.astype(rng.choice(["f4", "f8", "i8", "?", "u1"]))
    if kind == 2:
        return array.reshape(array.shape[::-1])
    array = array.copy()
    with np.errstate(all="ignore"):
        value = np.array(NUMBERS[rng.integers(len(NUMBERS))]).astype(array.dtype)
    if array.size:
        array.flat[rng.integers(array.size)] = value
    return array


def write(tree, path):
    """Write a tree as a checkpoint with its right checksum."""
    nodes, arrays = flatten(tree)
    header = {"checkpoint_version": _checkpoint.FORMAT_VERSION, "tree": nodes}
    parts = pack(json.dumps(header, allow_nan=False), arrays)
    path.write_bytes(b"".join(map(bytes, parts)))
    path.with_name(f"{path.name}.previous").unlink(missing_ok=True)


def forged_verdict(family, path, tree, rng):
    """Let a fit go on from a forged checkpoint; returns (outcome, note)."""
    construct, data = FAMILIES[family]
    try:
        write(forged(tree, rng), path)
    except (TypeError, ValueError, OverflowError):  # no tree
        return "refused", ""
    before, model = path.read_bytes(), construct(checkpoint_path=path)
    try:
        with alarm(), quiet(), warnings.catch_warnings():
            model.fit(data())
    except (ValueError, OSError, TrainingDivergedError) as error:
        kept = path.exists() and path.read_bytes() == before
        kept = kept and not hasattr(model, "n_features_in_")
        # The fit may have gone on, with checkpoints of its own, before it showed.
        return ("refused" if kept else "refused later"), str(error)
    except Hung:
        return "hung", traceback.format_exc()
    except BaseException:
        return "another exception", traceback.format_exc()
    gaps = model._attributes_with_gaps
    faults = [each for each in unlawful_attributes(model) if not each.startswith(gaps)]
    faults = "; ".join(faults)
    return ("unlawful", faults) if faults else ("went on", "")


def goes_on_to_the_same_end(family, path, whole):
    """Tell whether the fit from this checkpoint ends as the whole one."""
    construct, data = FAMILIES[family]
    with quiet():
        model = construct(checkpoint_path=path, checkpoint_every=1).fit(data())
    assert_same(learned(model), whole)
