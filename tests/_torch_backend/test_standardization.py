"""Standardization: there and back, of features and of channels."""

import numpy as np
import pytest
import torch

from skdeepgmm._torch_backend.moments import Moments
from skdeepgmm._torch_backend.standardization import (
    Standardization,
    from_arrays,
    from_image_moments,
    from_moments,
)

CPU = torch.device("cpu")


@pytest.fixture
def rows():
    rng = np.random.default_rng(0)
    return rng.normal(size=(500, 6)) * [1, 2, 3, 4, 5, 6] + [6, 5, 4, 3, 2, 1]


def moments(X):
    return Moments.of(X, None, CPU)


def test_the_inverse_undoes_it(rows):
    x = torch.from_numpy(rows)
    standardization = from_moments(moments(rows))
    torch.testing.assert_close(standardization.inverse(standardization(x)), x)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_columns_are_the_transposed_rows_to_the_bit(rows, dtype):
    x = torch.from_numpy(rows).to(dtype)
    units = from_moments(moments(rows))
    for part in (x, x[:1], x[::3], x.T.contiguous().T):
        found = units.columns(part)
        assert found.is_contiguous()
        assert found.dtype == dtype
        assert torch.equal(found, units(part).T)


def test_features_get_mean_zero_and_variance_one(rows):
    found = from_moments(moments(rows))(torch.from_numpy(rows)).numpy()
    np.testing.assert_allclose(found.mean(axis=0), 0.0, atol=1e-12)
    np.testing.assert_allclose(found.std(axis=0), 1.0)


def test_isotropic_features_keep_their_proportions(rows):
    found = from_moments(moments(rows), isotropic=True)
    np.testing.assert_allclose(found.scale, np.sqrt(rows.var(axis=0).mean()))


def test_channels_repeat_along_rows_of_pixels(rows):
    found = from_image_moments(moments(rows), 3, torch.float64)
    pixels = rows.reshape(-1, 3)
    np.testing.assert_allclose(found.shift, pixels.mean(axis=0))
    spread = ((pixels - pixels.mean(axis=0)) ** 2).mean()
    np.testing.assert_allclose(found.scale, np.sqrt(spread))
    by_pixels = found(torch.from_numpy(rows.reshape(-1, 2, 3)))
    torch.testing.assert_close(found(torch.from_numpy(rows)), by_pixels.flatten(1))


def test_the_volume_is_that_of_the_change_of_variables(rows):
    found = from_image_moments(moments(rows), 3, torch.float64)
    _, scale = found.repeated(torch.zeros(1, 6, dtype=torch.float64))
    assert found.log_volume(6) == pytest.approx(float(scale.log().sum()))
    features = from_moments(moments(rows))
    assert features.log_scale == pytest.approx(float(features.scale.log().sum()))


@pytest.mark.parametrize("value", [0.0, 3.0, 1e9 + 0.1])
def test_constant_data_keep_their_units(value):
    X = np.full((10, 2), value)
    for n_channels in (None, 1, 2):
        found = from_image_moments(moments(X), n_channels, torch.float64)
        np.testing.assert_array_equal(found.scale, 1.0)
    np.testing.assert_array_equal(from_moments(moments(X[:, :1] * 0.0)).scale, 1.0)


def test_values_too_large_are_refused():
    with pytest.raises(ValueError, match="variance overflows"):
        from_image_moments(moments(np.eye(3) * 1e300), None, torch.float64)


def test_fitted_attributes_restore_it(rows):
    found = from_moments(moments(rows))
    again = from_arrays(found.shift.numpy(), found.scale.numpy(), CPU)
    assert isinstance(again, Standardization)
    torch.testing.assert_close(again.shift, found.shift, rtol=0, atol=0)
    torch.testing.assert_close(again.scale, found.scale, rtol=0, atol=0)


def test_a_constant_feature_far_from_zero_has_unit_scale():
    X = torch.full((500, 2), 7.3, dtype=torch.float64)
    X[:, 1] += torch.linspace(-1.0, 1.0, 500, dtype=torch.float64)
    moments = Moments.none(2, torch.device("cpu"))
    for part in X.split(33):
        moments = moments.merged(part)
    scale = from_moments(moments).scale
    assert float(scale[0]) == 1.0
    assert float(scale[1]) == pytest.approx(float(X[:, 1].std(correction=0)))
