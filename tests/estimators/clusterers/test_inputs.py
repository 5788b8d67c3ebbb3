"""GANEMClusterer and MinMaxEMClusterer: what both accept, refuse and leave behind."""

import os
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.pipeline import make_pipeline

from skdeepgmm import MinMaxEMClusterer
from skdeepgmm.chunked import ChunkedArray
from skdeepgmm.exceptions import DegenerateComponentWarning
from tests.estimators.clusterers.problems import both, gan_em, minmax_em
from tests.versions import array_api

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings(
        "ignore::skdeepgmm.exceptions.DegenerateComponentWarning"
    ),
]


# Labels and data frames ----------------------------------------------------------


@both
def test_fit_predict_passes_labels_on(construct, vectors):
    X, y = vectors
    known = np.where(np.arange(60) % 3, -1, y)
    expected = construct(semi_supervised=True).fit(X, known).labels_
    piped = make_pipeline("passthrough", construct(semi_supervised=True))
    found = piped.fit_predict(X, known)
    np.testing.assert_array_equal(found, expected)


@both
def test_data_frames_fit_without_a_warning(construct, vectors):
    frame = pd.DataFrame(vectors[0], columns=["a", "b"])
    model = construct()
    with warnings.catch_warnings():
        warnings.simplefilter("error", category=UserWarning)
        for category in (ConvergenceWarning, DegenerateComponentWarning):
            warnings.simplefilter("ignore", category=category)
        model.fit(frame)
        np.testing.assert_array_equal(model.predict(frame), model.labels_)
        if isinstance(model, MinMaxEMClusterer):
            model.interpolate(frame.iloc[0], frame.iloc[1])


def test_interpolation_does_not_depend_on_the_output_container(vectors):
    X = vectors[0]
    plain = minmax_em().fit(X)
    framed = minmax_em().set_output(transform="pandas").fit(X)
    expected = plain.interpolate(X[0], X[1], 4)
    np.testing.assert_array_equal(framed.interpolate(X[0], X[1], 4), expected)
    ends = plain.inverse_transform(plain.transform(X[:2]))
    np.testing.assert_allclose(expected[[0, -1]], ends, rtol=1e-6)


# Failed fits ---------------------------------------------------------------------


@both
def test_a_failed_first_fit_leaves_an_unfitted_estimator(construct, vectors):
    X, _ = vectors
    model = construct(semi_supervised=True)
    with pytest.raises(ValueError, match="expected integers from -1"):
        model.fit(X, np.full(60, 9))
    with pytest.raises(NotFittedError):
        model.predict(X)
    assert not hasattr(model, "n_features_in_")


@both
def test_a_failed_refit_keeps_the_old_model(construct, vectors, images):
    X, _ = vectors
    model = construct().fit(X)
    before = model.predict_proba(X)
    model.set_params(init=np.ones((3, 2)))
    with pytest.raises(ValueError, match="init has the shape"):
        model.fit(images)
    np.testing.assert_array_equal(model.predict_proba(X), before)
    assert model.init.shape == (3, 2)  # parameters are the user's
    assert model.image_shape_ is None


# Values that are no parameters or labels -----------------------------------------


@both
@pytest.mark.parametrize("name", ["n_clusters", "batch_size", "max_iter", "width"])
def test_truth_values_are_no_numbers(construct, vectors, name):
    with pytest.raises(ValueError, match=f"'{name}' parameter .* Got True instead"):
        construct().set_params(**{name: True}).fit(vectors[0])


@both
@pytest.mark.parametrize("init", [[[1, 0], [1]], [["a", "b"]] * 60, [[None, None]]])
def test_malformed_responsibilities_are_named(construct, vectors, init):
    with pytest.raises(ValueError, match=r"init .*responsibilities"):
        construct(init=init).fit(vectors[0])


@both
def test_ragged_labels_are_named(construct, vectors):
    with pytest.raises(ValueError, match="y has entries of several lengths"):
        construct(semi_supervised=True).fit(vectors[0], [[1], [1, 2]] * 30)


@both
def test_labels_may_be_a_tensor(construct, vectors):
    X, y = vectors
    expected = construct(semi_supervised=True).fit(X, y).predict_proba(X)
    found = construct(semi_supervised=True).fit(X, torch.from_numpy(y))
    np.testing.assert_array_equal(found.predict_proba(X), expected)


@both
def test_networks_that_fit_no_memory_are_named(construct, vectors):
    with pytest.raises(MemoryError, match=r"width=1000000000000.0"):
        construct(width=1e12).fit(vectors[0])
    with pytest.raises(ValueError, match="'width' parameter"):
        construct(width=1e300).fit(vectors[0])


@both
def test_warnings_point_at_the_callers_line(construct, vectors):
    X = np.repeat(vectors[0][:2], 10, axis=0)
    with pytest.warns(DegenerateComponentWarning) as caught:
        construct(n_clusters=20, init="kmeans").fit(X)
    lost = [warning for warning in caught if warning.category is not ConvergenceWarning]
    assert {warning.filename for warning in lost} == {__file__}


