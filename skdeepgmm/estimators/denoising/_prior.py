"""Priors of the patch denoiser: from a fitted mixture, or shipped with the package."""

from functools import cache
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.utils.validation import check_is_fitted

from skdeepgmm._torch_backend import convert
from skdeepgmm._torch_backend.denoising.patches import dct_basis
from skdeepgmm._torch_backend.denoising.prior import PatchPrior

FOLDER = Path(__file__).with_name("_pretrained")
NATURAL_SIZE = (8, 8)


@cache
def natural_parameters():
    """Return (weights, means, covariances) of the shipped prior, as coefficients."""
    stored = load_file(FOLDER / "natural_patches_8x8.safetensors")
    weights = stored["weights"].astype(np.float64)
    n_features = NATURAL_SIZE[0] * NATURAL_SIZE[1] - 1
    rows, columns = np.triu_indices(n_features)
    covariances = np.empty((len(weights), n_features, n_features))
    covariances[:, rows, columns] = stored["covariances"]
    covariances[:, columns, rows] = stored["covariances"]
    return weights / weights.sum(), np.zeros((len(weights), n_features)), covariances


def mixture_parameters(mixture, patch_shape):
    """Return (weights, means, covariances) of a fitted mixture of patches.

    Parameters
    ----------
    mixture : GaussianMixture
        Fitted, of any covariance type, of scikit-learn or of this package.
    patch_shape : tuple of int
        Height and width of a patch.
    """
    if isinstance(mixture, FrozenEstimator):
        mixture = mixture.estimator
    check_mixture(mixture)
    means = np.asarray(mixture.means_, dtype=np.float64)
    n_pixels = patch_shape[0] * patch_shape[1]
    if means.shape[1] not in (n_pixels, n_pixels - 1):
        raise ValueError(
            f"prior was fitted to {means.shape[1]} features; patches of shape "
            f"{patch_shape} have {n_pixels} pixels. Fit it to mean-removed patches of "
            "that shape in C order, or set patch_size to the size it was fitted to."
        )
    return np.asarray(mixture.weights_, float), means, full_covariances(mixture)


def check_mixture(mixture):
    """Raise unless this is a fitted Gaussian mixture."""
    if not hasattr(mixture, "covariance_type"):
        raise TypeError(
            f"prior is a {type(mixture).__name__}; expected a fitted mixture with "
            "weights_, means_ and covariances_, such as GaussianMixture."
        )
    try:
        check_is_fitted(mixture, ("weights_", "means_"))
    except NotFittedError as error:
        raise NotFittedError(
            f"prior={mixture!r} is not fitted. Fit it first; where the denoiser is "
            "cloned (a search, cross-validation), wrap it in "
            "sklearn.frozen.FrozenEstimator, since clones of estimators are unfitted."
        ) from error


def full_covariances(mixture):
    """Return the covariance matrices of a mixture of any covariance type."""
    from skdeepgmm import GaussianMixture

    if hasattr(mixture, "dense_covariances") and mixture.covariance_type == "full":
        return np.asarray(mixture.covariances_, dtype=np.float64)
    if not hasattr(mixture, "dense_covariances"):
        mixture = GaussianMixture.from_parameters(
            np.full(len(mixture.means_), 1.0 / len(mixture.means_)),
            mixture.means_,
            mixture.covariances_,
            covariance_type=mixture.covariance_type,
            device="cpu",
        )
    return np.asarray(mixture.dense_covariances(), dtype=np.float64)


def to_pixels(parameters, patch_shape):
    """Return (weights, means, covariances) over pixels from those of coefficients."""
    weights, means, covariances = parameters
    if means.shape[1] == patch_shape[0] * patch_shape[1]:
        return parameters
    basis = convert.to_numpy(dct_basis(patch_shape))
    return weights, means @ basis.T, basis @ covariances @ basis.T


def patch_prior(estimator, device):
    """Return the tensors of a fitted denoiser's prior."""
    arrays = estimator.weights_, estimator.means_, estimator.covariances_
    tensors = (convert.float64_tensor(array, device) for array in arrays)
    return PatchPrior.from_parameters(estimator.patch_shape_, *tensors)
