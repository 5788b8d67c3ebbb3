"""truncation=: fits with few candidates a sample, as a user sees them."""

import numpy as np
import pytest

from skdeepgmm import GaussianMixture, load, save
from skdeepgmm._torch_backend.mixture import scoring
from skdeepgmm.estimators.mixture._init_params import _shares, initial_centers
from tests.estimators.iterative import At, assert_same, ctrl_c, fail, learned
from tests.oracles import ALL_TYPES

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings(
        "ignore::skdeepgmm.exceptions.DegenerateComponentWarning"
    ),
]
N_COMPONENTS = 30
SETTINGS = {"n_components": N_COMPONENTS, "truncation": 6, "random_state": 0}


@pytest.fixture(scope="module")
def X():
    rng = np.random.default_rng(0)
    centers = rng.normal(scale=3.0, size=(N_COMPONENTS, 4))
    which = rng.integers(N_COMPONENTS, size=1500)
    return centers[which] + rng.normal(scale=0.5, size=(1500, 4))


@pytest.mark.parametrize("covariance_type", ALL_TYPES)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_as_good_as_exact_em_where_components_lie_apart(covariance_type, dtype, X):
    X = X.astype(dtype)
    settings = SETTINGS | {"covariance_type": covariance_type, "rank": 2, "tol": 1e-4}
    gm = GaussianMixture(**settings).fit(X)
    assert gm.means_.dtype == dtype
    assert 0.0 <= gm.truncation_gap_ < 1e-3
    assert np.diff(gm.lower_bounds_).min() > -1e-5
    # The same parameters under exact EM have nothing to gain.
    exact = GaussianMixture(**settings | {"truncation": None, "warm_start": True})
    vars(exact).update({k: v for k, v in vars(gm).items() if k.endswith("_")})
    before = exact.score(X)
    assert exact.set_params(max_iter=1).fit(X).score(X) < before + 1e-3
    assert before >= gm.lower_bound_ - 1e-6


@pytest.mark.parametrize("truncation", [N_COMPONENTS, 1000])
def test_no_fewer_candidates_than_components_is_exact_em(truncation, X):
    settings = {"n_components": N_COMPONENTS, "random_state": 0, "max_iter": 3}
    exact = GaussianMixture(**settings).fit(X)
    found = GaussianMixture(**settings, truncation=truncation).fit(X)
    assert_same(learned(exact), learned(found))
    assert not hasattr(found, "truncation_gap_")


def test_the_gap_is_told_and_forgotten(X):
    gm = GaussianMixture(**SETTINGS | {"truncation": 2, "max_iter": 4, "tol": 0.0})
    gap = gm.fit(X).truncation_gap_
    # One iteration later the bound is at least that of the parameters so far.
    later = GaussianMixture(**gm.get_params()).set_params(max_iter=5).fit(X)
    assert gap > 1e-4
    assert gm.score(X) - gap <= later.lower_bound_ + 1e-9
    assert not hasattr(gm.set_params(truncation=None).fit(X), "truncation_gap_")


def test_ctrl_c_leaves_the_gap_of_what_was_learned(X):
    settings = SETTINGS | {"tol": 0.0}
    cut = GaussianMixture(**settings, max_iter=9).set_callbacks(At(3, ctrl_c)).fit(X)
    whole = GaussianMixture(**settings, max_iter=3).fit(X)
    assert_same(learned(cut), learned(whole))
    assert cut.truncation_gap_ > 0.0


def test_a_chunk_later_there_is_no_gap(X):
    gm = GaussianMixture(**SETTINGS, max_iter=2).fit(X).set_params(truncation=None)
    assert not hasattr(gm.partial_fit(X), "truncation_gap_")


def test_labels_and_posteriors(X):
    gm = GaussianMixture(**SETTINGS).fit(X)
    labels, resp = gm.predict(X), gm.predict_proba(X)
    np.testing.assert_allclose(resp.sum(axis=1), 1.0)
    assert (np.count_nonzero(resp, axis=1) <= 6).all()
    np.testing.assert_array_equal(resp.argmax(axis=1), labels)
    scores = gm.score_samples(X)
    gm.set_params(truncation=None)
    np.testing.assert_array_equal(gm.predict(X), labels)
    np.testing.assert_allclose(gm.predict_proba(X), resp, atol=1e-3)
    np.testing.assert_array_equal(gm.score_samples(X), scores)  # exact in both


def test_labels_of_single_samples_and_of_incomplete_ones(X):
    gm = GaussianMixture(**SETTINGS).fit(X)
    expected = gm.predict(X[:20])
    np.testing.assert_array_equal([gm.predict(x[None])[0] for x in X[:20]], expected)
    holes = X[:20].copy()
    holes[3, 0] = np.nan
    assert (gm.predict(holes) == expected).sum() >= 19


