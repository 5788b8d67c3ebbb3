"""Containers, value ranges, colours and bad images of PatchGMMDenoiser."""

import numpy as np
import pytest
import torch

from skdeepgmm import PatchGMMDenoiser
from skdeepgmm.estimators.denoising._images import NOISE_GAIN, OPPONENT
from tests.estimators.denoising.test_patch_denoiser import scene, with_noise

NOISY = with_noise(scene((24, 20)), 0.05).clip(0, 1)


@pytest.fixture(scope="module")
def natural():
    return PatchGMMDenoiser.pretrained(sigma=0.05)


def test_unit_and_byte_ranges_give_the_same_image(natural):
    bytes_denoiser = PatchGMMDenoiser.pretrained(sigma=0.05 * 255)
    unit = natural.transform([NOISY])[0]
    byte = bytes_denoiser.transform([NOISY * 255])[0]
    np.testing.assert_allclose(byte / 255, unit, atol=1e-5)


@pytest.mark.parametrize(("dtype", "white"), [("u1", 255), ("u2", 65535)])
def test_unsigned_integers_come_back_rounded_and_clipped(natural, dtype, white):
    image = np.rint(NOISY * white).astype(dtype)
    denoiser = PatchGMMDenoiser.pretrained(sigma=0.05 * white)
    found = denoiser.transform([image])[0]
    assert found.dtype == image.dtype
    expected = natural.transform([NOISY])[0].clip(0, 1)
    np.testing.assert_allclose(found / white, expected, atol=0.02)


def test_noise_is_estimated_in_units_of_images_of_any_size(natural):
    noise = with_noise(np.zeros((6, 100)), 0.1)
    images = [noise, 255 * noise, noise[:, :3]]
    unit, byte, small = natural.estimate_sigma(images)
    assert unit == pytest.approx(0.1, rel=0.2)
    assert byte == pytest.approx(255 * unit, rel=1e-5)
    assert small > 0


@pytest.mark.parametrize("dtype", ["i2", "i8", "bool"])
def test_other_types_come_back_as_float64(dtype):
    white = 1 if dtype == "bool" else 255
    image = np.rint(NOISY * white).astype(dtype)
    denoiser = PatchGMMDenoiser.pretrained(sigma=0.05 * white)
    expected = denoiser.transform([image.astype(np.float64)])[0]
    found = denoiser.transform([image])[0]
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_floats_keep_their_type_and_are_not_clipped(natural, dtype):
    found = natural.transform([(NOISY - 0.6).astype(dtype)])[0]
    assert found.dtype == dtype
    assert found.min() < 0


def test_a_given_range_overrules_the_values():
    image = NOISY / 100
    denoiser = PatchGMMDenoiser.pretrained(sigma=0.0005, data_range=0.01)
    reference = PatchGMMDenoiser.pretrained(sigma=0.05).transform([NOISY])[0]
    found = denoiser.transform([image])[0]
    np.testing.assert_allclose(found * 100, reference, atol=1e-5)


def test_lists_stacks_rows_and_tensors_are_the_same(natural):
    images = [with_noise(scene((24, 20), seed=i), 0.05) for i in range(2)]
    listed = natural.transform(images)
    assert isinstance(listed, list)
    assert isinstance(natural.transform(tuple(images)), tuple)
    np.testing.assert_array_equal(natural.transform(np.stack(images)), listed)
    np.testing.assert_array_equal(
        natural.transform(torch.from_numpy(np.stack(images))), listed
    )
    rows = np.stack(images).reshape(2, -1)
    by_rows = PatchGMMDenoiser(prior="natural", sigma=0.05, image_shape=(24, 20))
    found = by_rows.fit(rows).transform(rows)
    np.testing.assert_array_equal(found.reshape(2, 24, 20), listed)


def test_images_of_different_sizes_come_back_in_theirs(natural):
    images = [scene((12, 30)), scene((20, 9))]
    assert [im.shape for im in natural.transform(images)] == [(12, 30), (20, 9)]


def test_object_arrays_and_tensors_in_lists_are_lists(natural):
    images = [scene((12, 30)), scene((20, 9))]
    listed = natural.transform(images)
    held = np.empty(2, dtype=object)
    held[:] = images
    tensors = [torch.tensor(image, requires_grad=True) for image in images]
    for found in (natural.transform(held), natural.transform(tensors)):
        assert isinstance(found, list)
        for one, other in zip(found, listed, strict=True):
            np.testing.assert_array_equal(one, other)


