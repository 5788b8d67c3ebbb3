"""Consistency on real images in both deep clusterers: when, with what, and its end."""

import warnings

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

import skdeepgmm
from skdeepgmm.estimators.clusterers import _consistency, _self_supervised
from skdeepgmm.estimators.clusterers.gan_em._settings import init_method
from tests.estimators.clusterers.problems import both, gan_em, interrupt, minmax_em
from tests.estimators.iterative import At, fail

SHORT = {"n_steps": 20, "n_unlabelled": 16, "n_labelled": 8}

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings(
        "ignore::skdeepgmm.exceptions.DegenerateComponentWarning"
    ),
]


@pytest.fixture(scope="module")
def photos():
    """Squares at the left or right of a noisy ground, classes, and a few of them."""
    rng = np.random.default_rng(0)
    y = np.arange(60) % 2
    X = 0.3 * rng.random((60, 16, 16), dtype=np.float32)
    for k, first in enumerate((2, 10)):
        X[y == k, 5:11, first : first + 4] += 0.6
    return X, y, np.where(np.arange(60) < 24, y, -1)


def with_labels(construct, **params):
    settings = {"consistency": SHORT, "semi_supervised": True}
    return construct(**(settings | params))


# What a fit does -----------------------------------------------------------------


@both
def test_few_labels_name_all_images(construct, photos):
    X, y, few = photos
    model = with_labels(construct, consistency=SHORT | {"n_steps": 40}).fit(X, few)
    np.testing.assert_array_equal(model.labels_, y)
    np.testing.assert_array_equal(model.predict(X), y)
    assert model.consistency_["weight"] == 1.0
    assert model.consistency_["n_held_out"] == 4
    proba = model.predict_proba(X)
    np.testing.assert_allclose(proba.sum(axis=1), 1.0, atol=1e-5)
    images, clusters = model.sample(6)
    assert images.shape == (6, 256)
    assert set(clusters) <= {0, 1}


@both
def test_the_trained_network_stays_as_it_is(construct, photos):
    """The generative part trains with its responsibilities: longer runs keep them."""
    X, _, few = photos
    short, long = (
        with_labels(construct, max_iter=n, random_state=0).fit(X, few) for n in (1, 3)
    )
    np.testing.assert_array_equal(short.predict_proba(X), long.predict_proba(X))
    name = "generator"
    first, last = (model.networks_[name] for model in (short, long))
    assert any((first[key] != last[key]).any() for key in first)


@pytest.mark.parametrize(
    ("construct", "names"),
    [(gan_em, ["auto", "photo", "svhn"]), (minmax_em, ["auto", "small", "large"])],
)
def test_any_network_learns(construct, names, photos):
    X, y, few = photos
    few_steps = SHORT | {"n_steps": 30}
    for name in names:
        model = with_labels(construct, networks=name, consistency=few_steps)
        labels = model.fit(X, few).labels_
        assert (labels == y).mean() > 0.8
    # Without consistency "auto" is what it was before.
    params = {"consistency": None, "semi_supervised": True}
    plain = construct(**params).fit(X, few)
    same = construct(**params, networks=names[1]).fit(X, few)
    equal = np.array_equal(plain.predict_proba(X), same.predict_proba(X))
    assert equal == (names[1] == "small")


@both
def test_saved_and_read(construct, photos, tmp_path):
    X, _, few = photos
    model = with_labels(construct).fit(X, few)
    skdeepgmm.save(model, tmp_path / "model")
    again = skdeepgmm.load(tmp_path / "model")
    np.testing.assert_array_equal(again.predict_proba(X), model.predict_proba(X))
    assert again.consistency_ == model.consistency_


@both
def test_a_fit_that_was_cut_off_goes_on(construct, photos, tmp_path, monkeypatch):
    """The training on real images is not done again."""
    X, _, few = photos
    params = {"max_iter": 3, "checkpoint_path": tmp_path / "c"}
    whole = with_labels(construct, max_iter=3).fit(X, few)
    cut_off = with_labels(construct, **params).set_callbacks(At(2, fail))
    with pytest.raises(RuntimeError, match="cut off"):
        cut_off.fit(X, few)
    monkeypatch.setattr(_consistency, "learn_from_labels", interrupt)
    going_on = with_labels(construct, **params).fit(X, few)
    np.testing.assert_array_equal(going_on.predict_proba(X), whole.predict_proba(X))
    np.testing.assert_array_equal(going_on.sample(3)[0], whole.sample(3)[0])


