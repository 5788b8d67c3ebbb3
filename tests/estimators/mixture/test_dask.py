"""A fit to a dask collection is the fit to the array that its chunks make."""

import os
import pickle
import signal
import subprocess
import sys
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.exceptions import ConvergenceWarning

from skdeepgmm import DeepConvGMM, GaussianMixture, SGDGaussianMixture, load, save
from skdeepgmm._torch_backend.mixture import overcomplete
from skdeepgmm.estimators import _dask

dask = pytest.importorskip("dask")
da = pytest.importorskip("dask.array")
dd = pytest.importorskip("dask.dataframe")

ROWS = (150, 1, 250, 50, 300, 100, 149)
N, D, K = sum(ROWS), 4, 3
COVARIANCES = ("full", "tied", "diag", "spherical", "low_rank")
QUICK = [("full", True, True), ("low_rank", True, True), ("diag", False, False)]


@pytest.fixture(autouse=True)
def scheduler(monkeypatch):
    """Run in this process, one task a chunk."""
    monkeypatch.setattr(_dask, "GROUP_BYTES", 1)
    with dask.config.set(scheduler="synchronous"):
        yield


@pytest.fixture(scope="module")
def cluster():
    """Two worker processes, and a client of them."""
    distributed = pytest.importorskip("distributed")
    settings = {
        "distributed.scheduler.allowed-failures": 0,
        "distributed.comm.timeouts.connect": "60s",
    }
    with (
        dask.config.set(settings),
        distributed.LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            processes=True,
            dashboard_address=None,
        ) as workers,
    ):
        yield workers


def overlapping(missing=False, dtype=np.float64):
    """Return rows of three groups that overlap, and weights."""
    rng = np.random.default_rng(0)
    X = 1.5 * rng.normal(size=(K, D))[rng.integers(K, size=N)]
    X += rng.normal(size=(N, D))
    if missing:
        X[400:][rng.random((N - 400, D)) < 0.1] = np.nan
        X[700] = np.nan
    return X.astype(dtype), rng.integers(0, 3, size=N).astype(float)


def chunked(X, columns=(1, 3)):
    return da.from_array(X, chunks=(ROWS, columns))


def loaded(X, before=lambda: None):
    """Return a dask array whose chunks are made anew in every pass."""

    def chunk(start, rows):
        before()
        return X[start : start + rows]

    starts = np.cumsum((0, *ROWS))
    parts = [
        da.from_delayed(dask.delayed(chunk)(start, rows), (rows, D), X.dtype)
        for start, rows in zip(starts, ROWS, strict=False)
    ]
    return da.concatenate(parts)


def mixture(**settings):
    settings = {"max_iter": 5, "tol": 0.0, "random_state": 0, "rank": 2} | settings
    return GaussianMixture(K, **settings)


def fitted(model, X, sample_weight=None):
    with pytest.warns(ConvergenceWarning):
        return model.fit(X, sample_weight=sample_weight)


def assert_same_fit(found, expected, rtol=0.0):
    np.testing.assert_allclose(
        found.lower_bounds_, expected.lower_bounds_, rtol=rtol, atol=1e-10
    )
    for name in ("weights_", "means_", "precisions_cholesky_"):
        if hasattr(expected, name):
            first, second = getattr(found, name), getattr(expected, name)
            np.testing.assert_allclose(first, second, rtol=0, atol=1e-8)


def assert_identical(found, expected):
    assert found.lower_bounds_ == expected.lower_bounds_
    for name in ("weights_", "means_", "covariances_"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))


@pytest.mark.parametrize(
    "name, weighted, missing",
    [
        pytest.param(*case, marks=[] if case in QUICK else [pytest.mark.slow])
        for case in product(COVARIANCES, [False, True], [False, True])
    ],
)
def test_the_fit_is_that_of_the_array(name, weighted, missing):
    X, weight = overlapping(missing)
    weight = weight if weighted else None
    lazy = da.from_array(weight, chunks=200) if weighted else None
    model = mixture(covariance_type=name, max_iter=3)
    expected = fitted(model, X, weight)
    found = fitted(mixture(covariance_type=name, max_iter=3), chunked(X), lazy)
    assert_same_fit(found, expected)
    if weighted:
        assert found.n_samples_seen_ == weight.sum()


