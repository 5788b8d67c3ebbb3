"""DeepConvGMM: values of any size, weights, masks, options."""

import warnings

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.metrics import normalized_mutual_info_score

from skdeepgmm import ChunkedArray, DeepConvGMM
from skdeepgmm.layers import Folding, Mixture
from tests.estimators.deep_conv.problems import SHAPE, make

FLAT = [Folding(), Mixture(4)]


@pytest.fixture(scope="module")
def fitted(pictures):
    return make(max_iter=8).fit(pictures[0])


@pytest.fixture(scope="module")
def coloured():
    rng = np.random.default_rng(1)
    X = rng.normal(size=(40, 4, 5, 3))
    return X, DeepConvGMM([Folding(), Mixture(2)], max_iter=2, random_state=0).fit(X)


# Values ------------------------------------------------------------------------------


@pytest.mark.parametrize("scale, offset", [(1.0, 1e8), (1e30, 0.0), (1e-30, 0.0)])
def test_units_of_images_do_not_matter(scale, offset, fitted, pictures):
    X, _ = pictures
    moved = scale * X + offset
    model = clone(fitted).fit(moved)
    np.testing.assert_array_equal(model.predict(moved), fitted.predict(X))
    means = (model.means_ - offset) / scale
    np.testing.assert_allclose(means, fitted.means_, atol=1e-5)
    drawn = (model.sample(20)[0] - offset) / scale
    np.testing.assert_allclose(drawn, fitted.sample(20)[0], atol=1e-5)


def test_small_deviations_of_large_vectors_are_seen(rng):
    X = np.repeat([[0.0], [0.1]], 60, axis=0) + 0.01 * rng.normal(size=(120, 3))
    near, far = (
        DeepConvGMM(n_components=2, random_state=0).fit(rows).score(rows)
        for rows in (X, X + 1e8)
    )
    assert far == pytest.approx(near, abs=1e-3)


def test_values_that_overflow_are_refused(pictures):
    for method in ("fit", "partial_fit"):
        with pytest.raises(ValueError, match="variance overflows"):
            getattr(make(), method)(1e200 * pictures[0])


@pytest.mark.parametrize("scale", [1e20, 1e200])
def test_far_images_have_finite_results(scale, fitted, pictures):
    X = scale * pictures[0][:5]
    proba = fitted.predict_proba(X)
    np.testing.assert_allclose(proba.sum(axis=1), 1.0, rtol=1e-5)
    assert (fitted.score_samples(X) < fitted.score_samples(X / scale)).all()
    assert np.isfinite(fitted.score_samples(X)).all()


def test_a_fitted_model_does_not_depend_on_settings_of_the_training(fitted, pictures):
    X, _ = pictures
    changed = make(max_iter=8).fit(X)
    changed.set_params(reg_covar=5.0, reg_resp=5.0, layers="A", image_shape=(2, 2))
    np.testing.assert_array_equal(changed.score_samples(X), fitted.score_samples(X))
    np.testing.assert_array_equal(changed.sample(3)[0], fitted.sample(3)[0])


def test_fit_predict_is_fit_and_predict(fitted, pictures):
    X, y = pictures
    found = clone(fitted).fit_predict(X, y, sample_weight=np.ones(len(X)))
    np.testing.assert_array_equal(found, fitted.predict(X))


@pytest.mark.parametrize("shape", [(0, 6, 8), (5, 0, 8)])
@pytest.mark.parametrize("method", ["fit", "predict"])
def test_nothing_is_not_an_image(method, shape, fitted):
    model = fitted if method == "predict" else make()
    with pytest.raises(ValueError, match=r"Found array with 0 (sample|feature)"):
        getattr(model, method)(np.zeros(shape))


def test_a_fit_goes_on_with_images_of_the_same_shape(pictures):
    rows = pictures[0].reshape(200, -1)
    model = make(layers=FLAT, image_shape=SHAPE, max_iter=1).fit(rows)
    model.set_params(image_shape=SHAPE[::-1])
    with pytest.raises(ValueError, match=r"image_shape=\(6, 8\), now it is \(8, 6"):
        model.partial_fit(rows)
    vectors = DeepConvGMM(n_components=2, max_iter=1).fit(rows)
    with pytest.raises(ValueError, match="dim 3"):
        vectors.partial_fit(pictures[0])


# Weights -----------------------------------------------------------------------------


@pytest.mark.parametrize("weight, wild", [(0.0, 1e150), (1e-9, 1e3)])
def test_rows_of_little_weight_may_be_wild(weight, wild, pictures):
    X, y = pictures
    spoiled = np.where((y == 3)[:, None, None], wild, X)
    weights = np.where(y == 3, weight, 1.0)
    model = make(n_components=3)
    model.fit(spoiled, sample_weight=weights)
    kept = y != 3
    found = normalized_mutual_info_score(y[kept], model.predict(X[kept]))
    assert found > 0.95


def test_a_stream_skips_rows_without_weight(pictures):
    X, y = pictures
    weights = (y != 3).astype(float)
    clean, spoiled = (
        make(layers=FLAT).partial_fit(images, sample_weight=weights)
        for images in (X, np.where((y == 3)[:, None, None], 1e50, X))
    )
    np.testing.assert_allclose(spoiled.means_, clean.means_)


# Masks -------------------------------------------------------------------------------


