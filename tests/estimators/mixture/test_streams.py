"""Streams: online EM on chunks, and exact EM on data in several parts."""

import pickle

import numpy as np
import pytest

from skdeepgmm import ChunkedArray, GaussianMixture
from tests.estimators.mixture.problems import make_problem
from tests.oracles import ALL_TYPES

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

all_types = pytest.mark.parametrize("covariance_type", ALL_TYPES)


def rows_of(n_samples=5000, n_features=4, spread=3.0, seed=0):
    rng = np.random.default_rng(seed)
    problem = make_problem(rng, 3, n_features, spread)
    return problem.draw("full", n_samples, rng)[0]


def stream(X, n_chunks, covariance_type="full", **settings):
    """Return a mixture that has seen the chunks of X one by one."""
    settings = {"rank": 2, "random_state": 0, **settings}
    gm = GaussianMixture(3, covariance_type=covariance_type, **settings)
    for chunk in np.array_split(X, n_chunks):
        gm.partial_fit(chunk)
    return gm


# partial_fit ---------------------------------------------------------------------


@all_types
def test_fifty_chunks_come_close_to_full_em(covariance_type):
    X = rows_of()
    settings = {"covariance_type": covariance_type, "rank": 2, "random_state": 0}
    full = GaussianMixture(3, n_init=3, max_iter=200, **settings).fit(X)
    online = stream(X, 50, covariance_type)
    assert online.score(X) > full.score(X) - 0.05


def test_later_chunks_improve_the_first():
    X, held_out = rows_of(6000)[:5000], rows_of(6000)[5000:]
    first = stream(X[:100], 1)
    online = stream(X, 50)
    assert online.score(held_out) > first.score(held_out) + 0.01


def test_the_stream_forgets_the_past_slowly():
    rng = np.random.default_rng(0)
    gm = GaussianMixture(1, covariance_type="diag")
    for shift in (0.0, 10.0):
        for _ in range(60):
            gm.partial_fit(rng.normal(shift, size=(50, 2)))
    assert (gm.means_ > 8.0).all()


@pytest.mark.parametrize("covariance_type", ["full", "diag", "low_rank"])
def test_a_floor_does_not_add_up(covariance_type):
    rng = np.random.default_rng(0)
    settings = {"covariance_type": covariance_type, "rank": 1, "reg_covar": 0.5}
    gm = GaussianMixture(1, **settings)
    chunk = rng.normal(size=(400, 3))
    for _ in range(100):
        gm.partial_fit(chunk)
    expected = GaussianMixture(1, max_iter=500, tol=1e-8, **settings).fit(chunk)
    assert gm.score(chunk) == pytest.approx(expected.score(chunk), abs=0.01)


@all_types
def test_the_same_chunk_again_is_em(covariance_type):
    X = rows_of(500)
    gm = GaussianMixture(3, covariance_type=covariance_type, rank=2, random_state=0)
    scores = [gm.partial_fit(X).score(X) for _ in range(15)]
    assert np.diff(scores).min() > -1e-6


def test_chunks_of_one_row_are_taken():
    X = rows_of(300)
    gm = stream(X[:200], 1)
    for row in X[200:]:
        gm.partial_fit(row[None])
    assert np.isfinite(gm.score(X))
    assert gm.weights_.sum() == pytest.approx(1.0)


def test_weights_count_rows():
    X = rows_of(400)
    weight = np.random.default_rng(0).integers(0, 3, 200)
    fits = []
    for rows, own in ((X[200:], weight), (np.repeat(X[200:], weight, axis=0), None)):
        gm = GaussianMixture(3, random_state=0).partial_fit(X[:200])
        fits.append(gm.partial_fit(rows, sample_weight=own))
    np.testing.assert_allclose(fits[0].means_, fits[1].means_, rtol=1e-8)
    np.testing.assert_allclose(fits[0].covariances_, fits[1].covariances_, rtol=1e-7)


@all_types
def test_missing_entries_in_a_stream(covariance_type):
    X = rows_of()
    rng = np.random.default_rng(0)
    holed = np.where(rng.random(X.shape) < 0.2, np.nan, X)
    gm = stream(holed, 25, covariance_type)
    settings = {"covariance_type": covariance_type, "rank": 2, "random_state": 0}
    full = GaussianMixture(3, n_init=3, **settings).fit(X)
    assert gm.score(X) > full.score(X) - 0.1


def test_partial_fit_goes_on_from_fit():
    X = rows_of(1000)
    gm = GaussianMixture(3, random_state=0).fit(X[:500])
    before = gm.means_.copy()
    gm.partial_fit(X[500:])
    assert (gm.means_ != before).any()
    np.testing.assert_allclose(gm.means_, before, atol=1.0)


