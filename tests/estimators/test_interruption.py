"""Ctrl-C as a context, and what it leaves of a training."""

import pytest
import torch
from sklearn.exceptions import ConvergenceWarning

from skdeepgmm._torch_backend.training import TrainingConfig, TrainingState, train
from skdeepgmm.estimators._interruption import Interruption, part_of_another


class Model:
    """Counts its iterations; raises in the third."""

    step_scale = 1.0

    def __init__(self, error=None):
        self.steps, self.error = 0, error

    def epoch(self):
        self.steps += 1
        if self.steps > 2 and self.error is not None:
            raise self.error
        return {"loss": torch.tensor(1.0)}

    def state_dict(self):
        return {"steps": torch.tensor(self.steps)}

    def load_state_dict(self, state):
        self.steps = int(state["steps"])


def run(model, n_iter=4, state=None):
    """Train; returns the state and the interruption."""
    interruption = Interruption()
    state = TrainingState() if state is None else state
    with interruption:
        train(model, model.epoch, TrainingConfig(n_iter), state=state)
    return state, interruption


def test_a_whole_run():
    state, interruption = run(Model())
    assert (state.epoch, interruption.happened) == (4, False)


def test_an_interrupted_run_keeps_what_was_reached():
    state, interruption = run(Model(error=KeyboardInterrupt()))
    assert (state.epoch, interruption.happened) == (2, True)
    with pytest.warns(ConvergenceWarning, match="after 2 of 4 EM iterations"):
        interruption.warn(state.epoch, 4)


def test_a_run_goes_on_where_it_was():
    model, state = Model(), TrainingState()
    for epochs in (1, 4):
        run(model, epochs, state)
        assert state.epoch == model.steps == epochs


def test_a_run_may_be_interrupted_before_its_first_iteration():
    model = Model(error=KeyboardInterrupt())
    model.steps = 5
    state, interruption = run(model)
    assert (state.epoch, interruption.happened) == (0, True)


def test_the_first_ctrl_c_beside_training_is_noted_and_the_second_raises():
    interruption, calls = Interruption(), []

    def function():
        calls.append(None)
        if len(calls) in (1, 3):
            raise KeyboardInterrupt
        return "done"

    assert interruption.complete(function) == "done"
    assert interruption.happened
    with pytest.raises(KeyboardInterrupt):
        interruption.complete(function)


def test_nested_contexts_note_it_once():
    interruption = Interruption()
    with interruption:
        with interruption:
            raise KeyboardInterrupt
        reached = True
    assert reached
    assert interruption.happened


@pytest.mark.filterwarnings("error")
def test_without_ctrl_c_there_is_no_warning():
    Interruption().warn(4, 4)


def test_other_errors_pass():
    interruption = Interruption()
    with pytest.raises(ValueError, match="other"), interruption:
        raise ValueError("other")
    assert not interruption.happened


def test_a_second_one_on_the_way_out_raises():
    def twice():
        try:
            raise KeyboardInterrupt
        finally:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), Interruption():
        twice()


def test_in_a_part_of_another_fit_the_first_one_raises():
    with part_of_another():
        interruption = Interruption()
        with pytest.raises(KeyboardInterrupt), interruption:
            raise KeyboardInterrupt
    assert not Interruption().raises
