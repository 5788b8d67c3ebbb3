"""Course of a fit of GANEMClusterer: restarts, reruns, interruption, callbacks."""

import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.exceptions import ConvergenceWarning

from skdeepgmm import GANEMClusterer
from skdeepgmm._torch_backend.clusterers.gan_em.recipes import Recipe
from skdeepgmm._torch_backend.clusterers.gan_em.trainer import GANEM, GANEMConfig
from skdeepgmm._torch_backend.training import TrainingState
from skdeepgmm.estimators.clusterers.gan_em import _settings
from skdeepgmm.estimators.clusterers.gan_em._fit import kernels_of
from skdeepgmm.estimators.clusterers.gan_em._restart import Restart, is_collapsed
from skdeepgmm.exceptions import DegenerateComponentWarning
from tests.estimators.clusterers.gan_em.problems import same, short
from tests.estimators.clusterers.problems import with_fit, with_trainer

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings(
        "ignore::skdeepgmm.exceptions.DegenerateComponentWarning"
    ),
]


def test_whole_runs_are_compared_by_their_score(blobs):
    X, _ = blobs
    kept = short(n_init=3, init_iter=3).fit(X)
    assert kept.quality_ >= short().fit(X).quality_
    assert kept.n_iter_ == 3


@pytest.mark.parametrize("better", [0, 1])
def test_the_best_restart_goes_on(blobs, better):
    X, _ = blobs
    runs = []

    def score(self, model):
        runs.append(model)
        return float(len(runs) == better + 1)

    several = with_fit(short(n_init=2), selection_score=score).fit(X)
    first, second, kept = runs
    assert kept is runs[better]
    # The other restart has one iteration of three.
    assert [first.iteration, second.iteration] == ([3, 1] if better == 0 else [1, 3])
    if better == 0:
        # The first restart is the only one of a fit with one.
        same(several, short(n_init=1).fit(X), X)


class IterationRecorder:
    """Notes to which task every iteration belongs."""

    def __init__(self):
        self.parents = []

    def setup(self, estimator, context):
        """Nothing to prepare."""

    def teardown(self, estimator, context):
        """Nothing to end."""

    def on_fit_task_begin(self, estimator, context):
        """Tasks are recorded at their end."""

    def on_fit_task_end(self, estimator, context):
        if context.task_name == "iteration":
            self.parents.append(context.parent.task_id)


def small_images():
    return np.random.default_rng(0).random((40, 64)).astype(np.float32)


def test_two_whole_runs_of_small_images():
    X = small_images()
    recorder = IterationRecorder()
    clusterer = short(image_shape=(8, 8), n_init=2, max_iter=4, tol=0.0)
    clusterer.set_callbacks(recorder).fit(X)
    assert recorder.parents == [0] * 4 + [1] * 4
    assert clusterer.n_iter_ == 4


def test_a_converged_whole_run_is_not_trained_on(blobs):
    X, _ = blobs
    params = {"max_iter": 20, "init_iter": 20, "tol": 1.0}
    one, two = short(n_init=1, **params).fit(X), short(n_init=2, **params).fit(X)
    # Six iterations hold the initial responsibilities, and five more have to be steady.
    assert one.n_iter_ == two.n_iter_ == 11


def test_a_whole_run_is_kept_when_the_next_is_interrupted(blobs):
    X, _ = blobs
    iterations = []

    def em_iteration(self):
        iterations.append(self)
        if len(iterations) == 4:
            raise KeyboardInterrupt
        return GANEM.em_iteration(self)

    found = with_fit(
        short(n_init=2, init_iter=3), selection_score=lambda self, model: 0.0
    )
    with_trainer(found, em_iteration=em_iteration)
    with pytest.warns(ConvergenceWarning, match="interrupted"):
        found.fit(X)
    same(found, short(n_init=1).fit(X), X)


def restart_that_has(**members):
    """Return a subclass of Restart, and the list that notes its instances."""
    runs = []

    class Noted(Restart):
        def __init__(self, fit, model):
            super().__init__(fit, model)
            runs.append(self)

    return type("Noted", (Noted,), members), runs


def test_a_collapsed_run_is_not_chosen(blobs):
    X, _ = blobs

    def collapsed(self, state):
        return self.n_iter == 3 and len(runs) == 2

    restart, runs = restart_that_has(_has_collapsed=collapsed)
    # By score the second, collapsed one would be chosen.
    scores = iter([0.0, 1.0, 0.0])
    model = with_fit(
        short(n_init=2, init_iter=3),
        Restart=restart,
        selection_score=lambda self, model: next(scores),
    )
    model.fit(X)
    assert [run.collapsed for run in runs] == [False, True]


