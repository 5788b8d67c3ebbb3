"""DeepConvGMM with low-rank layers, and with images far beyond the others."""

import numpy as np
import pytest

import skdeepgmm
from skdeepgmm import DeepConvGMM, GaussianMixture
from skdeepgmm.layers import Folding, Mixture, Pooling
from tests.estimators.deep_conv.problems import SHAPE, make


def low(n_components, rank=2):
    return Mixture(n_components, covariance_type="low_rank", rank=rank)


LOW = [Folding(3), low(6), Folding(), low(4)]


@pytest.fixture(scope="module")
def fitted(pictures):
    return make(layers=LOW).fit(pictures[0])


@pytest.fixture(scope="module")
def factored():
    """Vectors of two kinds, whose features vary together."""
    rng = np.random.default_rng(0)
    loadings = rng.normal(size=(2, 1, 5))
    z, y = rng.normal(size=(800, 1)), rng.integers(2, size=800)
    X = 8.0 * y[:, None] + (z[:, None] @ loadings[y])[:, 0] * 2.0
    X += 0.5 * rng.normal(size=X.shape)
    return X * [1.0, 100.0, 1e-3, 1.0, 1.0] + [0.0, 1e4, 5.0, 0.0, 0.0]


def test_a_single_low_rank_layer_is_a_mixture_of_factor_analysers(factored):
    X = factored
    settings = {"max_iter": 100, "batch_size": 50, "random_state": 0}
    deep = DeepConvGMM([low(2, rank=1)], **settings).fit(X)
    plain = DeepConvGMM([Mixture(2)], **settings).fit(X)
    flat = GaussianMixture(
        2, covariance_type="low_rank", rank=1, reg_covar=1e-12, random_state=0
    ).fit(X)
    assert deep.score(X) > plain.score(X) + 1.0
    assert deep.score(X) == pytest.approx(flat.score(X), abs=0.05)
    drawn, labels = deep.sample(20_000)
    scale = X.std(axis=0)
    for k in range(2):
        arrays = {name: value[k] for name, value in deep.mixtures_[0].items()}
        dense = arrays["factors"] @ arrays["factors"].T
        dense += np.diag(arrays["noise_variance"])
        found = np.cov(drawn[labels == k], rowvar=False)
        unit = np.outer(scale, scale)
        np.testing.assert_allclose(found / unit, dense / unit, atol=0.03)
    holed = X[:20].copy()
    holed[:, [1, 3]] = np.nan
    filled = deep.inpaint(holed, np.isnan(holed))
    error = np.abs(filled - flat.impute(holed)) / scale
    assert error.max() < 0.1
    assert np.abs(plain.inpaint(holed, np.isnan(holed)) - X[:20]).mean() > (
        np.abs(filled - X[:20]).mean()
    )


def test_every_layer_learns_factors_and_rises(fitted, pictures):
    X, _ = pictures
    assert [arrays["factors"].shape for arrays in fitted.mixtures_] == [
        (6, 9, 2),
        (4, 144, 2),
    ]
    for arrays in fitted.mixtures_:
        assert np.all(np.square(arrays["factors"]).sum(axis=(1, 2)) > 0.0)
    plain = make(layers=[Folding(3), Mixture(6), Folding(), low(4)]).fit(X)
    assert plain.mixtures_[0].keys() == {"weights", "means", "covariances"}
    assert fitted.history_["log_likelihood_1"][-1] > fitted.history_["loss_1"][-3] - 1e9


def test_factors_make_a_family_of_each_component(rng):
    """Bars that move together: diagonal components draw every one alone."""
    level = rng.uniform(size=(300, 1, 1))
    X = np.repeat(np.repeat(level, 4, axis=1), 4, axis=2)
    X = X + 0.01 * rng.normal(size=X.shape)
    kwargs = {"max_iter": 40, "random_state": 0, "reg_covar": 1e-3}
    share = {}
    for name, top in (("diag", Mixture(1)), ("low_rank", low(1, rank=1))):
        model = DeepConvGMM([Folding(), top], **kwargs).fit(X)
        drawn = model.sample(500)[0]
        between = drawn.mean(axis=1).var()
        share[name] = between / drawn.var(axis=0).mean()
    assert share["low_rank"] > 0.9
    assert share["diag"] < 0.2


