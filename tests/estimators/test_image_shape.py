"""The shared rule for ``image_shape``."""

import numpy as np
import pytest
import torch

from skdeepgmm.estimators._image_shape import (
    check_image_shape,
    check_product,
    fitted_rows,
    rows_and_shape,
    short_shape,
)


@pytest.mark.parametrize(
    "given, expected",
    [
        (None, None),
        ((4, 6), (4, 6, 1)),
        ([4, 6], (4, 6, 1)),
        ((4, 6, 3), (4, 6, 3)),
        (np.array([4, 6]), (4, 6, 1)),
    ],
)
def test_shapes_have_three_entries(given, expected):
    assert check_image_shape(given) == expected


@pytest.mark.parametrize(
    "bad", [8, (8,), (1, 2, 3, 4), (0, 8), (8.0, 8), (True, 8), "8"]
)
def test_malformed_shapes_are_named(bad):
    with pytest.raises(ValueError, match="image_shape must be None"):
        check_image_shape(bad)


def test_images_become_rows_in_c_order(rng):
    images = rng.normal(size=(5, 4, 6, 3))
    rows, shape = rows_and_shape(images)
    assert shape == (4, 6, 3)
    np.testing.assert_array_equal(rows, images.reshape(5, -1))
    tensor, shape = rows_and_shape(torch.from_numpy(images[..., 0].copy()), (4, 6))
    assert shape == (4, 6, 1)
    assert tuple(tensor.shape) == (5, 24)
    nested, shape = rows_and_shape(images[..., 0].tolist())
    assert shape == (4, 6, 1)
    np.testing.assert_array_equal(nested, images[..., 0].reshape(5, -1))


def test_rows_keep_the_given_shape(rng):
    X = rng.normal(size=(5, 24))
    assert rows_and_shape(X) == (X, None)
    assert rows_and_shape(X, (4, 6)) == (X, (4, 6, 1))


def test_images_of_another_shape_are_refused(rng):
    images = rng.normal(size=(5, 4, 6))
    with pytest.raises(ValueError, match=r"\(4, 6\).*image_shape is \(6, 4\)"):
        rows_and_shape(images, (6, 4))
    with pytest.raises(ValueError, match="images of shape"):
        fitted_rows(images, (6, 4, 1))
    assert fitted_rows(images, (4, 6, 1)).shape == (5, 24)


def test_product_mismatch_names_both():
    check_product(None, 7)
    check_product((4, 6, 1), 24)
    with pytest.raises(ValueError, match=r"4 \* 6 \* 3 = 72 values.*25 features"):
        check_product((4, 6, 3), 25)


@pytest.mark.parametrize("side", [2**63, 2**64])
def test_absurd_shapes_have_their_own_product(side):
    with pytest.raises(ValueError, match=f"= {2 * side} values a row"):
        check_product((side, 2, 1), 64)


def test_images_of_several_shapes_are_named(rng):
    images = [rng.normal(size=(4, 6)), rng.normal(size=(4, 6)), rng.normal(size=(3, 6))]
    held = np.empty(3, dtype=object)
    held[:] = images
    for X in (images, held, [torch.from_numpy(image) for image in images]):
        with pytest.raises(ValueError, match=r"\(4, 6\) and \(3, 6\). Resize"):
            rows_and_shape(X)
    rows, shape = rows_and_shape(images[:2])
    assert rows.shape == (2, 24)
    assert shape == (4, 6, 1)


def test_ragged_and_flat_input_is_left_to_the_validation():
    ragged = [[[1.0], [2.0, 3.0]], [[1.0], [2.0]]]
    assert rows_and_shape(ragged) == (ragged, None)
    assert rows_and_shape([1.0, 2.0])[1] is None


def test_short_shape_drops_a_single_channel():
    assert short_shape((4, 6, 1)) == (4, 6)
    assert short_shape((4, 6, 3)) == (4, 6, 3)
