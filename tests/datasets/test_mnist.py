"""Where the images come from, in which order, and what is checked on the way."""

import dataclasses
import io
import os
import sys
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest

from skdeepgmm.datasets import _mnist, _source, fetch_fashion_mnist, fetch_mnist

REPOSITORY = Path(__file__).parents[2]
N_TRAIN, N_TEST = 12, 5


@pytest.fixture
def arrays(rng):
    return {
        "X_train": rng.integers(256, size=(N_TRAIN, 28, 28)).astype(np.uint8),
        "y_train": rng.integers(10, size=N_TRAIN).astype(np.uint8),
        "X_test": rng.integers(256, size=(N_TEST, 28, 28)).astype(np.uint8),
        "y_test": rng.integers(10, size=N_TEST).astype(np.uint8),
    }


@pytest.fixture(autouse=True)
def tiny_world(monkeypatch, tmp_path, arrays, request):
    """A set of 17 images, an empty cache, no variable and no network."""
    if "real_files" in request.node.name:
        return
    monkeypatch.delenv("SKDEEPGMM_DATA", raising=False)
    monkeypatch.setenv("SCIKIT_LEARN_DATA", str(tmp_path / "cache"))
    monkeypatch.setattr(_source, "fetch_openml", forbidden_download)
    for name in ("_MNIST", "_FASHION_MNIST"):
        tiny = dataclasses.replace(
            getattr(_mnist, name),
            n_train=N_TRAIN,
            checksum=_source.arrays_checksum(arrays),
        )
        monkeypatch.setattr(_mnist, name, tiny)


def forbidden_download(*args, **kwargs):
    raise AssertionError("a download was started")


class OpenML:
    """Stand-in for fetch_openml with its types: float64 rows and string labels."""

    def __init__(self, arrays):
        X = np.concatenate([arrays["X_train"], arrays["X_test"]])
        self.X = X.reshape(len(X), -1).astype(np.float64)
        self.y = np.concatenate([arrays["y_train"], arrays["y_test"]]).astype(str)
        self.calls = []

    def __call__(self, name, **options):
        self.calls.append((name, options))
        return self.X, self.y.astype(object)


@pytest.fixture
def openml(monkeypatch, arrays):
    source = OpenML(arrays)
    monkeypatch.setattr(_source, "fetch_openml", source)
    return source


def save(folder, arrays, name="mnist.npz"):
    folder.mkdir(exist_ok=True)
    np.savez(folder / name, **arrays)
    return folder


@pytest.mark.parametrize("subset, n", [("train", 12), ("test", 5), ("all", 17)])
def test_subsets_keep_the_order(tmp_path, arrays, subset, n):
    folder = save(tmp_path / "data", arrays)
    mnist = fetch_mnist(subset=subset, data_home=folder, dtype="uint8")
    parts = ["train", "test"] if subset == "all" else [subset]
    images = np.concatenate([arrays[f"X_{part}"] for part in parts])
    labels = np.concatenate([arrays[f"y_{part}"] for part in parts])
    np.testing.assert_array_equal(mnist.images, images)
    np.testing.assert_array_equal(mnist.data, images.reshape(n, 784))
    np.testing.assert_array_equal(mnist.target, labels)
    assert mnist.target.dtype == np.int64
    assert mnist.image_shape == (28, 28)
    assert len(mnist.target_names) == 10


def test_float_pixels_lie_in_the_unit_interval(tmp_path, arrays):
    folder = save(tmp_path / "data", arrays)
    X, y = fetch_mnist(data_home=folder, return_X_y=True)
    assert X.dtype == np.float32
    np.testing.assert_allclose(
        X, arrays["X_train"].reshape(N_TRAIN, -1) / 255, rtol=1e-6
    )
    assert y.shape == (N_TRAIN,)


def test_the_variable_names_a_folder(tmp_path, arrays, monkeypatch):
    monkeypatch.setenv("SKDEEPGMM_DATA", str(save(tmp_path / "shared", arrays)))
    assert fetch_mnist(subset="test").data.shape == (N_TEST, 784)
    empty = tmp_path / "empty"
    assert fetch_mnist(subset="test", data_home=empty).data.shape == (N_TEST, 784)
    assert not empty.exists()


def test_the_argument_comes_before_the_variable(tmp_path, arrays, monkeypatch):
    monkeypatch.setenv("SKDEEPGMM_DATA", str(save(tmp_path / "shared", arrays)))
    other = arrays | {"y_test": 9 - arrays["y_test"]}
    folder = save(tmp_path / "own", other)
    with pytest.warns(UserWarning, match="differ from the published ones"):
        mnist = fetch_mnist(subset="test", data_home=folder, allow_changed=True)
    np.testing.assert_array_equal(mnist.target, other["y_test"])


