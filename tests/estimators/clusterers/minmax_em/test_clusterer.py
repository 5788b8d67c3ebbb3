"""MinMaxEMClusterer: clusters, labels, initialization, generation, persistence."""

import pickle

import numpy as np
import pytest
import torch
from scipy.special import logsumexp
from scipy.stats import multivariate_normal
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import adjusted_rand_score
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_clustering

from skdeepgmm._torch_backend.clusterers.minmax_em.trainer import MinMaxEM
from skdeepgmm.estimators import MinMaxEMClusterer
from skdeepgmm.estimators.clusterers.minmax_em._fit import MinMaxEMFit
from skdeepgmm.estimators.clusterers.minmax_em._settings import (
    init_steps_of,
    min_resp,
)
from skdeepgmm.exceptions import DegenerateComponentWarning, TrainingDivergedError
from skdeepgmm.persistence import load, save
from tests.estimators.clusterers.problems import interrupt, with_trainer

SHORT = {"max_iter": 3, "init_steps": 60, "width": 0.25, "learning_rate": 1e-2}
# Fits to random images or of no length may lose a cluster.
lost_clusters_allowed = pytest.mark.filterwarnings(
    "ignore::skdeepgmm.exceptions.DegenerateComponentWarning"
)


def construct(n_clusters=3, **parameters):
    return MinMaxEMClusterer(n_clusters, **({"random_state": 0} | SHORT | parameters))


def images(n, *shape):
    return np.random.default_rng(0).uniform(size=(n, *shape))


def few_labels(y, n=4):
    known = np.full(len(y), -1)
    for k in np.unique(y):
        known[np.flatnonzero(y == k)[:n]] = k
    return known


@pytest.fixture(scope="module")
def data():
    y = np.repeat(np.arange(3), 40)
    centers = np.array([[0, 0, 0, 0], [8, 0, 8, 0], [0, 8, 0, 8]])
    return centers[y] + np.random.default_rng(0).normal(size=(120, 4)), y


@pytest.fixture(scope="module")
def fitted(data):
    return construct(max_iter=20).fit(data[0])


# Clusters ------------------------------------------------------------------------


def test_clusters_are_found(fitted, data):
    X, y = data
    assert adjusted_rand_score(y, fitted.labels_) > 0.95
    np.testing.assert_array_equal(fitted.labels_, fitted.predict(X))
    np.testing.assert_array_equal(
        fitted.predict_proba(X).argmax(axis=1), fitted.labels_
    )
    np.testing.assert_allclose(fitted.weights_, 1 / 3, atol=0.05)
    assert fitted.n_iter_ == 20


def test_training_improves_its_terms(fitted):
    history = fitted.history_
    assert set(map(len, history.values())) == {20}
    assert all(np.isfinite(values).all() for values in history.values())
    for name in ("energy", "consistency", "latent_error"):
        assert history[name][-1] < history[name][0]
    assert history["log_likelihood"][-1] > history["log_likelihood"][0]
    np.testing.assert_allclose(fitted.occupancies_.sum(axis=1), 1.0, rtol=1e-5)


def test_scores_are_those_of_the_latent_mixture(fitted, data):
    Z = fitted.transform(data[0])
    joint = np.column_stack(
        [
            np.log(weight) + multivariate_normal(mean).logpdf(Z)
            for weight, mean in zip(fitted.weights_, fitted.means_, strict=True)
        ]
    )
    expected = logsumexp(joint, axis=1)
    np.testing.assert_allclose(fitted.score_samples(data[0]), expected)
    proba = np.exp(joint - expected[:, None])
    np.testing.assert_allclose(fitted.predict_proba(data[0]), proba, atol=1e-9)


@pytest.mark.slow
def test_common_clustering_check_with_default_settings():
    check_clustering("MinMaxEMClusterer", MinMaxEMClusterer())


# Labels --------------------------------------------------------------------------


def test_y_is_ignored_unless_asked_for(data):
    X, y = data
    first, second = construct().fit(X), construct().fit(X, y)
    for name, arrays in first.networks_.items():
        for key, values in arrays.items():
            np.testing.assert_array_equal(values, second.networks_[name][key])
    np.testing.assert_array_equal(first.labels_, second.labels_)


def test_labels_name_the_clusters(data):
    X, y = data
    for order in ([0, 1, 2], [2, 0, 1]):
        named = np.array(order)[y]
        model = construct(semi_supervised=True).fit(X, few_labels(named))
        assert (model.labels_ == named).mean() > 0.9
    assert np.isfinite(model.history_["labelled_energy"]).all()


def test_an_unlabelled_cluster_is_initialised_by_kmeans(data):
    X, y = data
    known = few_labels(y)
    known[known == 1] = -1
    model = construct(semi_supervised=True).fit(X, known)
    assert (model.labels_ == y).mean() > 0.9
    with pytest.raises(ValueError, match="clusters 1 have none"):
        construct(semi_supervised=True, init="labels").fit(X, known)


