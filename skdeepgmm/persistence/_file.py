"""The file of an estimator: written as a whole or not at all, read without trust.

The file is a safetensors file: the fitted arrays, and one JSON header that says which
estimator they belong to. Pickles run code when loaded; this format cannot.
"""

import json

from skdeepgmm._files.container import TEXT_KEY, pack, unpack
from skdeepgmm._files.json_text import parse
from skdeepgmm._files.writing import read_file, replace_file, target_of
from skdeepgmm.persistence._decoder import Decoder
from skdeepgmm.persistence._encoder import Encoder

__all__ = ["load", "save"]

#: Version 2 has a checksum.
FORMAT_VERSION = 2
#: What a file can do wrong that no check has foreseen.
_FAULTS = (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError)


def save(estimator, path):
    """Save an estimator of this package, fitted or not, to one file.

    Parameters
    ----------
    estimator : estimator
        Instance of a public class of this package. Parameters may be plain values,
        arrays, lists, dicts, a RandomState, or such estimators again.
    path : str or path-like
        File to write, by convention ``*.safetensors``. It is replaced only when
        everything has reached the disk: a crash leaves the old file. A file that is
        there keeps its mode, a symbolic link is followed.

    Raises
    ------
    TypeError
        If the estimator, or a value that it holds, cannot be represented.
    ValueError
        If its parameters hold such long lists that the header would be too large.
    OSError
        If ``path`` is no file (a folder, a pipe, a device) or cannot be written.

    See Also
    --------
    load : Read the file.

    Notes
    -----
    Callbacks (``set_callbacks``) and metadata requests are not saved. Array values,
    types and memory order are kept bit by bit, so that predictions are equal.

    The file is written beside its final place as ``<name>.<32 digits>.part``. What
    killed processes left of such files is removed by the next save to the same place.
    The format is described in :ref:`saving`.

    Examples
    --------
    >>> import os, tempfile
    >>> import numpy as np
    >>> from skdeepgmm import GaussianMixture, load, save
    >>> X = np.array([[0.0], [0.1], [0.2], [5.0], [5.1], [5.2]])
    >>> mixture = GaussianMixture(2, random_state=0).fit(X)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "mixture.safetensors")
    ...     save(mixture, path)
    ...     same = load(path)
    >>> np.array_equal(same.score_samples(X), mixture.score_samples(X))
    True
    """
    target = target_of(path)
    name, encoder = type(estimator).__name__, Encoder()
    header = {
        "format_version": FORMAT_VERSION,
        "estimator": encoder.estimator(estimator, name),
    }
    try:
        parts = pack(json.dumps(header, allow_nan=False), encoder.tensors)
    except ValueError as error:
        raise ValueError(
            f"{name} cannot be saved: the header of the file is too large ({error}). "
            "Turn long lists among its parameters into arrays."
        ) from error
    replace_file(target, parts)


def load(path, device="auto"):
    """Load an estimator written by :func:`save`.

    Parameters
    ----------
    path : str or path-like
        File to read.
    device : str, default="auto"
        New value of the parameter ``device`` of the estimator, and of those it holds:
        a model fitted on a GPU then works on a machine without one.

    Returns
    -------
    estimator : estimator
        Instance with the saved parameters and fitted attributes.

    Raises
    ------
    OSError
        If there is no such file, or it cannot be read.
    ValueError
        If the file was not written by :func:`save`, or in a newer format, if a single
        bit of it has changed, or if what it holds is no model that works: a class that
        is no estimator of this package, an attribute of another type, shape or range.
        The message names the file, the attribute, what it is and what is expected.

    See Also
    --------
    save : Write the file; its example shows both.

    Notes
    -----
    The class is looked up in a fixed table and nothing in the file is executed, so that
    files of unknown origin are safe to load: they neither crash the process nor take
    more memory than twice their size and 50 MB. Whether to trust the model is another
    question: the checksum tells damage, not who wrote the file.

    Examples
    --------
    >>> from skdeepgmm import load
    >>> load("mixture.safetensors", device="cpu")  # doctest: +SKIP
    GaussianMixture(device='cpu', n_components=2)
    """
    try:
        return _estimator(read_file(path), device)
    except _FAULTS as error:
        raise ValueError(
            f"{path} is damaged: {error!r}"[:400] + ". Save the model again."
        ) from error
    except MemoryError as error:
        raise OSError(f"{path} is larger than the memory.") from error
    except ValueError as error:
        raise ValueError(f"{path} {error}. Save the model again.") from error


def _estimator(raw, device):
    """Return the estimator of the bytes of a file."""
    text, tensors, is_checked = unpack(raw)
    header = _header(text, is_checked)
    node = header["estimator"]
    name = node.get("class") if isinstance(node, dict) else None
    decoder = Decoder(tensors, device, header["format_version"])
    estimator = decoder.estimator(node, str(name)[:80])
    if decoder.tensors:
        raise ValueError("is damaged: it has tensors that no value names")
    return estimator


def _header(text, is_checked):
    """Return the parsed text of the header, of a known version."""
    try:
        header = parse(text)
    except ValueError as error:
        raise ValueError(f"has a damaged header ({error})") from error
    if not isinstance(header, dict) or set(header) != {"format_version", "estimator"}:
        raise ValueError(f"has a damaged header: {TEXT_KEY!r} describes no estimator")
    version = header["format_version"]
    if type(version) is not int or version < 1:
        raise ValueError(f"has a damaged header: format version {version!r}"[:200])
    if version > FORMAT_VERSION:
        raise ValueError(
            f"has format version {version}; this installation reads versions up to "
            f"{FORMAT_VERSION}. Upgrade skdeepgmm, or else"
        )
    if is_checked != (version > 1):
        found = "has" if is_checked else "lacks"
        raise ValueError(
            f"is damaged: of format version {version}, it {found} a checksum"
        )
    return header