def test_callbacks_see_every_restart(blobs):
    recorder = IterationRecorder()
    clusterer = short(n_init=2, max_iter=4)
    clusterer.set_callbacks(recorder).fit(blobs[0])
    # One iteration of each restart, and the other three.
    assert recorder.parents == [0, 1, 2, 2, 2]


@pytest.mark.parametrize("n_init, n_iterations", [(1, 4 * 3), (2, 2 * 1 + 3 + 4 * 2)])
def test_callbacks_see_reruns(blobs, n_init, n_iterations):
    def collapsed_at_last(self):
        found = GANEM._observe(self)
        if self.iteration == 4:
            found["n_effective"] = torch.tensor(1.0)
        return found

    recorder = IterationRecorder()
    clusterer = short(n_init=n_init, max_iter=4).set_callbacks(recorder)
    with_trainer(clusterer, _observe=collapsed_at_last)
    assert clusterer.fit(blobs[0]).n_iter_ == 4
    # Two reruns.
    assert len(recorder.parents) == n_iterations


LARGE, SMALL, VECTOR = (1, 28, 28), (1, 8, 8), (64,)


@pytest.mark.parametrize(
    "params, shape, n_iter, expected",
    [
        ({}, LARGE, 50, 3),
        ({}, LARGE, 49, 1),
        ({}, SMALL, 50, 1),
        ({"recipe": "released"}, LARGE, 50, 1),
        ({}, VECTOR, 50, 1),
        ({"n_init": 3}, VECTOR, 5, 3),
        ({"semi_supervised": True}, LARGE, 50, 1),
        ({"init": "kmeans"}, LARGE, 50, 1),
    ],
)
def test_default_number_of_initializations(params, shape, n_iter, expected):
    n_init = _settings.n_init_of(GANEMClusterer(**params), shape, n_iter)
    assert n_init == expected


@pytest.mark.parametrize(
    "init_iter, shape, n_iter, expected",
    [
        (None, LARGE, 143, 43),
        (None, LARGE, 600, 50),
        (None, LARGE, 1, 1),
        (None, SMALL, 26, 26),
        (None, VECTOR, 20, 6),
        (7, LARGE, 143, 7),
        (200, LARGE, 143, 143),
    ],
)
def test_length_of_a_restart(init_iter, shape, n_iter, expected):
    estimator = GANEMClusterer(init_iter=init_iter)
    assert _settings.init_iterations(estimator, shape, n_iter) == expected


def test_collapse_is_followed_by_a_rerun_and_reported(blobs):
    X, _ = blobs
    models = []

    def collapsed_at_first(self):
        found = GANEM._observe(self)
        models.append(self)
        if models[0] is self:
            found["n_effective"] = torch.tensor(1.0)
        return found

    clusterer = with_trainer(short(), _observe=collapsed_at_first)
    with pytest.warns(DegenerateComponentWarning, match="is repeated from"):
        clusterer.fit(X)
    assert clusterer.n_iter_ == 3
    assert (clusterer.history_["n_effective"] > 1.0).all()


def test_interrupted_fit_is_usable(blobs):
    X, _ = blobs

    def em_iteration(self):
        if self.iteration == 2:
            raise KeyboardInterrupt
        return GANEM.em_iteration(self)

    clusterer = with_trainer(short(max_iter=9), em_iteration=em_iteration)
    with pytest.warns(ConvergenceWarning, match="interrupted after 2 of 9"):
        clusterer.fit(X)
    assert clusterer.n_iter_ == 2
    assert clusterer.predict(X).shape == (300,)
    assert np.isfinite(clusterer.score(X))


def test_interruption_is_reported_whichever_run_is_kept(blobs):
    X, _ = blobs
    seen = []

    def interrupted_in_the_second_run(self):
        if self not in seen:
            seen.append(self)
        if len(seen) == 2:
            raise KeyboardInterrupt
        return GANEM.em_iteration(self)

    clusterer = short(n_init=3)
    with_trainer(clusterer, em_iteration=interrupted_in_the_second_run)
    with pytest.warns(ConvergenceWarning, match="interrupted after 1 of 3"):
        clusterer.fit(X)
    assert len(seen) == 2
    assert clusterer.n_iter_ == 1


