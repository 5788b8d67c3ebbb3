"""A file is replaced whole, as the file that it was, and nothing is left behind."""

import os
import signal
import stat
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from skdeepgmm import GaussianMixture, load, save
from skdeepgmm._files import writing as _writing

posix = pytest.mark.skipif(os.name != "posix", reason="modes, links and pipes of POSIX")


@pytest.fixture
def model():
    return GaussianMixture.from_parameters([1.0], [[0.0]], [[[1.0]]], device="cpu")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model"


@posix
@pytest.mark.parametrize("mode", [0o600, 0o640, 0o444, 0o666])
def test_the_mode_is_kept(mode, path, model):
    save(model, path)
    path.chmod(mode)
    save(model, path)
    assert stat.S_IMODE(path.stat().st_mode) == mode


@posix
def test_a_new_file_has_the_mode_of_the_process(path, model):
    before = os.umask(0o027)
    try:
        save(model, path)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


@posix
def test_symbolic_links_are_followed(path, model, tmp_path):
    (tmp_path / "folder").mkdir()
    target = tmp_path / "folder" / "target"
    path.symlink_to("folder/target")  # to nothing yet
    for _ in range(2):
        save(model, path)
        assert path.is_symlink()
        assert target.is_file()
    assert [file.name for file in target.parent.iterdir()] == ["target"]
    load(path)


@posix
def test_what_is_no_file_is_not_touched(path, model, tmp_path):
    os.mkfifo(path)
    before = path.stat()
    with pytest.raises(OSError, match=r"model is a named pipe; expected the name of a"):
        save(model, path)
    with pytest.raises(OSError, match="is a named pipe"):
        load(path)
    assert path.stat() == before
    with pytest.raises(OSError, match="is a folder"):
        save(model, tmp_path)
    with pytest.raises(OSError, match="is a device"):
        save(model, os.devnull)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("length", [1, 217, 218, 230, 255])
def test_names_as_long_as_the_system_takes(length, tmp_path, model):
    path = tmp_path / ("n" * length)
    save(model, path)
    save(model, path)
    assert list(tmp_path.iterdir()) == [path]
    load(path)


def test_a_longer_name_is_an_error_of_the_system(tmp_path, model):
    with pytest.raises(OSError, match="too long"):
        save(model, tmp_path / ("n" * 256))
    assert list(tmp_path.iterdir()) == []


def leftover(path, letter="a"):
    return path.with_name(f"{path.name}.{letter * 32}.part")


def test_leftovers_of_the_same_target_are_removed(path, model):
    others = [
        *(path.with_name("model.part"), path.with_name("model.aa.part")),
        *(leftover(path.with_name("model2")), path.with_name("x.model.part")),
        path.with_name(f"model.{'g' * 32}.part"),
    ]
    for file in (leftover(path), leftover(path, "b"), *others):
        file.write_bytes(b"half")
    save(model, path)
    assert sorted(path.parent.iterdir()) == sorted([path, *others])


@posix
def test_the_file_of_a_writer_at_work_stays(path, model):
    import fcntl

    for name in (path, path.with_name("n" * 250)):
        stem = _writing._stem(os.fspath(name))
        busy = path.with_name(f"{stem}.{'c' * 32}.part")
        with open(busy, "wb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            save(model, name)
            assert busy.exists()
        save(model, name)
        assert not busy.exists()


@posix
def test_what_killed_processes_left_is_removed(path):
    code = (
        "import sys, numpy as np\n"
        "from skdeepgmm._files import writing as _writing\n"
        "parts = iter(lambda: print(flush=True) or bytes(2**16), None)\n"
        "_writing.replace_file(sys.argv[1], parts)\n"
    )
    command = [sys.executable, "-c", code, path]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    for _ in range(3):
        process.stdout.readline()
    _writing.replace_file(os.fspath(path), [b"of the other"])
    assert len(list(path.parent.iterdir())) == 2  # it still writes
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    _writing.replace_file(os.fspath(path), [b"new"])
    assert list(path.parent.iterdir()) == [path]
    assert path.read_bytes() == b"new"


def test_writers_at_once_leave_one_whole_file(path):
    contents = [bytes([number]) * 10**5 for number in range(8)]

    def write(content):
        for _ in range(10):
            _writing.replace_file(os.fspath(path), [content])

    threads = [threading.Thread(target=write, args=(content,)) for content in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert path.read_bytes() in contents
    assert list(path.parent.iterdir()) == [path]


@posix
def test_file_and_folder_reach_the_disk_in_this_order(path, model, monkeypatch):
    seen = []

    def sync(descriptor, real=os.fsync):
        mode = os.fstat(descriptor).st_mode
        seen.append("folder" if stat.S_ISDIR(mode) else "file")
        real(descriptor)

    def replace(source, target, real=os.replace):
        seen.append("replace")
        real(source, target)

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(os, "replace", replace)
    save(model, path)
    assert seen == ["file", "replace", "folder"]


def test_ctrl_c_leaves_the_old_file_alone(path):
    _writing.replace_file(os.fspath(path), [b"old"])

    def parts():
        yield b"new"
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        _writing.replace_file(os.fspath(path), parts())
    assert path.read_bytes() == b"old"
    assert list(path.parent.iterdir()) == [path]


@posix
def test_a_file_that_is_rewritten_in_place_is_no_crash(path, model):
    """A memory map would end the process (SIGBUS) when the file shrinks."""
    save(model, path)
    raw = path.read_bytes()
    path.write_bytes(raw)
    stop = time.perf_counter() + 1.0

    def shrink_and_grow():
        while time.perf_counter() < stop:
            os.truncate(path, 100)
            path.write_bytes(raw)

    thread = threading.Thread(target=shrink_and_grow)
    thread.start()
    while thread.is_alive():
        try:
            load(path)
        except ValueError as error:
            assert "model" in str(error)  # noqa: PT017
    thread.join()
    np.testing.assert_array_equal(load(path).means_, model.means_)
