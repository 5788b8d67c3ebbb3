"""What deep clusterers share: the units of their networks."""

import numpy as np
import pytest
import torch

from skdeepgmm.estimators.clusterers._base import NetworkUnits

CPU = torch.device("cpu")


@pytest.mark.parametrize("shape", [None, (8, 9, 1), (8, 9, 3)])
@pytest.mark.parametrize("output", ["sigmoid", "tanh", "linear"])
def test_units_are_undone_exactly(rng, shape, output):
    n_features = 5 if shape is None else int(np.prod(shape))
    X = 1e5 + 3.0 * rng.normal(size=(20, n_features))
    units = NetworkUnits.of(X, shape, output)
    rows = units.to_network(X, CPU, torch.float64)
    if shape is not None:
        assert rows.shape == (20, shape[2], *shape[:2])
    np.testing.assert_allclose(units.from_network(rows).numpy(), X, rtol=1e-12)


@pytest.mark.parametrize("output, low", [("sigmoid", 0.0), ("tanh", -1.0)])
def test_images_fill_the_range_of_the_generator(rng, output, low):
    X = rng.normal(size=(30, 64))
    rows = NetworkUnits.of(X, (8, 8, 1), output).to_network(X, CPU)
    assert rows.min().item() == pytest.approx(low, abs=1e-6)
    assert rows.max().item() == pytest.approx(1.0, abs=1e-6)
    assert rows.dtype == torch.float32


def test_vectors_are_standardised_feature_by_feature(rng):
    X = rng.normal(size=(50, 3)) * [1.0, 1e-6, 1e6] + [0.0, 1.0, -1e9]
    rows = NetworkUnits.of(X, None, "linear").to_network(X, CPU).numpy()
    np.testing.assert_allclose(rows.mean(axis=0), 0.0, atol=1e-5)
    np.testing.assert_allclose(rows.std(axis=0), 1.0, rtol=1e-5)


@pytest.mark.parametrize("scale", [1e-300, 1e-20, 1e20, 1e200, 1e307])
def test_units_of_any_size_standardise(rng, scale):
    X = rng.normal(size=(50, 3))
    X /= np.abs(X).max()
    units = NetworkUnits.of(X * scale, None, "linear")
    plain = NetworkUnits.of(X, None, "linear")
    rows = units.to_network(X * scale, CPU)
    torch.testing.assert_close(rows, plain.to_network(X, CPU))


@pytest.mark.parametrize("output", ["sigmoid", "tanh", "linear"])
def test_a_range_beyond_float64_is_refused(output):
    X = np.array([[-1.7e308], [0.0], [1.7e308]])
    with pytest.raises(ValueError, match="range is beyond float64"):
        NetworkUnits.of(X, None, output)


@pytest.mark.parametrize("value", [0.0, 0.1, 1e12])
@pytest.mark.parametrize("output", ["sigmoid", "linear"])
def test_constant_data_stay_finite(value, output):
    X = np.full((7, 64), value)
    shape = None if output == "linear" else (8, 8, 1)
    units = NetworkUnits.of(X, shape, output)
    rows = units.to_network(X, CPU)
    assert torch.isfinite(rows).all()
    np.testing.assert_allclose(units.from_network(rows).numpy(), X, rtol=1e-6)


@pytest.mark.parametrize("output", ["sigmoid", "linear"])
def test_log_volume_is_the_determinant_of_the_way_back(rng, output):
    X = rng.normal(size=(40, 64)) * np.linspace(1, 5, 64)
    units = NetworkUnits.of(X, (8, 8, 1) if output == "sigmoid" else None, output)
    rows = units.to_network(X[:1], CPU, torch.float64).requires_grad_()
    jacobian = torch.autograd.functional.jacobian(
        lambda r: units.from_network(r)[0], rows
    ).reshape(64, 64)
    expected = torch.linalg.slogdet(jacobian).logabsdet.item()
    assert units.log_volume(64) == pytest.approx(expected)


def test_tensors_and_arrays_have_the_same_units(rng):
    X = rng.normal(size=(20, 3))
    first, second = (NetworkUnits.of(x, None, "linear") for x in (X, torch.tensor(X)))
    np.testing.assert_array_equal(first.offset, second.offset)
    assert torch.equal(
        first.to_network(X, CPU), second.to_network(torch.tensor(X), CPU)
    )
