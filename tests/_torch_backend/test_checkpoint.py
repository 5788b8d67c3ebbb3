"""States of trainings as plain arrays, and back."""

import numpy as np
import pytest
import torch

from skdeepgmm._torch_backend.checkpoint import check_like, to_arrays, to_tensors
from skdeepgmm._torch_backend.rng import new_generator
from skdeepgmm._torch_backend.training import (
    Best,
    EndlessBatches,
    TrainingState,
)

CPU = torch.device("cpu")


def tensors():
    x = torch.arange(24.0).reshape(2, 3, 4)
    return {
        "plain": x,
        "transposed": x[0].T,
        "permuted": x.permute(2, 0, 1),
        "expanded": x[0, 0].expand(3, 4),
        "part": x[:, 1:, ::2],
        "number": torch.tensor(3, dtype=torch.int32),
        "empty": torch.zeros(0, 2, dtype=torch.bool),
    }


@pytest.mark.parametrize("name", tensors())
def test_a_tensor_comes_back_as_it_was(name):
    tensor = tensors()[name]
    found = to_tensors(to_arrays([(tensor,)]), CPU)[0][0]
    assert (found.dtype, found.shape) == (tensor.dtype, tensor.shape)
    assert torch.equal(found, tensor)
    assert found.data_ptr() % 64 == 0 or not found.numel()


def test_the_memory_order_comes_back_as_well():
    for name in ("plain", "transposed", "permuted"):
        tensor = tensors()[name]
        assert to_tensors(to_arrays(tensor), CPU).stride() == tensor.stride()


def test_arrays_are_copies():
    tensor = torch.zeros(3)
    arrays = to_arrays({"a": tensor})
    tensor += 1.0
    assert not to_tensors(arrays, CPU)["a"].any()


def test_an_optimizer_goes_on_as_it_was():
    def run(steps, state=None, value=1.0):
        weight = torch.nn.Parameter(torch.tensor([value, -2.0]))
        optimizer = torch.optim.Adam([weight], lr=0.1, fused=True)
        if state is not None:
            weight.data = to_tensors(state[0], CPU)
            optimizer.load_state_dict(to_tensors(state[1], CPU))
        for _ in range(steps):
            optimizer.zero_grad()
            weight.square().sum().backward()
            optimizer.step()
        return weight.detach(), optimizer.state_dict()

    half = to_arrays(run(3))
    assert torch.equal(run(4, half, value=0.0)[0], run(7)[0])


@pytest.mark.parametrize("other", [torch.zeros(3), torch.zeros(2).double(), None])
def test_states_of_other_models_are_refused(other):
    mine = {"weights": torch.zeros(2), "steps": 3}
    check_like({"weights": torch.ones(2), "steps": 5}, mine)
    with pytest.raises(ValueError, match="weights does not fit"):
        check_like({"weights": other, "steps": 3}, mine)
    with pytest.raises(ValueError, match="another model"):
        check_like({"weights": torch.zeros(2)}, mine)


def test_the_state_of_a_run_comes_back():
    history = [{"loss": 1.5}, {"loss": 1.0, "score": -2.0}, {"score": -1.0}]
    best = Best(-1.0, {"weights": torch.ones(2)}, -2.0, 3)
    state, found = TrainingState(history, True, False, 2, best), TrainingState()
    found.load_state_dict(to_tensors(to_arrays(state.state_dict()), CPU))
    assert found.history == history
    assert [list(entry) for entry in found.history] == [list(e) for e in history]
    assert (found.converged, found.stopped, found.rollbacks) == (True, False, 2)
    assert torch.equal(found.best.state["weights"], best.state["weights"])
    assert (found.best.score, found.best.reference, found.best.waited) == (-1, -2, 3)


@pytest.mark.parametrize("done", [0, 1, 3, 8])
def test_batches_go_on_in_the_middle_of_a_pass(done):
    first, second = (EndlessBatches(50, 20, new_generator(0)) for _ in range(2))
    for _ in range(done):
        next(first)
    third = EndlessBatches(50, 20, new_generator(1))
    third.rest = first.rest
    third.draw.set_state(first.draw.get_state())
    expected = [next(second) for _ in range(done + 5)][done:]
    for batch in expected:
        np.testing.assert_array_equal(next(third), batch)
