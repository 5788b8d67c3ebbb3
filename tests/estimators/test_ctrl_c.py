"""Ctrl-C in fits of GANEMClusterer and MinMaxEMClusterer."""

import linecache
import sys
from functools import cache
from inspect import CO_GENERATOR
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.exceptions import ConvergenceWarning

import skdeepgmm
from skdeepgmm._torch_backend.clusterers.gan_em.trainer import GANEM
from tests.estimators.clusterers.problems import (
    both,
    gan_em,
    interrupt,
    interrupted_once,
    minmax_em,
    with_fit,
    with_trainer,
)

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings(
        "ignore::skdeepgmm.exceptions.DegenerateComponentWarning"
    ),
]

PACKAGE = str(Path(skdeepgmm.__file__).parent)


def test_ctrl_c_while_the_e_net_starts_on_labels_keeps_the_fit(vectors):
    X, y = vectors
    calls = []

    def train_classifier(self, step, *arguments):
        calls.append(step)
        if len(calls) == 20:
            raise KeyboardInterrupt
        return GANEM._train_classifier(self, step, *arguments)

    model = gan_em(semi_supervised=True)
    with_trainer(model, _train_classifier=train_classifier)
    with pytest.warns(UserWarning, match="interrupted after 0 of"):
        model.fit(X, y)
    assert model.n_iter_ == 0
    assert np.isfinite(model.predict_proba(X)).all()


def test_ctrl_c_within_an_e_step_leaves_the_e_net_predicting(vectors):
    X, _ = vectors
    recipe = {"gan_steps": 5, "ema_decay": 0.0, "classifier_norm": "batch"}
    model = gan_em(recipe=recipe, init="uniform")
    with_trainer(model, _classifier_step=interrupt).fit(X)
    mean = model.predict_proba(X).mean(axis=0)
    np.testing.assert_allclose(model.weights_, mean, rtol=1e-5)


@both
def test_ctrl_c_before_training_restores_the_estimator(construct, vectors, monkeypatch):
    X, _ = vectors
    model = construct(init="kmeans")
    target = "skdeepgmm.estimators.clusterers._init_responsibilities.KMeans.fit"
    monkeypatch.setattr(target, interrupt)
    with pytest.raises(KeyboardInterrupt):
        model.fit(X)
    assert not hasattr(model, "n_features_in_")


@both
@pytest.mark.parametrize("where", ["attributes", "_labels"])
def test_ctrl_c_after_training_loses_nothing(construct, vectors, where):
    X, _ = vectors
    expected = construct(max_iter=2).fit(X)
    model = construct(max_iter=2)
    if where == "attributes":
        with_fit(model, attributes=interrupted_once(model._Fit, where))
    else:
        model._labels = interrupted_once(type(model), where).__get__(model)
    with pytest.warns(ConvergenceWarning, match="interrupted after 2 of 2"):
        model.fit(X)
    for name in ("labels_", "means_", "weights_"):
        np.testing.assert_array_equal(getattr(model, name), getattr(expected, name))


class InterruptedAtTheEnd:
    """A callback in whose last hook the user presses Ctrl-C."""

    def setup(self, estimator, context):
        pass

    def teardown(self, estimator, context):
        pass

    def on_fit_task_begin(self, estimator, context):
        pass

    def on_fit_task_end(self, estimator, context):
        if context.task_name == "fit":
            raise KeyboardInterrupt


@both
def test_ctrl_c_in_the_last_hook_of_a_callback_loses_nothing(construct, vectors):
    X, _ = vectors
    model = construct(max_iter=2).set_callbacks(InterruptedAtTheEnd())
    with pytest.warns(ConvergenceWarning, match="interrupted after 2 of 2"):
        model.fit(X)
    expected = construct(max_iter=2).fit(X)
    np.testing.assert_array_equal(model.predict_proba(X), expected.predict_proba(X))


