"""Course of a fit of GANEMClusterer: starts, restarts, interruption, callbacks."""

import warnings

import numpy as np
import pytest
import torch
from sklearn.exceptions import ConvergenceWarning

from skdeepgmm import GANEMClusterer
from skdeepgmm._torch_backend.clusterers.gan_em.recipes import Recipe
from skdeepgmm._torch_backend.clusterers.gan_em.trainer import GANEM, Config
from skdeepgmm._torch_backend.training import TrainingState
from skdeepgmm.estimators.clusterers.gan_em import _fit as _gan_em_fit
from skdeepgmm.estimators.clusterers.gan_em import _settings as _gan_em_settings
from skdeepgmm.exceptions import DegenerateComponentWarning
from tests.estimators.clusterers.gan_em.problems import same, short

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings(
        "ignore::skdeepgmm.exceptions.DegenerateComponentWarning"
    ),
]


def test_whole_runs_are_compared_by_quality(blobs):
    X, _ = blobs
    kept = short(n_init=3, start_iter=3).fit(X)
    assert kept.quality_ >= short().fit(X).quality_
    assert kept.n_iter_ == 3


@pytest.mark.parametrize("better", [0, 1])
def test_the_best_start_goes_on(blobs, monkeypatch, better):
    X, _ = blobs
    runs = []

    def quality(self, model):
        runs.append(model)
        return float(len(runs) == better + 1)

    with monkeypatch.context() as patched:
        patched.setattr(_gan_em_fit.GANEMFit, "quality", quality)
        several = short(n_init=2).fit(X)
    first, second, kept = runs
    assert kept is runs[better]
    # The other start has one iteration of three.
    assert [first.iteration, second.iteration] == ([3, 1] if better == 0 else [1, 3])
    if better == 0:
        # The first start is the only one of a fit with one.
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
    params = {"max_iter": 20, "start_iter": 20, "tol": 1.0}
    one, two = short(n_init=1, **params).fit(X), short(n_init=2, **params).fit(X)
    # Six iterations hold the start, and five more have to be steady.
    assert one.n_iter_ == two.n_iter_ == 11


def test_a_whole_run_is_kept_when_the_next_is_interrupted(blobs, monkeypatch):
    X, _ = blobs
    plain = GANEM.step
    steps = []

    def interrupted(self, batch):
        steps.append(batch)
        if len(steps) == 4:
            raise KeyboardInterrupt
        return plain(self, batch)

    monkeypatch.setattr(_gan_em_fit.GANEMFit, "quality", lambda self, model: 0.0)
    with monkeypatch.context() as patched:
        patched.setattr(GANEM, "step", interrupted)
        with pytest.warns(ConvergenceWarning, match="interrupted"):
            found = short(n_init=2, start_iter=3).fit(X)
    same(found, short(n_init=1).fit(X), X)


def test_a_collapsed_run_is_not_chosen(blobs, monkeypatch):
    X, _ = blobs
    runs = []

    def collapsed(state, config, n_clusters):
        return runs[-1].model.iteration == 3 and len(runs) == 2

    plain = _gan_em_fit.Run.__init__

    def noted(self, fit):
        plain(self, fit)
        runs.append(self)

    monkeypatch.setattr(_gan_em_fit.Run, "__init__", noted)
    monkeypatch.setattr(_gan_em_fit, "is_collapsed", collapsed)
    # By quality the second, collapsed one would be chosen.
    qualities = iter([0.0, 1.0, 0.0])
    monkeypatch.setattr(
        _gan_em_fit.GANEMFit, "quality", lambda self, model: next(qualities)
    )
    short(n_init=2, start_iter=3).fit(X)
    assert [run.collapsed for run in runs] == [False, True]


def test_callbacks_see_every_start(blobs):
    recorder = IterationRecorder()
    clusterer = short(n_init=2, max_iter=4)
    clusterer.set_callbacks(recorder).fit(blobs[0])
    # One iteration of each start, and the other three.
    assert recorder.parents == [0, 1, 2, 2, 2]


@pytest.mark.parametrize("n_init, n_iterations", [(1, 4 * 3), (2, 2 * 1 + 3 + 4 * 2)])
def test_callbacks_see_runs_that_start_anew(blobs, monkeypatch, n_init, n_iterations):
    plain = GANEM._observe

    def collapsed_at_last(self):
        found = plain(self)
        if self.iteration == 4:
            found["n_effective"] = torch.tensor(1.0)
        return found

    monkeypatch.setattr(GANEM, "_observe", collapsed_at_last)
    recorder = IterationRecorder()
    clusterer = short(n_init=n_init, max_iter=4).set_callbacks(recorder)
    assert clusterer.fit(blobs[0]).n_iter_ == 4
    # Twice anew.
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
def test_default_number_of_starts(params, shape, n_iter, expected):
    starts = _gan_em_settings.starts_of(GANEMClusterer(**params), shape, n_iter)
    assert starts == expected


