"""GANEMClusterer as a scikit-learn user meets it."""

import dataclasses
import pickle
import warnings

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import adjusted_rand_score
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_clustering

import skdeepgmm
from skdeepgmm import GANEMClusterer
from skdeepgmm._torch_backend.clusterers.gan_em.networks import Architecture
from skdeepgmm._torch_backend.clusterers.gan_em.recipes import RECIPES
from skdeepgmm.datasets import load_digits_images
from skdeepgmm.estimators.clusterers.gan_em import _settings
from skdeepgmm.estimators.clusterers.gan_em._fit import GANEMFit
from tests.estimators.clusterers.gan_em.problems import same, short

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings(
        "ignore::skdeepgmm.exceptions.DegenerateComponentWarning"
    ),
]


@pytest.fixture(scope="module")
def images():
    X, y = load_digits_images(return_X_y=True)
    return X[:200], y[:200]


@pytest.fixture(scope="module")
def fitted(images):
    """A short fit on images."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return short(10, image_shape=(8, 8)).fit(images[0])


@pytest.fixture(scope="module")
def groups():
    """Three separated groups with their labels."""
    rng = np.random.default_rng(0)
    y = np.repeat(np.arange(3), 50)
    centers = np.array([[0, 0, 0], [8, 0, 8], [0, 8, 0]])
    return centers[y] + rng.normal(size=(150, 3)), y


@pytest.fixture(scope="module")
def default_fit(groups):
    """A fit with the default settings, which converges: without a warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", category=ConvergenceWarning)
        return GANEMClusterer(3, random_state=1).fit(groups[0])


# Clustering ----------------------------------------------------------------------


@pytest.mark.slow
def test_default_settings_pass_the_clustering_check():
    state = np.random.get_state()  # noqa: NPY002
    check_clustering("GANEMClusterer", GANEMClusterer())
    np.random.set_state(state)  # noqa: NPY002


def test_default_settings_find_groups(default_fit, groups):
    X, y = groups
    assert adjusted_rand_score(y, default_fit.labels_) > 0.95
    np.testing.assert_allclose(default_fit.weights_, 1 / 3, atol=0.03)
    centers = np.array([X[default_fit.labels_ == k].mean(axis=0) for k in range(3)])
    # Groups are 8 apart along an axis. After eleven iterations a generator is off by
    # 0.6 to 1.8, by seed and by how a processor rounds.
    np.testing.assert_allclose(default_fit.means_, centers, atol=8 / 3)


def test_probabilities_labels_and_weights_agree(fitted, images):
    X, _ = images
    proba = fitted.predict_proba(X)
    np.testing.assert_allclose(proba.sum(axis=1), 1.0, rtol=1e-6)
    np.testing.assert_array_equal(proba.argmax(axis=1), fitted.predict(X))
    np.testing.assert_array_equal(fitted.predict(X), fitted.labels_)
    np.testing.assert_allclose(fitted.weights_, proba.mean(axis=0), rtol=1e-3)
    assert fitted.weights_.sum() == pytest.approx(1.0)


