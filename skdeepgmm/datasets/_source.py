"""Where a split image set comes from: a local npz file, else OpenML, then cached."""

import hashlib
import lzma
import math
import os
import struct
import sys
import time
import tokenize
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
#: Bytes that the largest array of a file may have: eight a pixel, and its head.
HEAD_BYTES = 2**16
#: What zipfile and NumPy raise on files that are none of theirs.
_DAMAGE = (
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError),
    *(ValueError, TypeError, KeyError, AttributeError, SyntaxError, RuntimeError),
    *(MemoryError, OSError, OverflowError, struct.error, tokenize.TokenError),
)


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

    @property
    def largest(self):
        """Bytes that an array of the set may have, were its numbers of eight bytes."""
        return 8 * self.n_train * math.prod(self.image_shape) + HEAD_BYTES


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


def load_arrays(source, data_home, download_if_missing, allow_changed=False):
    """Return the four arrays of ``source`` from the first place that has them.

    Arrays that are not the published ones are an error wherever they are, unless
    ``allow_changed``; if they were downloaded they are not cached.
    """
    folders = _local_folders(data_home)
    for folder in folders:
        path = folder / source.file_name
        if path.is_file():
            return _local(path, source, allow_changed)
    if not download_if_missing:
        raise OSError(_not_found(source, folders))
    place = f"OpenML ({source.openml_name})"
    arrays = _checked(_download(source), source, place, allow_changed)
    if arrays_checksum(arrays) == source.checksum:
        _write_atomically(folders[-1] / source.file_name, arrays)
    return arrays


def _local(path, source, allow_changed):
    try:
        arrays = _read(path, source)
    except _NotOurs as error:
        raise ValueError(str(error)) from None
    return _checked(arrays, source, str(path), allow_changed)


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


def _read(path, source):
    """Return the arrays of an npz file as they are; never more than expected."""
    # Opened here: on a damaged file np.load would leave its own handle open.
    with open(path, "rb") as handle:
        try:
            return _unpacked(handle, path, source)
        except _DAMAGE as error:
            raise ValueError(
                f"{path} is damaged or is not an npz file ({error}). Remove it and "
                "fetch the data again."
            ) from error


def _unpacked(handle, path, source):
    with zipfile.ZipFile(handle) as archive:
        _check_members(archive, path, source)
    handle.seek(0)
    with np.load(handle, allow_pickle=False) as file:
        return {key: file[key] for key in KEYS}


def _check_members(archive, path, source):
    """Raise before anything is unpacked that is no array of the set, or too large."""
    members = {info.filename: info for info in archive.infolist()}
    lost = [key for key in KEYS if f"{key}.npy" not in members]
    if lost:
        raise _NotOurs(
            f"{path} is not a data file of this package: expected the arrays "
            f"{', '.join(KEYS)}; {', '.join(lost)} is not in the file."
        )
    for key in KEYS:
        info = members[f"{key}.npy"]
        n_bytes = max(info.file_size, _claimed_bytes(archive, info))
        if n_bytes > source.largest:
            raise _NotOurs(
                f"{path}: {key} would unpack to {n_bytes} bytes; expected at most "
                f"{source.largest}. Remove the file and fetch the data again."
            )


def _claimed_bytes(archive, info):
    """Return the bytes that the head of an array in the file asks for."""
    with archive.open(info) as member:
        version = np.lib.format.read_magic(member)
        readers = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }
        if version not in readers:
            raise ValueError(f"{info.filename} has the version {version}")
        shape, _, dtype = readers[version](member)
    return math.prod(shape) * dtype.itemsize


class _NotOurs(Exception):
    """A file that is whole, but holds something else."""


def _checked(arrays, source, place, allow_changed):
    """Return the arrays as uint8; refuse wrong shapes and values.

    Raises
    ------
    ValueError
        If an array has another shape, a pixel is no integer from 0 to 255 or a label
        none from 0 to 9, or, unless ``allow_changed``, any value is not the published
        one.
    """
    for part in ("train", "test"):
        X, y = arrays[f"X_{part}"], arrays[f"y_{part}"]
        if X.shape[1:] != source.image_shape or y.shape != X.shape[:1]:
            raise ValueError(
                f"{place}: X_{part} has shape {X.shape} and y_{part} {y.shape}; "
                f"expected images of shape {source.image_shape} and one label each."
            )
    arrays = {
        key: _as_bytes(array, f"{place}: {key}", 255 if key[0] == "X" else 9)
        for key, array in arrays.items()
    }
    found = arrays_checksum(arrays)
    if found != source.checksum:
        message = (
            f"The {source.title} arrays from {place} differ from the published ones: "
            f"SHA-256 {found}, expected {source.checksum}."
        )
        if not allow_changed:
            raise ValueError(
                f"{message} Remove the file to fetch the data again, or pass "
                "allow_changed=True to use them as they are."
            )
        warnings.warn(f"{message} Results may not be comparable.")
    return arrays


def _as_bytes(array, name, largest):
    """Return an array as uint8, ValueError unless it holds integers up to largest."""
    if array.dtype.kind not in "uif":
        raise ValueError(f"{name} has the type {array.dtype}; expected numbers.")
    fine = array <= largest
    if array.dtype.kind != "u":
        fine &= array >= 0
    if array.dtype.kind == "f":  # NaN is neither small nor large
        fine &= array == np.floor(array)
    if not fine.all():
        odd = array[~fine].flat[0]
        raise ValueError(
            f"{name} has the value {odd}; expected integers from 0 to {largest}."
        )
    return array.astype(np.uint8, copy=False)


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
    place = f"OpenML ({source.openml_name})"
    images, labels = _numbers(X, f"{place}: X"), _numbers(y, f"{place}: y")
    if images.ndim != 2 or images.shape[1] != math.prod(source.image_shape):
        raise ValueError(
            f"{place} sent X of shape {images.shape}; expected "
            f"{math.prod(source.image_shape)} pixels a row. Try again later."
        )
    images = images.reshape(-1, *source.image_shape)
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


def _numbers(values, name):
    """Return the numbers of a table, which may be strings as labels are."""
    try:
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} has values that are no numbers ({error}).") from error


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
