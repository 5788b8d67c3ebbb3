"""Mixtures of the typical samples."""

import numpy as np
import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from skdeepgmm import GaussianMixture
from skdeepgmm.estimators.outliers._trimmed_mixtures import TrimmedMixtures


@parametrize_with_checks([TrimmedMixtures(sizes=(1, 2), random_state=0)])
def test_scikit_learn_checks(estimator, check):
    # One check shuffles with NumPy's global generator; the suite forbids that.
    state = np.random.get_state()  # noqa: NPY002
    try:
        check(estimator)
    finally:
        np.random.set_state(state)  # noqa: NPY002


def test_without_trimming_it_is_the_mean_of_mixtures(blobs):
    X, _ = blobs
    model = TrimmedMixtures((2, 3), n_trims=0, reg_covar=0.1, random_state=0).fit(X)
    found = [
        GaussianMixture(
            size,
            covariance_type="diag",
            reg_covar=0.1,
            reg_covar_relative=True,
            random_state=mixture.random_state,
        )
        .fit(X)
        .score_samples(X)
        for size, mixture in zip((2, 3), model.mixtures_, strict=True)
    ]
    np.testing.assert_allclose(model.score_samples(X), np.mean(found, axis=0))


def test_trimmed_fits_are_those_without_the_tails(rng):
    """One component without regularisation: the mean and variance of what is left."""
    X = np.concatenate([rng.normal(size=(95, 2)), np.full((5, 2), 50.0)])
    model = TrimmedMixtures((1,), trim=0.05, n_trims=1, reg_covar=0.0).fit(X)
    np.testing.assert_allclose(model.mixtures_[0].means_[0], X[:95].mean(axis=0))
    np.testing.assert_allclose(model.mixtures_[0].covariances_[0], X[:95].var(axis=0))


def test_few_samples_have_few_components(rng):
    model = TrimmedMixtures(random_state=0).fit(rng.normal(size=(25, 2)))
    assert [len(mixture.weights_) for mixture in model.mixtures_] == [2]
    assert [len(m.weights_) for m in model.fit(rng.normal(size=(2, 2))).mixtures_] == [
        1
    ]


def test_samples_come_from_the_mixtures(blobs):
    X, _ = blobs
    model = TrimmedMixtures((3,), trim=0.0, reg_covar=1e-6, random_state=0).fit(X)
    drawn, labels = model.sample(3000)
    assert drawn.shape == (3000, X.shape[1])
    assert set(labels) == {0}
    np.testing.assert_allclose(drawn.mean(axis=0), X.mean(axis=0), atol=0.3)
    assert model.score(drawn) == pytest.approx(model.score(X), abs=0.2)