def test_predictions_do_not_depend_on_the_other_samples(fitted, images):
    X, _ = images
    for name in ("predict_proba", "transform", "score_samples"):
        method = getattr(fitted, name)
        rows = np.concatenate([method(part) for part in np.array_split(X, 7)])
        np.testing.assert_allclose(rows, method(X), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_results_have_the_type_of_the_data(blobs, dtype):
    X = blobs[0].astype(dtype)
    clusterer = short().fit(X)
    for name in ("predict_proba", "transform", "score_samples"):
        assert getattr(clusterer, name)(X).dtype == dtype
    assert clusterer.sample(3)[0].dtype == dtype
    assert clusterer.means_.dtype == dtype


def test_a_seed_fixes_the_fit(blobs):
    X, _ = blobs
    same(short().fit(X), short().fit(X), X)
    other = short(random_state=1).fit(X)
    assert not np.array_equal(short().fit(X).means_, other.means_)


def test_scale_and_offset_of_the_data_do_not_matter(blobs):
    X, _ = blobs
    first, second = short().fit(X), short().fit(1e4 * X + 1e6)
    np.testing.assert_array_equal(first.labels_, second.labels_)
    np.testing.assert_allclose(second.means_, 1e4 * first.means_ + 1e6, rtol=1e-5)


# Image shapes --------------------------------------------------------------------


def test_stacked_images_are_rows_of_their_shape(fitted, images):
    X, _ = images
    stacked = short(10).fit(X.reshape(-1, 8, 8))
    assert stacked.image_shape_ == fitted.image_shape_ == (8, 8, 1)
    same(stacked, fitted, X)
    np.testing.assert_array_equal(stacked.predict(X.reshape(-1, 8, 8)), stacked.labels_)


@pytest.mark.parametrize("shape", [(9, 12), (8, 8, 3), (16, 10, 1)])
def test_odd_and_coloured_images(rng, shape):
    X = rng.uniform(-3.0, 5.0, size=(40, np.prod(shape)))
    clusterer = short(2, image_shape=shape).fit(X)
    generated, _ = clusterer.sample(6)
    assert generated.shape == (6, np.prod(shape))
    assert generated.min() >= X.min() - 1e-4
    assert generated.max() <= X.max() + 1e-4


def test_rows_keep_the_order_of_pixels_and_channels(rng):
    """What the networks see and make is in C order (height, width, channels)."""
    shape = (8, 10, 3)
    X = rng.uniform(size=(30, np.prod(shape)))
    clusterer = short(2, image_shape=shape).fit(X)
    tensor = clusterer._tensor(X)
    assert tensor.shape == (30, 3, 8, 10)
    np.testing.assert_allclose(clusterer._rows(tensor), X, atol=1e-6)
    pixel = X.reshape(30, *shape)[4, 2, 5, 1]
    shift, scale = clusterer._standardization.values()
    found = tensor[4, 1, 2, 5].item() * scale[0] + shift[0]
    assert found == pytest.approx(pixel, abs=1e-6)


def test_small_images_are_vectors(rng):
    X = rng.normal(size=(30, 20))
    clusterer = short(2, image_shape=(4, 5)).fit(X)
    assert clusterer.image_shape_ == (4, 5, 1)
    assert clusterer.sample(2)[0].shape == (2, 20)


@pytest.mark.parametrize("table, shape", [("mnist", (28, 28)), ("svhn", (32, 32, 3))])
def test_tables_of_the_paper(rng, table, shape):
    X = rng.uniform(size=(12, np.prod(shape)))
    settings = {"max_iter": 1, "recipe": {"gan_steps": 1, "batch_size": 4}}
    clusterer = short(2, image_shape=shape, networks=table, **settings).fit(X)
    assert clusterer.predict(X).shape == (12,)


# Recipes, initialization ---------------------------------------------------------


@pytest.mark.parametrize("recipe", ["released", "paper"])
def test_other_recipes_run(blobs, recipe, monkeypatch):
    X, _ = blobs
    found = RECIPES[recipe]
    assert found.classifier_steps == 1000
    assert found.steps(len(X)) == 25  # five passes in batches of 70
    quick = dataclasses.replace(found, classifier_steps=3, gan_epochs=1)
    monkeypatch.setitem(RECIPES, recipe, quick)
    clusterer = short(recipe=recipe).fit(X)
    assert np.isfinite(clusterer.history_["classifier"]).all()


def test_user_supplied_responsibilities_are_learned(groups):
    X, y = groups
    order = np.array([2, 0, 1])  # cluster names that k-means would not know
    init = np.eye(3)[order[y]]
    clusterer = GANEMClusterer(3, init=init, max_iter=10, random_state=0).fit(X)
    assert np.mean(clusterer.labels_ == order[y]) > 0.95


def test_uniform_init_is_the_papers(blobs):
    X, _ = blobs
    estimator = short(init="uniform")
    data = {"X": X, "y": None, "metadata": None}
    estimator.image_shape_ = None
    fit = GANEMFit(estimator, X, None, data)
    fit.initialize()
    assert fit.training_data.init_resp is None
    assert fit.config.hold == 1


@pytest.mark.parametrize(
    "shape, expected",
    [((64,), 16), ((1, 8, 8), 16), ((1, 16, 20), 62), ((3, 64, 64), 62)],
)
def test_default_noise(shape, expected):
    assert _settings.default_noise_dim(shape) == expected


@pytest.mark.parametrize(
    "shape, n_samples, steps, supervised_steps",
    [
        ((1, 28, 28), 500, 3000, 3000),
        ((1, 28, 28), 10_000, 5150, 7150),
        ((1, 28, 28), 60_000, 25_000, 25_000),
        ((1, 8, 8), 500, 2500, 2500),
        ((1, 8, 8), 10_000, 7150, 7150),
        ((64,), 50, 1000, 1000),
    ],
)
def test_default_length_is_36_or_50_passes_within_bounds(
    shape, n_samples, steps, supervised_steps
):
    recipe = RECIPES["fast"]
    architecture = Architecture(shape, 8, 16)
    supervised = {"init": "kmeans"}, {"semi_supervised": True}
    cases = [({}, steps), *((params, supervised_steps) for params in supervised)]
    for params, expected in cases:
        estimator = GANEMClusterer(**params)
        config = _settings.config_of(estimator, architecture, recipe, n_samples)
        assert config.n_iter * recipe.gan_steps == expected


@pytest.mark.parametrize(
    "params, shape, expected",
    [
        ({"learning_rate": 5e-4}, (1, 8, 8), 0.5),
        ({"learning_rate": 5e-4, "recipe": {"generator_lr": 1e-4}}, (64,), 5.0),
        ({"learning_rate": 3e-4, "recipe": "released"}, (64,), 0.5),
        ({}, (1, 8, 8), 2.0),
        ({"recipe": {"gan_steps": 10}}, (1, 8, 8), 2.0),
        ({"recipe": "released"}, (1, 8, 8), 1.0),
        ({}, (1, 28, 28), 1.0),
        ({}, (64,), 1.0),
    ],
)
def test_learning_rate_is_the_generators_and_keeps_the_ratios(params, shape, expected):
    estimator = GANEMClusterer(**params)
    recipe = _settings.recipe_of(estimator)
    architecture = Architecture(shape, 8, 16)
    config = _settings.config_of(estimator, architecture, recipe, 500)
    if estimator.learning_rate is not None:
        assert config.recipe.generator_lr == pytest.approx(estimator.learning_rate)
    for name in ("discriminator_lr", "generator_lr", "classifier_lr"):
        found = getattr(config.recipe, name) / getattr(recipe, name)
        assert found == pytest.approx(expected)
    assert config.recipe.gan_steps == recipe.gan_steps


@pytest.mark.parametrize(
    "params, shape, expected",
    [
        ({}, (1, 28, 28), 3 / 7),
        ({"recipe": {"gan_steps": 10}}, (3, 16, 20), 3 / 7),
        ({"recipe": "released"}, (1, 28, 28), None),
        ({"recipe": "released", "cutmix": 0.5}, (1, 28, 28), 0.5),
        ({}, (1, 8, 8), None),
        ({"cutmix": 0.5}, (1, 8, 8), 0.5),
        ({"cutmix": None}, (1, 28, 28), None),
        ({}, (64,), None),
    ],
)
def test_patches_are_for_large_images_unless_asked(params, shape, expected):
    estimator = GANEMClusterer(**params)
    recipe = _settings.recipe_of(estimator)
    architecture = Architecture(shape, 8, 16)
    config = _settings.config_of(estimator, architecture, recipe, 500)
    assert config.augmentation.cutmix == expected


@pytest.mark.parametrize(
    "params, message",
    [
        ({"recipe": {"gan_stepz": 3}}, "unknown settings .*gan_stepz"),
        ({"init": np.ones((300, 2)) / 2}, "expected responsibilities of shape"),
        ({"init": np.ones((300, 3))}, "sum to one"),
        ({"networks": "mnist"}, "needs images of at least 8 x 8"),
        ({"affine": (1.0, 2.0, 0.1)}, "affine must be"),
        ({"cutmix": 0.5}, "cutmix must be None or 'auto' for vectors, got 0.5"),
        ({"cutmix": 0.0}, "'cutmix' parameter of GANEMClusterer must be"),
        ({"cutmix": 1.5}, "'cutmix' parameter of GANEMClusterer must be"),
        ({"image_shape": (3, 3)}, "= 9 values a row"),
        ({"n_clusters": 301}, "n_samples=300 should be >= n_clusters=301"),
    ],
)
def test_bad_parameters(blobs, params, message):
    with pytest.raises(ValueError, match=message):
        short().set_params(**params).fit(blobs[0])


# Labels --------------------------------------------------------------------------


def test_labels_change_nothing_unless_asked(blobs):
    X, y = blobs
    same(short().fit(X), short().fit(X, y), X)


@pytest.mark.parametrize("init", ["uniform", "kmeans", "tsne"])
@pytest.mark.parametrize("order", [[0, 1, 2], [1, 2, 0]])
def test_labels_name_the_clusters(init, order, blobs):
    X, y = blobs
    named = np.array(order)[y]
    known = np.full(len(y), -1)
    known[::50] = named[::50]
    clusterer = GANEMClusterer(
        3, semi_supervised=True, init=init, max_iter=6, random_state=0
    ).fit(X, known)
    assert np.mean(clusterer.labels_ == named) > 0.95


@pytest.mark.parametrize(
    "y, message",
    [
        (None, "needs y"),
        (np.zeros(7, dtype=int), r"expected \(300,\)"),
        (np.full(300, 3), "from 3 to 3; expected integers from -1"),
        (np.full(300, -2), "expected integers"),
        (np.zeros(300), "values of type float64"),
    ],
)
def test_bad_labels(blobs, y, message):
    with pytest.raises(ValueError, match=message):
        short(semi_supervised=True).fit(blobs[0], y)


# Embedding and generation --------------------------------------------------------


def test_embedding_dimension(images):
    X, _ = images
    clusterer = short(10, image_shape=(8, 8), embedding_dim=2).fit(X)
    Z = clusterer.transform(X)
    assert Z.shape == (200, 2)
    assert list(clusterer.get_feature_names_out()) == [
        "ganemclusterer0",
        "ganemclusterer1",
    ]
    # The embedding is all that the prediction sees.
    head = clusterer.networks_["classifier"]
    scores = Z @ head["head.weight"].T + head["head.bias"]
    np.testing.assert_array_equal(scores.argmax(axis=1), clusterer.labels_)


def test_inverse_transform_returns_generated_samples_nearby(blobs):
    X, _ = blobs
    clusterer = GANEMClusterer(3, max_iter=6, embedding_dim=2, random_state=0).fit(X)
    Z = clusterer.transform(X)
    back = clusterer.transform(clusterer.inverse_transform(Z))
    assert np.mean((back - Z) ** 2) < 0.1 * Z.var()
    with pytest.raises(ValueError, match="Z has 3 columns"):
        clusterer.inverse_transform(np.zeros((2, 3)))


def test_sample(fitted):
    X, labels = fitted.sample(500)
    assert X.shape == (500, 64)
    assert (np.diff(labels) >= 0).all()
    shares = np.bincount(labels, minlength=10) / 500
    np.testing.assert_allclose(shares, fitted.weights_, atol=0.08)
    np.testing.assert_array_equal(X, fitted.sample(500)[0])
    one, only = fitted.sample(4, cluster=7)
    assert only.tolist() == [7] * 4
    assert len(np.unique(one, axis=0)) == 4
    for bad in ({"n_samples": 0}, {"cluster": 10}, {"cluster": -1}):
        with pytest.raises(ValueError, match="must be"):
            fitted.sample(**bad)


def test_density_integrates_to_one(rng):
    X = np.concatenate([rng.normal(-2, 0.5, 100), rng.normal(2, 0.5, 100)])[:, None]
    clusterer = short(2).fit(X)
    grid = np.linspace(-60, 60, 60_001)[:, None]
    density = np.exp(clusterer.score_samples(grid))
    assert density.sum() * (grid[1, 0] - grid[0, 0]) == pytest.approx(1.0, abs=1e-3)


def test_density_knows_the_data(default_fit, groups, rng):
    X, _ = groups
    far = rng.uniform(-20, 30, size=(100, 3))
    assert default_fit.score(X) > default_fit.score(far) + 10
    assert default_fit.score(X) == pytest.approx(default_fit.score_samples(X).mean())


# Course of a fit -----------------------------------------------------------------


def test_history(fitted):
    assert fitted.n_iter_ == 3
    assert all(values.shape == (3,) for values in fitted.history_.values())
    assert fitted.occupancies_.shape == (3, 10)
    np.testing.assert_allclose(fitted.occupancies_.sum(axis=1), 1.0, rtol=1e-5)
    assert fitted.history_["changed"][0] == 1.0


def test_convergence_ends_a_run_and_is_reported(default_fit, groups):
    assert default_fit.converged_
    assert default_fit.n_iter_ < 20
    assert (default_fit.history_["changed"][-5:] <= default_fit.tol).all()
    with pytest.warns(ConvergenceWarning, match="Increase max_iter"):
        short(tol=0.0).fit(groups[0])


def test_constant_learning_rates_fall_before_a_run_ends(groups):
    recipe = {"constant_fraction": 0.6}
    found = GANEMClusterer(3, recipe=recipe, random_state=0).fit(groups[0])
    assert found.converged_
    # Half of their fall, from 12 of 20 iterations on.
    assert 16 <= found.n_iter_ < 20


def test_runs_on_images_go_to_the_end(images):
    model = short(10, image_shape=(8, 8), max_iter=8, tol=1.0, n_iter_no_change=1)
    assert model.fit(images[0]).converged_
    assert model.n_iter_ == 8


# Neighbours ----------------------------------------------------------------------


def test_pipeline_and_grid_search(blobs):
    X, y = blobs
    pipeline = make_pipeline(StandardScaler(), short())
    search = GridSearchCV(
        pipeline,
        {"ganemclusterer__n_clusters": [2, 3]},
        scoring="adjusted_rand_score",
        cv=2,
    ).fit(X, y)
    assert set(search.predict(X)) <= {0, 1, 2}


def test_pickle_save_and_clone(fitted, images, tmp_path):
    X, _ = images
    same(pickle.loads(pickle.dumps(fitted)), fitted, X)
    skdeepgmm.save(fitted, tmp_path / "model.safetensors")
    loaded = skdeepgmm.load(tmp_path / "model.safetensors")
    same(loaded, fitted, X)
    np.testing.assert_array_equal(loaded.score_samples(X), fitted.score_samples(X))
    assert not hasattr(clone(fitted), "networks_")


def test_tensors_are_accepted(blobs):
    X, _ = blobs
    same(short().fit(torch.from_numpy(X)), short().fit(X), X)


def test_changed_parameters_do_not_break_a_fitted_model(fitted, images):
    X, _ = images
    copy = pickle.loads(pickle.dumps(fitted)).set_params(n_clusters=3, width=1.0)
    np.testing.assert_array_equal(copy.predict(X), fitted.labels_)
