"""The file of an estimator: written as a whole or not at all, read without trust.

The file is a safetensors file: the fitted arrays, and one JSON header that says which
estimator they belong to. Pickles run code when loaded; this format cannot.
"""

import json
import os
import uuid
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as safetensors_bytes

from skdeepgmm.persistence._nodes import Decoder, Encoder

__all__ = ["load", "save"]

FORMAT_VERSION = 1
_HEADER_KEY = "skdeepgmm"


def save(estimator, path):
    """Save an estimator of this package, fitted or not, to one file.

    Parameters
    ----------
    estimator : estimator
        Instance of a public class of this package. Parameters may be plain values,
        arrays, lists, dicts, a RandomState, or such estimators again.
    path : str or path-like
        File to write, by convention ``*.safetensors``. It is replaced only when
        everything is written: a crash leaves the old file.

    Raises
    ------
    TypeError
        If the estimator, or a value that it holds, cannot be represented.

    See Also
    --------
    load : Read the file.

    Notes
    -----
    Callbacks (``set_callbacks``) and metadata requests are not saved. Array values,
    types and memory order are kept bit by bit, so that predictions are equal.

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
    encoder = Encoder()
    header = {
        "format_version": FORMAT_VERSION,
        "estimator": encoder.estimator(estimator, type(estimator).__name__),
    }
    metadata = {_HEADER_KEY: json.dumps(header, allow_nan=False)}
    _write_atomically(Path(path), safetensors_bytes(encoder.tensors, metadata))


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
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file was not written by :func:`save`, by a newer format, is damaged, or
        names a class that is not an estimator of this package.

    See Also
    --------
    save : Write the file; its example shows both.

    Notes
    -----
    The class is looked up in a fixed table and nothing in the file is executed, so that
    files of unknown origin are safe to load. Whether to trust the model is another
    question.

    Examples
    --------
    >>> from skdeepgmm import load
    >>> load("mixture.safetensors", device="cpu")  # doctest: +SKIP
    GaussianMixture(device='cpu', n_components=2)
    """
    header, tensors = _read(Path(path))
    try:
        estimator = Decoder(tensors, device).estimator(header["estimator"])
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(
            f"{path} is damaged: {error!r}. Save the model again."
        ) from error
    return estimator


def _write_atomically(path, content):
    temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex}.part")
    try:
        temporary.write_bytes(content)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _read(path):
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}.")
    try:
        with safe_open(path, framework="numpy") as file:
            text = (file.metadata() or {}).get(_HEADER_KEY)
            header = _check_header(path, text)
            return header, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(
            f"{path} is not a safetensors file, or is damaged ({error})."
        ) from error


def _check_header(path, text):
    if text is None:
        raise ValueError(
            f"{path} was not written by skdeepgmm.save: its header has no entry "
            f"{_HEADER_KEY!r}."
        )
    try:
        header = json.loads(text)
        version = header["format_version"]
        newer = version > FORMAT_VERSION
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"{path} has a damaged header ({error!r}).") from error
    if newer:
        raise ValueError(
            f"{path} has format version {version}; this installation reads versions up "
            f"to {FORMAT_VERSION}. Upgrade skdeepgmm."
        )
    return header
