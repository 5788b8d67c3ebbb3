"""GaussianMixtureIC: what it finds, its table, delegation, errors."""

import numpy as np
import pandas as pd
import pytest
import sklearn.mixture
from numpy.testing import assert_allclose, assert_array_equal

from skdeepgmm import GaussianMixture, GaussianMixtureIC
from skdeepgmm.estimators.mixture._information_criteria import CRITERIA


@pytest.fixture
def groups(rng):
    """Rows of five groups with full covariances."""
    means = 5.0 * np.array([[0, 0, 1], [2, 0, 0], [0, 2, 0], [2, 2, 1], [1, 1, 3]])
    roots = rng.normal(size=(5, 3, 3)) * 0.4 + np.eye(3)
    labels = rng.integers(5, size=1500)
    noise = rng.normal(size=(1500, 3))
    return means[labels] + np.einsum("nij,nj->ni", roots[labels], noise)


@pytest.fixture
def search(groups):
    types = ["full", "diag", "tied", "spherical"]
    return GaussianMixtureIC(range(1, 9), covariance_type=types, random_state=0).fit(
        groups
    )


def test_it_finds_number_and_form(search):
    assert search.n_components_ == 5
    assert search.covariance_type_ == "full"
    assert isinstance(search.best_estimator_, GaussianMixture)
    assert search.best_estimator_.converged_


def test_it_is_as_good_as_a_loop_of_many_starts(search, groups):
    loop = [
        sklearn.mixture.GaussianMixture(k, n_init=5, random_state=0).fit(groups)
        for k in range(3, 8)
    ]
    assert search.best_criterion_ < min(m.bic(groups) for m in loop) + 1.0


def test_the_table_is_that_of_scikit_learn(search, groups):
    """Criteria of every row by scikit-learn's own formulas."""
    frame = pd.DataFrame(search.results_)
    assert len(frame) == len(search.estimators_) == 4 * 8
    assert not any(mixture.warm_start for mixture in search.estimators_)
    assert sorted(frame["rank"]) == list(range(1, 33))
    assert frame["rank"][frame["bic"].idxmin()] == 1
    for row, mixture in zip(frame.itertuples(), search.estimators_, strict=True):
        theirs = mixture.to_sklearn()
        assert theirs.n_components == row.n_components
        assert theirs.covariance_type == row.covariance_type
        assert_allclose(row.bic, theirs.bic(groups))
        assert_allclose(row.aic, theirs.aic(groups))
        assert_allclose(row.log_likelihood, theirs.score(groups))
        assert_allclose(row.icl, mixture.icl(groups))
        assert row.icl >= row.bic - 1e-9


def test_bigger_mixtures_of_the_path_are_more_likely(search):
    frame = pd.DataFrame(search.results_)
    for _, part in frame.groupby("covariance_type"):
        values = part.sort_values("n_components")["log_likelihood"].to_numpy()
        assert (np.diff(values) > -0.02).all()


def test_the_best_is_the_least_of_the_chosen_criterion(groups):
    found = {
        criterion: GaussianMixtureIC(
            range(1, 9), covariance_type="full", criterion=criterion, random_state=0
        ).fit(groups)
        for criterion in CRITERIA
    }
    for criterion, search in found.items():
        best = np.argmin(search.results_[criterion])
        assert search.results_["n_components"][best] == search.n_components_
    # The heavier the penalty, the fewer components.
    assert found["aic"].n_components_ >= found["bic"].n_components_
    assert found["bic"].n_components_ >= found["icl"].n_components_


def test_it_predicts_scores_and_samples_as_its_best(search, groups):
    best = search.best_estimator_
    assert_array_equal(search.predict(groups), best.predict(groups))
    assert_array_equal(search.predict_proba(groups), best.predict_proba(groups))
    assert_array_equal(search.score_samples(groups), best.score_samples(groups))
    assert search.score(groups) == best.score(groups)
    X, labels = search.sample(10)
    assert X.shape == (10, 3)
    assert labels.shape == (10,)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The bic is least")
