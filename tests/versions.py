"""What only newer dependencies can do than the lowest that are supported."""

import importlib.metadata

import pytest

SCIPY = tuple(int(part) for part in importlib.metadata.version("scipy").split(".")[:2])
#: scikit-learn refuses to dispatch with an older SciPy.
array_api = pytest.mark.skipif(
    SCIPY < (1, 14), reason="array API dispatch needs SciPy 1.14 or newer"
)
