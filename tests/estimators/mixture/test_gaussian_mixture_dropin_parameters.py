"""Parameters of sklearn.mixture.GaussianMixture: signature, checks, output, names."""

import inspect
import re

import numpy as np
import pandas as pd
import pytest
import sklearn.mixture
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils._param_validation import InvalidParameterError

from skdeepgmm import GaussianMixture
from tests.estimators.mixture.problems import make_problem, spaced_problem
from tests.oracles import COVARIANCE_TYPES, MATRIX_TYPES, ORACLES

ignore_convergence = pytest.mark.filterwarnings(
    "ignore::sklearn.exceptions.ConvergenceWarning"
)
each_type = pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)


@pytest.fixture
def problem(rng):
    return spaced_problem(rng, n_components=2)


@pytest.fixture
def X(problem, rng):
    return problem.draw("full", 200, rng)[0]


@pytest.fixture
def overlapping(rng):
    return make_problem(rng, spread=1.5).draw("full", 400, rng)[0]


# Signature -----------------------------------------------------------------------


def test_signature_extends_scikit_learn():
    ours = inspect.signature(GaussianMixture).parameters
    theirs = inspect.signature(sklearn.mixture.GaussianMixture).parameters
    for name, parameter in theirs.items():
        assert ours[name].default == parameter.default, name
        assert ours[name].kind == parameter.kind, name
    extra = {name: ours[name].default for name in ours if name not in theirs}
    assert extra.items() >= {"device": "auto", "batch_size": None}.items()


def test_parameters_are_kept_as_given(X):
    settings = {
        "n_components": 2,
        "tol": 1e-4,
        "n_init": 3,
        "max_iter": 30,
        "reg_covar": 0.1,
        "covariance_type": "full",
        "init_params": "random",
    }
    mixture = GaussianMixture(**settings, random_state=0).fit(X)
    assert mixture.get_params().items() >= settings.items()
    assert clone(mixture).get_params() == mixture.get_params()


@pytest.mark.parametrize(
    "name, value",
    [
        ("n_components", 0),
        ("n_components", 1.5),
        ("covariance_type", "round"),
        ("tol", -1.0),
        ("reg_covar", -1e-6),
        ("max_iter", -1),
        ("n_init", 0),
        ("init_params", "magic"),
        ("weights_init", 3),
        ("random_state", "seed"),
        ("warm_start", "yes"),
        ("verbose", -1),
        ("verbose_interval", 0),
    ],
)
def test_bad_values_are_rejected_as_in_scikit_learn(X, name, value):
    expected = f"The '{name}' parameter of GaussianMixture must be"
    for cls in (GaussianMixture, sklearn.mixture.GaussianMixture):
        with pytest.raises(InvalidParameterError, match=expected):
            cls(**{name: value}).fit(X)


@pytest.mark.parametrize("name, value", [("batch_size", 0), ("device", 3)])
def test_bad_values_of_our_own_parameters(X, name, value):
    with pytest.raises(InvalidParameterError, match=f"The '{name}' parameter"):
        GaussianMixture(**{name: value}).fit(X)


# Checks of start values ----------------------------------------------------------


