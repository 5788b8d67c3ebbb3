"""Scores of all rows, batch by batch."""

import numpy as np
import pytest
import torch

from skdeepgmm._torch_backend.mixture import scoring
from tests._torch_backend.mixture.problems import (
    dense_log_joint,
    dense_responsibilities,
    random_mixture,
    types,
)

batches = pytest.mark.parametrize("batch_size", [1, 7, 40, None, 1000])


def apply(function, mixture, X, batch_size, dtype=torch.float64):
    return function(mixture, scoring.scoring_source(mixture, X, batch_size), dtype)


@types
@batches
def test_scores_equal_scipy(rng, name, batch_size):
    mixture = random_mixture(name, rng)
    X = rng.normal(scale=4.0, size=(40, 4))
    resp, log_prob = dense_responsibilities(mixture, X)
    found = apply(scoring.score_samples, mixture, X, batch_size)
    np.testing.assert_allclose(found, log_prob, rtol=1e-11)
    found = apply(scoring.predict_proba, mixture, X, batch_size)
    np.testing.assert_allclose(found, resp, rtol=1e-8, atol=1e-14)
    found = apply(scoring.predict, mixture, X, batch_size)
    np.testing.assert_array_equal(found, dense_log_joint(mixture, X).argmax(1))


@types
def test_float64_scores_do_not_depend_on_the_batches(rng, name):
    mixture = random_mixture(name, rng)
    X = rng.normal(size=(50, 4))
    whole = apply(scoring.score_samples, mixture, X, None)
    split = apply(scoring.score_samples, mixture, X, 3)
    torch.testing.assert_close(whole, split, rtol=1e-13, atol=1e-13)


@types
def test_float32_scores_are_near_the_float64_answer(rng, name):
    mixture = random_mixture(name, rng)
    X = (rng.normal(scale=4.0, size=(40, 4))).astype(np.float32)
    found = apply(scoring.score_samples, mixture, X, 7, torch.float32)
    assert found.dtype == torch.float32
    _, log_prob = dense_responsibilities(mixture, X.astype(float))
    np.testing.assert_allclose(found, log_prob, rtol=1e-4)


@types
@pytest.mark.parametrize("n_features", [1, 4])
def test_scoring_never_writes_the_data(rng, name, n_features):
    mixture = random_mixture(name, rng, n_features=n_features)
    for order in "CF":
        X = np.array(rng.normal(size=(20, n_features)), order=order)
        before = X.copy()
        for function in (
            scoring.score_samples,
            scoring.predict,
            scoring.predict_proba,
        ):
            apply(function, mixture, X, 6)
            apply(function, mixture, torch.from_numpy(X), 6)
        np.testing.assert_array_equal(X, before)


def test_far_samples_keep_finite_scores_and_probabilities(rng):
    mixture = random_mixture("full", rng)
    X = np.array([[1e6] * 4, [-1e9] * 4])
    assert torch.isfinite(apply(scoring.score_samples, mixture, X, None)).all()
    resp = apply(scoring.predict_proba, mixture, X, None)
    np.testing.assert_allclose(resp.sum(1), 1.0)


def test_no_working_tensor_exceeds_one_batch(rng, monkeypatch):
    seen = []
    normalize = scoring.normalize

    def spy(log_joint):
        seen.append(tuple(log_joint.shape))
        return normalize(log_joint)

    monkeypatch.setattr(scoring, "normalize", spy)
    mixture = random_mixture("diag", rng)
    apply(scoring.score_samples, mixture, rng.normal(size=(40, 4)), 7)
    assert seen == [(3, 7)] * 5 + [(3, 5)]