@pytest.mark.parametrize("init", ["k-means++", "random_from_data", "merge"])
def test_starts_are_those_of_the_array(init):
    X, weight = overlapping()
    expected = fitted(mixture(init_params=init), X, weight)
    found = fitted(mixture(init_params=init), chunked(X), weight)
    # Single samples have variances that make the first bound huge.
    assert_same_fit(found, expected, rtol=1e-9)


def test_components_are_merged_on_a_part_of_the_rows(monkeypatch):
    X, weight = overlapping(missing=True)
    monkeypatch.setattr(overcomplete, "LEAST_SAMPLES", 20)
    monkeypatch.setattr(overcomplete, "LEAST_SAMPLES_PER_FEATURE", 1)
    assert overcomplete.samples_enough(K, D) < np.count_nonzero(weight)
    expected = fitted(mixture(init_params="merge"), X, weight)
    found = fitted(mixture(init_params="merge"), chunked(X), weight)
    assert_same_fit(found, expected, rtol=1e-9)


def test_random_responsibilities_differ_between_chunks():
    X, _ = overlapping()
    X[:150] = X[151:301]  # chunks that would otherwise get the same ones
    found = fitted(mixture(init_params="random"), chunked(X))
    again = fitted(mixture(init_params="random"), chunked(X))
    assert_identical(found, again)
    assert len(np.unique(found.means_[:, 0])) == K


@pytest.mark.slow
def test_a_start_from_a_part_of_the_rows(monkeypatch):
    from skdeepgmm.estimators.mixture import _init_params

    monkeypatch.setattr(_init_params, "MAX_INIT_VALUES", 500 * D)
    X, weight = overlapping()
    found = fitted(mixture(max_iter=20), chunked(X), weight)
    expected = fitted(mixture(max_iter=20), X, weight)
    assert found.lower_bound_ == pytest.approx(expected.lower_bound_, abs=0.02)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_components_are_repaired_as_for_an_array():
    X, weight = overlapping()
    start = np.vstack([np.zeros((2, D)), np.full(D, 1e6)])
    settings = {"means_init": start, "max_iter": 3}
    with pytest.warns(UserWarning, match="re-seeded"):
        expected = mixture(**settings).fit(X, sample_weight=weight)
    with pytest.warns(UserWarning, match="re-seeded"):
        found = mixture(**settings).fit(chunked(X), sample_weight=weight)
    assert_same_fit(found, expected)


def test_extreme_values_are_named_by_row():
    X, _ = overlapping(dtype=np.float32)
    X[420, 2] = 1e18
    with pytest.raises(ValueError, match=r"row 420, feature 2 holds 1e\+18"):
        mixture().fit(chunked(X))


@pytest.mark.slow
def test_a_stream_of_collections():
    X, weight = overlapping()
    expected = mixture().partial_fit(X, sample_weight=weight).partial_fit(X[:400])
    found = mixture().partial_fit(chunked(X), sample_weight=weight)
    found.partial_fit(da.from_array(X[:400], chunks=(150, D)))
    assert_same_fit(found, expected)
    assert found.n_batches_seen_ == 2


def test_a_warm_start_goes_on():
    X, _ = overlapping()
    model = mixture(max_iter=2, warm_start=True)
    fitted(fitted(model, chunked(X)), chunked(X))
    np.testing.assert_allclose(
        model.lower_bounds_, fitted(mixture(max_iter=4), X).lower_bounds_[2:], rtol=1e-9
    )