# The state of torch --------------------------------------------------------------


@pytest.fixture(params=[torch.float64, torch.bfloat16])
def default_dtype(request):
    return request.param


@both
@pytest.mark.parametrize("kind", ["vectors", "images"])
def test_the_default_dtype_of_torch_does_not_matter(
    construct, kind, default_dtype, request
):
    X = request.getfixturevalue(kind)
    X = X[0] if kind == "vectors" else X
    expected = construct().fit(X)
    proba, samples = expected.predict_proba(X), expected.sample(3)[0]
    torch.set_default_dtype(default_dtype)
    try:
        found = construct().fit(X)
        np.testing.assert_array_equal(found.predict_proba(X), proba)
        np.testing.assert_array_equal(found.sample(3)[0], samples)
        assert torch.get_default_dtype() == default_dtype
    finally:
        torch.set_default_dtype(torch.float32)


@both
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_fits_record_gradients_by_themselves(construct, mode, images):
    expected = construct().fit(images)
    with mode():
        found = construct().fit(images)
        assert not torch.is_grad_enabled()
    np.testing.assert_array_equal(found.labels_, expected.labels_)


@both
def test_another_default_device_does_not_matter(construct, vectors):
    X, _ = vectors
    expected = construct().fit(X)
    proba, samples = expected.predict_proba(X), expected.sample(3)[0]
    with torch.device("meta"):
        found = construct().fit(X)
        np.testing.assert_array_equal(found.predict_proba(X), proba)
        np.testing.assert_array_equal(found.sample(3)[0], samples)
        assert np.isfinite(found.score_samples(X)).all()
        assert np.isfinite(found.inverse_transform(found.transform(X))).all()


# Odd data ------------------------------------------------------------------------


@both
def test_batches_of_one_image(construct, images):
    recipe = {"recipe": {"gan_steps": 3}} if construct is gan_em else {}
    model = construct(batch_size=1, **recipe).fit(images[:6])
    assert np.isfinite(model.predict_proba(images)).all()
    alone = construct(1).fit(images[:1])
    np.testing.assert_array_equal(alone.labels_, [0])


def test_one_image_without_label(images):
    y = np.arange(40) % 2
    y[7] = -1
    model = minmax_em(semi_supervised=True).fit(images, y)
    assert np.isfinite(model.weights_).all()


@both
@pytest.mark.parametrize("scale", [1e20, 1e200])
def test_far_samples_have_finite_probabilities(construct, scale, images, vectors):
    for X in (images, vectors[0]):
        model = construct().fit(X)
        proba = model.predict_proba(X * scale)
        np.testing.assert_allclose(proba.sum(axis=1), 1.0, rtol=1e-6)
        assert np.isfinite(model.score_samples(X * scale)).all()


def test_samples_beyond_the_type_of_the_data_are_refused(vectors):
    X = vectors[0] / np.abs(vectors[0]).max()
    model = minmax_em().fit(X)
    narrow = minmax_em().fit((3e38 * X).astype(np.float32))
    wide = minmax_em().fit(3e38 * X)
    assert np.abs(wide.sample(200)[0]).max() > 3.4e38, "the case is none"
    with pytest.raises(ValueError, match="are beyond"):
        narrow.sample(200)
    np.testing.assert_allclose(
        wide.sample(200)[0] / 3e38, model.sample(200)[0], atol=1e-4
    )


@both
def test_chunks_are_refused_clearly(construct, vectors):
    chunks = ChunkedArray([vectors[0]])
    with pytest.raises(TypeError, match="X is a ChunkedArray"):
        construct().fit(chunks)


@both
def test_channels_first_is_noticed(construct, images):
    with pytest.raises(ValueError, match="Move the axis"):
        construct().fit(images[:, None])
    assert construct().fit(images[..., None]).image_shape_ == (8, 8, 1)


# Parameters ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "recipe",
    [
        {"optimizer": "sgd"},
        {"losses": "wgan"},
        {"gan_steps": 0},
        {"gan_steps": 2.5},
        {"classifier_steps": 0},
        {"classifier_batch_size": 1},
        {"batch_size": 0},
        {"discriminator_lr": "x"},
        {"ema_decay": 2.0},
        {"final_lr_fraction": -3.0},
        {"weight_clip": -1.0},
        {"ema_teacher_from": "a"},
    ],
)
def test_recipe_values_are_checked(recipe, vectors):
    with pytest.raises(ValueError, match=f"'{next(iter(recipe))}' parameter of recipe"):
        gan_em(recipe=recipe).fit(vectors[0])


def test_recipe_names_are_checked(vectors):
    with pytest.raises(ValueError, match=r"unknown settings \['1'\]"):
        gan_em(recipe={1: 2}).fit(vectors[0])


def test_deep_networks_need_large_images(images):
    with pytest.raises(ValueError, match="at least 16 x 16"):
        gan_em(networks="celeba").fit(images)


