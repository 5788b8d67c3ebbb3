"""The threshold's laws, what is handed to the model, and scikit-learn's checks."""

import numpy as np
import pytest
import sklearn
from sklearn.base import BaseEstimator, clone
from sklearn.cluster import KMeans
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import roc_auc_score
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.neighbors import KernelDensity
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import get_tags
from sklearn.utils.estimator_checks import parametrize_with_checks

import skdeepgmm
from skdeepgmm.estimators.outliers._detector import DensityOutlierDetector


class RecordingCallback:
    """Callback of the auto-propagated kind that notes every finished task."""

    max_propagation_depth = None

    def __init__(self):
        self.ended = []
        self.torn_down = 0

    def setup(self, estimator, context):
        pass

    def on_fit_task_begin(self, estimator, context):
        pass

    def on_fit_task_end(self, estimator, context):
        self.ended.append((type(estimator).__name__, context.task_name))

    def teardown(self, estimator, context):
        self.torn_down += 1


class WeightedMean(BaseEstimator):
    """Smallest model that uses sample_weight: score is minus the squared distance."""

    def fit(self, X, y=None, sample_weight=None):
        self.mean_ = np.average(X, axis=0, weights=sample_weight)
        return self

    def score_samples(self, X):
        return -np.sum((np.asarray(X) - self.mean_) ** 2, axis=1)


@pytest.fixture
def X(rng):
    return rng.normal(size=(200, 3))


@parametrize_with_checks([DensityOutlierDetector(GaussianMixture(random_state=0))])
def test_scikit_learn_checks_around_a_foreign_model(estimator, check):
    # One check shuffles with NumPy's global generator; the suite forbids that.
    state = np.random.get_state()  # noqa: NPY002
    try:
        check(estimator)
    finally:
        np.random.set_state(state)  # noqa: NPY002


@pytest.mark.parametrize("contamination", [0.01, 0.1, 0.35, 0.5])
def test_share_of_training_outliers_is_the_contamination(X, contamination):
    detector = DensityOutlierDetector(
        GaussianMixture(2, random_state=0), contamination=contamination
    ).fit(X)
    outliers = np.sum(detector.predict(X) == -1)
    assert abs(outliers - contamination * len(X)) <= 1
    assert set(np.unique(detector.predict(X))) == {-1, 1}


@pytest.mark.parametrize(
    "model",
    [
        GaussianMixture(2, random_state=0),
        KernelDensity(),
        make_pipeline(StandardScaler(), GaussianMixture(2, random_state=0)),
    ],
    ids=lambda model: type(model).__name__,
)
def test_scores_are_those_of_the_model(X, model):
    detector = DensityOutlierDetector(model, contamination=0.2).fit(X)
    expected = clone(model).fit(X).score_samples(X)
    np.testing.assert_allclose(detector.score_samples(X), expected)
    np.testing.assert_allclose(
        detector.decision_function(X), expected - np.quantile(expected, 0.2)
    )
    np.testing.assert_array_equal(
        detector.predict(X), np.where(detector.decision_function(X) < 0, -1, 1)
    )
    np.testing.assert_array_equal(clone(detector).fit_predict(X), detector.predict(X))


def test_far_samples_are_outliers(X, rng):
    far = 6 + rng.normal(size=(20, 3))
    detector = DensityOutlierDetector(GaussianMixture(random_state=0)).fit(X)
    assert np.all(detector.predict(far) == -1)
    labels = np.repeat([1, -1], [len(X), len(far)])
    scores = detector.score_samples(np.vstack([X, far]))
    assert roc_auc_score(labels, scores) > 0.999


def test_the_given_estimator_stays_unfitted(X):
    model = GaussianMixture(random_state=0)
    detector = DensityOutlierDetector(model).fit(X)
    assert detector.estimator_ is not model
    assert not hasattr(model, "means_")


def test_a_frozen_model_is_not_fitted_again(X):
    model = GaussianMixture(random_state=0).fit(X)
    means = model.means_.copy()
    detector = DensityOutlierDetector(FrozenEstimator(model)).fit(X + 5)
    np.testing.assert_array_equal(model.means_, means)
    np.testing.assert_array_equal(detector.score_samples(X), model.score_samples(X))
    assert detector.offset_ == np.quantile(model.score_samples(X + 5), 0.1)