def test_scores_are_those_of_the_array():
    X, weight = overlapping(missing=True)
    model = fitted(mixture(), X)
    lazy = chunked(X)
    assert model.score(lazy) == pytest.approx(model.score(X), rel=1e-12)
    found = model.score(lazy, sample_weight=da.from_array(weight, chunks=(ROWS,)))
    assert found == pytest.approx(model.score(X, sample_weight=weight), rel=1e-12)
    for name in ("bic", "aic", "icl"):
        found, expected = getattr(model, name)(lazy), getattr(model, name)(X)
        assert type(found) is float
        assert found == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "name", ["predict", "predict_proba", "score_samples", "impute"]
)
def test_results_are_lazy_and_those_of_the_array(name, dtype):
    X, _ = overlapping(missing=True, dtype=dtype)
    model = fitted(mixture(), X)
    loads = []
    found = getattr(model, name)(loaded(X, lambda: loads.append(1)))
    assert loads == []
    expected = getattr(model, name)(X)
    assert found.dtype == expected.dtype
    assert found.shape == expected.shape
    assert found.chunks[0] == ROWS
    # Of what the model had learned then.
    fitted(model.set_params(random_state=7), X[::2])
    rtol = 1e-5 if dtype == np.float32 else 1e-9
    np.testing.assert_allclose(found.compute(), expected, rtol=rtol)
    assert len(loads) == len(ROWS)


def test_lazy_results_of_other_mixtures():
    X, _ = overlapping()
    model = SGDGaussianMixture(2, max_iter=2, random_state=0)
    with pytest.warns(ConvergenceWarning):
        model.fit(X)
    lazy = chunked(X)
    np.testing.assert_array_equal(model.predict(lazy).compute(), model.predict(X))
    assert model.bic(lazy) == pytest.approx(model.bic(X), rel=1e-12)


def test_chunks_are_read_once_a_pass_and_never_kept():
    X, _ = overlapping()
    loads = []
    start = fitted(mixture(), X)
    model = mixture(
        weights_init=start.weights_,
        means_init=start.means_,
        precisions_init=start.precisions_,
        max_iter=4,
    )
    fitted(model, loaded(X, lambda: loads.append(1)))
    assert len(loads) == (1 + 4) * len(ROWS)  # a survey, and the E-steps


def test_small_chunks_are_read_together(monkeypatch):
    monkeypatch.setattr(_dask, "GROUP_BYTES", 8 * D * 300)
    assert _dask._groups(chunked(overlapping()[0])) == (151, 300, 300, 249)


# Data frames ---------------------------------------------------------------------


def frame(missing=False):
    """Return a data frame of unknown divisions with an empty partition."""
    X, weight = overlapping(missing)
    table = pd.DataFrame(X, columns=list("abcd")).assign(w=weight)
    lazy = dd.from_pandas(table, npartitions=5, sort=False)
    lazy = lazy.map_partitions(
        lambda part: part.iloc[:0] if 200 in part.index else part, meta=table
    )
    return lazy.clear_divisions(), lazy.compute()


def test_a_data_frame_is_fitted_and_scored():
    lazy, table = frame(missing=True)
    columns = list("abcd")
    expected = fitted(mixture(), table[columns], table["w"])
    found = fitted(mixture(), lazy[columns], lazy["w"])
    assert_same_fit(found, expected)
    assert found.feature_names_in_.tolist() == columns
    labels = found.predict(lazy[columns])
    assert isinstance(labels, da.Array)
    np.testing.assert_array_equal(labels.compute(), expected.predict(table[columns]))
    with pytest.raises(ValueError, match="feature names"):
        found.predict(lazy[["b", "a", "c", "d"]])


def test_the_number_of_columns_is_checked():
    model = fitted(mixture(), overlapping()[0])
    with pytest.raises(ValueError, match="expecting 4 features"):
        model.score_samples(da.ones((5, 3)))
    with pytest.raises(ValueError, match="expecting 4 features"):
        model.score(da.ones((5, 3)))


