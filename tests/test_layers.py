"""Layers as values: sizes, equality, representation, errors that name them."""

import pickle

import pytest
from sklearn.base import clone

from skdeepgmm.layers import Folding, Mixture, Pooling, preset


def stack_shapes(stack, shape):
    found = [shape]
    for layer in stack:
        found.append(layer.output_shape(found[-1]))
    return found[1:]


@pytest.mark.parametrize(
    "name, grids",
    [
        ("A", [1]),
        ("B", [11, 1]),
        ("C", [21, 1]),
        ("D", [26, 10, 1]),
        ("E", [26, 12, 1]),
        ("F", [26, 12, 5, 1]),
        ("G", [26, 11, 4, 1]),
        ("L", [11, 1]),
    ],
)
def test_presets_have_the_published_grids(name, grids):
    stack = preset(name)
    shapes = stack_shapes(stack, (28, 28, 1))
    found = [
        s[0]
        for s, layer in zip(shapes, stack, strict=True)
        if isinstance(layer, Mixture)
    ]
    assert found == grids


def test_presets_fit_other_sizes():
    assert stack_shapes(preset("B"), (32, 20, 3))[-1] == (1, 1, 36)


@pytest.mark.parametrize("name", ["b", "H", None, ["A"]])
def test_other_presets_are_refused(name):
    with pytest.raises(ValueError, match="preset A, B, C, D, E, F, G, L"):
        preset(name)


def test_preset_returns_a_list_of_its_own():
    preset("B").clear()
    assert len(preset("B")) == 4


@pytest.mark.parametrize(
    "layer, text",
    [
        (Folding(), "Folding()"),
        (Folding(8, 2), "Folding(8, stride=2)"),
        (Folding((3, 5), (1, 2)), "Folding((3, 5), stride=(1, 2))"),
        (Pooling(), "Pooling(2)"),
        (Pooling(3, 2), "Pooling(3, stride=2)"),
        (Mixture(7), "Mixture(7)"),
        (Mixture(7, shared=False), "Mixture(7, shared=False)"),
        (
            Mixture(7, covariance_type="low_rank"),
            "Mixture(7, covariance_type='low_rank', rank=10)",
        ),
        (
            Mixture(7, False, "low_rank", 3),
            "Mixture(7, shared=False, covariance_type='low_rank', rank=3)",
        ),
        (
            Mixture(7, True, "low_rank", 3, "responsibilities+factors"),
            "Mixture(7, covariance_type='low_rank', rank=3, "
            "output='responsibilities+factors')",
        ),
    ],
)
def test_representation_builds_the_layer_again(layer, text):
    assert repr(layer) == text
    assert eval(text) == layer
    assert clone([layer], safe=False) == [layer]
    assert pickle.loads(pickle.dumps(layer)) == layer
    assert hash(layer) == hash(eval(text))


def test_equal_sizes_are_equal_however_given():
    assert Folding(8) == Folding((8, 8), 1)
    assert Folding(8) != Folding(8, 2)
    assert Folding(2) != Pooling(2)


@pytest.mark.parametrize(
    "make, match",
    [
        (lambda: Folding(0), "patch_size of a Folding layer"),
        (lambda: Folding((3, 3, 3)), "patch_size"),
        (lambda: Folding(2.5), "patch_size"),
        (lambda: Folding(3, stride=0), "stride"),
        (lambda: Pooling(2, 3), "must not exceed"),
        (lambda: Mixture(0), "n_components"),
        (lambda: Mixture(True), "n_components"),
        (lambda: Mixture(3, shared="no"), "shared"),
        (lambda: Mixture(3, covariance_type="full"), "'diag' or 'low_rank', got 'full"),
        (lambda: Mixture(3, rank=2), "rank=2 .* needs covariance_type='low_rank'"),
        (lambda: Mixture(3, True, "low_rank", 0), "rank of a Mixture layer"),
        (lambda: Mixture(3, True, "low_rank", 2.5), "rank of a Mixture layer"),
        (lambda: Mixture(3, output="factors"), "output of a Mixture layer must be"),
        (
            lambda: Mixture(3, output="responsibilities+factors"),
            "needs covariance_type='low_rank'; a diagonal",
        ),
        (lambda: preset("H"), "preset A, B"),
    ],
)
def test_bad_settings_are_named(make, match):
    with pytest.raises(ValueError, match=match):
        make()


@pytest.mark.parametrize(
    "layer, match",
    [
        (Folding(9), r"Folding\(9\) does not fit a grid of 8 x 10.*larger"),
        (Folding(3, 2), r"Folding\(3, stride=2\).*\(8 - 3\) is no multiple"),
        (Pooling(9), r"Pooling\(9\) does not fit a grid of 8 x 10"),
    ],
)
def test_layers_that_do_not_fit_name_the_sizes(layer, match):
    with pytest.raises(ValueError, match=match):
        layer.output_shape((8, 10, 1))


def test_passed_factors_are_further_channels():
    layer = Mixture(7, True, "low_rank", 5, "responsibilities+factors")
    assert layer.output_shape((4, 4, 64)) == (4, 4, 12)
    assert layer.output_shape((4, 4, 3)) == (4, 4, 10)  # no more factors than values
    assert Mixture(7, True, "low_rank", 5).output_shape((4, 4, 64)) == (4, 4, 7)