def test_noise_of_single_codes_is_off_above_the_first_layer(fitted):
    plain = fitted.sample(30, temperature=(0, 1))[0]
    same = fitted.sample(30, temperature=(0, 1), noise=(1, 0))[0]
    np.testing.assert_array_equal(plain, same)
    for noise in ((0, 0), (1, 30)):  # of pixels, and of codes
        other = fitted.sample(30, noise=noise)[0]
        assert not np.array_equal(other, fitted.sample(30)[0])
    wild = fitted.sample(30, temperature=(0, 30))[0]
    still = fitted.sample(30, temperature=0.0)[0]
    assert not np.array_equal(wild, still)
    for bad in (-1.0, (1.0,), "much"):
        with pytest.raises(ValueError, match="noise must be"):
            fitted.sample(2, noise=bad)


def test_samples_variants_and_filled_parts_go_the_same_way(fitted, pictures):
    X, _ = pictures
    drawn, labels = fitted.sample(40, temperature=(0, 0.5))
    assert np.mean(fitted.predict(drawn) == labels) > 0.9
    variants = fitted.sample_variants(X[:40], temperature=(0, 0.5), top_s=None)
    assert np.mean(fitted.predict(variants) == fitted.predict(X[:40])) > 0.8
    mask = np.zeros(SHAPE, dtype=bool)
    mask[:3, :4] = True
    filled = fitted.inpaint(np.where(mask, np.nan, X), mask).reshape(X.shape)
    error = np.square(filled - X)[:, mask].mean()
    assert error < 0.5 * np.square(X.mean(axis=0) - X)[:, mask].mean()


def test_streams_and_files_keep_the_factors(fitted, pictures, tmp_path):
    X, _ = pictures
    skdeepgmm.save(fitted, tmp_path / "model.safetensors")
    loaded = skdeepgmm.load(tmp_path / "model.safetensors")
    assert loaded.layers_ == LOW
    np.testing.assert_array_equal(loaded.score_samples(X), fitted.score_samples(X))
    before = fitted.score(X)
    loaded.partial_fit(X[:100])
    assert loaded.score(X) > before - 5.0
    assert loaded.mixtures_[1]["factors"].shape == (4, 144, 2)


def test_subsets_get_the_scores_of_the_whole(fitted, pictures):
    X, _ = pictures
    whole = fitted.score_samples_per_layer(X)
    parts = [fitted.score_samples_per_layer(part) for part in np.array_split(X, 7)]
    np.testing.assert_allclose(np.concatenate(parts), whole, rtol=1e-6, atol=1e-4)


# Images far beyond the others --------------------------------------------------------


@pytest.mark.parametrize("value", [1e4, 1e150])
@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_one_image_far_away_is_left_out(method, value, pictures):
    X, _ = pictures
    X = np.clip(X, 0.0, 1.0)
    spoiled = X.copy()
    spoiled[17] = value
    weight = (np.arange(len(X)) != 17).astype(float)
    model, clean = (make(max_iter=20) for _ in range(2))
    for _ in range(1 if method == "fit" else 10):
        getattr(model, method)(spoiled)
        getattr(clean, method)(X, sample_weight=weight)
    np.testing.assert_array_equal(model.scale_, clean.scale_)
    np.testing.assert_array_equal(model.means_, clean.means_)
    # Scores see the image as it is.
    assert model.score_samples(spoiled).argmin() == 17


