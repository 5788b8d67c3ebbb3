"""What is learned is finite, or the fit is refused and leaves the last one."""

import numpy as np
import pytest
from sklearn.base import BaseEstimator

from skdeepgmm import GaussianMixture, SGDGaussianMixture
from skdeepgmm.estimators._checks import check_finite

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings(
        "ignore::skdeepgmm.exceptions.DegenerateComponentWarning"
    ),
]


class Model(BaseEstimator):
    """Of one parameter, with whatever fitted attributes."""

    _attributes_with_gaps = ("history_",)

    def __init__(self, start=None, **attributes):
        self.start = start
        vars(self).update(attributes)

    @classmethod
    def _get_param_names(cls):
        return ["start"]


@pytest.mark.parametrize(
    "value",
    [
        np.nan,
        np.float32(np.inf),
        np.array([1.0, np.nan]),
        [1.0, -np.inf],
        {"a": {"b": [np.array(np.inf)]}},
    ],
    ids=repr,
)
def test_what_is_not_finite_is_named(value):
    with pytest.raises(ValueError, match="learned_ of this Model would not be finite"):
        check_finite(Model(learned_=value))


def test_what_is_finite_or_no_result_passes():
    gaps = {"loss": np.array([np.nan, 1.0])}
    check_finite(
        Model(
            start=np.nan,
            means_=np.ones(2),
            n_iter_=3,
            classes_=np.array(["a"]),
            history_=gaps,
            lower_bound_=-np.inf,
        )
    )


def test_overflowing_covariances_are_refused():
    """The share of ``reg_covar`` in the third feature is too much for the first."""
    X = np.array([[4.6e124, 3.6e58, 3.4e-147], [-1.475e123, -1.06e58, 5.1e-148]])
    model = GaussianMixture(random_state=0).fit(X[:, 1:])
    means = model.means_
    with pytest.raises(ValueError, match="covariances_ of this GaussianMixture"):
        model.fit(X)
    assert model.means_ is means
    assert model.n_features_in_ == 2


@pytest.mark.parametrize("cls", [GaussianMixture, SGDGaussianMixture])
def test_means_beyond_all_distances_are_named(cls, rng):
    X = rng.normal(size=(50, 2))
    with pytest.raises(ValueError, match="means_init lies more than"):
        cls(means_init=[[1e300, 0.0]]).fit(X)
    cls(means_init=[[1e3, 0.0]], random_state=0).fit(X)


@pytest.mark.parametrize("value", [[np.nan], [], {"a": 1}], ids=repr)
@pytest.mark.parametrize("name", ["weights_init", "means_init", "precisions_init"])
def test_initial_parameters_are_named(name, value, rng):
    with pytest.raises((ValueError, TypeError), match=name.removesuffix("s_init")):
        GaussianMixture(**{name: value}).fit(rng.normal(size=(50, 2)))


@pytest.mark.parametrize("name", ["reg_covar", "tol", "rank", "n_components"])
def test_numbers_have_64_bits(name, rng):
    with pytest.raises(ValueError, match=f"{name}.* 64 bits"):
        GaussianMixture(**{name: 10**30}).fit(rng.normal(size=(50, 2)))