@both
def test_ctrl_c_while_it_learns_leaves_the_estimator(construct, photos, monkeypatch):
    X, _, few = photos
    monkeypatch.setattr(_consistency, "learn_from_labels", interrupt)
    model = with_labels(construct)
    with pytest.raises(KeyboardInterrupt):
        model.fit(X, few)
    assert not hasattr(model, "networks_")


def test_restarts_in_processes_are_those_one_after_another(photos):
    X, _, few = photos
    params = {"n_init": 2, "max_iter": 2, "init_iter": 1}
    first, second = (
        with_labels(gan_em, n_jobs=n_jobs, **params).fit(X, few) for n_jobs in (1, 2)
    )
    np.testing.assert_array_equal(first.predict_proba(X), second.predict_proba(X))
    np.testing.assert_array_equal(first.means_, second.means_)


# When it is in use ---------------------------------------------------------------


def wanted(model, X, labels):
    model.image_shape_ = (16, 16, 1) if X.shape[1] == 256 else None
    return _consistency.is_consistent(model, X, labels)


@both
def test_auto_is_for_photographs_with_labels(construct, photos):
    X, few = photos[0].reshape(60, -1), photos[2]
    assert wanted(construct(), X, few)
    assert not wanted(construct(), X, None)
    assert not wanted(construct(), X, np.where(few == 1, -1, few))
    assert not wanted(construct(), X[:, :9], few)
    assert not wanted(construct(consistency=None), X, few)
    assert not wanted(construct(init="tsne"), X, few)
    assert wanted(construct(init="self-supervised"), X, None)
    drawing = np.where(X < 0.5, 0.0, X)
    assert not wanted(construct(), drawing, few)
    assert wanted(construct(consistency=1.0), drawing, few)


@both
def test_it_is_off_without_labels(construct, photos):
    """Labels that are not asked for change nothing, nor does the default."""
    X, _, few = photos
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fits = [
            construct(init="kmeans").fit(X),
            construct(init="kmeans").fit(X, few),
            construct(init="kmeans", consistency=None).fit(X),
        ]
    for other in fits[1:]:
        np.testing.assert_array_equal(other.predict_proba(X), fits[0].predict_proba(X))
    assert fits[0].consistency_ is None


@pytest.mark.parametrize("recipe", ["released", "paper"])
def test_recipes_of_the_paper_do_without(photos, recipe):
    X, _, few = photos
    settings = {"recipe": recipe, "semi_supervised": True}
    one_step = {"max_iter": 1, "batch_size": 60}
    assert gan_em(**settings, **one_step).fit(X, few).consistency_ is None
    with pytest.raises(ValueError, match="consistency must be None or 'auto' with"):
        gan_em(**settings, consistency=1.0).fit(X, few)


# Settings ------------------------------------------------------------------------


@both
@pytest.mark.parametrize(
    ("asked", "match"),
    [
        ({"steps": 3}, "unknown settings .'steps'."),
        ({"threshold": 2.0}, "'threshold' parameter of consistency must be"),
        ({"mirror": "yes"}, "'mirror' parameter of consistency must be"),
        (-1.0, "'consistency' parameter of .* must be"),
        ("yes", "'consistency' parameter of .* must be"),
    ],
)
def test_wrong_settings_are_named(construct, photos, asked, match):
    X, _, few = photos
    with pytest.raises(ValueError, match=match):
        with_labels(construct, consistency=asked).fit(X, few)


@both
def test_vectors_have_no_changes(construct, photos):
    X, _, few = photos
    with pytest.raises(ValueError, match="consistency must be None or 'auto' for vec"):
        with_labels(construct).fit(X.reshape(60, -1)[:, :9], few)


def test_networks_of_photographs_are_for_images(photos):
    for construct in (gan_em, minmax_em):
        with pytest.raises(ValueError, match=r"networks=.photo. needs images of at le"):
            construct(networks="photo").fit(photos[0].reshape(60, -1)[:, :9])


@both
def test_wrong_initial_responsibilities_are_told_even_so(construct, photos):
    X, _, few = photos
    with pytest.raises(ValueError, match="init has the shape"):
        with_labels(construct, init=np.ones((3, 2))).fit(X, few)