def test_weights_of_an_array_for_chunks_of_unknown_length():
    lazy, table = frame()
    expected = fitted(mixture(), table[list("abcd")], table["w"])
    found = fitted(mixture(), lazy[list("abcd")], table["w"].to_numpy())
    assert_same_fit(found, expected)


def test_integer_columns_become_numbers():
    table = pd.DataFrame({"a": np.arange(40), "b": np.arange(40)[::-1] % 7})
    table["a"] = table["a"].astype("Int64")
    lazy = dd.from_pandas(table, npartitions=3)
    expected = GaussianMixture().fit(table.astype(float))
    assert_same_fit(GaussianMixture().fit(lazy), expected)


# Errors --------------------------------------------------------------------------


def wrong_dtype():
    rows = dask.delayed(lambda: overlapping()[0])()
    return da.from_delayed(rows, (N, D), np.float32)


def of_unknown_width():
    return da.from_delayed(dask.delayed(np.ones)((5, 2)), (5, np.nan), float)


def with_infinity():
    X, _ = overlapping()
    X[600, 1] = np.inf
    return chunked(X)


@pytest.mark.parametrize(
    "make, message",
    [
        (wrong_dtype, "Chunk 0 of X is float64, where the collection says float32"),
        (of_unknown_width, "unknown number of columns"),
        (with_infinity, "infinity"),
        (lambda: da.ones(10), "Expected 2D array"),
        (lambda: da.ones((10, 2), dtype=complex), "real numbers"),
        (lambda: da.ones((1, 2)), "minimum of 2"),
        (lambda: da.ones((2, 2)), "n_components"),
        (lambda: da.ones((5, 2))[da.ones(5) < 0], "0 sample"),
        (lambda: da.full((9, 2), np.nan), "no observed value"),
    ],
)
def test_a_wrong_collection_is_refused(make, message):
    model = mixture()
    with pytest.raises(ValueError, match=message):
        model.fit(make())
    assert not hasattr(model, "n_features_in_")


@pytest.mark.parametrize(
    "weight, message",
    [
        (np.ones(N - 1), "sample_weight.shape"),
        (da.ones(N + 1), "sample_weight.shape"),
        (da.ones((N, 1)), "1D"),
        (np.zeros(N), "at least one non-zero"),
        (-np.ones(N), "Negative"),
        (np.full(N, np.nan), "NaN"),
        (da.ones(N, chunks=10)[da.ones(N, chunks=10) > 0], "lengths are unknown"),
        (da.ones(N, chunks=(ROWS[::-1],))[da.ones(N, chunks=(ROWS[::-1],)) > 0], "Chu"),
    ],
)
def test_wrong_weights_are_refused(weight, message):
    with pytest.raises(ValueError, match=message):
        mixture().fit(chunked(overlapping()[0]), sample_weight=weight)


def test_chunks_that_change_are_refused():
    X, _ = overlapping()
    calls = []

    def chunk():
        calls.append(1)
        return X[: 100 - len(calls)]

    lazy = da.from_delayed(dask.delayed(chunk)(), (np.nan, D), float)
    with pytest.raises(ValueError, match="same rows on every pass"):
        mixture().fit(lazy)


def test_what_cannot_learn_from_dask_says_what_can():
    lazy = chunked(overlapping()[0])
    for model in (SGDGaussianMixture(), DeepConvGMM()):
        with pytest.raises(TypeError, match="torchrun"):
            model.fit(lazy)
    with pytest.raises(TypeError, match="dask array or a dask data frame"):
        mixture().fit(dask.delayed(np.ones)((5, 2)))
    with pytest.raises(ValueError, match="device='cuda'"):
        mixture(device="cuda").fit(lazy)


# Interrupted fits ----------------------------------------------------------------


class Cut(Exception):
    pass


def cut_after(n_loads, error):
    """Return a function that raises at this one of its calls."""
    calls = []

    def before():
        calls.append(1)
        if len(calls) == n_loads:
            raise error

    return before


