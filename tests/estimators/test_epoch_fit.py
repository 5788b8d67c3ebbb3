"""The trainer of models that learn by epochs: split, history, early stopping."""

import numpy as np
import pytest
import torch

from skdeepgmm import SGDGaussianMixture
from skdeepgmm._torch_backend.rng import new_generator
from skdeepgmm._torch_backend.rows import TrainingRows
from skdeepgmm._torch_backend.standardization import from_arrays
from skdeepgmm.estimators._epoch_fit import (
    EpochFit,
    default_batch_size,
    joined,
    set_history,
)
from skdeepgmm.exceptions import TrainingDivergedError

CPU = torch.device("cpu")
#: What standardization adds to a log-density.
VOLUME = 3.0


class Model:
    """Learns the mean of a feature: its log-likelihood is minus the squared error."""

    annealed = False

    def __init__(self, plan, broken):
        self.plan, self.broken = plan, broken
        self.mean, self.step_scale, self.seen = torch.zeros(()), 1.0, []

    def step(self, batch):
        x, weight = batch
        self.seen.append((x, weight))
        error = (x - self.mean).mean()
        self.mean = self.mean + 0.5 * self.step_scale * error
        value = -error.square() + (torch.nan if self.broken else 0.0)
        return {"loss": -value, "log_likelihood": value}

    def state_dict(self):
        return {"mean": self.mean}

    def load_state_dict(self, state):
        self.mean = state["mean"].clone()


class Fit(EpochFit):
    """A fit of :class:`Model` to 0, 1, ..., n - 1."""

    def __init__(self, n_samples=40, weight=None, broken=False, skip=False, **settings):
        estimator = SGDGaussianMixture(5, **settings)
        super().__init__(estimator, {"X": None}, 5, "log_likelihood")
        X = np.arange(float(n_samples))[:, None]
        self.rows = TrainingRows(
            *(X, from_arrays([0.0], [1.0], CPU), CPU),
            sample_weight=weight,
            skip_weightless=skip,
        )
        self.batch_size, self.broken = 8, broken
        self.generator = new_generator(0)

    def new_model(self, total_steps):
        return Model(total_steps, self.broken)

    def attributes(self, model):
        return {"mean_": float(model.mean)}

    def _held_out_score(self, model, index):
        return lambda: self.rows.mean(
            lambda x: -(x - model.mean).square().mean(), index, 9
        )

    def _log_volume(self, name):
        return VOLUME


def seen(model):
    """Return the samples of all steps, sorted."""
    return sorted(torch.cat([x for x, _ in model.seen])[:, 0].tolist())


def test_every_epoch_sees_all_samples():
    model, state = Fit(max_iter=3).run(None)
    assert seen(model) == sorted(3 * list(range(40)))
    assert model.plan == 15
    assert len(state.history) == 3
    assert float(model.mean) == pytest.approx(19.5, abs=8.0)


def test_held_out_samples_are_not_trained_on():
    fit = Fit(max_iter=2, early_stopping=True, validation_fraction=0.3)
    model, state = fit.run(None)
    assert len(set(seen(model))) == 28
    assert all("score" in entry for entry in state.history)


def test_early_stopping_ends_without_progress():
    settings = {"early_stopping": True, "n_iter_no_change": 2, "tol": 1e6}
    _, state = Fit(max_iter=50, **settings).run(None)
    assert state.converged
    assert len(state.history) == 3


def test_a_split_that_leaves_too_few_samples_is_refused():
    fit = Fit(n_samples=20, early_stopping=True, validation_fraction=0.8)
    with pytest.raises(ValueError, match=r"leaves 4 of 20 samples.*n_components=5"):
        fit.run(None)


@pytest.mark.parametrize("skip", [False, True])
def test_samples_of_weight_zero_are_skipped_where_the_model_says_so(skip):
    weight = np.ones(40)
    weight[30:] = 0.0
    fit = Fit(weight=weight, skip=skip, max_iter=1)
    count = 30 if skip else 40
    model, _ = fit.run(None)
    assert seen(model) == list(range(count))
    model = fit.new_model(1)
    fit.one_pass(model)
    assert seen(model) == list(range(count))


def test_a_loss_that_stays_non_finite_raises():
    with pytest.raises(TrainingDivergedError, match="learning_rate"):
        Fit(broken=True).run(None)


def test_the_history_is_in_units_of_the_data():
    fit = Fit(max_iter=2)
    _, state = fit.run(None)
    found = fit.history(state)
    raw = np.array([entry["log_likelihood"] for entry in state.history])
    np.testing.assert_array_equal(found["log_likelihood"], raw - VOLUME)
    np.testing.assert_array_equal(found["loss"], -raw + VOLUME)
    assert fit.bound(state.history[0]) == raw[0] - VOLUME
    longer = fit.history(state, found)
    np.testing.assert_array_equal(longer["loss"], np.tile(found["loss"], 2))


def test_one_line_is_printed_for_each_epoch(capsys):
    Fit(max_iter=4, verbose=1).run(None)
    lines = capsys.readouterr().out.splitlines()
    assert sum("left" in line for line in lines) == 4


def test_histories_are_joined_with_gaps():
    earlier = {"loss": np.array([1.0, 2.0]), "score": np.array([3.0, 4.0])}
    found = joined(earlier, {"loss": np.array([5.0]), "new": np.array([6.0])})
    np.testing.assert_array_equal(found["loss"], [1.0, 2.0, 5.0])
    np.testing.assert_array_equal(found["score"], [3.0, 4.0, np.nan])
    np.testing.assert_array_equal(found["new"], [np.nan, np.nan, 6.0])
    np.testing.assert_array_equal(joined({}, found)["new"], found["new"])


def test_attributes_of_the_history_belong_together():
    model = SGDGaussianMixture()
    history = {"loss": np.array([2.0, 1.0]), "log_likelihood": np.array([-2.0, -1.0])}
    set_history(model, history, "log_likelihood", np.True_)
    assert model.lower_bounds_ == [-2.0, -1.0]
    assert model.lower_bound_ == -1.0
    assert model.n_iter_ == 2
    assert model.converged_ is True


@pytest.mark.parametrize(
    "n_samples, least, expected", [(10, 1, 10), (400, 1, 16), (4000, 1, 100)]
)
def test_the_default_batch_is_a_share_of_the_data(n_samples, least, expected):
    assert default_batch_size(n_samples, least, 200) == expected


def test_the_default_batch_keeps_its_bounds():
    assert default_batch_size(10**6, 1, 200) == 200
    assert default_batch_size(1000, 64, 200) == 64
