"""Checkpoints of fits: the file, whose fit it is, and what happens when it fails.

A checkpoint is the container of model files (``_files``) with a tree of plain values
and arrays; nothing in it is executed. Its fingerprint says of which parameters and data
it is: strings, which are compared and can be shown.
"""

import hashlib
import json
import os
from contextlib import contextmanager
from numbers import Integral, Number

import numpy as np

from skdeepgmm import __version__
from skdeepgmm._files.container import pack, unpack
from skdeepgmm._files.json_text import parse
from skdeepgmm._files.random_state import is_random_state
from skdeepgmm._files.tree import flatten, rebuild
from skdeepgmm._files.writing import read_file, remove_file, replace_file, target_of
from skdeepgmm._torch_backend import convert
from skdeepgmm.chunked import ChunkedArray
from skdeepgmm.estimators._base import is_of_callback
from skdeepgmm.estimators._checks import check_finite
from skdeepgmm.estimators._collection import Collection, PartWeights
from skdeepgmm.estimators._sklearn_compat import Interval
from skdeepgmm.estimators._warnings import warn_caller
from skdeepgmm.exceptions import CheckpointWarning, TrainingDivergedError

FORMAT_VERSION = 1
#: For the ``_parameter_constraints`` of the estimators.
CONSTRAINTS = {
    "checkpoint_path": [str, os.PathLike, None],
    "checkpoint_every": [Interval(Integral, 1, None, closed="left")],
}
#: Parameters that do not change what is learned; the device is compared as such.
_FREE = {*CONSTRAINTS, "verbose", "verbose_interval", "device"}
#: Bytes hashed at a time, and the longest text that is shown in full.
_HASHED_BYTES, _SHOWN = 2**24, 60
#: What a crafted file can do wrong that no check has foreseen.
_FAULTS = (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError)


