"""Take a model file apart and put it together again with another content.

Written from the description of the format, not with the code under test: 8 bytes of
length, a JSON header, the tensors. The checksum is the SHA-256 of the file with zeros
in its place.
"""

import hashlib
import json
import struct

FIRST = b'{"__metadata__":{"sha256":"'


def take_apart(raw):
    """Return (header of the model, entries of the tensors, data)."""
    (size,) = struct.unpack("<Q", raw[:8])
    entries = json.loads(raw[8 : 8 + size])
    metadata = entries.pop("__metadata__")
    return json.loads(metadata["skdeepgmm"]), entries, bytearray(raw[8 + size :])


def put_together(header, entries, data, signed=True):
    """Return a file, with the right checksum unless ``signed`` is False."""
    text = header if isinstance(header, str) else json.dumps(header)
    metadata = {"sha256": "0" * 64, "skdeepgmm": text}
    if not signed:
        del metadata["sha256"]
    compact = json.dumps({"__metadata__": metadata, **entries}, separators=(",", ":"))
    head = compact.encode()
    head += b" " * (-len(head) % 8)
    raw = struct.pack("<Q", len(head)) + head + bytes(data)
    return sign(raw) if signed else raw


def sign(raw):
    """Return the file with the right checksum."""
    start = 8 + len(FIRST)
    blank = raw[:start] + b"0" * 64 + raw[start + 64 :]
    digest = hashlib.sha256(blank).hexdigest().encode()
    return raw[:start] + digest + raw[start + 64 :]


def rewrite(path, change, signed=True):
    """Let ``change(estimator, entries, data)`` edit a file; the checksum is right."""
    header, entries, data = take_apart(path.read_bytes())
    change(header["estimator"], entries, data)
    if not signed:
        header["format_version"] = 1
    path.write_bytes(put_together(header, entries, data, signed))