def test_labels_of_parts_are_those_of_the_whole(X, monkeypatch):
    """Data larger than memory are read part by part."""
    gm = GaussianMixture(**SETTINGS).fit(X)
    expected = gm.predict(X), gm.predict_proba(X)
    monkeypatch.setattr(scoring, "TOGETHER_BYTES", 400 * X[0].nbytes)
    sizes, plain = [], scoring.Truncation.settle

    def settle(self, mixture):
        sizes.append(len(self.rows))
        plain(self, mixture)

    monkeypatch.setattr(scoring.Truncation, "settle", settle)
    np.testing.assert_array_equal(gm.predict(X), expected[0])
    np.testing.assert_allclose(gm.predict_proba(X), expected[1], atol=1e-12)
    assert sizes == [400, 400, 400, 300] * 2


@pytest.mark.parametrize("covariance_type", ALL_TYPES)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_labels_beside_a_component_far_away(covariance_type, dtype, X):
    """Its mean and variance are no units for all others."""
    gm = GaussianMixture(**SETTINGS, covariance_type=covariance_type, rank=2)
    far = np.concatenate([X, np.full((1, 4), 1e10)]).astype(dtype)
    labels = gm.fit(far).predict(far)
    assert labels[-1] not in labels[:-1]
    assert (labels == gm.set_params(truncation=None).predict(far)).mean() > 0.95


@pytest.mark.parametrize("covariance_type", ALL_TYPES)
def test_bounds_beside_a_sample_far_away(covariance_type, X):
    """A covariance that it has widened to 1e24 is seen in the exact form."""
    settings = SETTINGS | {"covariance_type": covariance_type, "rank": 2}
    far = np.concatenate([X, np.eye(1, 4) * 1e12]).astype(np.float32)
    gm = GaussianMixture(**settings, max_iter=4, tol=0.0).fit(far)
    assert max(gm.lower_bounds_) < 0.0


def test_sample_weights_count(X):
    gm = GaussianMixture(**SETTINGS)
    weight = np.where(X[:, 0] > 0.0, 1.0, 0.0)
    gm.fit(X, sample_weight=weight)
    assert (gm.weights_ @ gm.means_)[0] == pytest.approx(X[weight > 0, 0].mean())


@pytest.mark.parametrize("init_params", ["kmeans", "k-means++", "random_from_data"])
def test_starts(init_params, X):
    gm = GaussianMixture(**SETTINGS, init_params=init_params).fit(X)
    again = GaussianMixture(**SETTINGS, init_params=init_params).fit(X)
    assert_same(learned(gm), learned(again))
    centers = initial_centers(init_params, X, 30, np.random.RandomState(0))
    assert len(np.unique(centers, axis=0)) == 30


def test_given_parameters_are_the_start(X):
    exact = GaussianMixture(N_COMPONENTS, random_state=0).fit(X)
    gm = GaussianMixture(
        **SETTINGS,
        weights_init=exact.weights_,
        means_init=exact.means_,
        precisions_init=exact.precisions_,
        max_iter=0,
    ).fit(X)
    np.testing.assert_allclose(gm.means_, exact.means_)


def test_warm_start_goes_on(X):
    gm = GaussianMixture(**SETTINGS, max_iter=3, tol=0.0, warm_start=True).fit(X)
    before = gm.score(X)
    assert gm.fit(X).score(X) > before
    assert gm.n_iter_ == 3


def test_a_fit_that_is_cut_off_goes_on_to_the_same_bits(X, tmp_path):
    settings = SETTINGS | {"max_iter": 6, "tol": 0.0}
    whole = GaussianMixture(**settings).fit(X)
    settings |= {"checkpoint_path": tmp_path / "fit", "checkpoint_every": 1}
    cut = GaussianMixture(**settings).set_callbacks(At(4, fail))
    with pytest.raises(RuntimeError):
        cut.fit(X)
    assert (tmp_path / "fit").exists()
    assert_same(learned(whole), learned(GaussianMixture(**settings).fit(X)))


def test_saved_models_keep_it(X, tmp_path):
    gm = GaussianMixture(**SETTINGS, max_iter=2).fit(X)
    save(gm, tmp_path / "model")
    found = load(tmp_path / "model")
    assert found.truncation_gap_ == gm.truncation_gap_
    np.testing.assert_array_equal(found.predict(X), gm.predict(X))


@pytest.mark.parametrize("init_params", ["random", "merge"])
def test_starts_that_see_all_components_are_refused(init_params, X):
    with pytest.raises(ValueError, match=r"init_params='kmeans'.*truncation=None"):
        GaussianMixture(**SETTINGS, init_params=init_params).fit(X)


def test_missing_entries_are_refused(X):
    X = X.copy()
    X[0, 0] = np.nan
    with pytest.raises(ValueError, match=r"truncation=6 does not take missing"):
        GaussianMixture(**SETTINGS).fit(X)


def test_streams_are_refused(X):
    with pytest.raises(ValueError, match="truncation=6 is for fit only"):
        GaussianMixture(**SETTINGS).partial_fit(X)


def test_shares_add_up(rng):
    for _ in range(50):
        counts = rng.integers(0, 9, size=7)
        total = int(rng.integers(0, counts.sum() + 1))
        shares = _shares(counts, total)
        assert shares.sum() == total
        assert (shares <= counts).all()
        assert (shares >= 0).all()
