"""What deep clusterers share: units of the networks, interrupted and failed runs."""

import numpy as np
import pytest
import torch
from sklearn.exceptions import ConvergenceWarning

from skdeepgmm._torch_backend.training import TrainingConfig
from skdeepgmm.estimators._neural_base import (
    InterruptibleRun,
    NetworkUnits,
    history_arrays,
    warn_interrupted,
)
from skdeepgmm.exceptions import TrainingDivergedError

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


class Model:
    """Counts its steps; raises or diverges in the third."""

    step_scale = 1.0

    def __init__(self, error=None, loss=0.0):
        self.steps, self.error, self.loss = 0, error, loss

    def step(self, batch):
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
    result(model, lambda: iter([None]), TrainingConfig(4), lambda state: False)
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
        result(model, lambda: iter([None]), TrainingConfig(epochs), lambda _: False)
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