def test_layouts_of_memory_do_not_matter(natural, tmp_path):
    alone = natural.transform([NOISY])[0]
    frozen = NOISY.copy()
    frozen.flags.writeable = False
    mapped = np.memmap(tmp_path / "image", dtype=float, mode="w+", shape=NOISY.shape)
    mapped[:] = NOISY
    images = [frozen, np.asfortranarray(NOISY), NOISY[::-1].copy()[::-1], mapped]
    for found in natural.transform(images):
        np.testing.assert_array_equal(found, alone)
    np.testing.assert_array_equal(frozen, NOISY)


def test_an_image_does_not_depend_on_its_neighbours(natural):
    other = scene((30, 30))
    alone = natural.transform([NOISY])[0]
    np.testing.assert_array_equal(natural.transform([other, NOISY])[1], alone)


def test_colours_are_split_by_an_orthogonal_map():
    gram = OPPONENT @ OPPONENT.T
    np.testing.assert_allclose(gram, np.diag(NOISE_GAIN**2), atol=1e-15)


def test_a_grey_image_in_colour_stays_grey(natural):
    image = np.stack([scene((24, 20))] * 3, axis=-1)
    found = natural.transform([image])[0]
    assert found.shape == image.shape
    assert np.ptp(found, axis=-1).max() < 1e-5


def test_colour_noise_is_removed(natural):
    clean = np.stack([scene((48, 48), seed=i) for i in range(3)], axis=-1)
    noisy = with_noise(clean, 0.1)
    found = PatchGMMDenoiser.pretrained(sigma=0.1).transform([noisy])[0]
    assert np.square(found - clean).mean() < 0.5 * np.square(noisy - clean).mean()
    one_channel = natural.transform([NOISY[:, :, None]])[0]
    assert one_channel.shape == (24, 20, 1)


@pytest.mark.parametrize("sigma", ["estimate", 0.1, 0])
def test_a_constant_image_stays_constant(sigma):
    image = np.full((20, 20), 0.4)
    found = PatchGMMDenoiser.pretrained(sigma=sigma).transform([image])[0]
    np.testing.assert_allclose(found, image, atol=1e-6)


def test_no_noise_changes_nothing():
    images = [NOISY, (255 * NOISY).astype("u1"), np.stack([NOISY] * 3, axis=-1)]
    denoiser = PatchGMMDenoiser.pretrained(sigma=0)
    for image, found in zip(images, denoiser.transform(images), strict=True):
        np.testing.assert_array_equal(found, image)
        assert found.dtype == image.dtype
        assert not np.shares_memory(found, image)


BAD = [
    (np.zeros((7, 20)), "fewer than a patch"),
    (np.zeros((20, 20, 4)), "1 or 3 channels"),
    (np.full((20, 20), np.nan), "inpaint"),
    (np.full((20, 20), np.inf), "infinity"),
    (np.full((20, 20), 4000.0), "data_range"),
    (np.full((20, 20), 1j), "complex128"),
]


@pytest.mark.parametrize(("image", "message"), BAD)
@pytest.mark.parametrize("method", ["fit", "transform", "score_samples"])
def test_bad_images_are_named(natural, method, image, message):
    with pytest.raises(ValueError, match=rf"Image 1 .*{message}"):
        getattr(natural, method)([NOISY, image])


def test_a_failed_refit_keeps_the_old_prior(rng):
    denoiser = PatchGMMDenoiser(n_components=2, patch_size=4, random_state=0)
    images = [rng.uniform(size=(20, 20))]
    before = dict(vars(denoiser.fit(images)))
    with pytest.raises(ValueError, match="fewer than a patch"):
        denoiser.fit([np.zeros((2, 2))])
    assert vars(denoiser) == before


@pytest.mark.parametrize("shape", [(40, 40, 3), (40, 40)])
def test_a_single_image_goes_in_a_list(natural, shape):
    with pytest.raises(ValueError, match=r"fewer than a patch.*goes in a list"):
        natural.transform(np.zeros(shape))


@pytest.mark.parametrize("nothing", [[], (), np.zeros((0, 20, 20))], ids=type)
def test_no_image_is_an_error(natural, nothing):
    with pytest.raises(ValueError, match="0 images"):
        natural.transform(nothing)


