"""The training loop on a model small enough to follow by hand."""

import copy

import pytest
import torch

from skdeepgmm._torch_backend.training import (
    DivergenceError,
    TrainingConfig,
    batched,
    shuffled,
    train,
)


class Quadratic:
    """Minimises (w - 3)^2 by gradient descent; batches are targets."""

    def __init__(self, rate=0.1):
        self.w = torch.zeros((), dtype=torch.float64)
        self.rate = rate
        self.step_scale = 1.0
        self.seen = []

    def step(self, batch):
        self.seen.append(float(batch))
        error = self.w - batch
        self.w = self.w - 2 * self.rate * self.step_scale * error
        return {"loss": error.square()}

    def state_dict(self):
        return {"w": self.w}

    def load_state_dict(self, state):
        self.w = state["w"]


def fit(model, batches, *args, **kwargs):
    return train(model, batched(model, batches), *args, **kwargs)


def threes(count=4):
    return lambda: iter([torch.tensor(3.0, dtype=torch.float64)] * count)


def test_parameters_move_and_loss_improves_every_epoch():
    model = Quadratic()
    result = fit(model, threes(), TrainingConfig(epochs=6))
    losses = [entry["loss"] for entry in result.history]
    assert result.epoch == 6
    assert losses == sorted(losses, reverse=True)
    assert len(set(losses)) == 6
    assert model.w == pytest.approx(3.0, abs=0.05)
    assert not result.converged
    assert not result.stopped


def test_history_holds_the_epoch_mean():
    result = fit(Quadratic(rate=0.0), threes(), TrainingConfig(epochs=1))
    assert result.history == [{"loss": 9.0}]


def test_hook_sees_every_epoch_and_stops_the_run():
    epochs = []

    def on_epoch(state):
        epochs.append(state.epoch)
        return state.epoch == 3

    result = fit(Quadratic(), threes(), TrainingConfig(epochs=10), on_epoch)
    assert epochs == [1, 2, 3]
    assert result.stopped
    assert not result.converged


def test_non_finite_loss_rolls_back_to_the_last_good_state_with_half_the_step():
    model = Quadratic()
    poisoned = [3.0, float("nan"), 3.0]
    epochs = iter([[3.0] * 3, poisoned, [3.0] * 3, [3.0] * 3])
    good = []

    def batches():
        good.append(copy.deepcopy(float(model.w)))
        return iter(torch.tensor(next(epochs), dtype=torch.float64))

    result = fit(model, batches, TrainingConfig(epochs=3))
    assert result.epoch == 3
    assert model.step_scale == 0.5
    assert good[2] == good[1]  # the poisoned epoch left no trace
    assert torch.isfinite(model.w)


def test_too_large_a_step_recovers():
    model = Quadratic(rate=1e200)
    result = fit(model, threes(40), TrainingConfig(epochs=2, rollbacks=1200))
    assert result.epoch == 2
    assert 0.0 < model.step_scale < 1.0
    assert torch.isfinite(model.w)


def test_divergence_that_smaller_steps_do_not_cure_is_an_error():
    def batches():
        return iter([torch.tensor(float("nan"))])

    with pytest.raises(DivergenceError, match=r"epoch 1.*Lower learning_rate"):
        fit(Quadratic(), batches, TrainingConfig(epochs=2, rollbacks=3))


def test_early_stopping_restores_the_best_state():
    model = Quadratic()
    scores = iter([None, 1.0, 5.0, 4.0, 3.0, 2.0, 9.0])
    weights = []

    def score():
        weights.append(float(model.w))
        return next(scores)

    config = TrainingConfig(epochs=7, patience=3)
    result = fit(model, threes(), config, score=score)
    assert result.converged
    assert result.epoch == 6
    assert float(model.w) == weights[2]
    assert [entry.get("score") for entry in result.history][:3] == [None, 1.0, 5.0]


def test_gains_below_the_tolerance_do_not_count_as_progress():
    scores = iter([0.0, 0.001, 0.002, 0.003, 0.004, 0.005])
    config = TrainingConfig(epochs=6, tol=0.01, patience=2)
    result = fit(Quadratic(), threes(), config, score=lambda: next(scores))
    assert result.converged
    assert result.epoch == 3


@pytest.mark.parametrize(
    ("n_samples", "batch_size"), [(10, 3), (10, 20), (1, 1), (100, 100), (101, 100)]
)
def test_an_epoch_visits_every_row_once_in_balanced_batches(n_samples, batch_size):
    draw = torch.Generator().manual_seed(0)
    parts = list(shuffled(n_samples, batch_size, draw))
    sizes = [len(part) for part in parts]
    assert sorted(torch.cat(parts).tolist()) == list(range(n_samples))
    assert max(sizes) <= batch_size
    assert max(sizes) - min(sizes) <= 1


def test_epochs_differ_and_the_seed_repeats_them():
    def orders(seed):
        draw = torch.Generator().manual_seed(seed)
        return [torch.cat(list(shuffled(50, 7, draw))).tolist() for _ in range(2)]

    first, second = orders(0)
    assert first != second
    assert orders(0) == [first, second]
    assert orders(1)[0] != first