def test_the_number_of_jobs_changes_nothing(groups):
    settings = {"covariance_type": ["full", "diag"], "random_state": 0}
    one, two = (
        GaussianMixtureIC([2, 9], n_jobs=n_jobs, **settings).fit(groups[:300])
        for n_jobs in (1, 2)
    )
    for name, values in one.results_.items():
        assert_array_equal(values, two.results_[name])


def test_integer_weights_count_rows(groups, rng):
    weights = rng.integers(0, 3, size=400)
    X = groups[:400]
    settings = {"covariance_type": "full", "random_state": 0}
    repeated = np.repeat(X, weights, axis=0)
    one = GaussianMixtureIC([1], **settings).fit(X, sample_weight=weights)
    two = GaussianMixtureIC([1], **settings).fit(repeated)
    assert_allclose(one.results_["bic"], two.results_["bic"])
    assert_allclose(one.results_["icl"], two.results_["icl"])


def test_columns_keep_their_names(groups):
    frame = pd.DataFrame(groups[:200], columns=["a", "b", "c"])
    search = GaussianMixtureIC(range(1, 4), covariance_type="diag", random_state=0)
    with pytest.warns(UserWarning, match="Widen n_components"):
        search.fit(frame)
    assert list(search.best_estimator_.feature_names_in_) == ["a", "b", "c"]
    search.predict(frame)


def test_missing_entries(groups, rng):
    X = groups.copy()
    X[rng.random(X.shape) < 0.1] = np.nan
    search = GaussianMixtureIC(range(2, 9), covariance_type="full", random_state=0)
    assert search.fit(X).n_components_ == 5


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"n_components": []}, "n_components is empty"),
        ({"n_components": [0, 2]}, "n_components must be an integer of at least 1"),
        ({"n_components": [2.5]}, "n_components must be an integer of at least 1"),
        ({"n_components": [1, 40]}, "n_components goes up to 40, but X has 30 samples"),
        ({"covariance_type": ["full", "round"]}, "covariance_type must name some of"),
        ({"covariance_type": []}, "covariance_type must name some of"),
        ({"criterion": "dic"}, "'criterion' parameter"),
    ],
)
def test_wrong_parameters_are_named(groups, settings, message):
    with pytest.raises(ValueError, match=message):
        GaussianMixtureIC(**settings).fit(groups[:30])


def test_display(search):
    plt = pytest.importorskip("matplotlib.pyplot")
    from skdeepgmm.plotting import CriterionDisplay

    display = CriterionDisplay.from_estimator(search)
    assert display.best_candidate == ("full", 5)
    assert len(display.lines_) == 4
    assert display.ax_.get_ylabel() == "BIC"
    assert_allclose(display.best_.get_xdata(), 5)
    by_kind = {line.get_label(): line for line in display.lines_}
    frame = pd.DataFrame(search.results_).query("covariance_type == 'tied'")
    frame = frame.sort_values("n_components")
    assert_allclose(by_kind["tied"].get_xydata(), frame[["n_components", "bic"]])
    with pytest.raises(ValueError, match="criterion='loss' is no column"):
        CriterionDisplay.from_estimator(search, criterion="loss")
    plt.close("all")


@pytest.mark.filterwarnings("ignore:The bic is least")
def test_degenerate_mixtures_come_last(rng):
    """Components on a few samples have any likelihood that reg_covar allows."""
    X = rng.normal(size=(24, 2))
    X[12:] = X[:12] + 1e-9 * rng.normal(size=(12, 2))
    search = GaussianMixtureIC(range(1, 13), covariance_type="full", random_state=0)
    search.fit(X)
    degenerate = search.results_["degenerate"]
    assert degenerate.any()
    assert search.results_["rank"][degenerate].min() > (~degenerate).sum()
    chosen = search.results_["rank"] == 1
    assert not degenerate[chosen].any()


@pytest.mark.filterwarnings("ignore:The bic is least")
def test_default_sizes_end_at_the_number_of_samples(rng):
    search = GaussianMixtureIC(covariance_type="spherical", random_state=0)
    assert max(search.fit(rng.normal(size=(6, 2))).results_["n_components"]) == 6
    assert max(search.fit(rng.normal(size=(60, 2))).results_["n_components"]) == 10
