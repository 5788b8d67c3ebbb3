"""What callbacks get in mid-fit is an estimator: it predicts, scores and is saved.

For every estimator, whatever its tasks are: iterations, epochs or inner mixtures.
"""

import numpy as np
import pytest
from sklearn.callback import ScoringMonitor

import skdeepgmm
from skdeepgmm.datasets import load_digits_images
from skdeepgmm.estimators.outliers._trimmed_mixtures import TrimmedMixtures
from tests.estimators.clusterers.problems import gan_em, minmax_em

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings(
        "ignore::skdeepgmm.exceptions.DegenerateComponentWarning"
    ),
]


def deep_conv(**settings):
    settings = {"n_components": 4, "image_shape": (8, 8), **settings}
    return skdeepgmm.DeepConvGMM(max_iter=2, random_state=0, **settings)


def gaussian(**settings):
    return skdeepgmm.GaussianMixture(**{"n_components": 2, **settings}, random_state=0)


def sgd(**settings):
    settings = {"n_components": 2, "max_iter": 2, **settings}
    return skdeepgmm.SGDGaussianMixture(random_state=0, **settings)


def denoiser(**settings):
    settings = {"n_components": 2, "patch_size": 4, "sigma": 0.1, **settings}
    return skdeepgmm.PatchGMMDenoiser(n_patches=300, random_state=0, **settings)


#: Makers, and how many estimators at least a callback gets.
MAKERS = {
    gaussian: 3,
    sgd: 3,
    deep_conv: 3,
    gan_em: 2,
    minmax_em: 2,
    denoiser: 2,
    skdeepgmm.DensityOutlierDetector: 1,
}
each = pytest.mark.parametrize("make", MAKERS, ids=lambda make: make.__name__)


@pytest.fixture(scope="module")
def X():
    return load_digits_images().data[:60] / 16.0


def data_for(make, X):
    return list(X[:3].reshape(-1, 8, 8)) if make is denoiser else X


class Collector:
    """Keeps the estimators that a fit offers."""

    def __init__(self):
        self.estimators = []

    def setup(self, estimator, context): ...

    def teardown(self, estimator, context): ...

    def on_fit_task_begin(self, estimator, context): ...

    def on_fit_task_end(self, estimator, context, *, fitted_estimator=None):
        self.estimators.append(fitted_estimator)


def collected(model, X):
    collector = Collector()
    model.set_callbacks(collector).fit(X)
    return [estimator for estimator in collector.estimators if estimator is not None]


def results(estimator, X):
    """Return what methods say of X, those that the estimator has."""
    names = ("score_samples", "predict", "predict_proba", "transform")
    return [getattr(estimator, n)(X) for n in names if hasattr(estimator, n)]


@each
def test_estimators_so_far_predict_and_score(make, X):
    X = data_for(make, X)
    model = make()
    found = collected(model, X)
    assert len(found) >= MAKERS[make]
    for estimator in found:
        assert type(estimator) is type(model)
        assert all(np.isfinite(value).all() for value in results(estimator, X))
    # The last one is the fitted model itself.
    for last, own in zip(results(found[-1], X), results(model, X), strict=True):
        np.testing.assert_array_equal(last, own)


@each
def test_estimators_so_far_are_saved_and_loaded(make, X, tmp_path):
    X = data_for(make, X)
    for number, estimator in enumerate(collected(make(), X)):
        assert not [name for name in vars(estimator) if "callback" in name]
        path = tmp_path / f"{number}.skdg"
        skdeepgmm.save(estimator, path)
        again = skdeepgmm.load(path)
        pairs = zip(results(again, X), results(estimator, X), strict=True)
        for loaded, own in pairs:
            np.testing.assert_array_equal(loaded, own)


@each
def test_a_scoring_monitor_follows_every_fit(make, X):
    X = data_for(make, X)

    def mean_score(estimator, X, y=None):
        return {"mean": float(np.mean(estimator.score_samples(X)))}

    monitor = ScoringMonitor(scoring=mean_score)
    model = make().set_callbacks(monitor).fit(X)
    scores = [row["mean"] for row in monitor.get_logs().data if "mean" in row]
    assert len(scores) >= MAKERS[make]
    assert np.isfinite(scores).all()
    assert mean_score(model, X)["mean"] in scores


def test_trimmed_mixtures_so_far_score(X):
    counts = []
    for estimator in collected(TrimmedMixtures(random_state=0), X):
        counts.append(len(estimator.mixtures_))
        assert np.isfinite(estimator.score_samples(X)).all()
    assert counts == sorted(counts)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (gaussian(covariance_type="full"), {"covariance_type": "low_rank", "rank": 2}),
        (sgd(covariance_type="low_rank", rank=2), {"covariance_type": "tied"}),
        (deep_conv(), {"layers": [skdeepgmm.layers.Mixture(3)], "image_shape": None}),
    ],
    ids=["gaussian", "sgd", "deep_conv"],
)
def test_nothing_of_an_earlier_fit_is_in_them(first, second, X, tmp_path):
    first.fit(X)
    second = first.set_params(**{"n_components": 3, **second})
    for estimator in collected(second, X):
        skdeepgmm.save(estimator, tmp_path / "model.skdg")
        again = skdeepgmm.load(tmp_path / "model.skdg")
        np.testing.assert_array_equal(again.predict(X), estimator.predict(X))
        assert len(estimator.weights_) == 3


# Containers ----------------------------------------------------------------------


def test_set_output_frames_the_responsibilities(X):
    pd = pytest.importorskip("pandas")
    model = deep_conv().fit(X)
    plain = model.transform(X)
    frame = model.set_output(transform="pandas").transform(pd.DataFrame(X))
    assert list(frame.columns) == [f"deepconvgmm{k}" for k in range(4)]
    assert list(frame.columns) == model.get_feature_names_out().tolist()
    np.testing.assert_array_equal(frame.to_numpy(), plain)
    np.testing.assert_array_equal(model.fit_transform(X).to_numpy(), plain)


def test_set_output_refuses_layers_without_names(X):
    pytest.importorskip("pandas")
    model = deep_conv().fit(X)
    first = model.transform(X, layer=0)
    assert first.shape[1] > len(model.get_feature_names_out())
    model.set_output(transform="pandas")
    assert model.transform(X, layer=1).shape == (60, 4)
    with pytest.raises(ValueError, match=r"layer=0 .* set_output"):
        model.transform(X, layer=0)
    model.set_output(transform="default")
    np.testing.assert_array_equal(model.transform(X, layer=0), first)


@pytest.mark.parametrize("make", [deep_conv, gan_em, minmax_em])
def test_an_estimator_with_containers_is_saved(make, X, tmp_path):
    pytest.importorskip("pandas")
    model = make().set_output(transform="pandas").fit(X)
    skdeepgmm.save(model, tmp_path / "model.skdg")
    again = skdeepgmm.load(tmp_path / "model.skdg")
    np.testing.assert_array_equal(again.transform(X), model.transform(X).to_numpy())