class Checkpoint:
    """The checkpoint of one fit; without ``checkpoint_path`` it does nothing.

    Parameters
    ----------
    estimator : estimator
        With the parameters ``checkpoint_path`` and ``checkpoint_every``.
    device : torch.device
    data : dict of str to array
        What the fit learns from, by the names that errors use.
    start : dict, default=None
        Fitted attributes from which the fit goes on (warm start).
    ranks : Ranks, default=None
        Processes that fit together: the first one reads and writes for all.

    Attributes
    ----------
    saved : object or None
        The tree of the last :meth:`save` of the same fit, which was cut off.

    Raises
    ------
    ValueError
        If the file is damaged, or of other parameters or data.
    OSError
        If ``checkpoint_path`` cannot be a file, or its folder is missing.
    """

    ranks = None

    def __init__(self, estimator, device, data, start=None, ranks=None):
        self.path, self.saved, self.ranks = estimator.checkpoint_path, None, ranks
        self.estimator = estimator
        if self.path is None:
            return
        self.every = estimator.checkpoint_every
        self.target = self._target()
        folder = os.path.dirname(self.target)
        if not os.path.isdir(folder):
            raise FileNotFoundError(
                f"checkpoint_path={os.fspath(self.path)!r} is in the folder {folder}, "
                "which does not exist. Make it first."
            )
        self.previous, self.kept = f"{self.target}.previous", f"{self.target}.previous"
        self.has_warned = self.has_written = False
        self.fingerprint = fingerprint(estimator, device, data, start, ranks)
        if ranks is None:
            self._load()
        else:
            self.saved = ranks.first(self._loaded)
            self.saved = self.saved and self.saved["ranks"][ranks.rank]

    def _target(self):
        named = f"checkpoint_path={os.fspath(self.path)!r}"
        try:
            return target_of(self.path)
        except OSError as error:
            raise OSError(f"{named} cannot be a file: {error}") from error
        except ValueError as error:  # a zero byte
            raise ValueError(f"{named} is no name of a file: {error}.") from error

    @property
    def is_on(self):
        """Whether there is a file to write to."""
        return self.path is not None

    def is_due(self, n_iter):
        """Tell whether to save after so many iterations or epochs."""
        return self.is_on and n_iter % self.every == 0

    def save(self, make_tree):
        """Save ``make_tree()``; if that fails, warn once and go on.

        What was saved before becomes the previous generation.
        """
        if self.path is None:
            return
        state = make_tree()
        if self.ranks is not None:
            state = {"ranks": self.ranks.gathered(lambda: state)}
            if not self.ranks.is_first:
                return
        tree = {"fingerprint": self.fingerprint, "state": state}
        nodes, arrays = flatten(tree)
        header = {"checkpoint_version": FORMAT_VERSION, "tree": nodes}
        parts = pack(json.dumps(header, allow_nan=False), arrays)
        try:
            replace_file(self.target, parts, self.kept)
        except OSError as error:
            self._warn_unwritten(error)
        else:
            self.kept, self.has_written = self.previous, True

    def complete(self, was_interrupted=False):
        """Remove the checkpoint of a fit that has come to its end.

        Raises
        ------
        ValueError
            If what was learned is not finite.
        """
        others = self.ranks is not None and not self.ranks.is_first
        if self.path is None or was_interrupted or others:
            return
        check_finite(self.estimator)  # it stays if the fit is refused
        if self.has_written or self.saved is not None:
            for name in (self.target, self.previous):
                remove_file(name)

    def _warn_unwritten(self, error):
        if not self.has_warned:
            self.has_warned = True
            warn_caller(
                f"No checkpoint could be written to {self.target} ({error}). The fit "
                "goes on, and tries again at every next one without another warning.",
                CheckpointWarning,
            )

    # Reading ---------------------------------------------------------------------

    @contextmanager
    def reading(self):
        """Turn what a crafted file can do wrong into a ValueError that names it."""
        try:
            yield
        except (*_FAULTS, ValueError) as error:
            if self.saved is None:
                raise
            raise self._misfit(error) from error

    @contextmanager
    def going_on(self):
        """Do so in the rest of the fit: some of it shows only in the training.

        What callbacks raise is theirs, and training may diverge.
        """
        try:
            yield
        except _FAULTS as error:
            is_known = isinstance(error, TrainingDivergedError) or is_of_callback(error)
            if self.saved is None or is_known:
                raise
            raise self._misfit(error) from error

    def _misfit(self, error):
        return ValueError(
            f"checkpoint_path={os.fspath(self.path)!r} does not fit this fit: "
            f"{str(error)[:300]!r}. Remove it to start anew."
        )

    def _loaded(self):
        self._load()
        return self.saved

    def _load(self):
        """Find what was saved of this fit: the newest file that can be read."""
        faults = []
        for name in (self.target, self.previous):
            try:
                tree = read_tree(name)
            except FileNotFoundError:
                continue
            except (ValueError, OSError) as error:
                faults.append(f"{name} {error}")
                continue
            self._check_same(name, tree["fingerprint"])
            self.saved = tree["state"]
            break
        if not faults:
            return
        if self.saved is None:
            raise ValueError(
                f"checkpoint_path={os.fspath(self.path)!r} cannot be gone on from: "
                f"{'; '.join(faults)}. Move or remove what is there to start anew."
            )
        self.kept = f"{self.target}.damaged"
        warn_caller(
            f"The checkpoint {faults[0]}. The fit goes on from the one before, "
            f"{self.previous}; the damaged file will be kept as {self.kept}.",
            CheckpointWarning,
        )

    def _check_same(self, name, found):
        mine = self.fingerprint
        names = [*mine, *(key for key in found if key not in mine)]
        if found.get("estimator") != mine["estimator"]:
            names = ["estimator"]  # all else differs too
        differences = [
            f"{key} is {mine.get(key, 'absent')}, in the checkpoint "
            f"{found.get(key, 'absent')}"
            for key in names
            if mine.get(key) != found.get(key)
        ]
        if differences:
            raise ValueError(
                f"checkpoint_path={os.fspath(self.path)!r}: {name} is the checkpoint "
                f"of another fit: {'; '.join(differences)}. Go on with the parameters "
                "and data of that fit, or remove the file or name another one to start "
                "anew."
            )