def test_weights_reach_the_model(X):
    weight = np.arange(len(X))
    detector = DensityOutlierDetector(WeightedMean()).fit(X, sample_weight=weight)
    np.testing.assert_allclose(
        detector.estimator_.mean_, np.average(X, axis=0, weights=weight)
    )


@pytest.mark.parametrize("requested", [True, False])
def test_weights_follow_metadata_routing(X, requested):
    weight = np.arange(len(X))
    with sklearn.config_context(enable_metadata_routing=True):
        model = WeightedMean().set_fit_request(sample_weight=requested)
        detector = DensityOutlierDetector(model)
        if not requested:
            with pytest.raises(TypeError, match="sample_weight"):
                detector.fit(X, sample_weight=weight)
            return
        detector.fit(X, sample_weight=weight)
    expected = np.average(X, axis=0, weights=weight)
    np.testing.assert_allclose(detector.estimator_.mean_, expected)


def test_callbacks_reach_the_model(X):
    callback = RecordingCallback()
    pipeline = make_pipeline(StandardScaler(), GaussianMixture(random_state=0))
    detector = DensityOutlierDetector(pipeline).set_callbacks(callback)
    with pytest.warns(UserWarning, match="does not support callbacks"):
        detector.fit(X)
    assert ("Pipeline", "fit-final-estimator") in callback.ended
    assert callback.ended[-1] == ("DensityOutlierDetector", "fit")
    assert callback.torn_down == 1


def test_callbacks_see_the_iterations_of_our_mixture(X):
    callback = RecordingCallback()
    mixture = skdeepgmm.GaussianMixture(2, random_state=0)
    detector = DensityOutlierDetector(mixture).set_callbacks(callback).fit(X)
    inner = [name for cls, name in callback.ended if cls == "GaussianMixture"]
    assert len(inner) >= detector.estimator_.n_iter_
    assert not hasattr(detector.estimator_, "_skl_callbacks")
    assert callback.torn_down == 1


def test_the_default_model_is_deterministic(X):
    first, second = DensityOutlierDetector().fit(X), DensityOutlierDetector().fit(X)
    assert first.estimator is None
    np.testing.assert_array_equal(first.score_samples(X), second.score_samples(X))


def test_the_default_model_is_not_misled_by_a_clump_of_outliers(rng):
    X = np.concatenate([rng.normal(size=(400, 5)), 7 + 0.1 * rng.normal(size=(12, 5))])
    labels = np.repeat([1, -1], [400, 12])
    mixture = skdeepgmm.GaussianMixture(5, random_state=0)
    misled = DensityOutlierDetector(mixture).fit(X)
    assert roc_auc_score(labels, misled.score_samples(X)) < 0.2
    robust = DensityOutlierDetector().fit(X)
    assert roc_auc_score(labels, robust.score_samples(X)) > 0.99


def test_scores_of_minus_infinity_are_outliers(rng):
    """A kernel with compact support has no density at all far from the data."""
    X = np.concatenate([rng.normal(size=(95, 2)), 1e3 * rng.normal(size=(5, 2))])
    new = np.array([[1e6, 0.0], [0.0, 0.0]])
    model = KernelDensity(kernel="epanechnikov", bandwidth=2.0).fit(X[:95])
    for contamination, expected in ((0.02, 5), (0.05, 5), (0.2, 20)):
        detector = DensityOutlierDetector(
            FrozenEstimator(model), contamination=contamination
        ).fit(X)
        assert np.isfinite(detector.offset_)
        assert abs((detector.predict(X) == -1).sum() - expected) <= 1
        np.testing.assert_array_equal(detector.predict(new), [-1, 1])


class Undecided(WeightedMean):
    def score_samples(self, X):
        return np.where(np.arange(len(X)) == 3, np.nan, super().score_samples(X))


def test_scores_that_are_nan_are_refused(X):
    with pytest.raises(ValueError, match=r"NaN for 1 of 200 .* row 3"):
        DensityOutlierDetector(Undecided()).fit(X)


