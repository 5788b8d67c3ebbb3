"""PatchGMMDenoiser: learning, denoising, in-painting, scores, given priors."""

import numpy as np
import pytest
from sklearn import mixture as sklearn_mixture
from sklearn.base import clone
from sklearn.cluster import KMeans
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

import skdeepgmm
from skdeepgmm import PatchGMMDenoiser
from skdeepgmm.exceptions import DegenerateComponentWarning
from skdeepgmm.metrics import psnr


def scene(shape=(48, 40), seed=0):
    """Return an image of overlapping discs with values in [0, 1]."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: shape[0], : shape[1]]
    image = np.full(shape, 0.5)
    for _ in range(25):
        row, col, radius = rng.uniform(size=3) * (*shape, 12)
        image[(y - row) ** 2 + (x - col) ** 2 < radius**2] = rng.uniform(0.1, 0.9)
    return image


def with_noise(image, sigma, seed=1):
    return image + np.random.default_rng(seed).normal(scale=sigma, size=image.shape)


SCENES = [scene((48, 40 + 4 * i), seed=i) for i in range(4)]


@pytest.fixture(scope="module")
def learned():
    """A denoiser with few components, learned from scenes."""
    denoiser = PatchGMMDenoiser(
        4, patch_size=5, reg_covar=1e-4, max_iter=50, tol=0.2, random_state=0
    )
    return denoiser.fit(SCENES)


@pytest.fixture(scope="module")
def natural():
    return PatchGMMDenoiser.pretrained(sigma=0.1)


def test_fitted_attributes(learned):
    assert learned.patch_shape_ == (5, 5)
    assert learned.weights_.sum() == pytest.approx(1)
    assert learned.means_.shape == (4, 25)
    np.testing.assert_allclose(learned.means_.sum(axis=1), 0, atol=1e-6)
    eigenvalues = np.linalg.eigvalsh(learned.covariances_)
    assert (eigenvalues[:, 0] < 1e-8).all()
    assert (eigenvalues[:, 1] > 5e-5).all()


def test_a_learned_prior_denoises(learned):
    clean = scene(seed=9)
    noisy = with_noise(clean, 0.1)
    learned = clone(learned).set_params(sigma=0.1).fit(SCENES)
    restored = learned.transform([noisy])[0]
    assert psnr(clean, restored) > psnr(clean, noisy.clip(0, 1)) + 5


def test_the_shipped_prior_denoises_at_once(natural):
    clean = scene(seed=9)
    noisy = with_noise(clean, 0.1)
    assert psnr(clean, natural.transform([noisy])[0]) > 25
    assert natural.weights_.shape == (200,)
    assert natural.weights_.sum() == pytest.approx(1)


def test_estimated_noise_serves_as_well_as_the_true_one(natural):
    clean = scene((96, 96), seed=2)
    noisy = with_noise(clean, 0.1)
    denoiser = PatchGMMDenoiser.pretrained()
    assert denoiser.estimate_sigma([noisy])[0] == pytest.approx(0.1, rel=0.1)
    told = psnr(clean, natural.transform([noisy])[0])
    assert psnr(clean, denoiser.transform([noisy])[0]) == pytest.approx(told, abs=0.3)


def test_gradient_descent_denoises_too(learned):
    clean = scene((30, 30), seed=9)
    noisy = with_noise(clean, 0.1)
    params = {"sigma": 0.1, "prior": FrozenEstimator(learned.mixture_), "patch_size": 5}
    results = [
        PatchGMMDenoiser(solver=solver, n_iter=20, **params)
        .fit([clean])
        .transform([noisy])[0]
        for solver in ("half_quadratic", "gradient")
    ]
    assert psnr(*results) > 35


def test_smaller_strides_and_less_truncation_change_little(natural):
    noisy = with_noise(scene(), 0.1)
    reference = natural.transform([noisy])[0]
    for params in ({"stride": 1}, {"truncation": 0.0}):
        other = PatchGMMDenoiser.pretrained(sigma=0.1, **params).transform([noisy])[0]
        assert 0 < np.abs(other - reference).mean() < 0.01


def test_a_stride_is_at_most_a_patch():
    noisy = [with_noise(scene((40, 30)), 0.1)]
    found = [
        PatchGMMDenoiser.pretrained(sigma=0.1, stride=stride).transform(noisy)[0]
        for stride in (8, 100)
    ]
    np.testing.assert_array_equal(*found)


def test_scores_are_log_densities_of_patches(learned):
    image = scene(seed=5)
    denoiser = clone(learned).set_params(stride=1).fit(SCENES)
    windows = np.lib.stride_tricks.sliding_window_view(image, (5, 5)).reshape(-1, 25)
    from scipy.fft import dctn

    coefficients = dctn(windows.reshape(-1, 5, 5), axes=(1, 2), norm="ortho")
    rows = coefficients.reshape(-1, 25)[:, 1:]
    expected = denoiser.mixture_.score(rows)
    assert denoiser.score_samples([image])[0] == pytest.approx(expected, rel=1e-4)
    assert denoiser.score([image, image]) == pytest.approx(expected, rel=1e-4)


def test_scenes_are_likelier_than_noise(learned):
    noise = np.random.default_rng(0).uniform(size=(40, 40))
    scores = learned.score_samples([*SCENES, noise])
    assert scores[:-1].min() > scores[-1]


def test_a_mixture_explains_held_out_patches_better_than_one_gaussian(learned):
    params = learned.get_params() | {"n_components": 1}
    single = PatchGMMDenoiser(**params).fit(SCENES)
    held_out = [scene(seed=20)]
    assert learned.score(held_out) > single.score(held_out) + 1


# Given priors ------------------------------------------------------------------------


def patch_rows(size=5):
    windows = np.lib.stride_tricks.sliding_window_view(SCENES[0], (size, size))
    rows = windows.reshape(-1, size * size)
    return rows - rows.mean(axis=1, keepdims=True)


@pytest.mark.parametrize("kind", ["full", "tied", "diag", "spherical", "low_rank"])
def test_mixtures_of_any_covariance_serve_as_prior(kind):
    prior = skdeepgmm.GaussianMixture(
        3, covariance_type=kind, reg_covar=1e-4, max_iter=50, tol=1, random_state=0
    ).fit(patch_rows())
    clean = scene((30, 30), seed=3)
    noisy = with_noise(clean, 0.1)
    denoiser = PatchGMMDenoiser(prior=prior, patch_size=5, sigma=0.1).fit([clean])
    assert denoiser.covariances_.shape == (3, 25, 25)
    assert not hasattr(denoiser, "mixture_")
    restored = denoiser.transform([noisy])[0]
    assert psnr(clean, restored) > psnr(clean, noisy.clip(0, 1)) + 3


def test_a_mixture_of_scikit_learn_serves_as_prior():
    settings = {"reg_covar": 1e-4, "random_state": 0}
    prior = sklearn_mixture.GaussianMixture(2, **settings).fit(patch_rows())
    denoiser = PatchGMMDenoiser(prior=prior, patch_size=5, sigma=0.1).fit(SCENES)
    np.testing.assert_array_equal(denoiser.covariances_, prior.covariances_)


@pytest.mark.parametrize("kind", ["full", "diag"])
def test_a_singular_mixture_serves_as_prior(kind):
    """Patches without their mean have no variance in its direction."""
    settings = {"covariance_type": kind, "reg_covar": 1e-4, "random_state": 0}
    prior = sklearn_mixture.GaussianMixture(2, **settings).fit(patch_rows())
    plane = np.eye(25) - 1 / 25
    if kind == "full":
        prior.covariances_ = plane @ prior.covariances_ @ plane
    else:
        prior.covariances_[:, 12] = 0.0
    denoiser = PatchGMMDenoiser(prior=prior, patch_size=5, sigma=0.1).fit(SCENES)
    assert np.isfinite(denoiser.transform([SCENES[0]])[0]).all()


def test_a_prior_of_other_patches_is_refused():
    prior = skdeepgmm.GaussianMixture(1).fit(patch_rows(4))
    with pytest.raises(ValueError, match="fitted to 16 features"):
        PatchGMMDenoiser(prior=prior, patch_size=5).fit(SCENES)
    with pytest.raises(ValueError, match="patch_size=8"):
        PatchGMMDenoiser.pretrained(patch_size=5)


def test_what_is_no_fitted_mixture_is_refused():
    with pytest.raises(TypeError, match="prior is a KMeans"):
        PatchGMMDenoiser(prior=KMeans(2)).fit(SCENES)
    unfitted = PatchGMMDenoiser(prior=skdeepgmm.GaussianMixture(2), patch_size=5)
    with pytest.raises(NotFittedError, match="FrozenEstimator"):
        unfitted.fit(SCENES)


def test_a_clone_of_the_pretrained_denoiser_needs_only_fit(natural):
    image = [with_noise(scene(), 0.1)]
    copy = clone(natural).fit(image)
    np.testing.assert_array_equal(copy.transform(image), natural.transform(image))


# Streaming ---------------------------------------------------------------------------


def test_partial_fit_learns_from_a_stream():
    denoiser = PatchGMMDenoiser(
        3, patch_size=4, reg_covar=1e-4, max_iter=50, tol=1, random_state=0
    )
    denoiser.partial_fit(SCENES[:1])
    first, before = denoiser.covariances_.copy(), denoiser.score(SCENES[1:])
    for _ in range(3):
        denoiser.partial_fit(SCENES[1:])
    assert not np.allclose(denoiser.covariances_, first)
    assert denoiser.score(SCENES[1:]) > before


def test_partial_fit_refuses_a_given_prior(natural):
    with pytest.raises(ValueError, match="prior=None"):
        natural.partial_fit(SCENES)


@pytest.mark.parametrize("params", [{"n_components": 2}, {"patch_size": 5}])
def test_a_stream_keeps_its_components_and_patches(params):
    denoiser = PatchGMMDenoiser(3, patch_size=4, tol=1, random_state=0)
    denoiser.partial_fit(SCENES)
    with pytest.raises(ValueError, match="3 components of patches of shape"):
        denoiser.set_params(**params).partial_fit(SCENES)


def test_a_failed_fit_leaves_the_denoiser_as_it_was(learned):
    denoiser = clone(learned).fit(SCENES)
    before = denoiser.covariances_
    with pytest.raises(ValueError, match="infinity"):
        denoiser.fit([np.full((20, 20), np.inf)])
    with pytest.raises(ValueError, match="n_components"):
        denoiser.set_params(n_components=1000).fit([scene((10, 10))])
    assert denoiser.covariances_ is before
    assert denoiser.mixture_.n_iter_ == denoiser.n_iter_


def test_too_few_patches_for_the_components_is_an_error():
    with pytest.raises(ValueError, match="n_components = 200"):
        PatchGMMDenoiser().fit([scene((10, 10))])


def test_few_patches_a_component_warn():
    with pytest.warns(DegenerateComponentWarning):
        PatchGMMDenoiser(2, max_iter=2, tol=1e3, random_state=0).fit([scene((16, 16))])


# In-painting -------------------------------------------------------------------------


def test_inpainting_keeps_known_pixels_and_beats_the_mean(natural):
    image = scene(seed=4)
    missing = np.random.default_rng(0).random(image.shape) < 0.4
    filled = natural.inpaint([np.where(missing, 7e-1, image)], [missing])[0]
    np.testing.assert_array_equal(filled[~missing], image[~missing])
    error = np.square(filled - image)[missing].mean()
    assert error < 0.1 * image.var()


def test_nan_pixels_are_filled(natural):
    image = scene(seed=4)
    missing = np.zeros(image.shape, bool)
    missing[10:13, 5:20] = True
    told = natural.inpaint([image], [missing])[0]
    found = natural.inpaint([np.where(missing, np.nan, image)])[0]
    np.testing.assert_array_equal(found, told)


@pytest.mark.parametrize("mark", [-999.0, 255.0, np.inf, np.nan])
def test_values_of_missing_pixels_do_not_matter(natural, mark):
    image = scene((14, 12), seed=4)
    missing = np.random.default_rng(0).random(image.shape) < 0.2
    expected = natural.inpaint([image], [missing])[0]
    found = natural.inpaint([np.where(missing, mark, image)], [missing])[0]
    np.testing.assert_array_equal(found, expected)


def test_masks_come_as_planes_or_rows_of_any_number(natural):
    image = scene((14, 12), seed=4)
    missing = np.random.default_rng(0).random(image.shape) < 0.2
    expected = natural.inpaint([image], [missing])[0]
    for mask in (missing.ravel(), missing[..., None], missing.astype(int)):
        np.testing.assert_array_equal(natural.inpaint([image], [mask])[0], expected)


def test_an_image_without_missing_pixels_comes_back(natural):
    image = scene()
    np.testing.assert_array_equal(natural.inpaint([image])[0], image)


def test_colour_images_and_matrices_are_inpainted(natural):
    image = (255 * np.stack([scene(seed=i) for i in range(3)], axis=-1)).astype("u1")
    missing = np.random.default_rng(0).random(image.shape[:2]) < 0.2
    filled = natural.inpaint([image], [missing])[0]
    assert filled.dtype == np.uint8
    np.testing.assert_array_equal(filled[~missing], image[~missing])
    rows = image.reshape(1, -1)
    matrix = clone(natural).set_params(image_shape=image.shape).fit(rows)
    again = matrix.inpaint(rows, missing.reshape(1, -1))
    np.testing.assert_array_equal(again.reshape(image.shape), filled)


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.zeros((3, 3)), "Mask 0 has shape"),
        (np.zeros((40, 48)), "Mask 0 has shape"),
        (np.full((48, 40), "False"), "Mask 0 has type"),
        (np.ones((48, 40)), "All pixels of image 0"),
    ],
)
def test_masks_that_do_not_fit_are_errors(natural, mask, message):
    with pytest.raises(ValueError, match=message):
        natural.inpaint([scene()], [mask])


def test_masks_must_be_as_many_as_images_and_cover_nan(natural):
    image = scene()
    with pytest.raises(ValueError, match="2 masks for 1 images"):
        natural.inpaint([image], [image > 2, image > 2])
    with pytest.raises(ValueError, match="Got True for 1 images"):
        natural.inpaint([image], True)
    image[0, 0] = np.nan
    with pytest.raises(ValueError, match="does not call missing"):
        natural.inpaint([image], [image > 2])


# Samples and pipelines ---------------------------------------------------------------


def test_sampled_patches_have_the_covariance_of_their_component(learned):
    denoiser = clone(learned).fit(SCENES)
    patches, labels = denoiser.sample_patches(20_000, component=1)
    assert patches.shape == (20_000, 5, 5)
    assert (labels == 1).all()
    found = np.cov(patches.reshape(-1, 25).T)
    gap = np.linalg.norm(found - denoiser.covariances_[1])
    assert gap < 0.05 * np.linalg.norm(denoiser.covariances_[1])


def test_components_are_drawn_by_weight(learned):
    _, labels = learned.sample_patches(5_000)
    shares = np.bincount(labels, minlength=4) / 5_000
    np.testing.assert_allclose(shares, learned.weights_, atol=0.04)


@pytest.mark.parametrize(
    "options",
    [{"n_samples": 0}, {"n_samples": 1.5}, {"component": 4}, {"component": -1}],
)
def test_patches_that_do_not_exist_are_not_drawn(learned, options):
    with pytest.raises(ValueError, match=next(iter(options))):
        learned.sample_patches(**options)


def test_pipeline_of_matrix_rows():
    images = np.stack([scene((24, 20), seed=i) for i in range(3)])
    rows = with_noise(images, 0.1).reshape(3, -1)
    denoiser = PatchGMMDenoiser(2, patch_size=4, sigma=0.1, image_shape=(24, 20), tol=1)
    pipeline = make_pipeline(
        denoiser.set_params(random_state=0), FunctionTransformer(np.square)
    )
    found = pipeline.fit_transform(rows)
    assert found.shape == rows.shape
    listed = denoiser.transform(list(rows.reshape(3, 24, 20)))
    np.testing.assert_allclose(np.sqrt(found), np.abs(np.stack(listed).reshape(3, -1)))


def test_verbose_prints_a_line_for_each_image(natural, capsys):
    PatchGMMDenoiser.pretrained(sigma=0.1, verbose=1).transform([scene((12, 12))] * 2)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == ["Image 1 of 2", "Image 2 of 2"]
    denoiser = PatchGMMDenoiser.pretrained(verbose=2)
    missing = np.eye(12, dtype=bool)
    denoiser.set_params(n_iter=1).inpaint([scene((12, 12))], [missing])
    *steps, last = capsys.readouterr().out.splitlines()
    assert len(steps) == 8
    assert steps[-1].startswith("  noise level 8 of 8")
    assert last.startswith("Image 1 of 1: 8% of the pixels missing")


def test_saved_denoisers_give_the_same_images(learned, tmp_path):
    noisy = [with_noise(scene(), 0.1)]
    skdeepgmm.save(learned, tmp_path / "denoiser.safetensors")
    same = skdeepgmm.load(tmp_path / "denoiser.safetensors")
    np.testing.assert_array_equal(same.transform(noisy), learned.transform(noisy))
