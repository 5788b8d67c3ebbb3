"""scikit-learn's callback protocol on the flat mixtures.

One fit task is one EM iteration or one epoch; tasks nest below those of a pipeline or a
search; a callback that returns True ends the fit.
"""

import io
from contextlib import redirect_stdout

import numpy as np
import pytest
from sklearn.callback import ProgressBar, ScoringMonitor
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import skdeepgmm
from tests.estimators.mixture.problems import make_problem

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
]

N_ITER = 4
SETTINGS = {
    "GaussianMixture": {"max_iter": N_ITER, "tol": 0.0},
    "SGDGaussianMixture": {"max_iter": N_ITER, "tol": 0.0},
}


class Recorder:
    """Notes every call of a hook; stops the fit after ``stop_after`` iterations."""

    def __init__(self, stop_after=None):
        self.stop_after = stop_after
        self.calls, self.iterations, self.estimators = [], [], []

    def setup(self, estimator, context):
        self.calls.append("setup")

    def teardown(self, estimator, context):
        self.calls.append("teardown")

    def on_fit_task_begin(self, estimator, context, *, X=None):
        self.calls.append("begin")

    def on_fit_task_end(self, estimator, context, *, X=None, fitted_estimator=None):
        self.calls.append("end")
        if context.task_name == "fit":
            return False
        self.iterations.append(context.task_id)
        self.estimators.append(fitted_estimator)
        return len(self.iterations) == self.stop_after


class PropagatedRecorder(Recorder):
    """The kind of callback that a meta-estimator hands down."""

    max_propagation_depth = None


@pytest.fixture(params=list(SETTINGS))
def mixture(request):
    cls = getattr(skdeepgmm, request.param)
    return cls(3, random_state=0, **SETTINGS[request.param])


@pytest.fixture
def X(rng):
    return make_problem(rng, spread=2.0).draw("full", 300, rng)[0]


# Tasks ---------------------------------------------------------------------------


def test_one_task_an_iteration(mixture, X):
    recorder = Recorder()
    mixture.set_callbacks(recorder).fit(X)
    assert mixture.n_iter_ == N_ITER
    assert recorder.iterations == list(range(N_ITER))
    # The whole fit is a task too.
    assert recorder.calls.count("begin") == recorder.calls.count("end") == N_ITER + 1
    assert recorder.calls[0] == "setup"
    assert recorder.calls[-1] == "teardown"


def test_callbacks_do_not_change_the_fit(mixture, X):
    plain = mixture.fit(X).means_.copy()
    observed = mixture.set_callbacks(Recorder()).fit(X).means_
    np.testing.assert_array_equal(observed, plain)


def test_fitted_estimator_of_a_task_can_score(mixture, X):
    recorder = Recorder()
    mixture.set_callbacks(recorder).fit(X)
    scores = [estimator.score(X) for estimator in recorder.estimators]
    assert scores[-1] > scores[0]
    assert scores[-1] == pytest.approx(mixture.score(X), rel=1e-6)


@pytest.mark.parametrize("stop_after", [1, 2])
def test_returning_true_stops_the_fit(mixture, X, stop_after):
    recorder = Recorder(stop_after=stop_after)
    mixture.set_callbacks(recorder).fit(X)
    assert mixture.n_iter_ == stop_after
    assert len(recorder.iterations) == stop_after
    assert recorder.calls[-1] == "teardown"
    assert np.isfinite(mixture.score(X))


def test_stopped_em_equals_a_shorter_run(X):
    common = {"n_components": 3, "random_state": 0, "tol": 0.0}
    stopped = skdeepgmm.GaussianMixture(**common, max_iter=50)
    stopped.set_callbacks(Recorder(stop_after=3)).fit(X)
    short = skdeepgmm.GaussianMixture(**common, max_iter=3).fit(X)
    np.testing.assert_array_equal(stopped.means_, short.means_)


def test_stop_by_the_user_does_not_warn_of_convergence(recwarn, X):
    mixture = skdeepgmm.GaussianMixture(3, random_state=0, tol=0.0)
    mixture.set_callbacks(Recorder(stop_after=2)).fit(X)
    assert not recwarn.list


def test_stop_at_the_end_of_a_start_begins_no_other(mixture, X):
    class StopAfterStart(Recorder):
        def on_fit_task_end(self, estimator, context, *, X=None, fitted_estimator=None):
            self.calls.append(context.task_name)
            return context.task_name == "initialization"

    recorder = StopAfterStart()
    mixture.set_params(n_init=3).set_callbacks(recorder).fit(X)
    assert recorder.calls.count("initialization") == 1
    assert mixture.n_iter_ == N_ITER


def test_fit_predict_runs_callbacks_once(mixture, X):
    recorder = Recorder()
    mixture.set_callbacks(recorder).fit_predict(X)
    assert recorder.calls.count("setup") == recorder.calls.count("teardown") == 1
    assert len(recorder.iterations) == N_ITER


def test_teardown_runs_when_the_fit_fails(mixture, X):
    class Failing(Recorder):
        def on_fit_task_end(self, estimator, context):
            raise RuntimeError("stop here")

    failing = Failing()
    with pytest.raises(RuntimeError, match="stop here"):
        mixture.set_callbacks(failing).fit(X)
    assert failing.calls[-1] == "teardown"


def test_several_starts_are_tasks_of_iterations(X):
    recorder = Recorder()
    mixture = skdeepgmm.GaussianMixture(
        3, n_init=2, max_iter=N_ITER, tol=0.0, random_state=0
    )
    mixture.set_callbacks(recorder).fit(X)
    # N_ITER iterations and the start itself, twice.
    assert len(recorder.iterations) == 2 * (N_ITER + 1)


