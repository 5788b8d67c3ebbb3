"""Over-complete starts: init_params='merge', overcomplete=, merged()."""

import warnings

import numpy as np
import pytest
from numpy.testing import assert_allclose
from sklearn.base import clone

from skdeepgmm import GaussianMixture, SGDGaussianMixture
from tests.oracles import ALL_TYPES

# Any grid of many clusters defeats single k-means starts.
CENTERS = 6.0 * np.stack(np.meshgrid(range(4), range(4)), -1).reshape(-1, 2)


@pytest.fixture
def grid(rng):
    """Rows of sixteen clear groups, and their groups."""
    labels = np.repeat(np.arange(16), 60)
    return CENTERS[labels] + rng.normal(size=(960, 2)), labels


def finds_every_group(mixture):
    """Tell whether there is a mean at every centre."""
    distance = np.linalg.norm(mixture.means_[:, None] - CENTERS, axis=2)
    return distance.min(0).max() < 1.0


def test_one_merged_start_finds_what_single_starts_miss(grid):
    X, _ = grid
    seeds = range(8)
    merged = [
        GaussianMixture(16, init_params="merge", random_state=s).fit(X) for s in seeds
    ]
    singles = [
        GaussianMixture(16, init_params="k-means++", random_state=s).fit(X)
        for s in seeds
    ]
    assert sum(map(finds_every_group, merged)) >= 7
    assert np.mean([m.score(X) for m in merged]) > np.mean(
        [s.score(X) for s in singles]
    )


@pytest.mark.parametrize("covariance_type", ALL_TYPES)
def test_merged_starts_of_every_type(grid, covariance_type):
    X, _ = grid
    settings = {"covariance_type": covariance_type, "rank": 1, "random_state": 0}
    mixture = GaussianMixture(16, init_params="merge", **settings).fit(X)
    assert finds_every_group(mixture)


@pytest.mark.parametrize("covariance_type", ALL_TYPES)
def test_sgd_with_merging_is_better_than_without(grid, covariance_type):
    X, _ = grid
    settings = {"covariance_type": covariance_type, "rank": 1}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scores = [
            SGDGaussianMixture(16, overcomplete=factor, random_state=0, **settings)
            .fit(X)
            .score(X)
            for factor in (1.0, 2.0)
        ]
    assert scores[1] > scores[0] - 0.02


def test_merged_starts_take_missing_entries_and_weights(grid, rng):
    X, _ = grid
    weights = rng.integers(1, 3, size=len(X)).astype(float)
    holes = X.copy()
    holes[rng.random(X.shape) < 0.05] = np.nan
    mixture = GaussianMixture(16, init_params="merge", random_state=0)
    assert finds_every_group(mixture.fit(holes, sample_weight=weights))


def test_large_data_are_initialized_from_a_subset(rng, monkeypatch):
    from skdeepgmm._torch_backend.mixture import overcomplete

    monkeypatch.setattr(overcomplete, "LEAST_SAMPLES", 10)
    monkeypatch.setattr(overcomplete, "LEAST_SAMPLES_PER_FEATURE", 1)
    assert overcomplete.samples_enough(16, 2) < 960
    labels = np.repeat(np.arange(16), 60)
    X = CENTERS[labels] + rng.normal(size=(960, 2))
    mixture = GaussianMixture(16, init_params="merge", random_state=0).fit(X)
    assert finds_every_group(mixture)
    weights = (labels < 8).astype(float)
    few = GaussianMixture(8, init_params="merge", random_state=0)
    few.fit(X, sample_weight=weights)
    assert few.means_[:, 1].max() < 9.0


def test_no_more_components_than_samples(rng):
    X = rng.normal(size=(5, 2))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for mixture in (
            GaussianMixture(5, init_params="merge", random_state=0),
            SGDGaussianMixture(5, random_state=0),
        ):
            assert mixture.fit(X).means_.shape == (5, 2)


def test_one_component_needs_no_start(rng):
    X = rng.normal(size=(50, 3))
    one = GaussianMixture(init_params="merge", random_state=0).fit(X)
    assert_allclose(one.means_[0], X.mean(0))
    assert_allclose(one.covariances_[0], np.cov(X.T, ddof=0) + 1e-6 * np.eye(3))


def test_overcomplete_of_one_is_the_plain_run(grid):
    """A run of two epochs is too short for a merging; a longer one is not."""
    X, _ = grid
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        plain = SGDGaussianMixture(4, overcomplete=1.0, max_iter=1, random_state=0)
        short = clone(plain).set_params(overcomplete=2.0)
        assert_allclose(plain.fit(X).means_, short.fit(X).means_)
        longer = clone(short).set_params(max_iter=6).fit(X)
        assert not np.allclose(
            longer.means_, clone(plain).set_params(max_iter=6).fit(X).means_
        )


def test_callbacks_see_as_many_components_as_asked_for(grid):
    """Before the merging too: what it would give then."""
    shapes = []

    class Watch:
        def setup(self, estimator, context): ...

        def teardown(self, estimator, context): ...

        def on_fit_task_begin(self, estimator, context): ...

        def on_fit_task_end(self, estimator, context, *, fitted_estimator=None):
            shapes.append(fitted_estimator.means_.shape)

    X, _ = grid
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mixture = SGDGaussianMixture(4, max_iter=6, random_state=0)
        mixture.set_callbacks(Watch()).fit(X)
    assert shapes == [(4, 2)] * 7


def test_early_stopping_waits_for_the_merging(grid):
    X, _ = grid
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mixture = SGDGaussianMixture(
            16, early_stopping=True, n_iter_no_change=1, tol=10.0, random_state=0
        ).fit(X)
    scores = mixture.history_["score"]
    assert np.isnan(scores[:20]).all()
    assert len(scores) < 30


@pytest.mark.parametrize("covariance_type", ALL_TYPES)
def test_merged_of_a_fitted_mixture(grid, covariance_type):
    X, _ = grid
    mixture = GaussianMixture(
        20, covariance_type=covariance_type, rank=1, random_state=0, max_iter=5
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mixture.fit(X)
    less = mixture.merged(16)
    assert less.n_components == 16
    assert less.means_.shape == (16, 2)
    assert less.get_params()["reg_covar"] == mixture.reg_covar
    assert_allclose(less.weights_ @ less.means_, mixture.weights_ @ mixture.means_)
    assert mixture.means_.shape == (20, 2)
    assert less.score(X) < mixture.score(X) + 1e-9
    further = less.set_params(warm_start=True).fit(X)
    assert further.means_.shape == (16, 2)


def test_merged_to_all_is_the_same_density(grid):
    X, _ = grid
    mixture = GaussianMixture(3, random_state=0).fit(X)
    assert_allclose(mixture.merged(3).score_samples(X), mixture.score_samples(X))
    one = mixture.merged(1)
    assert_allclose(one.means_[0], X.mean(0), atol=1e-3)
    assert_allclose(one.covariances_[0], np.cov(X.T, ddof=0), rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("n_components", [0, 4, 2.0, True, None, "two"])
def test_merged_names_a_wrong_number(grid, n_components):
    X, _ = grid
    mixture = GaussianMixture(3, random_state=0).fit(X)
    with pytest.raises(ValueError, match="n_components must be an integer from 1 to 3"):
        mixture.merged(n_components)


def test_sgd_mixtures_merge_too(grid):
    X, _ = grid
    mixture = SGDGaussianMixture(3, random_state=0, tol=1.0).fit(X)
    assert isinstance(mixture.merged(2), SGDGaussianMixture)
    assert mixture.merged(2).predict(X).max() == 1
