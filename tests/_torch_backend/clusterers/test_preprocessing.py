"""The way of samples into the range of the networks, and back."""

import numpy as np
import pytest
import torch

from skdeepgmm._torch_backend.clusterers.preprocessing import (
    from_attribute,
    measured,
    network_shape,
)
from skdeepgmm._torch_backend.moments import Moments

CPU = torch.device("cpu")


@pytest.mark.parametrize("shape", [None, (8, 9, 1), (8, 9, 3)])
@pytest.mark.parametrize("output", ["sigmoid", "tanh", "linear"])
def test_preprocessing_is_undone_exactly(rng, shape, output):
    n_features = 5 if shape is None else int(np.prod(shape))
    X = 1e5 + 3.0 * rng.normal(size=(20, n_features))
    made = measured(X, shape, output)
    rows = made.to_network(X, CPU, torch.float64)
    if shape is not None:
        assert rows.shape == (20, shape[2], *shape[:2])
    np.testing.assert_allclose(made.from_network(rows).numpy(), X, rtol=1e-12)


@pytest.mark.parametrize("output, low", [("sigmoid", 0.0), ("tanh", -1.0)])
def test_images_fill_the_range_of_the_generator(rng, output, low):
    X = rng.normal(size=(30, 64))
    rows = measured(X, (8, 8, 1), output).to_network(X, CPU)
    assert rows.min().item() == pytest.approx(low, abs=1e-6)
    assert rows.max().item() == pytest.approx(1.0, abs=1e-6)
    assert rows.dtype == torch.float32


def test_vectors_are_standardised_feature_by_feature(rng):
    X = rng.normal(size=(50, 3)) * [1.0, 1e-6, 1e6] + [0.0, 1.0, -1e9]
    rows = measured(X, None, "linear").to_network(X, CPU).numpy()
    np.testing.assert_allclose(rows.mean(axis=0), 0.0, atol=1e-5)
    np.testing.assert_allclose(rows.std(axis=0), 1.0, rtol=1e-5)


@pytest.mark.parametrize("scale", [1e-300, 1e-20, 1e20, 1e200, 1e307])
def test_features_of_any_size_are_standardised(rng, scale):
    X = rng.normal(size=(50, 3))
    X /= np.abs(X).max()
    made = measured(X * scale, None, "linear")
    plain = measured(X, None, "linear")
    rows = made.to_network(X * scale, CPU)
    torch.testing.assert_close(rows, plain.to_network(X, CPU))


def test_units_against_overflow_cost_no_digits(rng):
    X = rng.normal(size=(50, 6)) * [1e-3, 0.3, 1.0, 3.0, 5.0, 1e5]
    plain = Moments.of(X, None, CPU)
    made = measured(X, None, "linear").standardization
    assert torch.equal(made.shift, plain.mean)
    assert torch.equal(made.scale, plain.variance.sqrt())


@pytest.mark.parametrize("output", ["sigmoid", "tanh", "linear"])
def test_a_range_beyond_float64_is_refused(output):
    X = np.array([[-1.7e308], [0.0], [1.7e308]])
    with pytest.raises(ValueError, match="range is beyond float64"):
        measured(X, None, output)


@pytest.mark.parametrize("value", [0.0, 0.1, 1e12])
@pytest.mark.parametrize("output", ["sigmoid", "linear"])
def test_constant_data_stay_finite(value, output):
    X = np.full((7, 64), value)
    shape = None if output == "linear" else (8, 8, 1)
    made = measured(X, shape, output)
    rows = made.to_network(X, CPU)
    assert torch.isfinite(rows).all()
    np.testing.assert_allclose(made.from_network(rows).numpy(), X, rtol=1e-6)


@pytest.mark.parametrize("output", ["sigmoid", "linear"])
def test_log_volume_is_the_determinant_of_the_way_back(rng, output):
    X = rng.normal(size=(40, 64)) * np.linspace(1, 5, 64)
    made = measured(X, (8, 8, 1) if output == "sigmoid" else None, output)
    rows = made.to_network(X[:1], CPU, torch.float64).requires_grad_()
    jacobian = torch.autograd.functional.jacobian(
        lambda r: made.from_network(r)[0], rows
    ).reshape(64, 64)
    expected = torch.linalg.slogdet(jacobian).logabsdet.item()
    assert made.log_volume(64) == pytest.approx(expected)


def test_tensors_and_arrays_have_the_same_preprocessing(rng):
    X = rng.normal(size=(20, 3))
    first, second = (measured(x, None, "linear") for x in (X, torch.tensor(X)))
    shifts = (each.standardization.shift for each in (first, second))
    assert torch.equal(*shifts)
    assert torch.equal(
        first.to_network(X, CPU), second.to_network(torch.tensor(X), CPU)
    )


@pytest.mark.parametrize("shape, output", [(None, "linear"), ((8, 8, 1), "tanh")])
def test_a_fitted_attribute_is_as_good(rng, shape, output):
    X = rng.normal(size=(20, 64))
    made = measured(X, shape, output)
    again = from_attribute(made.to_arrays(), shape)
    assert torch.equal(made.to_network(X, CPU), again.to_network(X, CPU))


@pytest.mark.parametrize(
    "image_shape, expected",
    [(None, (6,)), ((2, 3, 1), (6,)), ((8, 9, 3), (3, 8, 9)), ((7, 9, 1), (63,))],
)
def test_small_images_are_vectors(image_shape, expected):
    n_features = 6 if image_shape is None else int(np.prod(image_shape))
    assert network_shape(image_shape, n_features) == expected
