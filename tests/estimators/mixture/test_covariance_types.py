"""Every covariance type: conversions, saving, streams, gradients, the denoiser."""

import inspect

import numpy as np
import pytest

from skdeepgmm import (
    GaussianMixture,
    PatchGMMDenoiser,
    SGDGaussianMixture,
    load,
    save,
)
from skdeepgmm._torch_backend.mixture.covariances import COVARIANCES
from tests.estimators.mixture.problems import make_problem, matrices_of
from tests.oracles import ALL_TYPES, COVARIANCE_TYPES, ORACLES, RANK

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

all_types = pytest.mark.parametrize("covariance_type", ALL_TYPES)


def known(rng, covariance_type, n_features=3, **params):
    """Return the mixture of a problem, made from its parameters."""
    problem = make_problem(rng, 3, n_features, spread=2.0)
    values = problem.covariances[covariance_type]
    return GaussianMixture.from_parameters(
        problem.weights,
        problem.means,
        ORACLES[covariance_type].supplied(values),
        covariance_type=covariance_type,
        **params,
    )


def test_every_type_has_an_oracle():
    assert set(ALL_TYPES) == set(COVARIANCES)


@pytest.mark.parametrize("Estimator", [GaussianMixture, SGDGaussianMixture])
def test_every_type_is_documented(Estimator):
    text = inspect.getdoc(Estimator)
    for name in ALL_TYPES:
        assert f"'{name}'" in text


@all_types
def test_dense_covariances_equal_the_oracle(rng, covariance_type):
    mixture = known(rng, covariance_type)
    found = mixture.dense_covariances()
    assert found.shape == (3, 3, 3)
    np.testing.assert_allclose(found, matrices_of(mixture), rtol=1e-12, atol=1e-14)
    found[:] = 0.0  # a copy
    assert matrices_of(mixture).any()


@all_types
def test_scikit_learn_scores_the_same(rng, covariance_type):
    mixture, X = known(rng, covariance_type), rng.normal(size=(20, 3))
    theirs = mixture.to_sklearn()
    expected = covariance_type if ORACLES[covariance_type].in_sklearn else "full"
    assert theirs.covariance_type == expected
    np.testing.assert_allclose(theirs.score_samples(X), mixture.score_samples(X))
    back = GaussianMixture.from_sklearn(theirs)
    np.testing.assert_allclose(back.score_samples(X), mixture.score_samples(X))


@all_types
def test_wrong_covariances_are_named(rng, covariance_type):
    oracle = ORACLES[covariance_type]
    values = oracle.random(rng, 3, 3)
    values.flat[-1] = -1.0
    arguments = np.full(3, 1 / 3), np.zeros((3, 3))
    with pytest.raises(ValueError, match="positive"):
        GaussianMixture.from_parameters(
            *arguments, oracle.supplied(values), covariance_type=covariance_type
        )
    with pytest.raises(ValueError, match="should have the shape of"):
        GaussianMixture.from_parameters(
            *arguments,
            oracle.supplied(oracle.random(rng, 4, 4)[..., None]),
            covariance_type=covariance_type,
        )


@all_types
@pytest.mark.parametrize("Estimator", [GaussianMixture, SGDGaussianMixture])
def test_a_saved_fit_scores_the_same(rng, tmp_path, covariance_type, Estimator):
    X = make_problem(rng, 3, 4).draw("full", 200, rng)[0]
    X[rng.random(X.shape) < 0.1] = np.nan
    settings = {"covariance_type": covariance_type, "rank": RANK, "random_state": 0}
    mixture = Estimator(3, max_iter=5, **settings).fit(X)
    assert np.isfinite(mixture.score_samples(X)).all()
    mixture.partial_fit(X)
    save(mixture, tmp_path / "mixture.safetensors")
    again = load(tmp_path / "mixture.safetensors")
    np.testing.assert_array_equal(again.score_samples(X), mixture.score_samples(X))
    assert again.partial_fit(X).score(X) == mixture.partial_fit(X).score(X)


@all_types
def test_a_mixture_is_a_prior_of_the_denoiser(rng, covariance_type):
    mixture = known(rng, covariance_type, n_features=9)
    denoiser = PatchGMMDenoiser(prior=mixture, patch_size=3, sigma=0.1)
    denoiser.fit([rng.uniform(size=(8, 8))])
    np.testing.assert_allclose(denoiser.covariances_, mixture.dense_covariances())


@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
def test_a_changed_type_cannot_be_continued(rng, covariance_type):
    X = make_problem(rng, 3, 4).draw("full", 200, rng)[0]
    mixture = GaussianMixture(3, covariance_type=covariance_type, random_state=0)
    mixture.fit(X)
    mixture.set_params(covariance_type="low_rank", rank=RANK, warm_start=True)
    with pytest.raises(ValueError, match="covariance_type or rank has changed"):
        mixture.fit(X)