# ScoringMonitor ------------------------------------------------------------------


def monitored_scores(monitor, name):
    """Return the scores of the iterations in order, without those of whole fits."""
    data = monitor.get_logs().data
    return [row[name] for row in data if row["task_name"] != "fit" and name in row]


def log_likelihood(estimator, X, y=None):
    return {"log_likelihood": estimator.score(X)}


def test_scoring_monitor_follows_the_likelihood_without_labels(mixture, X):
    monitor = ScoringMonitor(scoring=log_likelihood)
    mixture.set_callbacks(monitor).fit(X)
    scores = monitored_scores(monitor, "log_likelihood")
    assert len(scores) == N_ITER
    assert scores[-1] > scores[0]
    assert scores[-1] == pytest.approx(mixture.score(X), rel=1e-6)


def test_scoring_monitor_never_falls_for_em(X):
    monitor = ScoringMonitor(scoring=log_likelihood)
    mixture = skdeepgmm.GaussianMixture(3, random_state=0, reg_covar=0.0, max_iter=10)
    mixture.set_callbacks(monitor).fit(X)
    scores = np.array(monitored_scores(monitor, "log_likelihood"))
    assert (np.diff(scores) >= -1e-12).all()
    np.testing.assert_allclose(scores[:-1], mixture.lower_bounds_[1:], rtol=1e-9)


def test_scoring_monitor_with_labels(mixture, rng):
    X, y = make_problem(rng, spread=9.0).draw("full", 300, rng)
    monitor = ScoringMonitor(scoring="adjusted_rand_score")
    mixture.set_callbacks(monitor).fit(X, y)
    scores = monitored_scores(monitor, "adjusted_rand_score")
    assert len(scores) == N_ITER
    assert all(-1 <= score <= 1 for score in scores)


def test_scoring_monitor_in_a_pipeline(mixture, X):
    monitor = ScoringMonitor(scoring=log_likelihood)
    pipeline = make_pipeline(StandardScaler(), mixture.set_callbacks(monitor)).fit(X)
    scores = monitored_scores(monitor, "log_likelihood")
    assert scores[-1] == pytest.approx(pipeline.score(X), rel=1e-6)


def test_scoring_monitor_in_a_grid_search(mixture, X):
    monitor = ScoringMonitor(scoring=log_likelihood)
    search = GridSearchCV(
        mixture.set_callbacks(monitor), {"n_components": [2, 3]}, cv=2
    ).fit(X)
    assert np.isfinite(search.best_score_)
    rows = monitor.get_logs().data
    iterations = [row for row in rows if row["task_name"] not in ("fit", "refit")]
    n_fits = 2 * 2 + 1
    assert len(iterations) >= n_fits * N_ITER
    assert {row["estimator_name"] for row in rows} == {type(mixture).__name__}


# Propagated callbacks and ProgressBar --------------------------------------------


def test_propagated_callback_sees_iterations_in_a_pipeline(mixture, X):
    recorder = PropagatedRecorder()
    pipeline = make_pipeline(StandardScaler(), mixture).set_callbacks(recorder)
    pipeline.fit(X)
    assert recorder.calls.count("setup") == recorder.calls.count("teardown") == 1
    assert recorder.calls.count("end") >= N_ITER + 1


def test_propagated_callback_stops_only_the_inner_fit(mixture, X):
    class StopInner(PropagatedRecorder):
        def on_fit_task_end(self, estimator, context):
            self.calls.append("end")
            return context.estimator_name == type(mixture).__name__

    pipeline = make_pipeline(StandardScaler(), mixture).set_callbacks(StopInner())
    pipeline.fit(X)
    assert pipeline[-1].n_iter_ == 1


@pytest.fixture
def wide_terminal(monkeypatch):
    """A terminal wide enough that no progress line is cut."""
    pytest.importorskip("rich")
    monkeypatch.setenv("COLUMNS", "200")


def shown(estimator, X):
    """Return what is printed while ``estimator`` is fitted."""
    with redirect_stdout(io.StringIO()) as out:
        estimator.fit(X)
    return out.getvalue()


@pytest.mark.usefixtures("wide_terminal")
def test_progress_bar(mixture, X):
    text = shown(mixture.set_callbacks(ProgressBar()), X)
    assert f"{type(mixture).__name__} - fit" in text
    assert "100%" in text


@pytest.mark.usefixtures("wide_terminal")
def test_progress_bar_in_a_pipeline(mixture, X):
    pipeline = make_pipeline(StandardScaler(), mixture).set_callbacks(ProgressBar())
    text = shown(pipeline, X)
    assert "Pipeline - fit" in text
    assert type(mixture).__name__ in text


@pytest.mark.usefixtures("wide_terminal")
def test_progress_bar_in_a_grid_search(mixture, X):
    search = GridSearchCV(mixture, {"n_components": [2, 3]}, cv=2)
    search.set_callbacks(ProgressBar(max_propagation_depth=None))
    text = shown(search, X)
    assert "GridSearchCV - fit" in text
    assert type(mixture).__name__ in text
    assert search.best_estimator_.n_iter_ == N_ITER


# verbose -------------------------------------------------------------------------


def test_verbose_prints_iterations(mixture, X, capsys):
    mixture.set_params(verbose=1)
    if "verbose_interval" in mixture.get_params():
        mixture.set_params(verbose_interval=1)
    mixture.fit(X)
    assert len(capsys.readouterr().out.splitlines()) >= N_ITER
