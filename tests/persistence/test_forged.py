"""Nothing in a file runs, crashes the process, or takes more memory than the file."""

import json
import struct
import tracemalloc

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from skdeepgmm import load, save
from tests.persistence import models
from tests.persistence.forge import put_together, rewrite, take_apart


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "model.safetensors"
    save(models.fitted("flat_full"), path)
    return path


def set_in(*keys, value):
    def change(estimator, entries, data):
        node = estimator
        for key in keys[:-1]:
            node = node[key]
        node[keys[-1]] = value

    return change


@pytest.mark.parametrize("signed", [True, False], ids=["version 2", "version 1"])
@pytest.mark.parametrize(
    "change, message",
    [
        (set_in("class", value="Popen"), "names the class 'Popen'"),
        (set_in("class", value="os.system"), "'os.system'"),
        (set_in("class", value=["a"]), "names the class"),
        (set_in("params", "shell", value=True), "does not know: shell"),
        (set_in("state", "predict", value=1), "the attribute 'predict'"),
        (set_in("state", "__class__", value=1), "the attribute '__class__'"),
        (set_in("state", "a b", value=1), "the attribute 'a b'"),
        (set_in("state", "means_", "tensor", value="77"), "a tensor of its own"),
        (set_in("state", "means_", "tensor", value=["0"]), "a tensor of its own"),
        (set_in("state", "means_", "type", value="code"), "of the type 'code'"),
        (set_in("state", "means_", "more", value=1), "no node of a model"),
        (set_in("state", value=3), "has no state of"),
        (set_in("params", "tol", value={"type": "float", "value": 1}), "no float"),
        (set_in("params", "tol", value=10**400), "a number of 401 digits"),
        (set_in("params", "tol", value={"type": "dtype", "name": "O"}), "no type of"),
        (lambda e, entries, d: entries["0"].update(dtype="BF16"), "the type 'BF16'"),
        (lambda e, entries, d: entries["0"].update(shape=[-1]), "has no shape"),
        (lambda e, entries, d: entries["0"].update(shape=[2**62, 4]), "has no shape"),
        (lambda e, entries, d: entries["0"].update(data_offsets=[0, 9]), "is damaged"),
        (lambda e, entries, d: entries.update(z=entries["0"]), "overlap"),
        (lambda e, entries, d: d.extend(b"more"), "leave bytes between them"),
    ],
)
def test_a_forged_file_is_refused(change, message, signed, path):
    rewrite(path, change, signed)
    with pytest.raises(ValueError, match=message) as error:
        load(path)
    assert str(path) in str(error.value)


def test_one_tensor_is_not_two_attributes(path):
    def change(estimator, entries, data):
        state = estimator["state"]
        state["means_"]["tensor"] = state["weights_"]["tensor"]

    rewrite(path, change)
    with pytest.raises(ValueError, match="a tensor of its own"):
        load(path)


STATES = {
    "pos": (100_000_000, -1, 625, 0.5, True),
    "has_gauss": (2, -1, None),
    "gauss": ({"type": "float", "value": "inf"}, "0", None),
    "bit_generator": ("PCG64", 0),
}


@pytest.mark.parametrize(
    "field, value", [(k, value) for k, values in STATES.items() for value in values]
)
def test_a_state_that_numpy_would_crash_on_is_refused(field, value, path):
    save(models.fitted("started"), path)

    def change(estimator, entries, data):
        items = estimator["params"]["random_state"]["state"]["items"]
        pairs = items + items[1][1]["items"]
        next(pair for pair in pairs if pair[0] == field)[1] = value

    rewrite(path, change)
    with pytest.raises(ValueError, match="no state of a RandomState"):
        load(path)


@pytest.mark.parametrize("key", [np.zeros(624), np.zeros(624, "u4"), np.ones(9, "u4")])
def test_a_generator_that_would_never_end_is_refused(key, path):
    save(models.fitted("started"), path)
    header, entries, data = take_apart(path.read_bytes())
    name = next(k for k, entry in entries.items() if entry["shape"] == [624])
    start, stop = entries[name]["data_offsets"]
    change = key.nbytes - (stop - start)
    for entry in entries.values():
        if entry["data_offsets"][0] >= stop:
            entry["data_offsets"] = [place + change for place in entry["data_offsets"]]
    kind = {"f": "F64", "u": "U32"}[key.dtype.kind]
    places = [start, start + key.nbytes]
    entries[name] = {"dtype": kind, "shape": list(key.shape), "data_offsets": places}
    data[start:stop] = key.tobytes()
    path.write_bytes(put_together(header, entries, data))
    with pytest.raises(ValueError, match="no state of a RandomState"):
        load(path)


@pytest.mark.parametrize(
    "version", ["NaN", "-5", "0.5", "true", "0", '"2"', "1e0", "[]"]
)
@pytest.mark.parametrize("signed", [True, False])
def test_only_known_versions_are_read(version, signed, path):
    header, entries, data = take_apart(path.read_bytes())
    text = json.dumps(header).replace(
        '"format_version": 2', f'"format_version": {version}'
    )
    path.write_bytes(put_together(text, entries, data, signed))
    with pytest.raises(ValueError, match="damaged header"):
        load(path)


