"""The pictures are the means of the first and of the last mixture."""

import numpy as np
import pytest

from skdeepgmm import DeepConvGMM
from skdeepgmm.layers import Folding, Mixture
from skdeepgmm.plotting import LayersDisplay


def fitted(rng, layers, **params):
    X = rng.uniform(size=(40, 48))
    params = {"max_iter": 2, "tol": 1e9, "random_state": 0, **params}
    return DeepConvGMM(layers=layers, **params).fit(X)


def stack(**params):
    return [Folding(2, stride=2), Mixture(4, **params), Folding(), Mixture(3)]


def test_patches_and_images_in_colour(rng):
    model = fitted(rng, stack(), image_shape=(4, 4, 3))
    display = LayersDisplay.from_estimator(model, vmin=0, vmax=1)
    patches, images = display.pictures.values()
    np.testing.assert_array_equal(
        patches, model.mixtures_[0]["means"].reshape(4, 2, 2, 3)
    )
    np.testing.assert_array_equal(images, model.means_.reshape(3, 4, 4, 3))
    shown = display.axes_[0][1].get_images()[0].get_array()
    np.testing.assert_allclose(shown, np.clip(patches[1], 0, 1))


def test_positions_with_components_of_their_own(rng):
    model = fitted(rng, stack(shared=False), image_shape=(6, 8))
    display = LayersDisplay.from_estimator(model)
    patches, _ = display.pictures.values()
    assert patches.shape == (3 * 4 * 4, 2, 2)


@pytest.mark.parametrize("shared", [True, False])
def test_factors_of_low_rank_patches(rng, shared):
    layers = stack(covariance_type="low_rank", rank=2, shared=shared)
    model = fitted(rng, layers, image_shape=(6, 8))
    _, factors, _ = LayersDisplay.from_estimator(model).pictures.values()
    stored = model.mixtures_[0]["factors"]
    assert len(factors) == 4 * 2 * (1 if shared else 12)
    np.testing.assert_array_equal(factors[1].ravel(), stored.reshape(-1, 4, 2)[0, :, 1])


def test_a_single_mixture_has_one_panel(rng):
    model = fitted(rng, [Folding(), Mixture(3)], image_shape=(6, 8))
    display = LayersDisplay.from_estimator(model)
    (images,) = display.pictures.values()
    assert images.shape == (3, 6, 8)


def test_vectors_are_refused(rng):
    with pytest.raises(ValueError, match=r"fitted to vectors.*image_shape"):
        LayersDisplay.from_estimator(fitted(rng, [Mixture(3)]))