def test_a_refit_serves_the_last_model_until_the_new_one_is_complete(X):
    seen = []

    class Watched(WeightedMean):
        def fit(self, data, y=None):
            if hasattr(detector, "estimator_"):
                seen.append(detector.decision_function(X))
            return super().fit(data)

    detector = DensityOutlierDetector(Watched())
    before = detector.fit(X).decision_function(X)
    detector.fit(X + 9.0)
    np.testing.assert_array_equal(seen, [before])
    assert not np.array_equal(detector.decision_function(X), before)


def test_tags_follow_the_model():
    class NaNModel(WeightedMean):
        def __sklearn_tags__(self):
            tags = super().__sklearn_tags__()
            tags.input_tags.allow_nan = True
            tags.input_tags.sparse = True
            return tags

    assert not get_tags(DensityOutlierDetector(WeightedMean())).input_tags.allow_nan
    tags = get_tags(DensityOutlierDetector(NaNModel()))
    assert tags.input_tags.allow_nan
    assert tags.input_tags.sparse
    assert tags.estimator_type == "outlier_detector"


def test_feature_names_of_an_earlier_fit_are_forgotten(X):
    pd = pytest.importorskip("pandas")
    detector = DensityOutlierDetector(GaussianMixture(random_state=0))
    detector.fit(pd.DataFrame(X, columns=list("abc")))
    np.testing.assert_array_equal(detector.feature_names_in_, list("abc"))
    detector.fit(X)
    assert detector.n_features_in_ == 3
    assert not hasattr(detector, "feature_names_in_")


@pytest.mark.parametrize("contamination", [0.0, -0.1, 0.6, float("nan")])
def test_contamination_out_of_range(X, contamination):
    detector = DensityOutlierDetector(GaussianMixture(), contamination=contamination)
    with pytest.raises(ValueError, match="contamination =="):
        detector.fit(X)


def test_contamination_of_a_wrong_type(X):
    with pytest.raises(TypeError, match="contamination must be an instance of"):
        DensityOutlierDetector(GaussianMixture(), contamination="auto").fit(X)


def test_a_model_without_density_is_refused(X):
    with pytest.raises(TypeError, match="must have the method score_samples; got KM"):
        DensityOutlierDetector(KMeans()).fit(X)


def test_methods_need_a_fit(X):
    with pytest.raises(NotFittedError, match="DensityOutlierDetector"):
        DensityOutlierDetector(GaussianMixture()).predict(X)


def test_a_failed_refit_keeps_the_old_detector(rng):
    X = rng.normal(size=(60, 2))
    detector = DensityOutlierDetector().fit(X)
    before = detector.score_samples(X)
    with pytest.raises(ValueError, match="minimum of 2"):
        detector.fit(X[:1])
    np.testing.assert_array_equal(detector.score_samples(X), before)


# Score ------------------------------------------------------------------------------


def test_score_is_the_mean_density_whatever_the_labels(rng):
    X = rng.normal(size=(80, 2))
    detector = DensityOutlierDetector(GaussianMixture(random_state=0)).fit(X)
    expected = pytest.approx(detector.score_samples(X).mean())
    assert detector.score(X) == expected
    assert detector.score(X, np.ones(80)) == expected


@pytest.mark.parametrize("scoring", [None, "roc_auc"])
def test_searches_with_and_without_labels(rng, scoring):
    X = np.concatenate([rng.normal(size=(90, 1)) - 8, rng.normal(size=(90, 1)) + 8])
    X = np.concatenate([X, rng.uniform(-2, 2, size=(20, 1))])
    y = np.repeat([1, -1], [180, 20])
    search = GridSearchCV(
        DensityOutlierDetector(GaussianMixture(random_state=0)),
        {"estimator__n_components": [1, 2]},
        cv=StratifiedKFold(3, shuffle=True, random_state=0),
        scoring=scoring,
    ).fit(X, y)
    assert search.best_params_ == {"estimator__n_components": 2}
    if scoring is not None:  # -1 are the outliers, which have the low values
        assert search.best_score_ > 0.95


@pytest.mark.parametrize("contamination", [np.zeros(3), np.full((2, 2), np.nan), "a"])
def test_contamination_is_one_number(contamination, X):
    with pytest.raises(TypeError, match="contamination"):
        DensityOutlierDetector(contamination=contamination).fit(X)