def test_a_fit_that_was_cut_off_goes_on_from_its_checkpoint(tmp_path):
    X, weight = overlapping()
    weight = da.from_array(weight, chunks=(ROWS,))
    settings = {"checkpoint_path": tmp_path / "fit", "checkpoint_every": 1}
    settings["init_params"] = "random"
    # Digests, survey, start, three E-steps and some chunks.
    lazy = loaded(X, cut_after(6 * len(ROWS) + 3, Cut))
    with pytest.raises(Cut):
        mixture(**settings).fit(lazy, sample_weight=weight)
    assert (tmp_path / "fit").exists()
    with pytest.raises(ValueError, match="sample_weight is"):
        mixture(**settings).fit(loaded(X))
    with pytest.raises(ValueError, match="X is"):
        mixture(**settings).fit(loaded(X + 1), sample_weight=weight)
    loads = []
    lazy = loaded(X, lambda: loads.append(1))
    found = fitted(mixture(**settings), lazy, weight)
    assert len(loads) == (2 + 2) * len(ROWS)
    assert_identical(found, fitted(mixture(init_params="random"), loaded(X), weight))
    assert not (tmp_path / "fit").exists()


KILLED = """
import os, signal, sys
import numpy as np
from distributed import Client, LocalCluster
from tests.estimators.mixture import test_dask

class Kill:
    left = 3
    def setup(self, estimator, context): pass
    def teardown(self, estimator, context): pass
    def on_fit_task_begin(self, estimator, context): pass
    def on_fit_task_end(self, estimator, context):
        self.left -= 1
        if not self.left:
            for process in cluster.workers.values():
                os.kill(process.pid, signal.SIGKILL)
            os.kill(os.getpid(), signal.SIGKILL)

if __name__ == "__main__":
    test_dask._dask.GROUP_BYTES = 1
    settings = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
    with LocalCluster(**settings) as cluster, Client(cluster):
        model = test_dask.mixture(checkpoint_path="fit", checkpoint_every=1)
        model.set_callbacks(Kill()).fit(test_dask.from_file("X.npy"))
"""


@pytest.mark.slow
def test_the_fit_of_a_killed_client_goes_on(tmp_path):
    pytest.importorskip("distributed")
    np.save(tmp_path / "X.npy", overlapping()[0])
    (tmp_path / "client.py").write_text(KILLED)
    paths = [str(Path(__file__).parents[3]), os.environ.get("PYTHONPATH", "")]
    killed = subprocess.run(
        [sys.executable, "client.py"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
        timeout=120,
    )
    assert killed.returncode == -signal.SIGKILL
    lazy = from_file(tmp_path / "X.npy")
    settings = {"checkpoint_path": tmp_path / "fit", "checkpoint_every": 1}
    assert (tmp_path / "fit").exists()
    callback = Seen()
    model = mixture(**settings).set_callbacks(callback)
    assert_identical(fitted(model, lazy), fitted(mixture(), lazy))
    assert len(callback.seen) < 5 + 1
    assert not (tmp_path / "fit").exists()


def test_ctrl_c_keeps_what_was_learned():
    X, _ = overlapping()
    lazy = loaded(X, cut_after(5 * len(ROWS) + 3, KeyboardInterrupt))
    model = mixture(max_iter=9)
    with pytest.warns(ConvergenceWarning, match="interrupted after 2 of 9"):
        model.fit(lazy)
    assert_same_fit(model, fitted(mixture(max_iter=2), X))


def test_a_failing_chunk_leaves_nothing_behind():
    X, _ = overlapping()
    model = fitted(mixture(), X)
    before = model.means_
    with pytest.raises(Cut):
        model.fit(loaded(X, cut_after(4 * len(ROWS), Cut)))
    assert model.means_ is before


class Seen:
    """Keeps what X the ends of fit tasks were told with."""

    def __init__(self):
        self.seen = []

    def setup(self, estimator, context):
        pass

    def teardown(self, estimator, context):
        pass

    def on_fit_task_begin(self, estimator, context):
        pass

    def on_fit_task_end(self, estimator, context, *, X=None):
        self.seen.append(X)


def test_callbacks_get_the_collection():
    lazy, callback = chunked(overlapping()[0]), Seen()
    fitted(mixture().set_callbacks(callback), lazy)
    assert len(callback.seen) == 5 + 1
    assert all(X is lazy for X in callback.seen)


# Elsewhere -----------------------------------------------------------------------


@pytest.mark.slow
def test_the_model_needs_no_dask(tmp_path):
    X, _ = overlapping()
    model = fitted(mixture(), chunked(X))
    (tmp_path / "model.pickle").write_bytes(pickle.dumps(model))
    save(model, tmp_path / "model.skdeepgmm")
    assert_identical(load(tmp_path / "model.skdeepgmm"), model)
    np.save(tmp_path / "X.npy", X)
    program = """
import pickle, sys
sys.modules["dask"] = sys.modules["distributed"] = None
import numpy as np
X = np.load("X.npy")
model = pickle.load(open("model.pickle", "rb"))
np.save("found.npy", model.to_sklearn().predict_proba(X) - model.predict_proba(X))
model.set_params(max_iter=1, tol=9.0).fit(X)
"""
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True)
    assert np.abs(np.load(tmp_path / "found.npy")).max() < 1e-9


