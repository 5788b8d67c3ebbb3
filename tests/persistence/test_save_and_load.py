"""A loaded estimator is the saved one; a file can neither run code nor lie."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.frozen import FrozenEstimator
from sklearn.mixture import GaussianMixture as ScikitLearnGaussianMixture

import skdeepgmm
from skdeepgmm.estimators.mixture._gaussian_mixture import GaussianMixture
from skdeepgmm.estimators.outliers._detector import DensityOutlierDetector
from skdeepgmm.persistence import load, save
from skdeepgmm.persistence._classes import REGISTRY
from skdeepgmm.persistence._decoder import Decoder
from skdeepgmm.persistence._encoder import Encoder
from tests.persistence import models

FLAT = [
    name
    for name in ("GaussianMixture", "SGDGaussianMixture")
    if hasattr(skdeepgmm.estimators, name)
]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.safetensors"


@pytest.fixture
def fitted(blobs):
    return GaussianMixture(3, random_state=0).fit(blobs[0])


def construct(name, **parameters):
    return getattr(skdeepgmm.estimators, name)(**parameters)


def assert_same_state(first, second):
    assert type(first) is type(second)
    assert vars(first).keys() == vars(second).keys()
    for name, value in vars(first).items():
        assert_same_value(value, vars(second)[name])


def assert_same_value(first, second):
    assert type(first) is type(second)
    if isinstance(first, np.ndarray):
        assert first.dtype == second.dtype
        assert first.flags.f_contiguous == second.flags.f_contiguous
        np.testing.assert_array_equal(first, second)
    elif hasattr(first, "get_params"):
        assert_same_state(first, second)
    else:
        np.testing.assert_equal(first, second)


@pytest.mark.parametrize("covariance_type", ["full", "tied", "diag", "spherical"])
@pytest.mark.parametrize("name", FLAT)
def test_predictions_are_bit_equal(name, covariance_type, path, blobs):
    X, _ = blobs
    model = construct(
        name,
        n_components=3,
        covariance_type=covariance_type,
        random_state=0,
        max_iter=20,
        tol=0.1,
    )
    model.fit(X)
    save(model, path)
    same = load(path)
    assert_same_state(model, same)
    np.testing.assert_array_equal(same.score_samples(X), model.score_samples(X))
    np.testing.assert_array_equal(same.predict_proba(X), model.predict_proba(X))
    np.testing.assert_array_equal(same.sample(5)[0], model.sample(5)[0])


@pytest.mark.parametrize("name", FLAT)
def test_an_unfitted_estimator_keeps_its_parameters(name, path):
    model = construct(name, n_components=4, means_init=np.eye(4), tol=np.float32(0.5))
    save(model, path)
    assert_same_state(model, load(path))


def test_feature_names_are_kept(path, blobs):
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(blobs[0], columns=["a", "b", "c", "long name"])
    save(GaussianMixture(random_state=0).fit(frame), path)
    model = load(path)
    np.testing.assert_array_equal(model.feature_names_in_, frame.columns)
    model.predict(frame)  # would warn of missing names
    with pytest.raises(ValueError, match="feature names"):
        model.predict(frame.rename(columns={"a": "z"}))


def test_a_random_state_goes_on_where_it_was(path):
    random_state = np.random.RandomState(7)
    random_state.normal(size=3)  # leaves a second Gaussian in store
    save(GaussianMixture(random_state=random_state), path)
    loaded = load(path).random_state
    np.testing.assert_array_equal(loaded.normal(size=9), random_state.normal(size=9))


def test_nested_estimators(path, blobs):
    X, _ = blobs
    detector = DensityOutlierDetector(GaussianMixture(3, random_state=0)).fit(X)
    save(detector, path)
    same = load(path)
    assert_same_state(detector, same)
    np.testing.assert_array_equal(same.predict(X), detector.predict(X))


def test_a_frozen_estimator(path, fitted, blobs):
    X, _ = blobs
    detector = DensityOutlierDetector(FrozenEstimator(fitted)).fit(X)
    save(detector, path)
    np.testing.assert_array_equal(
        load(path).decision_function(X), detector.decision_function(X)
    )


def test_device_is_set_everywhere(path, blobs):
    model = GaussianMixture(random_state=0, device="cpu").fit(blobs[0])
    save(DensityOutlierDetector(FrozenEstimator(model)), path)
    assert load(path).estimator.estimator.device == "auto"
    assert load(path, device="cpu").estimator.estimator.device == "cpu"


@pytest.mark.parametrize("name", models.MAKERS)
def test_models_of_every_class_come_back(name, path):
    model = models.fitted(name)
    save(model, path)
    same = load(path, device=getattr(model, "device", "auto"))
    assert vars(same).keys() == vars(model).keys()
    first = path.read_bytes()
    save(same, path)
    assert path.read_bytes() == first
    expected, found = models.ask(model), models.ask(same)
    for method in expected.keys() - {"sample", "sample_patches"}:
        np.testing.assert_array_equal(found[method], expected[method])


def test_a_model_that_a_callback_gets_can_be_saved(path, blobs):
    class Checkpoint:
        max_propagation_depth = None

        def setup(self, estimator, context): ...
        def teardown(self, estimator, context): ...
        def on_fit_task_begin(self, estimator, context, **data): ...

        def on_fit_task_end(self, estimator, context, *, fitted_estimator=None, **data):
            save(fitted_estimator, path)
            scores.append(load(path).score(blobs[0]))

    scores = []
    model = GaussianMixture(3, random_state=0, max_iter=3, tol=0.0)
    with pytest.warns(ConvergenceWarning):
        model.set_callbacks(Checkpoint()).fit(blobs[0])
    assert len(scores) >= 3
    assert scores == sorted(scores)


def test_an_attribute_of_the_users_is_named(path, fitted):
    fitted.note_ = "mine"
    with pytest.raises(TypeError, match="'note_', which is no fitted attribute"):
        save(fitted, path)


def test_a_header_that_could_not_be_read_is_not_written(path):
    model = GaussianMixture(means_init=np.zeros((4, 10**5)).tolist())
    with pytest.raises(ValueError, match="Turn long lists among its parameters"):
        save(model, path)
    assert not path.exists()


def test_callbacks_are_left_behind(path, fitted):
    class Callback:
        def setup(self, estimator, context): ...
        def teardown(self, estimator, context): ...
        def on_fit_task_begin(self, estimator, context): ...
        def on_fit_task_end(self, estimator, context): ...

    save(fitted.set_callbacks(Callback()), path)
    assert not hasattr(load(path), "_skl_callbacks")


def test_saving_changes_nothing_in_the_estimator(path, fitted):
    names, means = list(vars(fitted)), fitted.means_.copy()
    save(fitted, path)
    assert list(vars(fitted)) == names
    np.testing.assert_array_equal(fitted.means_, means)


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=5),
    st.floats(width=32).map(np.float32),
    st.integers(-5, 5).map(np.int64),
    st.booleans().map(np.bool_),
)
ARRAYS = npst.arrays(
    st.sampled_from([np.float64, np.float32, np.int64, np.uint8, np.bool_]),
    npst.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3),
).flatmap(lambda array: st.sampled_from([array, np.asfortranarray(array)]))
VALUES = st.recursive(
    st.one_of(SCALARS, ARRAYS),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(
            st.one_of(st.text(max_size=3), st.integers()), inner, max_size=3
        ),
    ),
    max_leaves=6,
)


def assert_same_tree(first, second):
    assert type(first) is type(second)
    if isinstance(first, dict):
        assert list(first) == list(second)
        first, second = list(first.values()), list(second.values())
    if isinstance(first, (list, tuple)):
        assert len(first) == len(second)
        for one, other in zip(first, second, strict=True):
            assert_same_tree(one, other)
    else:
        assert_same_value(first, second)


@given(VALUES)
def test_every_value_comes_back(value):
    encoder = Encoder()
    text = json.dumps(encoder.node(value, "value"), allow_nan=False)
    decoder = Decoder(encoder.tensors, "auto", 2)
    assert_same_tree(value, decoder.node(json.loads(text), "value"))


@pytest.mark.parametrize(
    "estimator, message",
    [
        (KMeans(), r"KMeans is a sklearn\.cluster\._kmeans\.KMeans"),
        (
            DensityOutlierDetector(ScikitLearnGaussianMixture()),
            r"DensityOutlierDetector\.estimator is a sklearn\.mixture",
        ),
        (
            GaussianMixture(means_init=[print]),
            r"GaussianMixture\.means_init\[0\] is a builtin_function",
        ),
        (GaussianMixture(means_init=np.array([None])), "object array"),
        (GaussianMixture(means_init=np.array([1j])), "array of complex128"),
        (GaussianMixture(means_init=np.zeros(2, np.longdouble)), "array of float128"),
        (
            GaussianMixture(random_state=np.random.RandomState(np.random.PCG64(0))),
            "a RandomState of PCG64",
        ),
    ],
)
def test_what_cannot_be_saved_is_named(estimator, message, path):
    with pytest.raises(TypeError, match=message):
        save(estimator, path)
    assert not path.exists()


def test_a_class_of_the_same_name_is_not_ours(path):
    impostor = type("GaussianMixture", (ScikitLearnGaussianMixture,), {})
    with pytest.raises(TypeError, match="Use pickle or skops"):
        save(impostor(), path)


def test_a_failed_write_keeps_the_old_file(path, fitted, monkeypatch):
    save(fitted, path)
    before = path.read_bytes()

    def fail(source, target):
        raise OSError("disk full")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OSError, match="disk full"):
        save(GaussianMixture(), path)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_every_public_estimator_can_be_saved():
    public = {
        name
        for name in skdeepgmm.estimators.__all__
        if hasattr(getattr(skdeepgmm.estimators, name), "fit")
    }
    assert public <= set(REGISTRY)
