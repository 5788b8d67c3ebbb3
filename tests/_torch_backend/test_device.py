"""Names of devices."""

import pytest
import torch

from skdeepgmm._torch_backend.device import resolve_device


def test_auto_takes_cuda_exactly_when_present(monkeypatch):
    for present, expected in ((True, "cuda"), (False, "cpu")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda present=present: present)
        assert resolve_device("auto").type == expected


def test_auto_follows_a_tensor():
    assert resolve_device("auto", torch.zeros(1)).type == "cpu"
    assert resolve_device("auto", torch.zeros(1, device="meta")).type == "meta"


def test_a_name_wins_over_the_tensor():
    assert resolve_device("cpu", torch.zeros(1, device="meta")).type == "cpu"


@pytest.mark.parametrize("name", ["gpu", "", "cuda:x", "cuda:-1", "cpu:"])
def test_unknown_names_say_what_is_allowed(name):
    with pytest.raises(ValueError, match="device must be 'auto', 'cpu', 'cuda'"):
        resolve_device(name)


@pytest.mark.parametrize("name", ["mps", "meta", "xpu"])
def test_other_backends_are_refused(name):
    with pytest.raises(ValueError, match="CPU or CUDA device"):
        resolve_device(name)


@pytest.mark.parametrize(
    "name, count, fails",
    [("cuda", 0, True), ("cuda", 1, False), ("cuda:1", 1, True), ("cuda:1", 2, False)],
)
def test_a_missing_cuda_device_is_named(monkeypatch, name, count, fails):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    if not fails:
        assert resolve_device(name) == torch.device(name)
        return
    with pytest.raises(ValueError, match=f"device='{name}'.*{count} CUDA devices"):
        resolve_device(name)