@both
def test_labels_of_some_clusters_are_targets(construct, photos, monkeypatch):
    """Where a cluster has none, initial responsibilities are; labels know better."""
    X, y, _ = photos
    targets = []
    plain = _consistency.initial_targets

    def initial_targets(resp):
        targets.append(resp)
        return plain(resp)

    monkeypatch.setattr(_consistency, "initial_targets", initial_targets)
    few = np.where(np.arange(60) < 9, np.where(y == 0, 0, -1), -1)
    with_labels(construct, init=np.eye(2)[1 - y]).fit(X, few)
    (resp,) = (found.argmax(1).numpy() for found in targets)
    np.testing.assert_array_equal(resp, np.where(few == 0, 0, 1 - y))


def test_targets_need_a_beginning(photos):
    with pytest.raises(ValueError, match="labels of every cluster or initial clusters"):
        gan_em(consistency=SHORT).fit(photos[0])


def test_changes_follow_the_images(photos):
    """Never mirrored unless asked; inverted where both polarities occur."""
    import torch

    bright = torch.tensor(photos[0])[:, None]
    both_kinds = torch.where(
        torch.arange(60)[:, None, None, None] < 30, bright, -bright
    )
    for rows, invert in ((bright, 0.0), (both_kinds, _consistency.INVERTED)):
        for mirror in (False, True):
            config = _consistency.config_of({"mirror": mirror}, rows)
            assert config.weak.mirror == config.strong.mirror == mirror
            assert config.strong.invert == invert
            assert config.weak.invert == 0.0
            assert config.strong.low == rows.min()
            assert config.strong.high == rows.max()
    config = _consistency.config_of("auto", bright)
    assert not config.weak.mirror
    assert not config.strong.mirror
    colours = both_kinds.expand(-1, 3, -1, -1)
    assert _consistency.config_of("auto", colours).strong.invert == 0.0
    assert _consistency.config_of({"invert": 0.2}, bright).strong.invert == 0.2
    assert _consistency.config_of(0.5, bright).weight == 0.5
    assert type(_consistency.config_of(np.float32(0.5), bright).weight) is float


# Without labels ------------------------------------------------------------------


@both
def test_self_supervised_start(construct, photos, monkeypatch):
    monkeypatch.setattr(_self_supervised, "N_STEPS", 30)
    X, y, _ = photos
    params = {"init": "self-supervised", "random_state": 0}
    sharpened = construct(**params, consistency=SHORT).fit(X)
    assert sharpened.consistency_ == {"weight": 1.0}
    assert adjusted_rand_score(y, sharpened.labels_) > 0.8
    again = construct(**params, consistency=SHORT).fit(X)
    np.testing.assert_array_equal(again.predict_proba(X), sharpened.predict_proba(X))
    assert construct(**params, consistency=None).fit(X).consistency_ is None


@both
def test_self_supervised_start_on_equal_images(construct, photos, monkeypatch):
    """There is nothing to be found, and nothing to warn of but that."""
    monkeypatch.setattr(_self_supervised, "N_STEPS", 1)
    model = construct(init="self-supervised", consistency=None)
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        resp = model.fit(np.full_like(photos[0], 0.5)).predict_proba(photos[0])
    np.testing.assert_allclose(resp.sum(axis=1), 1.0, atol=1e-5)


@both
def test_self_supervised_start_needs_images(construct, photos):
    X = photos[0].reshape(60, -1)[:, :9]
    with pytest.raises(ValueError, match="init='self-supervised' needs images"):
        construct(init="self-supervised").fit(X)


def test_many_small_images_begin_with_an_embedding():
    """Without labels, and not by the paper's recipes."""
    small, large, vector = (1, 8, 8), (1, 16, 16), (64,)
    assert init_method(gan_em(), small, 1000) == "tsne"
    assert init_method(gan_em(), small, 999) == "uniform"
    assert init_method(gan_em(semi_supervised=True), small, 1000) == "uniform"
    assert init_method(gan_em(recipe="paper"), small, 1000) == "uniform"
    assert init_method(gan_em(), large, 1000) == "uniform"
    assert init_method(gan_em(), vector, 1000) == "kmeans"
    assert init_method(minmax_em(init="kmeans"), small, 1000) == "kmeans"
