"""Write a file as a whole or not at all, and read one that others may rewrite.

What is written goes to a file beside the target, which then takes its place: a crash at
any time leaves the old file or the new one. The file beside it is locked while its
process lives, so that those of killed processes can be told and are removed by the
next writer.
"""

import contextlib
import hashlib
import os
import re
import stat
import uuid

import numpy as np

try:
    import fcntl
except ImportError:  # Windows, where an open file cannot be removed anyway
    fcntl = None

_ENDING = r"\.[0-9a-f]{32}\.part"
_ENDING_LENGTH = len(".part") + 33
#: Longest name of a file where the system does not tell, in bytes.
_NAME_MAX = 255


def target_of(path):
    """Return the file to replace: ``path``, or where its symbolic link leads.

    Raises
    ------
    OSError
        If something else than a regular file is there.
    """
    target = os.path.realpath(path)
    with contextlib.suppress(FileNotFoundError):
        _check_regular(path, os.stat(target).st_mode)
    return target


def replace_file(target, parts, kept=None):
    """Write ``parts``, one after the other, and put the file in the place of target.

    Parameters
    ----------
    target : str
        Of :func:`target_of`. A file that is there leaves its mode to the new one.
    parts : iterable of bytes-like
    kept : str, default=None
        Where to put the file that is there; None forgets it.
    """
    folder, stem = os.path.dirname(target), _stem(target)
    _remove_leftovers(folder, stem)
    mode = _mode(target)
    temporary, descriptor = _new_file(folder, stem, mode)
    try:
        with open(descriptor, "wb", buffering=0) as file:
            if mode is not None and hasattr(os, "fchmod"):
                os.fchmod(descriptor, mode)  # whatever the umask says
            for part in parts:
                _write(file, part)
            os.fsync(descriptor)
            if fcntl is not None:  # still locked
                _put(temporary, target, kept)
        if fcntl is None:  # closed: Windows does not rename open files
            _put(temporary, target, kept)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
    _sync_folder(folder)


def remove_file(target):
    """Remove a file, and what killed writers of it have left, if that can be done."""
    folder, stem = os.path.dirname(target), _stem(target)
    _remove_leftovers(folder, stem)
    with contextlib.suppress(OSError):
        os.unlink(target)


def read_file(path):
    """Return the bytes of a regular file as an ndarray of uint8.

    They are read, not mapped: a file that shrinks meanwhile kills whoever maps it.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    OSError
        If it is no regular file.
    ValueError
        If it becomes shorter meanwhile.
    """
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        raise FileNotFoundError(f"There is no file {path}.") from None
    _check_regular(path, mode)
    with open(path, "rb", buffering=0) as file:
        raw = np.empty(os.fstat(file.fileno()).st_size, np.uint8)
        left = memoryview(raw)
        while len(left):
            count = file.readinto(left)
            if not count:
                raise ValueError("is damaged: it was cut off while it was read")
            left = left[count:]
    return raw


def _put(temporary, target, kept):
    if kept is not None:
        with contextlib.suppress(FileNotFoundError):
            os.replace(target, kept)
    os.replace(temporary, target)


def _check_regular(path, mode):
    kinds = {
        stat.S_IFDIR: "a folder",
        stat.S_IFIFO: "a named pipe",
        stat.S_IFCHR: "a device",
        stat.S_IFBLK: "a device",
        stat.S_IFSOCK: "a socket",
    }
    if not stat.S_ISREG(mode):
        kind = kinds.get(stat.S_IFMT(mode), "no regular file")
        raise OSError(f"{path} is {kind}; expected the name of a file.")


def _mode(target):
    try:
        return stat.S_IMODE(os.stat(target).st_mode)
    except FileNotFoundError:
        return None


def _stem(target):
    """Return how the names of files beside the target begin: as its own, if short."""
    folder, name = os.path.split(target)
    longest = _NAME_MAX
    with contextlib.suppress(AttributeError, OSError, ValueError):
        longest = os.pathconf(folder, "PC_NAME_MAX")
    if len(os.fsencode(name)) + _ENDING_LENGTH <= longest:
        return name
    digest = hashlib.sha256(os.fsencode(name)).hexdigest()
    return f"skdeepgmm-{digest[:32]}"


def _new_file(folder, stem, mode):
    """Return path and descriptor of a new, locked file; readable to no more than mode.

    The next writer may take it for a leftover between its first moments and the lock.
    """
    while True:
        path = os.path.join(folder, f"{stem}.{uuid.uuid4().hex}.part")
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
        descriptor = os.open(path, flags, 0o666 if mode is None else mode & 0o600)
        if fcntl is None:
            return path, descriptor
        with contextlib.suppress(OSError):  # file systems without locks
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        if os.fstat(descriptor).st_nlink:
            return path, descriptor
        os.close(descriptor)


def _remove_leftovers(folder, stem):
    """Remove what killed writers of the same target have left."""
    leftover = re.compile(re.escape(stem) + _ENDING)
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if leftover.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                with contextlib.suppress(OSError):
                    _remove_unless_locked(entry.path)


def _remove_unless_locked(path):
    if fcntl is None:
        os.unlink(path)  # fails where it is open
        return
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
    with open(os.open(path, flags), "rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.unlink(path)


def _write(file, part):
    left = memoryview(part)
    while len(left):
        left = left[file.write(left) :]


def _sync_folder(folder):
    """Make the new name last through a power failure, where folders can be synced."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
