"""What training begins with, in the units of the standardised data."""

import pytest
import torch

from skdeepgmm._torch_backend.mixture.training_parameters import (
    RELATIVE_FLOOR,
    variance_floor,
)
from skdeepgmm._torch_backend.standardization import Standardization


@pytest.mark.parametrize(
    ("reg_covar", "relative", "expected"),
    [
        (0.04, False, [0.01, 0.0004]),  # variances 4 and 100
        (0.04, True, [0.04, 0.04]),
        (0.0, False, [RELATIVE_FLOOR] * 2),
        (0.0, True, [RELATIVE_FLOOR] * 2),
    ],
)
def test_the_floor_is_in_squared_units_of_the_data_or_a_share(
    reg_covar, relative, expected
):
    scale = torch.tensor([2.0, 10.0], dtype=torch.float64)
    standardization = Standardization(torch.zeros_like(scale), scale)
    found = variance_floor(standardization, reg_covar, relative)
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64))