@pytest.mark.parametrize(
    "start_iter, shape, n_iter, expected",
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
def test_length_of_a_start(start_iter, shape, n_iter, expected):
    estimator = GANEMClusterer(start_iter=start_iter)
    assert _gan_em_settings.start_iterations(estimator, shape, n_iter) == expected


def test_collapse_starts_anew_and_is_reported(blobs, monkeypatch):
    X, _ = blobs
    plain = GANEM._observe
    seeds = []

    def collapsed_at_first(self):
        found = plain(self)
        if not seeds:
            seeds.append(self)
        if seeds[0] is self:
            found["n_effective"] = torch.tensor(1.0)
        return found

    monkeypatch.setattr(GANEM, "_observe", collapsed_at_first)
    with pytest.warns(DegenerateComponentWarning, match="started anew"):
        clusterer = short().fit(X)
    assert clusterer.n_iter_ == 3
    assert (clusterer.history_["n_effective"] > 1.0).all()


def test_interrupted_fit_is_usable(blobs, monkeypatch):
    X, _ = blobs
    plain = GANEM.step

    def interrupted(self, batch):
        if self.iteration == 2:
            raise KeyboardInterrupt
        return plain(self, batch)

    monkeypatch.setattr(GANEM, "step", interrupted)
    with pytest.warns(ConvergenceWarning, match="interrupted after 2 of 9"):
        clusterer = short(max_iter=9).fit(X)
    assert clusterer.n_iter_ == 2
    assert clusterer.predict(X).shape == (300,)
    assert np.isfinite(clusterer.score(X))


def test_interruption_is_reported_whichever_run_is_kept(blobs, monkeypatch):
    X, _ = blobs
    plain, seen = GANEM.step, []

    def interrupted_in_the_second_run(self, batch):
        if self not in seen:
            seen.append(self)
        if len(seen) == 2:
            raise KeyboardInterrupt
        return plain(self, batch)

    monkeypatch.setattr(GANEM, "step", interrupted_in_the_second_run)
    with pytest.warns(ConvergenceWarning, match="interrupted after 1 of 3"):
        clusterer = short(n_init=3).fit(X)
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
    config = Config(Recipe(), n_iter=2)
    assert _gan_em_fit.is_collapsed(state, config, n_clusters) == expected


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
    # Three iterations hold the start: no eight after them.
    with pytest.warns(ConvergenceWarning, match="8 of them after the first 3"):
        found = short(max_iter=10, n_iter_no_change=8, tol=1.0).fit(blobs[0])
    assert not found.converged_


def test_a_last_run_that_collapsed_is_called_so(blobs, monkeypatch):
    monkeypatch.setattr(_gan_em_fit, "is_collapsed", lambda *args: True)
    with pytest.warns(ConvergenceWarning, match="collapsed to few of .* clusters"):
        found = short().fit(blobs[0])
    assert not found.converged_


def test_a_run_that_still_changes_is_called_so(blobs, monkeypatch):
    monkeypatch.setattr(_gan_em_fit, "most_changed", lambda *args: 0.25)
    with pytest.warns(ConvergenceWarning, match="25.00% of the rows changed"):
        short(max_iter=9, n_iter_no_change=2).fit(blobs[0])


def test_sigma_does_not_go_by_the_order_of_the_rows():
    # The first 600 rows are nearly a point, the others are not.
    rng = np.random.RandomState(0)
    X = np.r_[0.02 * rng.randn(600, 2), rng.randn(600, 2) + 10.0]
    found = short(n_init=1).fit(X)
    kernels = _gan_em_fit.generated_kernels(vars(found), torch.device("cpu"))
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


def test_a_stop_at_the_end_of_a_start_ends_the_fit(blobs):
    tasks = []

    def stop(task, estimator):
        tasks.append(task)
        return task == "initialization"

    callback = Watcher(end=stop)
    clusterer = short(n_init=2, start_iter=2).set_callbacks(callback).fit(blobs[0])
    assert clusterer.n_iter_ == 2
    assert tasks == ["iteration", "iteration", "initialization", "fit"]


@pytest.mark.parametrize("when, n_iter", [("begin", 0), ("end", 2)])
def test_an_interrupted_callback_of_a_start_ends_the_fit(blobs, when, n_iter):
    def interrupt(task, *estimator):
        if task == "initialization":
            raise KeyboardInterrupt

    callback = Watcher(**{when: interrupt})
    with pytest.warns(ConvergenceWarning, match=f"interrupted after {n_iter} of 3"):
        clusterer = short(n_init=2, start_iter=2).set_callbacks(callback).fit(blobs[0])
    assert clusterer.n_iter_ == n_iter
    assert clusterer.predict(blobs[0]).shape == (300,)


def test_verbose_prints_a_line_an_iteration(blobs, capsys):
    short(verbose=1).fit(blobs[0])
    assert capsys.readouterr().out.count("confidence") == 3
