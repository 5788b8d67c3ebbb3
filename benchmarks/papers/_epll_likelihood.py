"""What the shipped patch prior is as a density: held-out patches, samples, pictures."""

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))
from train_patch_prior import QUANTISATION, dct_basis, draw_patches, training_images

from skdeepgmm import GaussianMixture, PatchGMMDenoiser

SIZE, SEED = 8, 1
N_TRAIN, N_TEST = 200_000, 50_000


def shipped(train):
    """Return the shipped prior as a mixture of DCT coefficients."""
    prior = PatchGMMDenoiser.pretrained()
    basis = dct_basis(SIZE)
    return GaussianMixture.from_parameters(
        prior.weights_ / prior.weights_.sum(),
        prior.means_ @ basis,
        basis.T @ prior.covariances_ @ basis,
    )


def single_gaussian(train):
    return GaussianMixture(1, reg_covar=QUANTISATION).fit(train)


def diagonal_mixture(train):
    """The same number of components, without covariances between coefficients."""
    return GaussianMixture(
        200, covariance_type="diag", reg_covar=QUANTISATION, random_state=SEED
    ).fit(train)


MODELS = {
    "shipped prior, 200 components": shipped,
    "200 components, diagonal": diagonal_mixture,
    "one Gaussian": single_gaussian,
}


def measure_likelihood(folder):
    """Return (model, nats a patch) of patches of the held-out training images."""
    images, held_out = training_images(folder)
    rng = np.random.default_rng(SEED)
    train = draw_patches(images, N_TRAIN, SIZE, rng)
    test = draw_patches(held_out, N_TEST, SIZE, rng, symmetric=False)
    return [(name, f"{make(train).score(test):.3f}") for name, make in MODELS.items()]


def draw_pictures(data, out):
    """Write samples beside real patches, and noisy, restored and true images."""
    import matplotlib.pyplot as plt

    prior = PatchGMMDenoiser.pretrained(sigma=25, data_range=255, random_state=SEED)
    _, held_out = training_images(data)
    rng = np.random.default_rng(SEED)
    real = draw_patches(held_out, 200, SIZE, rng, symmetric=False) @ dct_basis(SIZE).T
    sheets = [sheet(rows.reshape(-1, SIZE, SIZE)) for rows in (real, _samples(prior))]
    plt.imsave(out / "epll_patches.png", np.hstack(sheets), cmap="gray")
    for index, image in enumerate(held_out[:3]):
        clean = 255 * image
        noisy = clean + rng.normal(scale=25, size=clean.shape)
        row = [noisy, prior.transform([noisy])[0], clean]
        picture = np.hstack(row).clip(0, 255)
        plt.imsave(out / f"epll_{index}.png", picture, cmap="gray", vmin=0, vmax=255)


def _samples(prior):
    return prior.sample_patches(200)[0]


def sheet(patches, n_columns=14, n_rows=14):
    """Return patches in rows, each stretched to the same contrast, with a margin."""
    cells = np.full((n_rows, n_columns, SIZE + 2, SIZE + 2), 1.0)
    for cell, patch in zip(
        cells.reshape(-1, SIZE + 2, SIZE + 2), patches, strict=False
    ):
        cell[1:-1, 1:-1] = 0.5 + patch / (4 * patch.std() + 1e-6)
    return cells.transpose(0, 2, 1, 3).reshape(n_rows * (SIZE + 2), -1).clip(0, 1)
