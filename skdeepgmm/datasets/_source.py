"""Where a split image set comes from: a local npz file, else OpenML, then cached."""

import hashlib
import os
import sys
import time
import uuid
import warnings
import zipfile
import zlib
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sklearn.datasets import fetch_openml, get_data_home

FOLDER_VARIABLE = "SKDEEPGMM_DATA"
KEYS = ("X_train", "y_train", "X_test", "y_test")


@dataclass(frozen=True)
class Source:
    """One image set and how to find it.

    Parameters
    ----------
    title : str
        Name for people.
    file_name : str
        Name of the npz file with the arrays ``X_train, y_train, X_test, y_test``.
    openml_name : str
        Name of the set on OpenML, version 1: rows in the order train, test.
    n_train : int
        Number of training rows.
    image_shape : tuple of int
        Shape of one image.
    checksum : str
        :func:`arrays_checksum` of the true arrays.
    """

    title: str
    file_name: str
    openml_name: str
    n_train: int
    image_shape: tuple
    checksum: str


def arrays_checksum(arrays):
    """Return the SHA-256 of names, types, shapes and values of the four arrays.

    The arrays are summed, not the file: a cache written by another NumPy version has
    other bytes and the same content.
    """
    digest = hashlib.sha256()
    for key in KEYS:
        array = arrays[key]
        digest.update(f"{key}:{array.dtype.str}:{array.shape};".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def load_arrays(source, data_home, download_if_missing):
    """Return the four arrays of ``source`` from the first place that has them."""
    folders = _local_folders(data_home)
    for folder in folders:
        path = folder / source.file_name
        if path.is_file():
            return _checked(_read(path), source, str(path))
    if not download_if_missing:
        raise OSError(_not_found(source, folders))
    arrays = _checked(_download(source), source, f"OpenML ({source.openml_name})")
    _write_atomically(folders[-1] / source.file_name, arrays)
    return arrays


def _local_folders(data_home):
    """Return the folders to search, in order; the last one holds the cache."""
    named = [Path(data_home).expanduser()] if data_home is not None else []
    variable = os.environ.get(FOLDER_VARIABLE)
    shared = [Path(variable).expanduser()] if variable else []
    return named + shared + [_cache_folder(data_home)]


def _cache_folder(data_home):
    if data_home is not None:
        return Path(data_home).expanduser()
    return Path(get_data_home()) / "skdeepgmm"


def _not_found(source, folders):
    places = ", ".join(dict.fromkeys(str(folder) for folder in folders))
    return (
        f"{source.file_name} was not found in {places}. Put it there, set data_home or "
        f"the environment variable {FOLDER_VARIABLE} to its folder, or pass "
        "download_if_missing=True."
    )


def _read(path):
    try:
        # Opened here: on a damaged file np.load would leave its own handle open.
        with open(path, "rb") as handle, np.load(handle, allow_pickle=False) as file:
            return {key: file[key] for key in KEYS}
    except KeyError as error:
        raise ValueError(
            f"{path} is not a data file of this package: expected the arrays "
            f"{', '.join(KEYS)}. {error.args[0]}"
        ) from error
    except (zipfile.BadZipFile, zlib.error, ValueError, TypeError, EOFError) as error:
        raise ValueError(
            f"{path} is damaged or is not an npz file ({error}). Remove it and fetch "
            "the data again."
        ) from error


def _checked(arrays, source, place):
    """Return the arrays; refuse wrong shapes and warn of wrong values."""
    for part in ("train", "test"):
        X, y = arrays[f"X_{part}"], arrays[f"y_{part}"]
        if X.shape[1:] != source.image_shape or y.shape != X.shape[:1]:
            raise ValueError(
                f"{place}: X_{part} has shape {X.shape} and y_{part} {y.shape}; "
                f"expected images of shape {source.image_shape} and one label each."
            )
    found = arrays_checksum(arrays)
    if found != source.checksum:
        warnings.warn(
            f"The {source.title} arrays from {place} differ from the published ones: "
            f"SHA-256 {found}, expected {source.checksum}. Results may not be "
            "comparable; remove the file to fetch the data again."
        )
    return arrays


def _download(source):
    with _progress(f"Downloading {source.title} from OpenML"):
        X, y = fetch_openml(
            source.openml_name,
            version=1,
            as_frame=False,
            parser=_parser(),
            return_X_y=True,
            cache=False,  # the npz file written from it is the cache
        )
    return _split(np.asarray(X), np.asarray(y), source)


def _parser():
    try:
        import pandas  # noqa: F401
    except ImportError:
        return "liac-arff"  # slower, and the only one that works without pandas
    return "auto"


def _split(X, y, source):
    images = X.astype(np.uint8).reshape(-1, *source.image_shape)
    labels = y.astype(np.uint8)
    n_train = source.n_train
    if len(images) <= n_train:
        raise ValueError(
            f"OpenML sent {len(images)} rows of {source.openml_name}; expected more "
            f"than the {n_train} training rows. Try again later."
        )
    return {
        "X_train": images[:n_train],
        "y_train": labels[:n_train],
        "X_test": images[n_train:],
        "y_test": labels[n_train:],
    }


@contextmanager
def _progress(message):
    """Show that something takes time: a moving bar with rich, else plain lines."""
    start = time.perf_counter()
    try:
        from rich.console import Console
    except ImportError:
        print(f"{message} ...", file=sys.stderr, flush=True)
        yield
    else:
        with _bar(Console(stderr=True), message):
            yield
    seconds = time.perf_counter() - start
    print(f"{message}: done in {seconds:.0f} s", file=sys.stderr, flush=True)


@contextmanager
def _bar(console, message):
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = TextColumn(message), BarColumn(), TimeElapsedColumn()
    # The size of the answer is unknown beforehand, so that the bar only pulses.
    with Progress(*columns, console=console, transient=True) as progress:
        progress.add_task(message, total=None)
        yield


def _write_atomically(path, arrays):
    """Write the cache beside its final place, then rename: no half file is read."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex}.part")
    try:
        with open(temporary, "xb") as file:
            np.savez_compressed(file, **arrays)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
