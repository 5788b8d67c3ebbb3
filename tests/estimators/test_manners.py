"""Messages name what a user knows, and say what to do."""

import pickle
import re

import numpy as np
import pytest
from sklearn.datasets import load_digits

import skdeepgmm
from skdeepgmm import DeepConvGMM, GANEMClusterer, GaussianMixture, MinMaxEMClusterer
from tests.test_common import public_estimator_classes

PRIVATE = re.compile(r"(Mixin|\bBase|Deep\w*Clusterer\b)")


@pytest.mark.parametrize("cls", [DeepConvGMM, GANEMClusterer, MinMaxEMClusterer])
def test_nan_points_to_what_takes_it(cls, blobs):
    X, _ = blobs
    X[3, 1] = np.nan
    with pytest.raises(ValueError, match=r"X contains NaN.*MixtureImputer.*Gaussian"):
        cls().fit(X)


def test_flat_images_for_a_stack_of_layers_name_image_shape():
    X, _ = load_digits(return_X_y=True)
    message = r"vectors of 64 features.*set image_shape=\(8, 8\)"
    with pytest.raises(ValueError, match=message):
        DeepConvGMM("B").fit(X)
    with pytest.raises(ValueError, match=r"set image_shape=\(height, width\)"):
        DeepConvGMM("B").fit(X[:, :50])


@pytest.mark.parametrize("cls", public_estimator_classes(), ids=lambda c: c.__name__)
def test_type_errors_name_no_private_class(cls):
    """Python's own messages for calls with too few or too many arguments."""
    estimator, wrong = cls(), [object()] * 12
    for name in dir(cls):
        method = getattr(estimator, name, None)
        ours = (getattr(method, "__module__", None) or "").startswith("skdeepgmm")
        if name.startswith("_") or not callable(method) or not ours:
            continue
        with pytest.raises(TypeError) as caught:
            method(*wrong)
        assert not PRIVATE.search(str(caught.value)), caught.value


def test_inherited_methods_keep_docstring_and_signature():
    method = GaussianMixture.sample
    assert method.__qualname__ == "GaussianMixture.sample"
    assert "component : int" in method.__doc__
    assert pickle.loads(pickle.dumps(method)) is method
    assert GaussianMixture.fit_predict.__qualname__ == "GaussianMixture.fit_predict"
    build = skdeepgmm.SGDGaussianMixture.from_parameters
    assert build.__qualname__ == "SGDGaussianMixture.from_parameters"


def test_subclasses_of_users_are_left_alone():
    class Mine(GaussianMixture):
        pass

    assert "predict" not in vars(Mine)


def test_gan_em_tells_the_time_left(blobs, capsys):
    X, _ = blobs
    GANEMClusterer(
        3,
        n_init=2,
        init_iter=2,
        max_iter=5,
        tol=1.0,
        n_iter_no_change=3,
        recipe={"gan_steps": 5},
        random_state=0,
        verbose=1,
    ).fit(X)
    left = re.findall(r"at most (\d+) s left", capsys.readouterr().out)
    assert len(left) == 2 * 2 + 3
    assert left[-1] == "0"
