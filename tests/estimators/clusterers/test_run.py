"""Training runs of deep clusterers: interrupted, failed, and their history."""

import numpy as np
import pytest
import torch
from sklearn.exceptions import ConvergenceWarning

from skdeepgmm._torch_backend.training import TrainingConfig
from skdeepgmm.estimators.clusterers._run import (
    InterruptibleRun,
    history_arrays,
    warn_interrupted,
)
from skdeepgmm.exceptions import TrainingDivergedError


class Model:
    """Counts its steps; raises or diverges in the third."""

    step_scale = 1.0

    def __init__(self, error=None, loss=0.0):
        self.steps, self.error, self.loss = 0, error, loss

    def epoch(self):
        self.steps += 1
        if self.steps > 2 and self.error is not None:
            raise self.error
        return {"loss": torch.tensor(self.loss if self.steps > 2 else 1.0)}

    def state_dict(self):
        return {"steps": torch.tensor(self.steps)}

    def load_state_dict(self, state):
        """The count goes on, so that the loss stays bad."""


def run(model):
    result = InterruptibleRun()
    result(model, model.epoch, TrainingConfig(4), lambda state: False)
    return result


def test_a_whole_run():
    done = run(Model())
    assert (done.n_iter, done.interrupted) == (4, False)
    history = history_arrays(done.state.history)
    assert history["loss"].tolist() == [1.0, 1.0, 0.0, 0.0]


def test_an_interrupted_run_keeps_what_was_reached():
    done = run(Model(error=KeyboardInterrupt()))
    assert (done.n_iter, done.interrupted) == (2, True)
    with pytest.warns(ConvergenceWarning, match="after 2 of 4 steps"):
        warn_interrupted(done.n_iter, 4, "steps")


def test_a_run_goes_on_where_it_was():
    model, result = Model(), InterruptibleRun()
    for epochs in (1, 4):
        result(model, model.epoch, TrainingConfig(epochs), lambda _: False)
        assert result.n_iter == model.steps == epochs


def test_a_run_may_be_interrupted_before_its_first_iteration():
    model = Model(error=KeyboardInterrupt())
    model.steps = 5
    done = run(model)
    assert (done.n_iter, done.interrupted) == (0, True)


def test_the_first_ctrl_c_beside_training_is_noted_and_the_second_raises():
    run, calls = InterruptibleRun(), []

    def function():
        calls.append(None)
        if len(calls) in (1, 3):
            raise KeyboardInterrupt
        return "done"

    assert run.complete(function) == "done"
    assert run.interrupted
    with pytest.raises(KeyboardInterrupt):
        run.complete(function)


def test_divergence_is_the_packages_error():
    with pytest.raises(TrainingDivergedError, match="epoch 3"):
        run(Model(loss=float("nan")))


def test_histories_with_gaps():
    found = history_arrays([{"a": 1.0}, {"a": 2.0, "b": 3.0}])
    np.testing.assert_array_equal(found["b"], [np.nan, 3.0])
    assert history_arrays([]) == {}