def test_openml_is_asked_once_then_the_cache_serves(openml, arrays, tmp_path, capsys):
    first = fetch_mnist(subset="all", dtype="uint8")
    second = fetch_mnist(subset="all", dtype="uint8")
    assert [name for name, _ in openml.calls] == ["mnist_784"]
    assert openml.calls[0][1]["as_frame"] is False
    np.testing.assert_array_equal(first.data, openml.X)
    np.testing.assert_array_equal(first.data, second.data)
    np.testing.assert_array_equal(first.target[:N_TRAIN], arrays["y_train"])
    cache = tmp_path / "cache" / "skdeepgmm"
    assert [path.name for path in cache.iterdir()] == ["mnist.npz"]
    assert "Downloading MNIST from OpenML: done in" in capsys.readouterr().err


def test_the_cache_lies_in_data_home(openml, tmp_path):
    folder = tmp_path / "new" / "folder"
    fetch_fashion_mnist(data_home=folder)
    assert [path.name for path in folder.iterdir()] == ["fashion_mnist.npz"]
    assert openml.calls[0][0] == "Fashion-MNIST"


def test_a_changed_download_is_refused_and_never_cached(openml, tmp_path):
    openml.X[0, 0] = (openml.X[0, 0] + 1) % 256
    with pytest.raises(ValueError, match=r"OpenML \(mnist_784\) differ.*allow_changed"):
        fetch_mnist()
    with pytest.warns(UserWarning, match="OpenML \\(mnist_784\\) differ"):
        mnist = fetch_mnist(dtype="uint8", allow_changed=True)
    np.testing.assert_array_equal(mnist.data, openml.X[:N_TRAIN])
    assert not list((tmp_path / "cache").rglob("*.npz"))


@pytest.mark.parametrize("value", [-1, 256, 0.5, np.nan, np.inf, 1e300])
@pytest.mark.parametrize("allow_changed", [False, True])
def test_a_download_of_what_are_no_pixels_is_refused(openml, value, allow_changed):
    openml.X[3, 5] = value  # 256 would become 0, the published value of many pixels
    message = rf"mnist_784\): X_train has the value {float(value)}; .* 0 to 255"
    with pytest.raises(ValueError, match=message.replace("+", r"\+")):
        fetch_mnist(allow_changed=allow_changed)


@pytest.mark.parametrize("value", ["10", "-1", "1.5", "nan"])
def test_a_download_of_what_are_no_classes_is_refused(openml, value):
    openml.y[-1] = value
    with pytest.raises(ValueError, match=r"y_test has the value .* from 0 to 9"):
        fetch_mnist(allow_changed=True)


def test_a_download_of_words_or_of_other_images_is_refused(openml):
    openml.y[0] = "?"
    with pytest.raises(ValueError, match=r"mnist_784\): y has values that are no num"):
        fetch_mnist()
    openml.X = openml.X[:, :-1]
    openml.y[0] = "0"
    with pytest.raises(ValueError, match=r"sent X of shape \(17, 783\); expected 784"):
        fetch_mnist()


def test_a_short_download_is_refused_and_not_cached(openml, tmp_path):
    openml.X, openml.y = openml.X[:3], openml.y[:3]
    with pytest.raises(ValueError, match="OpenML sent 3 rows"):
        fetch_mnist()
    assert not list((tmp_path / "cache").rglob("*.npz"))


def test_a_broken_write_leaves_nothing(openml, tmp_path, monkeypatch):
    def fail(*args, **kwargs):
        raise OSError("disk full")

    monkeypatch.setattr(np, "savez_compressed", fail)
    with pytest.raises(OSError, match="disk full"):
        fetch_mnist(data_home=tmp_path / "home")
    assert list((tmp_path / "home").iterdir()) == []


def test_without_rich_and_pandas(openml, monkeypatch, capsys):
    for name in ("rich", "rich.console", "pandas"):
        monkeypatch.setitem(sys.modules, name, None)  # importing it now fails
    fetch_mnist()
    assert "Downloading MNIST from OpenML ...\n" in capsys.readouterr().err
    assert openml.calls[0][1]["parser"] == "liac-arff"


def test_missing_file_says_where_it_looked(tmp_path, monkeypatch):
    monkeypatch.setenv("SKDEEPGMM_DATA", str(tmp_path / "shared"))
    with pytest.raises(OSError, match="SKDEEPGMM_DATA") as error:
        fetch_mnist(data_home=tmp_path / "own", download_if_missing=False)
    for folder in ("own", "shared"):
        assert str(tmp_path / folder) in str(error.value)


def test_a_changed_local_file_is_refused(tmp_path, arrays):
    arrays["X_train"][0, 0, 0] ^= 1
    folder = save(tmp_path / "data", arrays)
    with pytest.raises(ValueError, match=r"mnist\.npz differ.* allow_changed=True"):
        fetch_mnist(data_home=folder)


def test_a_local_file_may_have_other_types(tmp_path, arrays):
    wide = {key: array.astype(np.float64) for key, array in arrays.items()}
    folder = save(tmp_path / "data", wide)
    mnist = fetch_mnist(data_home=folder, dtype="uint8")
    np.testing.assert_array_equal(mnist.images, arrays["X_train"])
    assert mnist.data.dtype == np.uint8