def test_a_newer_version_says_what_to_do(path):
    header, entries, data = take_apart(path.read_bytes())
    header["format_version"] = 99
    path.write_bytes(put_together(header, entries, data))
    with pytest.raises(ValueError, match=r"format version 99.*Upgrade"):
        load(path)


def test_a_checksum_cannot_be_left_out(path):
    header, entries, data = take_apart(path.read_bytes())
    path.write_bytes(put_together(header, entries, data, signed=False))
    with pytest.raises(ValueError, match="lacks a checksum"):
        load(path)


def test_a_key_twice_is_refused(path):
    header, entries, data = take_apart(path.read_bytes())
    text = json.dumps(header).replace('"params": {', '"params": {"tol": 1.0, ')
    path.write_bytes(put_together(text, entries, data))
    with pytest.raises(ValueError, match="the same key twice"):
        load(path)


@pytest.mark.parametrize("depth", [70, 3000, 100_000])
def test_deep_nesting_is_refused(depth, path):
    nested = "[" * depth + "]" * depth
    text = json.dumps(take_apart(path.read_bytes())[0])
    text = text.replace('"tol": 0.001', f'"tol": {nested}')
    path.write_bytes(put_together(text, {}, b""))
    with pytest.raises(ValueError, match=r"values within values|nested too deeply"):
        load(path)


def test_other_files_are_refused(path, tmp_path):
    save_file({"weight": np.zeros(3)}, path)
    with pytest.raises(ValueError, match=r"was not written by skdeepgmm\.save"):
        load(path)
    for content in (b"", b"\x80\x04cos\nsystem\n.", bytes(100), b"\xff" * 100):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="is not a safetensors file"):
            load(path)
    with pytest.raises(FileNotFoundError, match="There is no file"):
        load(tmp_path / "missing.safetensors")
    with pytest.raises(OSError, match="is a folder"):
        load(tmp_path)


def test_every_flipped_bit_is_refused(path):
    raw = path.read_bytes()
    (size,) = struct.unpack("<Q", raw[:8])
    places = {*range(0, 8 + size, 7), *range(8 + size, len(raw))}
    for place in sorted(places):
        damaged = bytearray(raw)
        damaged[place] ^= 1 << place % 8
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"model\.safetensors"):
            load(path)


def test_every_cut_is_refused(path):
    raw = path.read_bytes()
    for size in range(0, len(raw), 5):
        path.write_bytes(raw[:size])
        with pytest.raises(ValueError, match="is damaged"):
            load(path)


def test_the_file_is_a_safetensors_file(path):
    """The library of the format reads the same arrays."""
    tensors = load_file(path)
    state = take_apart(path.read_bytes())[0]["estimator"]["state"]
    model = models.fitted("flat_full")
    for name in ("weights_", "means_", "precisions_cholesky_"):
        np.testing.assert_array_equal(
            tensors[state[name]["tensor"]], getattr(model, name)
        )


# Memory --------------------------------------------------------------------------


def peak_of(path):
    """Return the most bytes that a load holds, and its error."""
    tracemalloc.start()
    try:
        load(path, device="cpu")
        error = ""
    except ValueError as refusal:
        error = str(refusal)
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    return peak, error


def header_of(state):
    return {
        "format_version": 1,
        "estimator": {
            "type": "estimator",
            "class": "GaussianMixture",
            "params": {},
            "state": state,
        },
    }


def strings(n, length):
    values = ["a" * length] + [""] * n
    table = {"type": "strings", "values": values, "shape": [n + 1], "object": False}
    return json.dumps(header_of({"feature_names_in_": table}))


def listed(item, n):
    text = json.dumps(header_of({"lower_bounds_": ["here"]}))
    return text.replace('"here"', ", ".join([item] * n))


@pytest.mark.parametrize(
    "text",
    [
        strings(2_000, 400_000),
        strings(250_000, 2_000_000),
        listed("[]", 290_000),
        listed("{}", 2_000_000),
        listed('{"a":[1.5]}', 55_000),
        json.dumps(header_of({"x": "\U0001f600" + "a" * 7_000_000})),
    ],
    ids=["strings", "more strings", "lists", "dicts", "values", "wide"],
)
def test_a_header_takes_no_more_memory_than_it_may(text, tmp_path):
    path = tmp_path / "bomb"
    path.write_bytes(put_together(text, {}, b"", signed=False))
    taken, error = peak_of(path)
    assert "bomb" in error  # it was refused
    assert taken <= 2 * path.stat().st_size + 50 * 2**20


def test_a_large_model_is_in_memory_at_most_twice(tmp_path):
    n_features = 1500
    identity = np.eye(n_features)[None]
    model = models.GaussianMixture.from_parameters(
        [1.0], np.zeros((1, n_features)), identity, device="cpu"
    )
    path = tmp_path / "large"
    save(model, path)
    taken, error = peak_of(path)
    assert not error
    assert taken <= 2 * path.stat().st_size + 50 * 2**20
