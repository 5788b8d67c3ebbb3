"""Warnings point at the line that called an estimator, however deep they arise."""

import warnings

import pytest
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

import skdeepgmm
from skdeepgmm.estimators._warnings import warn_caller


def mixture(**params):
    settings = {"covariance_type": "diag", "max_iter": 1, "random_state": 0}
    return skdeepgmm.GaussianMixture(8, **(settings | params))


@pytest.mark.parametrize(
    "wrapped",
    [
        lambda model: model,
        make_pipeline,
        lambda model: GridSearchCV(model, {"max_iter": [1]}, cv=2),
    ],
    ids=["alone", "pipeline", "grid search"],
)
def test_the_callers_line_is_shown(rng, wrapped):
    with pytest.warns(ConvergenceWarning) as caught:
        wrapped(mixture()).fit(rng.normal(size=(200, 3)))
    assert {warning.filename for warning in caught} == {__file__}


def test_a_filter_by_module_finds_the_callers(rng):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", module=__name__)
        mixture().fit(rng.normal(size=(200, 3)))


def test_called_from_no_estimator_it_is_a_plain_warning():
    with pytest.warns(UserWarning, match="told") as caught:
        warn_caller("told", UserWarning)
    assert caught[0].filename == __file__
