"""Trees of plain values and arrays: the same after a file, and nothing else."""

import json
import math

import numpy as np
import pytest

from skdeepgmm._files.tree import flatten, rebuild

TREES = [
    None,
    True,
    3,
    -0.0,
    5e-324,
    [math.inf, -math.inf, 0.1],
    [],
    [0.1 * k for k in range(40)],
    (1, ("a", [2.5])),
    {"b": 1, "a": {3: "x", (0, 4): [None]}},
    {"array": np.arange(6.0).reshape(2, 3), "number": np.array(2)},
    [
        np.zeros((0, 3), dtype=np.float32),
        np.array([True]),
        np.arange(3, dtype=np.uint8),
    ],
]


def through_json(tree):
    nodes, arrays = flatten(tree)
    return rebuild(json.loads(json.dumps(nodes, allow_nan=False)), arrays)


def assert_same(first, second):
    assert type(first) is type(second)
    if isinstance(first, dict):
        assert list(first) == list(second)  # the order as well
        first, second = list(first.values()), list(second.values())
    if isinstance(first, (list, tuple)):
        assert len(first) == len(second)
        for pair in zip(first, second, strict=True):
            assert_same(*pair)
    elif isinstance(first, np.ndarray):
        assert (first.dtype, first.shape) == (second.dtype, second.shape)
        assert first.tobytes() == second.tobytes()
    else:
        assert repr(first) == repr(second)


@pytest.mark.parametrize("tree", TREES, ids=range(len(TREES)))
def test_a_tree_comes_back_as_it_was(tree):
    assert_same(through_json(tree), tree)


def test_nan_comes_back():
    assert math.isnan(through_json([math.nan])[0])


@pytest.mark.parametrize("value", [object(), {1.5}, np.float64(1.0), b"bytes", 1j])
def test_other_values_are_refused(value):
    with pytest.raises(TypeError, match="no part of a tree"):
        flatten([value])


DAMAGED = [
    {"type": "pickle", "value": "x"},
    {"type": "float", "value": "1e5"},
    {"type": "float"},
    {"type": "array", "name": "7"},
    {"type": "array", "name": ["0"]},
    {"type": "floats", "name": "0"},
    {"type": "dict", "items": [["a", 1], ["a", 2]]},
    {"type": "dict", "items": [[[1], 2]]},
    {"type": "dict", "items": 3},
    {"type": "tuple", "items": "abc"},
    {"type": ["tuple"], "items": []},
    {"kind": "tuple", "items": []},
    None,
]


@pytest.mark.parametrize("node", DAMAGED, ids=range(len(DAMAGED)))
def test_other_nodes_are_refused(node):
    with pytest.raises(ValueError, match="is damaged"):
        rebuild([node], {"0": np.zeros(2, dtype=np.int64)})


def test_deep_nodes_are_refused():
    nodes = []
    for _ in range(100):
        nodes = [nodes]
    with pytest.raises(ValueError, match="nested too deeply"):
        rebuild(nodes, {})
