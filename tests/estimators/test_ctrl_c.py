"""Ctrl-C in fits of all iterative estimators."""

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
from skdeepgmm import DensityOutlierDetector
from skdeepgmm._torch_backend.clusterers.gan_em.trainer import GANEM
from skdeepgmm._torch_backend.deep_conv.network import Learner
from skdeepgmm._torch_backend.mixture.sgd import SGDMixture
from skdeepgmm.estimators.mixture._em_fit import EMFit
from tests.estimators import iterative
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


# Mixtures ------------------------------------------------------------------------

mixtures = pytest.mark.parametrize("family", ["em", "sgd", "deep"])


def stopped_after(family, number, **params):
    """Return the fit that a callback has ended after so many iterations."""
    construct, data = iterative.FAMILIES[family]
    stop = iterative.At(number, iterative.stop)
    return construct(**params).set_callbacks(stop).fit(data())


@mixtures
def test_ctrl_c_keeps_what_the_iterations_so_far_have_learned(family):
    construct, data = iterative.FAMILIES[family]
    model = construct().set_callbacks(iterative.At(2, iterative.ctrl_c))
    unit = "EM iterations" if family == "em" else "epochs"
    with pytest.warns(ConvergenceWarning, match=f"after 2 of 5 {unit}"):
        model.fit(data())
    expected = iterative.learned(stopped_after(family, 2))
    iterative.assert_same(iterative.learned(model), expected)


@pytest.mark.parametrize("family, owner", [("sgd", SGDMixture), ("deep", Learner)])
def test_ctrl_c_within_an_epoch_goes_back_to_the_last_one(family, owner, monkeypatch):
    construct, data = iterative.FAMILIES[family]
    steps, step = [], owner.step

    def interrupted(self, batch):
        steps.append(len(batch))
        losses = step(self, batch)
        if len(steps) == 2 * n_batches + 2:
            raise KeyboardInterrupt
        return losses

    monkeypatch.setattr(owner, "step", interrupted)
    n_batches = -(-len(data()) // 20)
    with pytest.warns(ConvergenceWarning, match="after 2 of 5 epochs"):
        model = construct(batch_size=20).fit(data())
    monkeypatch.undo()
    expected = stopped_after(family, 2, batch_size=20)
    iterative.assert_same(iterative.learned(model), iterative.learned(expected))


@pytest.mark.parametrize("family", ["em", "sgd"])
def test_ctrl_c_in_a_later_restart_keeps_the_best_one(family):
    construct, data = iterative.FAMILIES[family]
    model = construct(n_init=3).set_callbacks(iterative.At(6, iterative.ctrl_c))
    with pytest.warns(ConvergenceWarning, match="interrupted after"):
        model.fit(data())
    first = construct().fit(data())
    assert model.lower_bound_ >= first.lower_bound_
    assert model.n_iter_ in (1, 5)


@mixtures
def test_ctrl_c_before_the_end_of_an_iteration_leaves_no_trace(family, monkeypatch):
    construct, data = iterative.FAMILIES[family]
    model = construct()
    owner = {"em": EMFit, "sgd": SGDMixture, "deep": Learner}[family]
    name = "_initial" if family == "em" else "step"
    monkeypatch.setattr(owner, name, interrupt)
    before = dict(vars(model))
    with pytest.raises(KeyboardInterrupt):
        model.fit(data())
    assert vars(model) == before


@mixtures
def test_a_second_ctrl_c_leaves_a_mixture_as_it_was(family):
    construct, data = iterative.FAMILIES[family]
    model = construct().fit(data())
    before = iterative.learned(model)
    model._set_result = interrupt
    model.set_callbacks(iterative.At(2, iterative.ctrl_c))
    with pytest.raises(KeyboardInterrupt):
        model.fit(data() * 2.0)
    iterative.assert_same(iterative.learned(model), before)


@pytest.mark.parametrize("family", ["em", "sgd"])
def test_ctrl_c_in_a_chunk_of_a_stream_leaves_the_mixture_as_it_was(
    family, monkeypatch
):
    construct, data = iterative.FAMILIES[family]
    model = construct().partial_fit(data())
    before = iterative.learned(model)
    owner, name = {
        "em": (EMFit, "online_step"),
        "sgd": (SGDMixture, "step"),
    }[family]
    monkeypatch.setattr(owner, name, interrupt)
    with pytest.raises(KeyboardInterrupt):
        model.partial_fit(data())
    iterative.assert_same(iterative.learned(model), before)


def interrupted_in_the_third_iteration(monkeypatch):
    attributes, calls = EMFit._run, []

    def run(self, result, *arguments):
        calls.append(None)
        on_iteration = self.report.iteration

        def iteration(number, bound):
            if number == 3:
                raise KeyboardInterrupt
            on_iteration(number, bound)

        self.report.iteration = iteration
        return attributes(self, result, *arguments)

    monkeypatch.setattr(EMFit, "_run", run)
    return calls


def test_ctrl_c_in_the_mixture_of_a_denoiser_keeps_it(monkeypatch):
    interrupted_in_the_third_iteration(monkeypatch)
    X = list(np.random.RandomState(0).rand(2, 9, 9))
    with pytest.warns(ConvergenceWarning, match="after 3 of 5"):
        model = iterative.denoiser().fit(X)
    assert model.n_iter_ == 3


def test_ctrl_c_in_one_of_many_mixtures_ends_them_all(monkeypatch):
    calls = interrupted_in_the_third_iteration(monkeypatch)
    model = DensityOutlierDetector()
    with pytest.raises(KeyboardInterrupt):
        model.fit(iterative.rows())
    assert len(calls) == 1
    assert not hasattr(model, "offset_")


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


@mixtures
def test_ctrl_c_anywhere_leaves_a_whole_mixture(family):
    """Either fitted with a warning, or as it was."""
    construct, data = iterative.FAMILIES[family]
    X, model = data(), construct().fit(data())
    with CtrlCAt() as whole:
        model.fit(X)
    fitted = 0
    for place in np.linspace(1, whole.n_lines - 1, 50, dtype=int):
        model = construct()
        try:
            with CtrlCAt(place):
                model.fit(X)
        except KeyboardInterrupt:
            assert not iterative.learned(model)
        else:
            fitted += 1
            assert np.isfinite(model.score_samples(X)).all()
    assert 15 < fitted < 50
