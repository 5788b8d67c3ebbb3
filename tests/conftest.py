"""Options, fixtures and the guard on global state shared by all tests."""

import os

import numpy as np
import pytest
import torch

# Pictures are drawn without a window.
os.environ.setdefault("MPLBACKEND", "Agg")


def pytest_addoption(parser):
    parser.addoption("--device", default="cpu", help="device the tests run on")
    parser.addoption(
        "--dtype",
        default="float64",
        choices=("float32", "float64"),
        help="floating point type of tests that use the dtype fixture",
    )


def pytest_collection_modifyitems(items):
    if torch.cuda.is_available():
        return
    skip = pytest.mark.skip(reason="needs a CUDA device")
    for item in items:
        if "cuda" in item.keywords:
            item.add_marker(skip)


@pytest.fixture(scope="session")
def device(request):
    """Name of the device to run on, from --device."""
    return request.config.getoption("--device")


@pytest.fixture(scope="session")
def dtype(request):
    """NumPy type to compute in, from --dtype."""
    return np.dtype(request.config.getoption("--dtype"))


@pytest.fixture(scope="session")
def torch_dtype(dtype):
    """Torch's name of the dtype fixture."""
    return getattr(torch, dtype.name)


@pytest.fixture
def rng():
    """NumPy generator with a fixed seed, fresh for each test."""
    return np.random.default_rng(0)


@pytest.fixture
def blobs(rng, dtype):
    """Three well separated groups: X of shape (300, 4) and labels of shape (300,)."""
    y = np.repeat(np.arange(3), 100)
    centers = np.array([[0, 0, 0, 0], [8, 0, 8, 0], [0, 8, 0, 8]])
    X = centers[y] + rng.normal(size=(300, 4))
    return X.astype(dtype), y


def _settings():
    return {
        "torch default dtype": torch.get_default_dtype(),
        "torch default device": torch.get_default_device(),
        "torch number of threads": torch.get_num_threads(),
        "torch gradient mode": torch.is_grad_enabled(),
        "torch deterministic mode": torch.are_deterministic_algorithms_enabled(),
        "float32 matmul precision": torch.get_float32_matmul_precision(),
        "NumPy error state": np.geterr(),
    }


def _random_states():
    states = {"torch": torch.get_rng_state().numpy().tobytes()}
    if torch.cuda.is_initialized():
        states["torch CUDA"] = torch.cuda.get_rng_state().numpy().tobytes()
    name, keys, position, *_ = np.random.get_state()  # noqa: NPY002
    states["NumPy legacy"] = (name, keys.tobytes(), position)
    return states


@pytest.fixture(autouse=True)
def global_state_is_untouched():
    """Fail a test that changes a global setting or draws from a global generator."""
    settings, states = _settings(), _random_states()
    yield
    assert _settings() == settings
    after = _random_states()
    changed = [name for name in states if after[name] != states[name]]
    assert not changed, f"global random state was used: {changed}"