def test_a_mask_of_pixels_means_all_channels(coloured, rng):
    X, model = coloured
    masks = rng.random((3, 4, 5)) < 0.3  # three images, as many as channels
    full = np.repeat(masks[..., None], 3, axis=-1)
    holed = np.where(full, np.nan, X[:3])
    filled = model.inpaint(holed, full)
    np.testing.assert_array_equal(model.inpaint(holed, masks), filled)
    np.testing.assert_array_equal(filled.reshape(full.shape)[~full], X[:3][~full])
    assert np.isfinite(filled).all()
    one = model.inpaint(X[:3], masks[0])
    np.testing.assert_array_equal(one, model.inpaint(X[:3], full[0]))
    np.testing.assert_array_equal(one, model.inpaint(X[:3], full[:1].reshape(1, -1)))


@pytest.mark.parametrize("shape", [(5, 4), (3, 5, 4), (3, 4, 5, 1), (60, 3), (3,)])
def test_masks_of_another_layout_are_refused(shape, coloured):
    X, model = coloured
    with pytest.raises(ValueError, match="fits neither"):
        model.inpaint(X[:3], np.zeros(shape, dtype=bool))


def test_missing_values_outside_the_mask_are_refused(coloured):
    X, model = coloured
    holed = X[:2].copy()
    holed[0, 0, 0, 0] = np.nan
    with pytest.raises(ValueError, match="mask does not call missing"):
        model.inpaint(holed, np.zeros((4, 5), dtype=bool))


def test_filled_images_keep_their_type(coloured):
    X, model = coloured
    mask = np.eye(4, 5, dtype=bool)
    assert model.inpaint(X[:2].astype(np.float32), mask).dtype == np.float32
    assert model.inpaint(X[:2], mask).dtype == np.float64
    rows = X[:2].reshape(2, -1)
    chunks = ChunkedArray([rows[:1], rows[1:]])
    filled = model.inpaint(chunks, mask)
    np.testing.assert_array_equal(filled, model.inpaint(X[:2], mask))


@pytest.mark.parametrize("known", [True, False])
def test_all_or_nothing_may_be_known(known, coloured):
    X, model = coloured
    filled = model.inpaint(X[:2], np.full((4, 5), not known))
    if known:
        np.testing.assert_array_equal(filled, X[:2].reshape(2, -1))
    else:  # the mean of the model, whatever the image
        np.testing.assert_allclose(filled[0], filled[1])
        mean = model.weights_ @ model.means_
        np.testing.assert_allclose(filled[0], mean, atol=1e-5)


# Options -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options, match",
    [
        ({"n_samples": 2.5}, "n_samples"),
        ({"n_samples": "two"}, "n_samples"),
        ({"temperature": None}, "temperature"),
        ({"temperature": np.nan}, "temperature"),
        ({"temperature": np.inf}, "temperature"),
        ({"temperature": [0.0, "b"]}, "temperature"),
        ({"temperature": (1.0,)}, "temperature"),
        ({"top_s": 1.5}, "top_s"),
        ({"sharpening": {"rate": -1.0}}, "sharpening"),
        ({"sharpening": {"n_iter": 1.5}}, "sharpening"),
        ({"sharpening": {"penalty": "x"}}, "sharpening"),
        ({"sharpening": {"layer": 9}}, "names no Mixture layer"),
    ],
)
def test_bad_options_of_samples_are_named(options, match, fitted):
    with pytest.raises(ValueError, match=match):
        fitted.sample(**{"n_samples": 2, **options})


def test_a_single_component_on_top_is_allowed(pictures):
    X, _ = pictures
    model = make(n_components=1, max_iter=2).fit(X)
    assert set(model.predict(X)) == {0}
    assert np.isfinite(model.sample(2)[0]).all()


def test_photographs_in_colour_and_not_square(rng):
    """Presets fit other sizes; bytes need no scaling; a colour stays a colour."""
    shades = rng.integers(40, 216, size=(60, 1, 1, 3))
    X = (shades + rng.integers(-20, 20, size=(60, 20, 12, 3))).astype(np.uint8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # more components than these images need
        model = DeepConvGMM("E", n_components=3, max_iter=3, random_state=0).fit(X)
    assert model.image_shape_ == (20, 12, 3)
    assert model.mixtures_[0]["means"].shape == (25, 27)
    means = model.means_.reshape(3, 20, 12, 3)
    assert means.min() > 40
    assert means.max() < 216


# Short runs and extreme settings -----------------------------------------------------


def test_one_step_is_for_all_layers(pictures):
    X, _ = pictures
    layers = [Folding(2, 2), Mixture(3), Folding(), Mixture(4)]
    model = make(layers=layers, n_components=None, max_iter=1, batch_size=len(X))
    model.fit(X)
    assert len(model.lower_bounds_) == 1
    assert np.isfinite(model.lower_bounds_).all()
    assert all(np.isfinite(values).all() for values in model.history_.values())


def test_a_stream_has_a_bound_before_its_top_learns(pictures):
    X, _ = pictures
    layers = [Folding(2, 2), Mixture(3), Folding(), Mixture(4)]
    model = make(layers=layers, n_components=None).partial_fit(X)
    assert model.lower_bound_ == pytest.approx(model.score(X), rel=1e-4)
    model.partial_fit(X)
    assert np.isfinite(model.lower_bounds_).all()


@pytest.mark.parametrize("name", ["reg_covar", "reg_resp"])
def test_floors_beyond_the_type_of_computations_are_named(name, pictures):
    with pytest.raises(ValueError, match=rf"{name}=1e\+39 is too large"):
        make(**{name: 1e39}).fit(pictures[0])


def test_rows_without_weight_do_not_count(pictures):
    X, _ = pictures
    weight = np.r_[np.ones(len(X) - 20), np.zeros(20)]
    garbage = X.copy()
    garbage[-20:] = 1e6
    plain, other = (
        make(max_iter=2).fit(rows, sample_weight=weight) for rows in (X, garbage)
    )
    np.testing.assert_array_equal(plain.means_, other.means_)
