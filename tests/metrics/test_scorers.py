"""Criteria as scores: the sign, and X as the model at the end of a pipeline sees it."""

import numpy as np
import pytest
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.mixture import GaussianMixture as SklearnMixture
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skdeepgmm import GaussianMixture
from skdeepgmm.metrics import aic_scorer, bic_scorer, icl_scorer

SCORERS = {"bic": bic_scorer, "aic": aic_scorer, "icl": icl_scorer}
each_scorer = pytest.mark.parametrize("name", SCORERS)


@each_scorer
def test_pipelines_are_unwrapped(blobs, name):
    X, _ = blobs
    mixture = GaussianMixture(3, random_state=0)
    seen = PCA(2).fit_transform(StandardScaler().fit_transform(X))
    expected = -getattr(mixture.fit(seen), name)(seen)
    steps = StandardScaler(), make_pipeline(PCA(2), GaussianMixture(3, random_state=0))
    found = SCORERS[name](make_pipeline(*steps).fit(X), X)
    assert found == pytest.approx(expected, rel=1e-9)
    assert SCORERS[name](make_pipeline(mixture), seen) == expected


@pytest.mark.parametrize("name", ["bic", "aic"])
def test_they_serve_scikit_learns_mixture(blobs, name):
    X, _ = blobs
    mixture = SklearnMixture(2, random_state=0).fit(X)
    assert SCORERS[name](mixture, X) == -getattr(mixture, name)(X)


@each_scorer
def test_a_search_finds_the_number_of_groups(blobs, name):
    X, _ = blobs
    everything = np.arange(len(X))
    search = GridSearchCV(
        make_pipeline(StandardScaler(), GaussianMixture(random_state=0)),
        {"gaussianmixture__n_components": [1, 2, 3, 4]},
        scoring=SCORERS[name],
        cv=[(everything, everything)],
    ).fit(X)
    best = search.best_params_["gaussianmixture__n_components"]
    # The penalty of AIC may let a component more through.
    assert best in ((3, 4) if name == "aic" else (3,))


@each_scorer
def test_a_model_without_the_criterion_is_named(blobs, name):
    X, _ = blobs
    model = make_pipeline(KMeans(2, n_init=1, random_state=0)).fit(X)
    with pytest.raises(TypeError, match=f"{name}_scorer needs.*KMeans has none"):
        SCORERS[name](model, X)
