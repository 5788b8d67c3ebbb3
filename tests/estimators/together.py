"""The program of one rank of a fit by several processes (see test_together.py).

Fits its shard of each problem and writes what it has learned; then a rank dies.
"""

import os
import pickle
import sys
import time
import warnings
from pathlib import Path

import numpy as np

from skdeepgmm import (
    ChunkedArray,
    DeepConvGMM,
    GANEMClusterer,
    GaussianMixture,
    MinMaxEMClusterer,
    SGDGaussianMixture,
)

N, D, K = 900, 4, 3
#: Where the rows of the second rank begin.
CUT = 300


def problem(missing=False):
    """Return rows of three groups that overlap, and weights."""
    rng = np.random.default_rng(0)
    X = 1.5 * rng.normal(size=(K, D))[rng.integers(K, size=N)]
    X += rng.normal(size=(N, D))
    if missing:
        X[500:][rng.random((N - 500, D)) < 0.1] = np.nan
    return X, rng.integers(0, 3, size=N).astype(float)


def em(cut, missing=False, weighted=False, **settings):
    X, weight = problem(missing)
    weight = weight[cut] if weighted else None
    settings = {"max_iter": 4, "tol": 0.0, "random_state": 0, "rank": 2} | settings
    return GaussianMixture(K, **settings).fit(X[cut], sample_weight=weight)


def em_of_chunks(cut):
    """The default random state is not the same everywhere; the start has to be."""
    X, _ = problem()
    rows = X[cut].astype(np.float32)
    model = GaussianMixture(K, max_iter=200, tol=1e-5, init_params="k-means++")
    return model.fit(ChunkedArray([rows[:50], lambda: rows[50:]]))


def em_stream(cut):
    X, weight = problem()
    model = GaussianMixture(K, random_state=0, n_init=1, max_iter=5)
    return model.partial_fit(X[cut], sample_weight=weight[cut]).partial_fit(X[cut])


def sgd(cut, **settings):
    X, weight = problem()
    settings = {"max_iter": 10, "random_state": 0} | settings
    model = SGDGaussianMixture(K, **settings).fit(X[cut], sample_weight=weight[cut])
    return model.partial_fit(X[cut])


def separate():
    """Return rows of three groups that do not overlap, and their groups."""
    rng = np.random.default_rng(1)
    y = rng.integers(K, size=N)
    return np.eye(K, D)[y] * 8.0 + rng.normal(size=(N, D)), y


def deep(cut, **settings):
    X, weight = problem()
    model = DeepConvGMM(n_components=K, max_iter=5, random_state=0, **settings)
    model.fit(X[cut], sample_weight=weight[cut])
    return model.partial_fit(X[cut])


def images(cut):
    """Convolutions, pooling and three mixtures."""
    rng = np.random.default_rng(2)
    X = rng.random((K, 1, 64)).repeat(100, 1) + 0.2 * rng.random((K, 100, 64))
    rows = X.reshape(-1, 64)[rng.permutation(K * 100)].astype(np.float32)
    rows = rows[cut.start // 3 : cut.stop and cut.stop // 3]
    return DeepConvGMM(image_shape=(8, 8), max_iter=3, random_state=0).fit(rows)


def gan_em(cut):
    X, _ = separate()
    model = GANEMClusterer(K, max_iter=4, n_init=1, init="kmeans", random_state=0)
    return model.fit(X[cut])


def minmax_em(cut):
    X, _ = separate()
    return MinMaxEMClusterer(K, max_iter=5, random_state=0).fit(X[cut])


CASES = {
    "full": (em, {}),
    "diag": (em, {"covariance_type": "diag", "missing": True, "weighted": True}),
    "low_rank": (em, {"covariance_type": "low_rank", "weighted": True}),
    "merge": (em, {"init_params": "merge", "weighted": True}),
    "chunks": (em_of_chunks, {}),
    "stream": (em_stream, {}),
    "sgd": (sgd, {}),
    "deep": (deep, {}),
    "deep held out": (deep, {"early_stopping": True}),
    "images": (images, {}),
    "gan em": (gan_em, {}),
    "minmax em": (minmax_em, {}),
    "sgd held out": (sgd, {"early_stopping": True, "init_params": "random_from_data"}),
}
#: Those of the ordinary tests.
QUICK = ("full", "merge")


def fitted(name, cut):
    """Return the model of a case, and the warnings of its fit."""
    function, settings = CASES[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return function(cut, **settings)


def failure(function):
    """Return what a function raises, and the seconds until then."""
    start = time.perf_counter()
    try:
        function()
    except Exception as error:
        return f"{type(error).__name__}: {error}", time.perf_counter() - start
    return None


class Cut(Exception):
    pass


class After:
    """Does something at the end of an iteration of this number."""

    def __init__(self, number, action):
        self.left, self.action = number, action

    def setup(self, estimator, context):
        pass

    def teardown(self, estimator, context):
        pass

    def on_fit_task_begin(self, estimator, context):
        pass

    def on_fit_task_end(self, estimator, context):
        self.left -= 1
        if self.left == 0:
            self.action()


def cut_off():
    raise Cut


def checkpointed(cut, path, cut_after=None):
    """Fit with checkpoints; the first rank fails after so many iterations."""
    X, weight = problem()
    model = SGDGaussianMixture(
        *(K,), max_iter=5, random_state=0, checkpoint_path=path, early_stopping=True
    )
    if cut_after is not None and cut.start == 0:
        model.set_callbacks(After(cut_after, cut_off))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return model.fit(X[cut], sample_weight=weight[cut])


def infinite_rows(rank):
    X, _ = problem()
    X[0] = np.inf if rank == 1 else 0.0
    return GaussianMixture(K).fit(X)


def die(rank):
    """Fit with a rank that ends in the middle of it."""
    model = GaussianMixture(K, max_iter=50, tol=0.0)
    if rank == 1:
        model.set_callbacks(After(3, lambda: os._exit(3)))
    return model.fit(problem()[0])


def quick(folder, rank, cut):
    found = {name: vars(fitted(name, cut)) for name in QUICK}
    found["infinite"] = failure(lambda: infinite_rows(rank))
    found["differing"] = failure(lambda: GaussianMixture(2 + rank).fit(problem()[0]))
    (folder / f"{rank}.pickle").write_bytes(pickle.dumps(found))


def thorough(folder, rank, cut):
    found = {name: vars(fitted(name, cut)) for name in CASES if name not in QUICK}
    path = folder / "checkpoint"
    found["cut off"] = failure(lambda: checkpointed(cut, path, cut_after=3))
    found["has checkpoint"] = path.exists()
    found["resumed"] = vars(checkpointed(cut, path))
    found["whole"] = vars(checkpointed(cut, folder / "other"))
    found["leftovers"] = sorted(p.name for p in folder.glob("[co]*"))
    (folder / f"{rank}.pickle").write_bytes(pickle.dumps(found))
    (folder / f"{rank}.death").write_bytes(pickle.dumps(failure(lambda: die(rank))))


def main(folder, run):
    rank = int(os.environ["RANK"])
    cut = slice(0, CUT) if rank == 0 else slice(CUT, N)
    {"quick": quick, "thorough": thorough}[run](folder, rank, cut)
    os._exit(0)  # gloo aborts the process when it leaves a broken group


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
