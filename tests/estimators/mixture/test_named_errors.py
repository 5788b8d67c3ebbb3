"""Settings and calls that would give a wrong number are refused by name."""

import numpy as np
import pytest
import scipy.sparse
import sklearn.mixture

from skdeepgmm import GaussianMixture, SGDGaussianMixture
from skdeepgmm.exceptions import DegenerateComponentWarning

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
]
both = pytest.mark.parametrize("cls", [GaussianMixture, SGDGaussianMixture])


@pytest.fixture
def X(rng):
    return np.concatenate([rng.normal(size=(60, 3)), 9.0 + rng.normal(size=(60, 3))])


# Streams -------------------------------------------------------------------------


@both
@pytest.mark.parametrize(
    "change",
    [
        {"n_components": 2},
        {"covariance_type": "tied"},  # for three features the same shape as "diag"
        {"covariance_type": "full"},
        {"covariance_type": "low_rank", "rank": 2},
    ],
    ids=str,
)
def test_a_stream_refuses_changed_parameters(cls, change, X):
    stream = cls(3, covariance_type="diag", random_state=0).partial_fit(X)
    before = {name: np.copy(value) for name, value in vars(stream).items()}
    stream.set_params(**change)
    with pytest.raises(ValueError, match="n_components, covariance_type or rank"):
        stream.partial_fit(X)
    np.testing.assert_array_equal(stream.means_, before["means_"])
    stream.set_params(n_components=3, covariance_type="diag", rank=10).partial_fit(X)


@both
def test_a_stream_refuses_another_rank(cls, X):
    stream = cls(2, covariance_type="low_rank", rank=1, random_state=0).partial_fit(X)
    with pytest.raises(ValueError, match="rank"):
        stream.set_params(rank=2).partial_fit(X)


@both
@pytest.mark.parametrize("covariance_type", ["tied", "diag"])
def test_a_stream_goes_on_where_types_share_a_shape(cls, covariance_type, X):
    stream = cls(3, covariance_type=covariance_type, random_state=0)
    stream.partial_fit(X).partial_fit(X)
    assert np.isfinite(stream.score(X))


# Values --------------------------------------------------------------------------


@both
@pytest.mark.parametrize("name", ["n_components", "max_iter", "reg_covar"])
@pytest.mark.parametrize("value", [True, np.True_])
def test_true_is_no_number(cls, name, value, X):
    with pytest.raises(ValueError, match=f"'{name}' parameter of {cls.__name__}"):
        cls(**{name: value}).fit(X)


@pytest.mark.parametrize("n_samples", [2.5, np.nan, "2", True, None])
def test_a_sample_has_a_whole_number_of_rows(n_samples, X):
    mixture = GaussianMixture(2, random_state=0).fit(X)
    with pytest.raises(ValueError, match="n_samples must be an integer"):
        mixture.sample(n_samples)
    with pytest.raises(ValueError, match="n_samples must be an integer"):
        mixture.sample_conditional(X, n_samples)


@pytest.mark.parametrize("criterion", ["bic", "aic", "icl"])
def test_criteria_refuse_sparse_data_and_take_lists(criterion, X):
    mixture = GaussianMixture(2, random_state=0).fit(X)
    with pytest.raises(TypeError, match="Sparse data"):
        getattr(mixture, criterion)(scipy.sparse.csr_matrix(X))
    value = getattr(mixture, criterion)(X)
    assert getattr(mixture, criterion)(X.tolist()) == value
    if criterion != "icl":
        theirs = sklearn.mixture.GaussianMixture(2, random_state=0).fit(X)
        assert value == pytest.approx(getattr(theirs, criterion)(X))


@both
@pytest.mark.parametrize("covariance_type", ["full", "diag", "low_rank"])
def test_reg_covar_beyond_the_type_of_the_data_is_named(cls, covariance_type, X):
    settings = {"covariance_type": covariance_type, "rank": 1}
    with pytest.raises(ValueError, match=r"reg_covar=1e\+39 is too large"):
        cls(2, reg_covar=1e39, **settings).fit(X.astype(np.float32))


@both
def test_a_floor_above_the_data_is_told(cls, X):
    """Clusters 9 deviations apart, in units of 1e-10, are one to reg_covar=1e-6."""
    settings = {"covariance_type": "diag", "random_state": 0}
    with pytest.warns(DegenerateComponentWarning, match="reg_covar_relative=True"):
        cls(2, **settings).fit(1e-10 * X)
    relative = cls(2, reg_covar_relative=True, **settings).fit(1e-10 * X)
    labels = relative.predict(1e-10 * X)
    assert len(set(labels[:60])) == len(set(labels[60:])) == 1
    assert labels[0] != labels[-1]


# Rows without weight -------------------------------------------------------------


def garbage(X):
    """Return rows far off, and weights that do not count them."""
    weight = np.r_[np.ones(len(X)), np.zeros(40)]
    return np.concatenate([X, np.full((40, 3), 1e3)]), weight


@pytest.mark.parametrize("n_components", [4, 6])
def test_components_are_reseeded_at_rows_with_weight(n_components, X):
    rows, weight = garbage(X)
    means = np.full((n_components, 3), -900.0)
    means[:2] = [[0.0], [9.0]]
    mixture = GaussianMixture(
        n_components,
        covariance_type="spherical",
        means_init=means,
        weights_init=np.full(n_components, 1 / n_components),
        precisions_init=np.ones(n_components),
        max_iter=1,
    )
    with pytest.warns(DegenerateComponentWarning, match="empty, re-seeded"):
        mixture.fit(rows, sample_weight=weight)
    assert np.abs(mixture.means_).max() < 20.0


@pytest.mark.filterwarnings("ignore::skdeepgmm.exceptions.DegenerateComponentWarning")
@pytest.mark.parametrize("init_params", ["random", "random_from_data"])
def test_stochastic_steps_begin_and_reseed_at_rows_with_weight(init_params, X):
    rows, weight = garbage(X)
    for seed in range(5):
        mixture = SGDGaussianMixture(
            8, init_params=init_params, max_iter=20, random_state=seed
        )
        mixture.fit(rows, sample_weight=weight)
        assert np.abs(mixture.means_).max() < 30.0


@both
def test_more_components_than_rows_with_weight_are_refused(cls, X):
    weight = np.r_[np.ones(2), np.zeros(len(X) - 2)]
    with pytest.raises(ValueError, match="sample_weight > 0 = 2"):
        cls(3).fit(X, sample_weight=weight)