def test_fit_forgets_the_stream():
    X = rows_of(600)
    gm = stream(X + 5.0, 5).fit(X)
    np.testing.assert_allclose(
        gm.means_, GaussianMixture(3, random_state=0).fit(X).means_
    )


def test_a_stream_does_not_change_its_chunks():
    X = rows_of(300)
    X.flags.writeable = False
    stream(X, 3)


def test_float32_streams():
    X = rows_of(1000).astype(np.float32)
    gm = stream(X, 10)
    assert gm.means_.dtype == np.float32
    wide = stream(X.astype(np.float64), 10)
    assert gm.score(X) == pytest.approx(wide.score(X.astype(np.float64)), abs=0.01)


def test_another_number_of_features_is_refused():
    gm = stream(rows_of(300), 2)
    with pytest.raises(ValueError, match="features"):
        gm.partial_fit(np.zeros((10, 3)))


def test_a_first_chunk_with_too_few_rows_is_refused():
    with pytest.raises(ValueError, match="n_samples"):
        GaussianMixture(5).partial_fit(np.eye(3))


def test_nothing_of_the_stream_is_kept():
    gm = stream(rows_of(200), 1)
    rng = np.random.default_rng(0)
    sizes = []
    for _ in range(30):
        gm.partial_fit(rng.normal(size=(100, 4)))
        sizes.append(len(pickle.dumps(gm)))
    # Only the list of lower bounds grows, by a number a chunk.
    assert sizes[-1] - sizes[0] < 29 * 20


# Data in several parts -----------------------------------------------------------


def parts_of(X, tmp_path):
    """Return X as a memory map, an array and a loading function."""
    np.save(tmp_path / "part.npy", X[:70])
    mapped = np.load(tmp_path / "part.npy", mmap_mode="r")
    return ChunkedArray([mapped, X[70:200], lambda: X[200:]])


@all_types
@pytest.mark.parametrize("missing", [False, True])
def test_parts_fit_as_one_array(tmp_path, covariance_type, missing):
    X = rows_of(300)
    if missing:
        X[::5, 1] = np.nan
    settings = {"covariance_type": covariance_type, "rank": 2, "random_state": 0}
    settings |= {"batch_size": 64, "max_iter": 5}
    expected = GaussianMixture(3, **settings).fit(X)
    gm = GaussianMixture(3, **settings).fit(parts_of(X, tmp_path))
    np.testing.assert_allclose(gm.means_, expected.means_, rtol=1e-9)
    np.testing.assert_allclose(gm.lower_bounds_, expected.lower_bounds_, rtol=1e-9)


def test_parts_score_as_one_array(tmp_path):
    X = rows_of(300)
    gm = GaussianMixture(3, random_state=0, batch_size=64).fit(X)
    parts = parts_of(X, tmp_path)
    for method in ("score_samples", "predict", "predict_proba", "impute"):
        expected = getattr(gm, method)(X)
        np.testing.assert_allclose(getattr(gm, method)(parts), expected, rtol=1e-10)
    assert gm.score(parts) == pytest.approx(gm.score(X))
    assert gm.bic(parts) == pytest.approx(gm.bic(X))


def test_a_part_is_loaded_once_a_pass():
    X = np.array_split(rows_of(400), 8)
    loads = []

    def loader(number):
        def load():
            loads.append(number)
            return X[number]

        return load

    parts = ChunkedArray([loader(number) for number in range(8)])
    loads.clear()
    gm = GaussianMixture(3, batch_size=25, random_state=0).fit(parts)
    # Two batches a part: loaded once a pass, not once a batch.
    assert 8 <= len(loads) <= 8 * (gm.n_iter_ + 6)


def test_small_chunks_do_not_overfit():
    # 60 rows a component and chunk for 560 parameters each: without the pull towards
    # the pooled covariance the stream loses more than a nat.
    rng = np.random.default_rng(0)
    means = 1.5 * rng.normal(size=(8, 32))
    roots = rng.normal(size=(8, 32, 32)) / np.sqrt(32) + np.eye(32)

    def draw(n_rows):
        labels = rng.integers(0, 8, n_rows)
        noise = rng.normal(size=(n_rows, 32))
        return means[labels] + np.einsum("nij,nj->ni", roots[labels], noise)

    X, held_out = draw(25_000), draw(5_000)
    stream = GaussianMixture(8, random_state=0)
    for chunk in np.array_split(X, 50):
        stream.partial_fit(chunk)
    batch = GaussianMixture(8, means_init=means, random_state=0).fit(X)
    assert stream.score(held_out) > batch.score(held_out) - 0.4
