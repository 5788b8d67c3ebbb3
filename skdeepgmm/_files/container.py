"""The bytes of a file: a safetensors container whose header holds a checksum.

    8 bytes     number of bytes of the header, little endian
    header      {"__metadata__": {"sha256": ..., "skdeepgmm": ...}, "0": {...}, ...}
    tensors     side by side, where the header says

The checksum is the SHA-256 of the whole file, with zeros in its own place. It always
comes first, so that its place is known before anything is parsed. Files of format
version 1 have none.
"""

import hashlib
import json
import math
import struct
from itertools import pairwise

import numpy as np

from skdeepgmm._files.json_text import HEADER_BYTES, check_size, parse

TEXT_KEY, CHECKSUM_KEY = "skdeepgmm", "sha256"
#: How a header with a checksum starts, and where its 64 digits are in the file.
_START = b'{"__metadata__":{"sha256":"'
_CHECKSUM = slice(8 + len(_START), 8 + len(_START) + 64)
#: Tensors start at a multiple of this.
_ALIGNMENT = 64
#: Types of tensors by their name in the format.
_DTYPES = {
    "BOOL": np.dtype("?"),
    **{f"U{8 * size}": np.dtype(f"<u{size}") for size in (1, 2, 4, 8)},
    **{f"I{8 * size}": np.dtype(f"<i{size}") for size in (1, 2, 4, 8)},
    **{f"F{8 * size}": np.dtype(f"<f{size}") for size in (2, 4, 8)},
}
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}
#: Most axes of an array in NumPy 1.
_MAX_AXES = 32


def can_store(dtype):
    """Tell whether arrays of this type fit into the container."""
    return dtype.newbyteorder("<") in _NAMES


# Writing -------------------------------------------------------------------------


def pack(text, tensors):
    """Return the parts of a file, one after the other.

    Parameters
    ----------
    text : str
        ASCII.
    tensors : dict of str to ndarray
        In C order; they are not copied unless their bytes are in another order.

    Returns
    -------
    parts : list of bytes-like

    Raises
    ------
    ValueError
        If the header is too large to be read again.
    """
    entries, parts, stop = {}, [], 0
    for name, array in tensors.items():
        array = array.astype(array.dtype.newbyteorder("<"), copy=False)
        start, stop = stop, stop + array.nbytes
        entries[name] = {
            "dtype": _NAMES[array.dtype],
            "shape": list(array.shape),
            "data_offsets": [start, stop],
        }
        parts.append(memoryview(array.reshape(-1).view(np.uint8)))
    metadata = {CHECKSUM_KEY: "0" * 64, TEXT_KEY: text}
    header = {"__metadata__": metadata, **entries}
    compact = json.dumps(header, separators=(",", ":"))
    check_size(compact)
    head = bytearray(compact.encode("ascii"))
    head += b" " * (-(8 + len(head)) % _ALIGNMENT)
    head[:0] = struct.pack("<Q", len(head))
    head[_CHECKSUM] = _checksum([head, *parts])
    return [head, *parts]


def _checksum(parts):
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest().encode("ascii")


# Reading -------------------------------------------------------------------------


def unpack(raw):
    """Return what a file holds.

    Parameters
    ----------
    raw : ndarray of uint8
        The whole file.

    Returns
    -------
    text : str
        What was given to :func:`pack`.
    tensors : dict of str to ndarray
        Parts of ``raw``.
    is_checked : bool
        Whether the file has a checksum, which is then right.

    Raises
    ------
    ValueError
        If the file is damaged, or is another kind of file.
    """
    head = _header(raw)
    is_checked = head.startswith(_START)
    if is_checked:
        _verify(raw)
    try:
        entries = parse(head.decode("ascii"))
    except ValueError as error:
        raise ValueError(
            f"is not a safetensors file, or is damaged: its header cannot be read "
            f"({error})"
        ) from error
    if not isinstance(entries, dict):
        raise ValueError("is not a safetensors file: its header is no object")
    text = _text(entries.pop("__metadata__", None))
    return text, _tensors(raw[8 + len(head) :], entries), is_checked


def _header(raw):
    length = int.from_bytes(raw[:8].tobytes(), "little")
    if len(raw) < 8 or not 2 <= length <= len(raw) - 8:
        raise ValueError("is not a safetensors file, or is damaged: it is cut off")
    if length > HEADER_BYTES:
        raise ValueError(
            "is not a safetensors file, or is damaged: its header has "
            f"{length} bytes, more than {HEADER_BYTES}"
        )
    return raw[8 : 8 + length].tobytes()


def _verify(raw):
    before, found, after = (
        memoryview(raw[part])
        for part in (
            slice(_CHECKSUM.start),
            _CHECKSUM,
            slice(_CHECKSUM.stop, None),
        )
    )
    if _checksum([before, b"0" * 64, after]) != found.tobytes():
        raise ValueError(
            "is damaged: its content does not have the checksum (SHA-256) of its header"
        )


def _text(metadata):
    text = metadata.get(TEXT_KEY) if isinstance(metadata, dict) else None
    if not isinstance(text, str):
        raise ValueError(
            f"was not written by skdeepgmm.save: its header has no entry {TEXT_KEY!r}"
        )
    return text


def _tensors(data, entries):
    """Return the arrays of all entries; together they must be all of the data."""
    found, spans = {}, [(0, 0), (len(data), len(data))]
    for name, entry in entries.items():
        dtype, shape, (start, stop) = _entry(name, entry)
        size = math.prod(shape) * dtype.itemsize
        if not 0 <= start <= stop <= len(data) or stop - start != size:
            raise ValueError(
                f"is damaged: tensor {name[:40]!r} of {size} bytes is said to lie at "
                f"{start} to {stop} of {len(data)} bytes"
            )
        spans.append((start, stop))
        part = data[start:stop]
        if dtype == np.bool_ and part.max(initial=0) > 1:
            raise ValueError(f"is damaged: tensor {name[:40]!r} has no truth values")
        array = part.view(dtype).reshape(shape)
        found[name] = array if array.flags.aligned else array.copy()
    if any(first[1] != second[0] for first, second in pairwise(sorted(spans))):
        raise ValueError("is damaged: its tensors overlap, or leave bytes between them")
    return found


def _entry(name, entry):
    """Return type, shape and place of a tensor."""
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"is damaged: tensor {name[:40]!r} is not described as such")
    dtype, shape, place = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in _DTYPES:
        raise ValueError(
            f"has a tensor {name[:40]!r} of the type {str(dtype)[:40]!r}; expected one "
            f"of {', '.join(_DTYPES)}"
        )
    if not _are_sizes(shape) or len(shape) > _MAX_AXES or math.prod(shape) >= 2**63:
        raise ValueError(f"is damaged: tensor {name[:40]!r} has no shape")
    if not _are_sizes(place) or len(place) != 2:
        raise ValueError(f"is damaged: tensor {name[:40]!r} has no place")
    return _DTYPES[dtype], tuple(shape), place


def _are_sizes(values):
    # True is an integer to isinstance.
    return isinstance(values, list) and all(
        type(value) is int and 0 <= value < 2**63 for value in values
    )