def read_rows(path, start, rows, log=None, deadly=0):
    """Return rows of a file; the call with this number ends the process."""
    if log is not None:
        with open(log, "ab") as file:
            file.write(b".")
            file.flush()
            if file.tell() == deadly:
                os._exit(1)
    return np.load(path, mmap_mode="r")[start : start + rows]


def from_file(path, **settings):
    read = dask.delayed(partial(read_rows, str(path), **settings))
    starts = np.cumsum((0, *ROWS))
    parts = [
        da.from_delayed(read(start, rows), (rows, D), float)
        for start, rows in zip(starts, ROWS, strict=False)
    ]
    return da.concatenate(parts)


CLUSTERED = {"covariance_type": "diag", "init_params": "random", "max_iter": 3}


@pytest.mark.slow
def test_workers_make_no_difference(cluster, tmp_path):
    """The same bits in this process and in two others."""
    from distributed import Client

    np.save(tmp_path / "X.npy", overlapping()[0])
    lazy = from_file(tmp_path / "X.npy")
    expected = fitted(mixture(**CLUSTERED), lazy)
    with (
        Client(cluster, set_as_default=True) as client,
        dask.config.set(scheduler=None),
    ):
        assert_identical(fitted(mixture(**CLUSTERED), client.persist(lazy)), expected)


@pytest.mark.slow
def test_the_death_of_a_worker_makes_no_difference(cluster, tmp_path):
    from distributed import Client

    np.save(tmp_path / "X.npy", overlapping()[0])
    expected = fitted(mixture(**CLUSTERED), from_file(tmp_path / "X.npy"))
    n_loads = (1 + 1 + 3) * len(ROWS)
    with Client(cluster, set_as_default=True), dask.config.set(scheduler=None):
        cluster.scheduler.allowed_failures = 3
        log = tmp_path / "log"
        deadly = from_file(tmp_path / "X.npy", log=str(log), deadly=n_loads - 5)
        assert_identical(fitted(mixture(**CLUSTERED), deadly), expected)
        assert log.stat().st_size > n_loads  # chunks were read again


@pytest.mark.slow
def test_starts_by_merging_on_workers(cluster):
    from distributed import Client

    lazy = chunked(overlapping()[0])
    expected = fitted(mixture(init_params="merge"), lazy)
    with Client(cluster, set_as_default=True), dask.config.set(scheduler=None):
        assert_identical(fitted(mixture(init_params="merge"), lazy), expected)