@both
def test_a_second_ctrl_c_ends_the_fit_at_once(construct, vectors):
    X, _ = vectors
    model = construct()
    model._labels = interrupt
    with pytest.raises(KeyboardInterrupt):
        model.fit(X)
    assert not hasattr(model, "n_features_in_")


def test_ctrl_c_between_restarts_keeps_the_last_one(vectors):
    X, _ = vectors
    model = gan_em(n_init=2, init_iter=2, max_iter=3)
    with_fit(model, selection_score=interrupted_once(model._Fit, "selection_score"))
    with pytest.warns(ConvergenceWarning, match="interrupted after 2 of 3"):
        model.fit(X)
    assert np.isfinite(model.score(X))


def test_ctrl_c_between_initialization_and_training_of_minmax_em(vectors):
    X, _ = vectors
    model = minmax_em()
    trainer = model._Fit.Trainer
    with_trainer(model, _next_batches=interrupted_once(trainer, "_next_batches"))
    with pytest.warns(ConvergenceWarning, match="interrupted after 0 of 1"):
        model.fit(X)
    assert model.predict(X).shape == (60,)


@both
def test_ctrl_c_in_a_diverging_iteration_goes_back(construct, vectors):
    X, _ = vectors
    model = construct(max_iter=3)
    trainer = model._Fit.Trainer

    def em_iteration(self):
        result = trainer.em_iteration(self)
        if self.iteration == 2:
            with torch.no_grad():
                for parameter in self.generator.parameters():
                    parameter.fill_(np.nan)
            raise KeyboardInterrupt
        return result

    with pytest.warns(ConvergenceWarning, match="interrupted after 1 of 3"):
        with_trainer(model, em_iteration=em_iteration).fit(X)
    assert np.isfinite(model.means_).all()
    assert np.isfinite(model.sample(5)[0]).all()


# Anywhere ------------------------------------------------------------------------


class CtrlCAt:
    """Ctrl-C before a line of the package: the one run as the ``place``-th.

    Not by a timer: the same lines in every run, and never in what others run
    meanwhile, like the garbage collector, where Python drops the error. It would drop
    it in generators as they are closed, too: their lines do not count. Nor do those
    of ``with``, which run again as the block ends: no Ctrl-C comes between the two.
    """

    def __init__(self, place=None):
        self.place, self.n_lines = place, 0

    def __enter__(self):
        self.before = sys.gettrace()
        sys.settrace(self._trace)
        return self

    def __exit__(self, *error):
        sys.settrace(self.before)

    def _trace(self, frame, event, argument):
        code = frame.f_code
        if not code.co_filename.startswith(PACKAGE) or code.co_flags & CO_GENERATOR:
            return None
        if event == "line" and not is_with(code.co_filename, frame.f_lineno):
            self.n_lines += 1
            if self.n_lines == self.place:
                sys.settrace(None)
                raise KeyboardInterrupt
        return self._trace


@cache
def is_with(filename, number):
    return linecache.getline(filename, number).lstrip().startswith("with ")


@both
def test_ctrl_c_anywhere_leaves_a_whole_estimator(construct, images):
    """Either fitted with a warning, or as it was; as it was only rarely."""
    model = construct(max_iter=2).fit(images)
    with CtrlCAt() as whole:
        model.fit(images)
    # The last line returns: it may raise, but the estimator has been fitted.
    places = np.linspace(1, whole.n_lines - 1, 50, dtype=int)
    fitted = [
        _is_fitted_despite_ctrl_c(construct(max_iter=2), images, place)
        for place in places
    ]
    assert 30 < sum(fitted) < 50


def _is_fitted_despite_ctrl_c(model, images, place):
    try:
        with CtrlCAt(place) as interrupted:
            model.fit(images)
    except KeyboardInterrupt:
        assert not hasattr(model, "n_features_in_")
        return False
    assert interrupted.n_lines >= place
    assert model.predict(images).shape == (40,)
    return True