@pytest.mark.filterwarnings("ignore::skdeepgmm.exceptions.DegenerateComponentWarning")
def test_ordinary_images_are_never_left_out(pictures):
    """Up to twenty times as bright as the others, or a large part of the images."""
    X, _ = pictures
    for change in (20.0, -15.0):
        bright = X.copy()
        bright[3] *= change
        model = make(max_iter=2).fit(bright)
        assert model.scale_[0] == pytest.approx(bright.std(), rel=1e-6)
    many = np.where(np.arange(200)[:, None, None] < 20, 1e4, X)
    assert make(max_iter=2).fit(many).scale_[0] == pytest.approx(many.std(), rel=1e-6)


# Factors passed up -------------------------------------------------------------------

FULL = "responsibilities+factors"
PASSING = [Folding(3), Mixture(6, True, "low_rank", 2, FULL), Folding(), low(4)]


@pytest.fixture(scope="module")
def passing(pictures):
    return make(layers=PASSING).fit(pictures[0])


def test_the_layer_above_learns_responsibilities_and_factors(passing, pictures):
    X, _ = pictures
    assert passing.mixtures_[1]["means"].shape == (4, 4 * 6 * 8)
    codes = passing.transform(X, layer=0).reshape(len(X), 4 * 6, 8)
    np.testing.assert_allclose(codes[..., :6].sum(axis=2), 1.0, rtol=1e-5)
    # A standard normal that a patch tells in part.
    assert np.abs(codes[..., 6:].mean(axis=(0, 1))).max() < 0.3
    assert 0.01 < codes[..., 6:].var() < 1.2
    assert passing.predict_proba(X).shape == passing.transform(X).shape == (len(X), 4)
    assert np.isfinite(passing.score_samples_per_layer(X)).all()


def test_factors_bring_variants_of_patches_nearer_to_the_image(
    passing, fitted, pictures
):
    X = pictures[0].reshape(len(pictures[0]), -1)
    error = {}
    for name, model in (("factors", passing), ("responsibilities", fitted)):
        same = model.sample_variants(X, layer=0, temperature=0)
        error[name] = np.square(same - X).mean()
    assert error["factors"] < 0.9 * error["responsibilities"]


def test_passed_factors_go_all_ways(passing, pictures, tmp_path):
    X, _ = pictures
    drawn, labels = passing.sample(40, temperature=(0, 0.5))
    assert np.mean(passing.predict(drawn) == labels) > 0.9
    assert np.isfinite(passing.sample(5, top_s=None, sharpening=True)[0]).all()
    assert passing.sample_variants(X[:5], sharpening={"layer": -1}).shape == (5, 48)
    mask = np.zeros(SHAPE, dtype=bool)
    mask[:3, :4] = True
    filled = passing.inpaint(np.where(mask, np.nan, X), mask).reshape(X.shape)
    error = np.square(filled - X)[:, mask].mean()
    assert error < 0.5 * np.square(X.mean(axis=0) - X)[:, mask].mean()
    skdeepgmm.save(passing, tmp_path / "model.safetensors")
    loaded = skdeepgmm.load(tmp_path / "model.safetensors")
    assert loaded.layers_ == PASSING
    for method in ("score_samples", "predict_proba"):
        found = getattr(loaded, method)(X)
        np.testing.assert_array_equal(found, getattr(passing, method)(X))
    np.testing.assert_array_equal(loaded.means_, passing.means_)
    loaded.partial_fit(X[:100])
    assert loaded.mixtures_[1]["factors"].shape == (4, 192, 2)


@pytest.mark.parametrize(
    "layers, match",
    [
        ([Folding(), PASSING[1]], "is the top: no layer above sees its factors"),
        ([*PASSING[:2], Pooling(2), Folding(), low(4)], "whose sign counts"),
        ([*PASSING[:2], Folding(2), Pooling(2), Folding(), low(4)], "Pooling"),
    ],
)
def test_factors_without_a_use_are_refused(layers, match, pictures):
    with pytest.raises(ValueError, match=match):
        make(layers=layers).fit(pictures[0])