def read_tree(path):
    """Return the tree of a checkpoint: ``fingerprint`` and ``state``.

    Raises
    ------
    OSError, ValueError
        If there is no file, or it is damaged or something else.
    """
    try:
        text, arrays, is_checked = unpack(read_file(path))
        header = parse(text)
        if not is_checked or not isinstance(header, dict):
            raise ValueError("is no checkpoint")
        if set(header) == {"format_version", "estimator"}:
            raise ValueError("is a saved model and no checkpoint")
        if header.get("checkpoint_version") != FORMAT_VERSION:
            raise ValueError("is a checkpoint of another version of skdeepgmm")
        tree = rebuild(header["tree"], arrays)
        _check_strings(tree["fingerprint"])
        tree["state"]
        return tree
    except _FAULTS as error:
        raise ValueError(f"is damaged: {error!r}"[:400]) from error
    except MemoryError as error:
        raise OSError("is larger than the memory") from error


def _check_strings(values):
    fine = isinstance(values, dict) and all(
        isinstance(text, str) for item in values.items() for text in item
    )
    if not fine:
        raise ValueError("is damaged: it has no fingerprint")


def fitted_attributes(estimator):
    """Return what an estimator has learned."""
    names = sorted(name for name in vars(estimator) if name.endswith("_"))
    return {name: getattr(estimator, name) for name in names}


def random_state_tree(random_state):
    """Return the state of a RandomState as plain values."""
    return random_state.get_state(legacy=False)


def set_random_state(random_state, tree):
    """Let a RandomState go on from a tree of :func:`random_state_tree`."""
    if not is_random_state(tree):
        raise ValueError("it has no state of a RandomState")
    random_state.set_state(tree)


# Fingerprints --------------------------------------------------------------------


def fingerprint(estimator, device, data, start=None, ranks=None):
    """Return what makes a fit this one and no other, as strings by name."""
    found = {"estimator": type(estimator).__name__, "skdeepgmm": __version__}
    found["device"] = str(device)
    found |= comparable(estimator)
    for name, value in data.items():
        texts = [described(value)]
        if ranks is not None:
            texts = dict.fromkeys(ranks.gathered(lambda: texts[0]))  # noqa: B023
        found[name] = ", ".join(texts)
    return found | {"start": "new" if start is None else described(start)}


def comparable(estimator):
    """Return the parameters that change what is learned, as strings by name."""
    params = estimator.get_params(deep=False)
    return {
        name: described(value) for name, value in params.items() if name not in _FREE
    }


def described(value):
    """Return a value as a short text; large ones by their SHA-256."""
    if value is None or isinstance(value, (str, Number, np.generic)):
        return _short(repr(value.item() if isinstance(value, np.generic) else value))
    if isinstance(value, (Collection, PartWeights)):
        return value.described()
    if isinstance(value, np.random.RandomState):
        state = value.get_state(legacy=False)
        return f"a RandomState ({_short(described(state), 0)})"
    if convert.is_tensor(value) or isinstance(value, (np.ndarray, ChunkedArray)):
        return _array_text(value)
    if isinstance(value, dict):
        items = [f"{key!r}: {described(item)}" for key, item in value.items()]
        return _short("{" + ", ".join(items) + "}")
    if isinstance(value, (list, tuple)):
        ends = "[]" if isinstance(value, list) else "()"
        return _short(", ".join(map(described, value)).join(ends))
    if hasattr(value, "__array__"):
        return _array_text(np.asarray(value))
    return _short(repr(value))


def _short(text, longest=_SHOWN):
    if len(text) <= longest:
        return text
    digest = hashlib.sha256(text.encode()).hexdigest()
    return f"{text[:longest]}... (SHA-256 {digest[:16]})" if longest else digest[:16]


def _array_text(array):
    shape, dtype = tuple(array.shape), str(array.dtype).removeprefix("torch.")
    return f"{dtype} {shape} (SHA-256 {digest(array)[:16]})"


def digest(array):
    """Return the SHA-256 of the values of an array, read in blocks of rows."""
    if array.ndim == 0:
        array = array.reshape(1)
    digest = hashlib.sha256()
    width = max(1, int(np.prod(array.shape[1:], dtype=np.int64)))
    step = max(1, _HASHED_BYTES // (8 * width))
    for first in range(0, array.shape[0], step):
        part = array[first : first + step]
        part = convert.to_numpy(part) if convert.is_tensor(part) else np.asarray(part)
        if part.dtype.kind in "OU":
            digest.update(repr(part.tolist()).encode())
            continue
        part = np.ascontiguousarray(part, part.dtype.newbyteorder("<"))
        digest.update(memoryview(part.reshape(-1).view(np.uint8)))
    return digest.hexdigest()