@pytest.mark.parametrize("n, from_labels", [(4, False), (5, True)])
def test_enough_labels_initialise(n, from_labels, data):
    X, y = data
    model = construct(semi_supervised=True)
    model.image_shape_ = None
    fit = MinMaxEMFit(model, X, few_labels(y, n), {})
    fit.initialize()
    assert (fit.init_method == "labels") == from_labels


@pytest.mark.parametrize(
    "shape, method, share, expected",
    [
        ((1, 28, 28), "kmeans", 0.0, 50),
        ((1, 28, 28), "array", 0.0, 50),
        ((1, 28, 28), "tsne", 0.0, 300),
        ((1, 8, 8), "kmeans", 0.0, 300),
        ((1, 28, 28), "labels", 0.01, 150),
        ((1, 28, 28), "labels", 0.1, 500),
        ((64,), "kmeans", 0.0, 150),
    ],
)
def test_unsupervised_initialization_of_large_images_is_short(
    shape, method, share, expected
):
    labels = np.full(100, -1)
    labels[: int(100 * share)] = 0
    assert init_steps_of(construct(init_steps=None), shape, method, labels) == expected
    assert init_steps_of(construct(init_steps=7), shape, method, labels) == 7


def test_all_rows_may_be_labelled(data):
    X, y = data
    model = construct(semi_supervised=True, init_steps=None).fit(X, y)
    assert (model.labels_ == y).mean() > 0.95


@pytest.mark.parametrize(
    "y, message",
    [
        (None, "semi_supervised=True needs y"),
        (np.full(120, 3), "from 3 to 3"),
        (np.full(120, True), "values of type bool; expected integers"),
        (np.zeros(5, int), "has the shape"),
    ],
)
def test_bad_labels(y, message, data):
    with pytest.raises(ValueError, match=message):
        construct(semi_supervised=True).fit(data[0], y)


# Initialization ------------------------------------------------------------------


def test_user_supplied_responsibilities_set_the_names_of_the_clusters(data):
    X, y = data
    resp = np.eye(3)[(y + 1) % 3]
    model = construct(init=resp).fit(X)
    assert (model.labels_ == (y + 1) % 3).mean() > 0.95


@pytest.mark.parametrize("init", [np.ones((120, 2)) / 2, np.ones((120, 3))])
def test_bad_responsibilities(init, data):
    with pytest.raises(ValueError, match="init"):
        construct(init=init).fit(data[0])


def test_an_empty_cluster_is_warned_about(data):
    X, y = data
    resp = np.eye(3)[np.minimum(y, 1)]
    with pytest.warns(DegenerateComponentWarning, match=r"2 \(0.00%\), since EM it"):
        model = construct(init=resp, weight_prior=1e-3, balance=0.0).fit(X)
    assert set(model.labels_) == {0, 1}


@lost_clusters_allowed
@pytest.mark.parametrize("balance", [0.2, 1.0])
def test_balance_bounds_the_mean_responsibilities(balance, data):
    X, y = data
    resp = np.eye(3)[np.minimum(y, 1)]
    model = construct(init=resp, balance=balance).fit(X)
    assert (model.occupancies_ >= 0.998 * balance / 3).all()
    # Unbounded, the third cluster would stay empty.
    assert model.history_["moved"][0] > 0.0


@pytest.mark.parametrize(
    "labels, expected",
    [
        (None, [1 / 3, 1 / 3, 1 / 3]),
        ([-1, -1], [1 / 3, 1 / 3, 1 / 3]),
        ([0, 0, -1, 0, 1], [4 / 7, 2 / 7, 1 / 7]),
    ],
)
def test_lower_bounds_follow_the_labelled_shares(labels, expected):
    labels = None if labels is None else np.array(labels)
    found = min_resp(construct(balance=0.5), labels)
    np.testing.assert_allclose(found, 0.5 * np.array(expected))
    assert min_resp(construct(balance=0.0), labels) is None


# Images --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "shape", [(8, 8), (9, 14), (28, 28), (32, 32, 3), (64, 64, 3), (5, 6)]
)
@lost_clusters_allowed
def test_images_of_all_sizes(shape):
    X = images(12, *shape)
    model = construct(2, max_iter=1, init_steps=2, width=0.1, batch_size=4).fit(X)
    assert model.image_shape_ == (*shape, 1)[:3]
    made, labels = model.sample(3)
    assert made.shape == (3, X[0].size)
    assert labels.shape == (3,)
    assert model.transform(X).shape == (12, 2)
    assert np.isfinite(model.score_samples(X.reshape(12, -1))).all()
    if min(shape[:2]) >= 8:
        assert made.min() >= X.min() - 1e-6
        assert made.max() <= X.max() + 1e-6


@lost_clusters_allowed
def test_rows_and_images_give_the_same_model():
    X = images(20, 8, 8)
    settings = {"max_iter": 1, "init_steps": 5}
    first = construct(2, **settings).fit(X)
    second = construct(2, image_shape=(8, 8), **settings).fit(X.reshape(20, -1))
    np.testing.assert_array_equal(first.transform(X), second.transform(X))