@pytest.mark.parametrize("images", [[NOISY, np.zeros(9)], [np.zeros(9), NOISY]])
def test_what_is_no_image_is_named_wherever_it_lies(natural, images):
    with pytest.raises(ValueError, match=r"Image [01] has shape \(9,\)"):
        natural.transform(images)


@pytest.mark.parametrize(
    "params",
    [
        {"sigma": np.nan},
        {"sigma": -0.1},
        {"sigma": "none"},
        {"stride": 0},
        {"solver": "newton"},
        {"data_range": np.nan},
        {"n_iter": 0},
    ],
)
def test_parameters_are_checked_without_a_fit(natural, params):
    name = next(iter(params))
    with pytest.raises(ValueError, match=f"'{name}' parameter"):
        PatchGMMDenoiser.pretrained(**params)
    changed = PatchGMMDenoiser.pretrained().set_params(**params)
    with pytest.raises(ValueError, match=f"'{name}' parameter"):
        changed.transform([NOISY])


@pytest.mark.parametrize("sigma", [1e-30, 1e-6])
def test_hardly_any_noise_hardly_changes_anything(sigma):
    found = PatchGMMDenoiser.pretrained(sigma=sigma).transform([NOISY])[0]
    np.testing.assert_allclose(found, NOISY, atol=1e-5)


@pytest.mark.parametrize("side", [(4, 4.0), (4, 4, 4), (0, 4), 1])
def test_patches_of_no_size_are_errors(side):
    with pytest.raises(ValueError, match="patch_size="):
        PatchGMMDenoiser(2, patch_size=side).fit([NOISY])


def test_columns_are_those_of_the_last_fit():
    rows = np.random.default_rng(0).normal(size=(60, 24))
    denoiser = PatchGMMDenoiser(2, random_state=0, tol=1.0, patch_size=4)
    assert denoiser.fit(rows).get_feature_names_out()[-1] == "x23"
    denoiser.fit([scene()])
    assert not hasattr(denoiser, "n_features_in_")
    with pytest.raises(ValueError, match="no columns"):
        denoiser.get_feature_names_out()


def test_sigma_in_other_units_than_the_image_is_an_error():
    with pytest.raises(ValueError, match="units of the images"):
        PatchGMMDenoiser.pretrained(sigma=25).transform([NOISY])


def test_image_shape_that_does_not_fit_is_an_error():
    denoiser = PatchGMMDenoiser(prior="natural", image_shape=(9, 9))
    with pytest.raises(ValueError, match=r"81 values a row, but X has 480"):
        denoiser.fit(NOISY.reshape(1, -1))


def test_rows_without_image_shape_are_signals():
    rng = np.random.default_rng(0)
    steps = np.cumsum(rng.normal(size=(60, 24)), axis=1)
    noisy = steps + rng.normal(size=steps.shape)
    denoiser = PatchGMMDenoiser(2, sigma=1.0, random_state=0).fit(steps)
    assert denoiser.patch_shape_ == (1, 8)
    found = denoiser.transform(noisy)
    assert np.square(found - steps).mean() < 0.6 * np.square(noisy - steps).mean()


@pytest.mark.parametrize("scale", [1e20, 1e100])
def test_values_far_beyond_the_range_are_named(natural, scale, rng):
    image = scale * rng.random((8, 9))
    with pytest.raises(ValueError, match="Image 0 has values of more than"):
        PatchGMMDenoiser.pretrained(sigma=0.05, data_range=1.0).transform([image])
    wide = PatchGMMDenoiser.pretrained(sigma=0.05 * scale, data_range=scale)
    found = wide.transform([image])[0] / scale
    np.testing.assert_allclose(found, natural.transform([image / scale])[0], atol=1e-5)


def test_noise_that_overflows_is_named(rng):
    X = rng.random((6, 12))
    model = PatchGMMDenoiser(1, patch_size=2, sigma=1e300, random_state=0).fit(X)
    with pytest.raises(ValueError, match="sigma=1e\\+300"):
        model.transform(X)


def test_tensors_of_bfloat16_are_images(natural):
    image = torch.from_numpy(NOISY).bfloat16()
    found = natural.transform([image])[0]
    np.testing.assert_array_equal(found, natural.transform([image.float()])[0])