@pytest.mark.parametrize(
    "weights, message",
    [
        (
            np.full((2, 1), 0.5),
            "The parameter 'weights' should have the shape of (2,), but got (2, 1)",
        ),
        (
            [1.25, 1.5],
            "The parameter 'weights' should be in the range [0, 1], but got max value",
        ),
        ([-0.25, 1.25], "The parameter 'weights' should be in the range [0, 1]"),
        (
            [0.25, 0.5],
            "The parameter 'weights' should be normalized, but got sum(weights) = "
            "0.75000",
        ),
    ],
)
def test_weights_init_is_checked(X, weights, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        GaussianMixture(2, weights_init=weights).fit(X)


def test_means_init_is_checked(X):
    message = "The parameter 'means' should have the shape of (2, 2), but got (3, 2)"
    with pytest.raises(ValueError, match=re.escape(message)):
        GaussianMixture(2, means_init=np.zeros((3, 2))).fit(X)


@each_type
@pytest.mark.parametrize("value", [-1.0, 0.0])
def test_precisions_init_is_checked(X, rng, covariance_type, value):
    oracle = ORACLES[covariance_type]
    wrong_shape = [size + 1 for size in oracle.shape(2, 2)]
    mixture = GaussianMixture(2, covariance_type=covariance_type)
    mixture.precisions_init = np.ones(wrong_shape)
    shape_message = f"The parameter '{covariance_type} precision' should have the shape"
    with pytest.raises(ValueError, match=shape_message):
        mixture.fit(X)
    what = "symmetric, positive-definite" if oracle.matrices else "positive"
    mixture.precisions_init = oracle.random(rng, 2, 2)
    mixture.precisions_init.flat[-1] = value
    with pytest.raises(ValueError, match=f"'{covariance_type} precision' .* be {what}"):
        mixture.fit(X)


@pytest.mark.parametrize("covariance_type", MATRIX_TYPES)
def test_precisions_init_must_be_symmetric(X, covariance_type):
    skew = np.array([[1.0, 0.5], [0.0, 1.0]])
    precisions = np.broadcast_to(skew, ORACLES[covariance_type].shape(2, 2))
    mixture = GaussianMixture(
        2, covariance_type=covariance_type, precisions_init=precisions
    )
    with pytest.raises(ValueError, match="symmetric, positive-definite"):
        mixture.fit(X)


@each_type
def test_start_values_stay_as_given(problem, X, covariance_type):
    start = problem.start(covariance_type)
    copies = {name: np.copy(value) for name, value in start.items()}
    mixture = GaussianMixture(**start, random_state=0).fit(X)
    for name in ("weights_init", "means_init", "precisions_init"):
        np.testing.assert_array_equal(getattr(mixture, name), copies[name])
        np.testing.assert_array_equal(start[name], copies[name])


def test_start_values_may_be_lists(problem, X):
    start = problem.start("diag")
    arrays = GaussianMixture(**start).fit(X)
    for name in ("weights_init", "means_init", "precisions_init"):
        start[name] = start[name].tolist()
    lists = GaussianMixture(**start).fit(X)
    np.testing.assert_array_equal(lists.means_, arrays.means_)


# Output --------------------------------------------------------------------------


@ignore_convergence
@pytest.mark.parametrize("verbose, interval", [(1, 1), (1, 3), (2, 2)])
def test_verbose_reports_starts_and_iterations(overlapping, capsys, verbose, interval):
    GaussianMixture(
        3,
        n_init=2,
        max_iter=7,
        tol=0,
        random_state=0,
        verbose=verbose,
        verbose_interval=interval,
    ).fit(overlapping)
    out = capsys.readouterr().out
    assert re.findall(r"^Initialization (\d)$", out, re.M) == ["0", "1"]
    iterations = [int(n) for n in re.findall(r"^  Iteration (\d+)", out, re.M)]
    assert iterations == 2 * list(range(interval, 8, interval))
    assert len(re.findall(r"^Initialization did not converge\.", out, re.M)) == 2


def test_verbose_two_adds_change_time_and_bound(X, capsys):
    GaussianMixture(2, random_state=0, verbose=2, verbose_interval=1).fit(X)
    out = capsys.readouterr().out
    assert "ll change" in out
    assert re.search(
        r"^Initialization converged\. time lapse [\d.]+s\s+lower bound -?[\d.]+\.$",
        out,
        re.M,
    )


def test_silent_by_default(X, capsys):
    GaussianMixture(2, random_state=0).fit(X)
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""


# Names, pipelines and searches ---------------------------------------------------


def test_feature_names_are_kept_and_compared(X):
    frame = pd.DataFrame(X, columns=["width", "height"])
    mixture = GaussianMixture(2, random_state=0).fit(frame)
    assert mixture.feature_names_in_.tolist() == ["width", "height"]
    np.testing.assert_array_equal(mixture.predict(frame), mixture.fit(X).predict(X))
    mixture.fit(frame)
    with pytest.raises(ValueError, match="feature names should match"):
        mixture.predict(frame.rename(columns={"width": "depth"}))
    with pytest.warns(UserWarning, match="X does not have valid feature names"):
        mixture.predict(X)


def test_grid_search_finds_the_number_of_components(rng):
    X, _ = spaced_problem(rng, n_components=3).draw("full", 600, rng)
    search = GridSearchCV(
        make_pipeline(StandardScaler(), GaussianMixture(random_state=0)),
        {"gaussianmixture__n_components": [1, 2, 3]},
        cv=3,
    ).fit(X)
    assert search.best_params_ == {"gaussianmixture__n_components": 3}


def test_y_is_ignored(X, rng):
    plain = GaussianMixture(2, random_state=0).fit(X)
    labelled = GaussianMixture(2, random_state=0).fit(X, rng.integers(0, 2, len(X)))
    np.testing.assert_array_equal(plain.means_, labelled.means_)
    assert plain.score(X, rng.integers(0, 2, len(X))) == plain.score(X)
