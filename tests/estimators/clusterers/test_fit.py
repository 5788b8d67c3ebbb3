"""What fits of deep clusterers share: histories."""

import numpy as np

from skdeepgmm.estimators.clusterers._fit import history_arrays


def test_histories_with_gaps():
    found = history_arrays([{"a": 1.0}, {"a": 2.0, "b": 3.0}])
    np.testing.assert_array_equal(found["b"], [np.nan, 3.0])
    assert history_arrays([]) == {}