@both
@pytest.mark.parametrize(
    "affine",
    [
        ("a", "b", "c"),
        (1.0, 2.0),
        (1.0, 2.0, None),
        (np.nan, 0.0, 0.0),
        (0.0, 0.0, 1.0),
    ],
)
def test_affine_changes_are_checked(construct, affine, images):
    with pytest.raises(ValueError, match="affine must be"):
        construct(affine=affine).fit(images)


@both
def test_initial_responsibilities_are_checked(construct, vectors):
    X, _ = vectors
    wrong = np.full((60, 2), 0.5)
    wrong[3] = 0.7
    with pytest.raises(ValueError, match=r"row 3 has the sum 1\.4"):
        construct(init=wrong).fit(X)
    with pytest.raises(ValueError, match=r"init has the shape \(60,\)"):
        construct(init=np.ones(60)).fit(X)


@both
def test_device_must_be_a_name(construct, vectors):
    model = construct().fit(vectors[0]).set_params(device=None)
    with pytest.raises(ValueError, match="device must be 'auto'"):
        model.predict(vectors[0])


@both
@pytest.mark.parametrize("n_samples", [0, 2.5, "3", None, True])
def test_sample_sizes_are_checked(construct, n_samples, vectors):
    model = construct().fit(vectors[0])
    with pytest.raises(ValueError, match="n_samples must be an integer"):
        model.sample(n_samples)


@both
@pytest.mark.parametrize("cluster", [-1, 2, 1.5, "1", True])
def test_clusters_to_sample_are_checked(construct, cluster, vectors):
    model = construct().fit(vectors[0])
    with pytest.raises(ValueError, match="cluster must be None or an integer"):
        model.sample(3, cluster=cluster)


def test_ends_of_an_interpolation_are_checked(vectors):
    X, _ = vectors
    model = minmax_em().fit(X)
    with pytest.raises(ValueError, match="b has 3 values"):
        model.interpolate(X[0], np.ones(3))
    with pytest.raises(ValueError, match="n_samples must be an integer"):
        model.interpolate(X[0], X[1], 2.5)


@both
def test_embeddings_may_be_tensors(construct, vectors):
    X, _ = vectors
    model = construct().fit(X)
    Z = model.transform(X)
    expected = model.inverse_transform(Z)
    np.testing.assert_array_equal(model.inverse_transform(torch.tensor(Z)), expected)


ARRAY_API_SCRIPT = """
import numpy as np, sklearn, torch
from skdeepgmm import GANEMClusterer, MinMaxEMClusterer
X = torch.tensor(np.random.RandomState(0).normal(size=(60, 2)), dtype=torch.float32)
for model in (
    GANEMClusterer(2, max_iter=1, recipe={"gan_steps": 3}, random_state=0),
    MinMaxEMClusterer(2, max_iter=1, init_steps=3, random_state=0),
):
    expected = model.fit(X).inverse_transform(model.transform(X))
    with sklearn.config_context(array_api_dispatch=True):
        model.fit(X)
        assert isinstance(model.labels_, np.ndarray)
        Z = model.transform(X)
        found = model.inverse_transform(Z)
    assert torch.is_tensor(Z) and torch.is_tensor(found)
    np.testing.assert_array_equal(found.numpy(), expected)
"""


@array_api
def test_embeddings_go_back_in_their_container():
    """SciPy reads its switch once, at import: hence the fresh interpreter."""
    subprocess.run(
        [sys.executable, "-W", "ignore", "-c", ARRAY_API_SCRIPT],
        env={**os.environ, "SCIPY_ARRAY_API": "1"},
        check=True,
    )


# CUDA ----------------------------------------------------------------------------


@pytest.mark.cuda
@both
def test_a_model_fitted_on_cuda_predicts_on_the_cpu(construct, images):
    model = construct(device="cuda").fit(images)
    proba = model.predict_proba(images)
    model.set_params(device="cpu")
    np.testing.assert_allclose(model.predict_proba(images), proba, atol=1e-3)


@pytest.mark.cuda
@both
def test_a_fit_on_cuda_does_not_see_the_default_dtype(
    construct, default_dtype, vectors
):
    torch.set_default_dtype(default_dtype)
    try:
        construct(device="cuda", max_iter=2).fit(vectors[0])
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.cuda
@both
def test_fits_on_cuda_may_run_in_threads(construct, images):
    models = [construct(device="cuda", max_iter=3, random_state=s) for s in range(4)]
    with ThreadPoolExecutor(2) as pool:
        fitted = [*pool.map(lambda model: model.fit(images), models)]
    assert all(np.isfinite(m.predict_proba(images)).all() for m in fitted)


@pytest.mark.cuda
@both
def test_the_last_device_fits_too(construct, vectors):
    device = f"cuda:{torch.cuda.device_count() - 1}"
    model = construct(device=device, max_iter=2).fit(vectors[0])
    assert np.isfinite(model.predict_proba(vectors[0])).all()
