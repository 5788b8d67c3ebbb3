"""DeepConvGMM: quality, schedules, streams, labels, containers, bad input."""

import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.metrics import normalized_mutual_info_score
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

import skdeepgmm
from skdeepgmm import DeepConvGMM, GaussianMixture
from skdeepgmm._torch_backend.deep_conv.network import Learner
from skdeepgmm.layers import Folding, Mixture
from tests.estimators.deep_conv.problems import SHAPE, STACK, make


@pytest.fixture(scope="module")
def fitted(pictures):
    return make().fit(pictures[0])


def test_the_top_mixture_finds_the_classes(fitted, pictures):
    X, y = pictures
    assert normalized_mutual_info_score(y, fitted.predict(X)) > 0.95
    assert fitted.usage_.tolist() == [1.0, 1.0]
    np.testing.assert_allclose(fitted.weights_.sum(), 1.0, rtol=1e-5)


def test_the_likelihood_of_every_layer_rises(fitted):
    for number in range(2):
        values = fitted.history_[f"log_likelihood_{number}"]
        bound = -fitted.history_[f"loss_{number}"]
        learned = np.isfinite(values)
        seen = values[learned]
        assert np.all(bound[learned] <= seen + 1e-4)
        assert seen[-1] > seen[len(seen) // 2] > seen[0] - 10
    assert len(fitted.lower_bounds_) == fitted.n_iter_ == 20
    assert np.isnan(fitted.lower_bounds_[:2]).all()


def test_the_history_holds_the_means_of_the_steps_that_learned(pictures, monkeypatch):
    """Also in the epoch in whose middle a mixture begins."""
    seen, step = [], Learner.step

    def record(learner, batch):
        seen.append({name: float(v) for name, v in step(learner, batch).items()})
        return {name: torch.tensor(value) for name, value in seen[-1].items()}

    monkeypatch.setattr(Learner, "step", record)
    model = make(max_iter=23, batch_size=20).fit(pictures[0])
    for name in ("loss_1", "log_likelihood_1"):
        epochs = [seen[start : start + 10] for start in range(0, 230, 10)]
        values = [[found[name] for found in one if name in found] for one in epochs]
        assert 0 < len(values[2]) < 10  # it begins within the third epoch
        assert np.isnan(model.history_[name][:2]).all()
        expected = [np.mean(one) for one in values[2:]]
        np.testing.assert_allclose(model.history_[name][2:], expected, rtol=1e-5)


def test_means_are_images_of_the_components(fitted, pictures):
    X, _ = pictures
    rows = X.reshape(len(X), -1)
    labels = fitted.predict(X)
    for k, mean in enumerate(fitted.means_):
        oracle = rows[labels == k].mean(axis=0)
        assert np.abs(mean - oracle).mean() < 0.15
    np.testing.assert_array_equal(fitted.predict(fitted.means_), range(4))


def test_a_single_mixture_is_a_flat_one(rng):
    """Its score is a density in the units of X, like that of exact EM."""
    X = np.concatenate([rng.normal(size=(300, 3)), rng.normal(size=(300, 3)) + 8])
    X = X * [1.0, 100.0, 1e-3] + [0.0, 1e4, 5.0]
    deep = DeepConvGMM(n_components=2, random_state=0).fit(X)
    flat = GaussianMixture(2, covariance_type="diag", reg_covar=1e-12).fit(X)
    np.testing.assert_allclose(deep.score(X), flat.score(X), atol=0.02)
    np.testing.assert_allclose(
        deep.means_.mean(axis=0), flat.means_.mean(axis=0), rtol=1e-3
    )
    holed = X[:20].copy()
    holed[:, 1] = np.nan
    filled = deep.inpaint(holed, np.isnan(holed))
    np.testing.assert_allclose(filled, flat.impute(holed), rtol=0.01)


def test_subsets_get_the_results_of_the_whole(fitted, pictures):
    X, _ = pictures
    for method in ("predict_proba", "score_samples_per_layer", "transform"):
        whole = getattr(fitted, method)(X)
        parts = [getattr(fitted, method)(part) for part in np.array_split(X, 7)]
        np.testing.assert_allclose(np.concatenate(parts), whole, rtol=1e-6, atol=1e-7)


def test_scores_and_responsibilities_of_each_layer(fitted, pictures):
    X, _ = pictures
    scores = fitted.score_samples_per_layer(X)
    assert scores.shape == (200, 2)
    np.testing.assert_array_equal(fitted.score_samples(X), scores[:, -1])
    first = clone(fitted).set_params(score_layer=0).fit(X)
    np.testing.assert_allclose(
        first.score_samples(X), first.score_samples_per_layer(X)[:, 0]
    )
    resp = fitted.transform(X, layer=0)
    assert resp.shape == (200, 4 * 6 * 6)
    np.testing.assert_allclose(resp.reshape(200, -1, 6).sum(axis=2), 1.0, atol=1e-5)
    np.testing.assert_allclose(fitted.transform(X), fitted.predict_proba(X))


def test_the_first_score_is_a_density_in_units_of_the_data(pictures):
    X, _ = pictures
    narrow = make().fit(X).score_samples_per_layer(X)[:, 0]
    wide = make().fit(255.0 * X + 3.0).score_samples_per_layer(255.0 * X + 3.0)[:, 0]
    np.testing.assert_allclose(wide, narrow - 9 * np.log(255.0), atol=0.05)


def test_containers_of_images_agree(pictures):
    X, _ = pictures
    rows = X.reshape(200, -1)
    by_rows = make(image_shape=SHAPE, max_iter=3).fit(rows)
    by_images = make(max_iter=3).fit(X[..., None])
    assert by_images.image_shape_ == SHAPE
    np.testing.assert_array_equal(
        by_rows.predict_proba(rows), by_images.predict_proba(X)
    )
    np.testing.assert_array_equal(by_rows.predict_proba(X), by_rows.predict_proba(rows))


def test_colours_and_unshared_mixtures(rng):
    y = rng.integers(3, size=150)
    X = 0.1 * rng.normal(size=(150, 6, 5, 3))
    X[np.arange(150), :, :, y] += 1.0
    stack = [Folding((2, 3)), Mixture(4, shared=False), Folding(), Mixture(3)]
    model = DeepConvGMM(stack, max_iter=30, random_state=0).fit(X)
    assert model.mixtures_[0]["means"].shape == (15, 4, 18)
    assert model.mixtures_[0]["weights"].shape == (15, 4)
    assert normalized_mutual_info_score(y, model.predict(X)) > 0.95
    drawn, labels = model.sample(9, temperature=0.0)
    np.testing.assert_array_equal(model.predict(drawn), labels)
    assert model.image_shape_ == (6, 5, 3)


def test_samples_follow_weights_and_seed(fitted, pictures):
    X, y = fitted.sample(400)
    assert X.shape == (400, 48)
    share = np.bincount(y, minlength=4) / 400
    np.testing.assert_allclose(share, fitted.weights_, atol=0.08)
    again, _ = fitted.sample(400)
    np.testing.assert_array_equal(X, again)
    cold, labels = fitted.sample(50, temperature=0.0)
    np.testing.assert_array_equal(fitted.predict(cold), labels)
    assert fitted.sample(50, temperature=(0.0, 1.0))[0].std() > 0
    noise = fitted.sample(50, temperature=(1.0, 0.0))[0] - cold
    assert noise.std() > 0.02


def test_sharpening_raises_likelihood_and_contrast(fitted):
    plain, _ = fitted.sample(40, temperature=0.0)
    sharp, _ = fitted.sample(40, temperature=0.0, sharpening=True)

    def energy(X):
        images = X.reshape(-1, *SHAPE)
        return sum(np.square(np.diff(images, axis=axis)).mean() for axis in (1, 2))

    gain = fitted.score_samples_per_layer(sharp) - fitted.score_samples_per_layer(plain)
    assert (gain[:, 0] > 0.0).all()
    assert energy(sharp) > energy(plain)
    off, _ = fitted.sample(40, temperature=0.0, sharpening={"n_iter": 0})
    np.testing.assert_array_equal(off, plain)


def test_variants_keep_what_the_layer_knows(fitted, pictures):
    X, _ = pictures
    rows = X.reshape(200, -1)
    distance = {}
    for layer in (0, -1):
        variants = fitted.sample_variants(X, layer, temperature=0.0)
        np.testing.assert_array_equal(fitted.predict(variants), fitted.predict(X))
        distance[layer] = np.abs(variants - rows).mean()
    assert distance[0] <= distance[-1] + 1e-3


def test_inpainting_beats_the_mean_image(fitted, pictures):
    X, _ = pictures
    mask = np.zeros(SHAPE, dtype=bool)
    mask[:3, :4] = True  # one corner: bright if the others are not
    holed = np.where(mask, np.nan, X)
    filled = fitted.inpaint(holed, mask).reshape(X.shape)
    np.testing.assert_array_equal(filled[:, ~mask], X[:, ~mask])
    error = np.square(filled - X)[:, mask].mean()
    mean = np.square(X.mean(axis=0) - X)[:, mask].mean()
    assert error < 0.5 * mean
    per_image = fitted.inpaint(holed, np.isnan(holed))
    np.testing.assert_array_equal(per_image, filled.reshape(200, -1))


def test_sample_weight_removes_rows(pictures):
    X, y = pictures
    weight = (y != 3).astype(float)
    model = make(n_components=3).fit(X, sample_weight=weight)
    scores = model.score_samples(X)
    assert scores[y == 3].max() < scores[y != 3].min()


def test_a_stream_learns_and_forgets_on_request(pictures):
    X, y = pictures
    order = np.argsort(y != 3, kind="stable")  # one kind first
    model = make(batch_size=16)
    for _ in range(30):
        for chunk in np.array_split(X, 4):
            model.partial_fit(chunk)
    assert model.n_iter_ == 120
    assert normalized_mutual_info_score(y, model.predict(X)) > 0.9
    before = pickle.dumps(model.mixtures_)
    steps = model._stream["steps"]
    model.partial_fit(X[order], reopen_annealing=True)
    assert model._stream["opened"] == steps
    assert pickle.dumps(model.mixtures_) != before


def test_a_stream_may_follow_a_fit_and_begin_with_one_image(pictures):
    X, _ = pictures
    model = make().fit(X)
    score = model.score(X)
    model.partial_fit(X[:50])
    assert model.score(X) > score - 5.0
    one = make(layers=[Folding(), Mixture(2)]).partial_fit(X[:1]).partial_fit(X[1:3])
    assert np.isfinite(one.score(X))


def test_early_stopping_ends_before_the_last_epoch(pictures):
    X, _ = pictures
    model = make(max_iter=80, early_stopping=True, n_iter_no_change=2, tol=1.0).fit(X)
    assert model.converged_
    assert model.n_iter_ < 80
    assert np.isfinite(model.history_["score"][-1])
    assert np.isnan(model.history_["score"][0])


def test_the_same_seed_gives_the_same_model(pictures):
    X, _ = pictures
    first, second = (make(max_iter=3).fit(X).means_ for _ in range(2))
    np.testing.assert_array_equal(first, second)
    other = make(max_iter=3, random_state=1).fit(X).means_
    assert not np.array_equal(first, other)


def test_models_are_saved_with_their_layers(fitted, pictures, tmp_path):
    X, _ = pictures
    path = tmp_path / "model.safetensors"
    skdeepgmm.save(fitted, path)
    loaded = skdeepgmm.load(path)
    assert loaded.layers == STACK
    assert loaded.layers_ == fitted.layers_
    for other in (loaded, pickle.loads(pickle.dumps(fitted))):
        np.testing.assert_array_equal(other.score_samples(X), fitted.score_samples(X))
    assert clone(fitted).layers == STACK


def test_a_search_over_layers_and_components(pictures):
    X, y = pictures
    model = make(image_shape=SHAPE, max_iter=3)
    grid = {"layers": ["auto", [Folding(), Mixture(2)]], "n_components": [2, 4]}
    search = GridSearchCV(model, grid, cv=2, scoring="adjusted_rand_score")
    search.fit(X.reshape(200, -1), y)
    assert search.best_params_["n_components"] in (2, 4)
    pipeline = make_pipeline(make(image_shape=SHAPE, max_iter=3), PCA(2))
    assert pipeline.fit_transform(X.reshape(200, -1)).shape == (200, 2)


@pytest.mark.parametrize(
    "change",
    [
        lambda X: np.full_like(X, 3.0),
        lambda X: X * 1e6 - 1e8,
        lambda X: X * 1e-6,
        lambda X: np.where(np.arange(8) < 4, 0.0, X),
        lambda X: np.rint(X * 255).clip(0, 255).astype(np.uint8),
    ],
    ids=["constant", "large", "small", "blank half", "bytes"],
)
def test_any_scale_is_fitted(change, pictures):
    X = change(pictures[0])
    model = make(max_iter=4).fit(X)
    assert np.isfinite(model.score_samples_per_layer(X)).all()
    assert np.isfinite(model.means_).all()
    spread = np.ptp(X.astype(float)) + 1.0
    assert np.abs(model.means_.mean() - X.mean()) < spread
    assert np.isfinite(model.sample(5)[0]).all()


@pytest.mark.parametrize(
    "settings, match",
    [
        ({"image_shape": (6, 7)}, r"6 \* 7 \* 1 = 42 values.*48 features"),
        ({"layers": "Z"}, "layers must be 'auto', a preset"),
        ({"layers": [Folding(9), Mixture(2)]}, r"layers\[0\].*Folding\(9\)"),
        ({"layers": [Folding(3), Mixture(2)]}, r"4 x 6 positions.*Put Folding\(\)"),
        ({"layers": [Mixture(2), Folding()]}, "must be a Mixture"),
        ({"layers": []}, "a list of Folding"),
        ({"layers": [Folding(3), Mixture(1), Folding(), Mixture(2)]}, "at least 2"),
        ({"layers": "B"}, "does not fit a grid of 6 x 8"),
        ({"n_components": 300}, "n_samples = 200"),
        ({"score_layer": 2}, "names no Mixture layer"),
        ({"early_stopping": True, "validation_fraction": 0.99}, "validation_fraction"),
    ],
)
def test_bad_settings_are_named(settings, match, pictures):
    X = pictures[0].reshape(200, -1)
    with pytest.raises(ValueError, match=match):
        make(**{"image_shape": SHAPE, **settings}).fit(X)


def test_bad_input_is_refused(fitted, pictures):
    X, _ = pictures
    with pytest.raises(ValueError, match="NaN"):
        make().fit(np.where(X > 1, np.nan, X))
    with pytest.raises(ValueError, match="images of shape"):
        fitted.predict(X.transpose(0, 2, 1))
    with pytest.raises(ValueError, match="features"):
        fitted.predict(X[:, :3].reshape(200, -1))
    with pytest.raises(ValueError, match="mask must be boolean"):
        fitted.inpaint(X, np.zeros(SHAPE))
    with pytest.raises(ValueError, match="fits neither"):
        fitted.inpaint(X, np.zeros((5, 5), dtype=bool))
    for bad in ({"temperature": -1}, {"top_s": 0}, {"sharpening": {"speed": 1}}):
        with pytest.raises(ValueError, match=next(iter(bad))):
            fitted.sample(2, **bad)
    with pytest.raises(ValueError, match="n_samples"):
        fitted.sample(0)
    with pytest.raises(ValueError, match="names no Mixture layer"):
        fitted.transform(X, layer=5)