@pytest.mark.parametrize(
    "key, array, message",
    [
        ("y_test", np.full(N_TEST, 10), "y_test has the value 10; .* from 0 to 9"),
        ("y_test", np.full(N_TEST, -1), "y_test has the value -1"),
        ("y_test", np.full(N_TEST, np.nan), "y_test has the value nan"),
        ("y_test", np.full(N_TEST, "1"), "y_test has the type <U1; expected numbers"),
        ("X_test", np.full((N_TEST, 28, 28), 256), "X_test has the value 256"),
        ("X_test", np.full((N_TEST, 28, 28), 0.5), "X_test has the value 0.5"),
        ("X_test", np.zeros((N_TEST, 28, 27)), "X_test has shape"),
        ("X_test", np.zeros(()), "X_test has shape"),
    ],
)
def test_values_are_checked_before_they_are_cast(key, array, message, tmp_path, arrays):
    folder = save(tmp_path / "data", arrays | {key: array})
    with pytest.raises(ValueError, match=rf"mnist\.npz: .*{message}"):
        fetch_mnist(data_home=folder, allow_changed=True)


def test_a_bomb_is_not_unpacked(tmp_path, arrays):
    bomb = arrays | {"X_test": np.zeros((200, 28, 28), np.complex128)}
    folder = tmp_path / "data"
    folder.mkdir()
    np.savez_compressed(folder / "mnist.npz", **bomb)
    tracemalloc.start()
    with pytest.raises(ValueError, match=r"X_test would unpack to 250.* bytes"):
        fetch_mnist(data_home=folder)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 10**6


def test_an_array_that_claims_to_be_large_is_not_allocated(tmp_path, arrays):
    folder = save(tmp_path / "data", arrays)
    path = folder / "mnist.npz"
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    head = io.BytesIO()
    shape = (10**6, 28, 28)
    fields = {"descr": "|u1", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(head, fields)
    members["X_test.npy"] = head.getvalue()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    with pytest.raises(ValueError, match="X_test would unpack to 784000000 bytes"):
        fetch_mnist(data_home=folder)


def test_every_damaged_file_is_named(tmp_path, arrays, rng):
    folder = save(tmp_path / "data", arrays)
    path = folder / "mnist.npz"
    raw = path.read_bytes()
    for number in range(300):
        damaged = bytearray(raw)
        # Names, sizes and heads of the arrays are where a zip file is delicate.
        place = rng.integers(len(raw) - 700, len(raw)) if number % 2 else number
        damaged[place] ^= 1 << rng.integers(8)
        path.write_bytes(damaged[: rng.integers(len(raw))] if number < 50 else damaged)
        try:
            mnist = fetch_mnist(data_home=folder, dtype="uint8")
        except ValueError as error:
            assert "mnist.npz" in str(error)  # noqa: PT017
        else:  # a date, a comment
            np.testing.assert_array_equal(mnist.images, arrays["X_train"])


def test_pickled_content_is_never_loaded(tmp_path, arrays):
    hostile = arrays | {"y_train": np.array([print] * N_TRAIN, dtype=object)}
    folder = save(tmp_path / "data", hostile)
    with pytest.raises(ValueError, match="is damaged or is not an npz file"):
        fetch_mnist(data_home=folder)


def test_a_damaged_file_is_named(tmp_path):
    (tmp_path / "mnist.npz").write_bytes(b"PK\x03\x04 nothing more")
    with pytest.raises(ValueError, match=r"mnist\.npz is damaged"):
        fetch_mnist(data_home=tmp_path)


def test_a_file_without_the_arrays_is_named(tmp_path):
    folder = save(tmp_path / "data", {"X": np.zeros(3)})
    with pytest.raises(ValueError, match="expected the arrays X_train"):
        fetch_mnist(data_home=folder)


def test_wrong_shapes_are_refused(tmp_path, arrays):
    folder = save(tmp_path / "data", arrays | {"y_test": np.zeros(2, np.uint8)})
    with pytest.raises(ValueError, match="X_test has shape"):
        fetch_mnist(data_home=folder)


@pytest.mark.parametrize("parameter", ["subset", "dtype"])
def test_unknown_choices_are_named(parameter):
    with pytest.raises(ValueError, match=f"{parameter} == 'some'; expected one of"):
        fetch_mnist(**{parameter: "some"})


def real_folder():
    """Return the folder with the true files, if this machine has one."""
    candidates = [
        os.environ.get("SKDEEPGMM_DATA", ""),
        REPOSITORY.parent / "shared/data",
    ]
    for folder in filter(None, candidates):
        if (Path(folder) / "mnist.npz").is_file():
            return folder
    return None


@pytest.mark.skipif(real_folder() is None, reason="no local copy of the data")
@pytest.mark.parametrize(
    "fetch, first_labels",
    [(fetch_mnist, [7, 2, 1, 0, 4]), (fetch_fashion_mnist, [9, 2, 1, 1, 6])],
)
def test_real_files_have_the_published_content(fetch, first_labels):
    """No warning: the checksum of the arrays is the expected one."""
    data = fetch(subset="test", data_home=real_folder(), download_if_missing=False)
    assert data.data.shape == (10_000, 784)
    assert data.target[:5].tolist() == first_labels
    np.testing.assert_array_equal(np.bincount(data.target) > 800, True)