@lost_clusters_allowed
def test_affine_is_for_images(data):
    X = images(20, 8, 8)
    model = construct(2, affine="auto", max_iter=1, init_steps=5).fit(X)
    assert np.isfinite(model.score(X))
    with pytest.raises(ValueError, match="affine must be"):
        construct(affine=(1, 0, 0)).fit(data[0])


# Generation ----------------------------------------------------------------------


def test_samples_belong_to_their_cluster(fitted):
    for cluster in range(3):
        made, labels = fitted.sample(40, cluster=cluster)
        assert (labels == cluster).all()
        assert (fitted.predict(made) == cluster).mean() > 0.9
    made, labels = fitted.sample(60)
    assert made.shape == (60, 4)
    assert (np.diff(labels) >= 0).all()
    np.testing.assert_array_equal(made, fitted.sample(60)[0])


@pytest.mark.parametrize("n, cluster", [(0, None), (1, 3), (1, -1)])
def test_bad_samples(n, cluster, fitted):
    with pytest.raises(ValueError, match="must be"):
        fitted.sample(n, cluster)


def test_interpolation_goes_along_the_latent_line(fitted, data):
    a, b = data[0][0], data[0][100]
    Z = fitted.transform(np.stack([a, b]))
    line = fitted.interpolate(a, b, n_samples=5)
    between = np.stack([Z[0] + t * (Z[1] - Z[0]) for t in (0, 0.25, 0.5, 0.75, 1)])
    np.testing.assert_allclose(line, fitted.inverse_transform(between))
    with pytest.raises(ValueError, match="n_samples"):
        fitted.interpolate(a, b, n_samples=1)


def test_columns_of_latents_are_checked(fitted):
    with pytest.raises(ValueError, match="expected those of transform, 3"):
        fitted.inverse_transform(np.ones((2, 5)))


@pytest.mark.filterwarnings("ignore::skdeepgmm.exceptions.DegenerateComponentWarning")
@lost_clusters_allowed
@pytest.mark.parametrize("latent_dim", [1, 2, 5])
def test_latent_dimension(latent_dim, data):
    model = construct(latent_dim=latent_dim).fit(data[0])
    assert model.means_.shape == (3, latent_dim)
    assert model.transform(data[0]).shape == (120, latent_dim)
    assert model.get_feature_names_out()[0] == "minmaxemclusterer0"


# Use as any estimator ------------------------------------------------------------


def test_float32_in_float32_out(data):
    X = data[0].astype(np.float32)
    model = construct().fit(X)
    for result in (
        model.transform(X),
        model.predict_proba(X),
        model.score_samples(X),
        model.sample(2)[0],
    ):
        assert result.dtype == np.float32


def test_a_tensor_is_as_good_as_an_array(data):
    model = construct().fit(torch.tensor(data[0]))
    np.testing.assert_array_equal(model.labels_, construct().fit(data[0]).labels_)


def test_pickle_clone_save(fitted, data, tmp_path):
    path = tmp_path / "model.safetensors"
    save(fitted, path)
    for same in (pickle.loads(pickle.dumps(fitted)), load(path)):
        np.testing.assert_array_equal(
            same.score_samples(data[0]), fitted.score_samples(data[0])
        )
        np.testing.assert_array_equal(same.sample(5)[0], fitted.sample(5)[0])
    assert clone(fitted).get_params() == fitted.get_params()


def test_pipeline_and_grid_search(data):
    X, y = data
    pipeline = make_pipeline(StandardScaler(), construct(max_iter=2))
    search = GridSearchCV(
        pipeline,
        {"minmaxemclusterer__separation": [4.0, 6.0]},
        scoring="adjusted_rand_score",
        cv=2,
    ).fit(X, y)
    assert search.best_score_ > 0.5


def test_verbose_prints_a_line_an_iteration(data, capsys):
    construct(verbose=1).fit(data[0])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines] == [
        ["Iteration", str(i)] for i in (1, 2, 3)
    ]


def test_an_interrupted_fit_keeps_what_it_learned(data):
    def em_iteration(self):
        if self.iteration == 2:
            raise KeyboardInterrupt
        return MinMaxEM.em_iteration(self)

    model = with_trainer(construct(), em_iteration=em_iteration)
    with pytest.warns(ConvergenceWarning, match="interrupted after 2 of 3 EM"):
        model.fit(data[0])
    assert model.n_iter_ == 2
    assert model.predict(data[0]).shape == (120,)


@lost_clusters_allowed
def test_an_interrupted_initialization_ends_the_fit(data):
    model = with_trainer(construct(), init_step=interrupt)
    with pytest.warns(ConvergenceWarning, match="interrupted after 0 of 3 EM"):
        model.fit(data[0])
    assert model.n_iter_ == 0


def test_divergence_says_what_to_change(data):
    with pytest.raises(TrainingDivergedError, match="Lower learning_rate"):
        construct(learning_rate=1e30).fit(data[0])


def test_too_few_rows():
    with pytest.raises(ValueError, match="n_samples=2 should be >= n_clusters=3"):
        construct().fit(np.ones((2, 2)))