@pytest.mark.parametrize(
    "n_clusters, sizes, expected",
    [
        (1, [1.0], False),
        (2, [0.9, 0.1], False),
        (2, [1.0, 0.0], True),
        (10, [0.1] * 10, False),
        (10, [0.9, 0.1], True),
    ],
)
def test_what_counts_as_collapsed(n_clusters, sizes, expected):
    entropy = -sum(size * np.log(size) for size in sizes if size)
    state = TrainingState([{"n_effective": np.exp(entropy)}] * 2)
    config = GANEMConfig(Recipe(), n_iter=2)
    assert is_collapsed(state, config, n_clusters) == expected
    # Another run would have the same clusters.
    assert not is_collapsed(state, replace(config, fixed=True), n_clusters)


class Watcher:
    """A callback that calls a function of task name and estimator."""

    def __init__(self, begin=None, end=None):
        self.begin, self.end = begin, end

    def setup(self, estimator, context):
        pass

    def teardown(self, estimator, context):
        pass

    def on_fit_task_begin(self, estimator, context):
        if self.begin is not None:
            self.begin(context.task_name)

    def on_fit_task_end(self, estimator, context, *, fitted_estimator=None):
        return self.end is not None and self.end(context.task_name, fitted_estimator)


def test_a_run_too_short_to_tell_is_called_so(blobs):
    # Three iterations hold the initial responsibilities: no eight after them.
    with pytest.warns(ConvergenceWarning, match="8 of them after the first 3"):
        found = short(max_iter=10, n_iter_no_change=8, tol=1.0).fit(blobs[0])
    assert not found.converged_


def test_a_last_run_that_collapsed_is_called_so(blobs):
    restart, _ = restart_that_has(_has_collapsed=lambda self, state: True)
    found = with_fit(short(), Restart=restart)
    with pytest.warns(ConvergenceWarning, match="collapsed to few of .* clusters"):
        found.fit(blobs[0])
    assert not found.converged_


def test_a_run_that_still_changes_is_called_so(blobs):
    restart, _ = restart_that_has(_most_changed=lambda self, state: 0.25)
    model = with_fit(short(max_iter=9, n_iter_no_change=2), Restart=restart)
    with pytest.warns(ConvergenceWarning, match="25.00% of the samples changed"):
        model.fit(blobs[0])


def test_sigma_does_not_go_by_the_order_of_the_samples():
    # The first 600 samples are nearly a point, the others are not.
    rng = np.random.RandomState(0)
    X = np.r_[0.02 * rng.randn(600, 2), rng.randn(600, 2) + 10.0]
    found = short(n_init=1).fit(X)
    kernels = kernels_of(vars(found), torch.device("cpu"))
    assert found.sigma_ == pytest.approx(kernels.best_sigma(found._tensor(X)), rel=0.2)


def test_callbacks_can_score_and_stop(blobs):
    X, _ = blobs
    scores = []

    def stop(task, estimator):
        if task == "fit":
            return False
        scores.append(estimator.score(X))
        return len(scores) == 2

    with warnings.catch_warnings():
        # Who asks to stop need not be told to train longer.
        warnings.simplefilter("error", ConvergenceWarning)
        clusterer = short(max_iter=9).set_callbacks(Watcher(end=stop)).fit(X)
    assert clusterer.n_iter_ == 2
    assert scores[-1] == pytest.approx(clusterer.score(X))


def test_a_stop_at_the_end_of_a_restart_ends_the_fit(blobs):
    tasks = []

    def stop(task, estimator):
        tasks.append(task)
        return task == "initialization"

    callback = Watcher(end=stop)
    clusterer = short(n_init=2, init_iter=2).set_callbacks(callback).fit(blobs[0])
    assert clusterer.n_iter_ == 2
    assert tasks == ["iteration", "iteration", "initialization", "fit"]


@pytest.mark.parametrize("when, n_iter", [("begin", 0), ("end", 2)])
def test_an_interrupted_callback_of_a_restart_ends_the_fit(blobs, when, n_iter):
    def interrupt(task, *estimator):
        if task == "initialization":
            raise KeyboardInterrupt

    callback = Watcher(**{when: interrupt})
    with pytest.warns(ConvergenceWarning, match=f"interrupted after {n_iter} of 3"):
        clusterer = short(n_init=2, init_iter=2).set_callbacks(callback).fit(blobs[0])
    assert clusterer.n_iter_ == n_iter
    assert clusterer.predict(blobs[0]).shape == (300,)


def test_verbose_prints_a_line_an_iteration(blobs, capsys):
    short(verbose=1).fit(blobs[0])
    assert capsys.readouterr().out.count("confidence") == 3
