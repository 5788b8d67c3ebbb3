"""
Denoise and in-paint photographs
================================

:class:`skdeepgmm.PatchGMMDenoiser` restores images with a Gaussian mixture of 8 x 8
patches. The prior that ships with the package was learned from natural photographs.
"""

# %%
# Denoise
# -------
# White noise of 25 grey levels is added to an 8-bit photograph. ``sigma`` can be told;
# here it is estimated from the image.
import matplotlib.pyplot as plt
import numpy as np
from scipy.fft import idctn
from sklearn.datasets import load_sample_image

from skdeepgmm import PatchGMMDenoiser
from skdeepgmm.metrics import psnr
from skdeepgmm.plotting import DenoisingDisplay, SamplesDisplay

rng = np.random.default_rng(0)
photograph = load_sample_image("china.jpg")[100:292, 190:446]
noise = rng.normal(scale=25, size=photograph.shape)
noisy = np.clip(photograph + noise, 0, 255).astype(np.uint8)

denoiser = PatchGMMDenoiser.pretrained()
DenoisingDisplay.from_estimator(denoiser, noisy, photograph)

# %%
# The estimate of the noise, in grey levels:
print(denoiser.estimate_sigma([noisy])[0].round(1))

# %%
# In-paint
# --------
# Half of the pixels are missing, and those that are known stay as they are.
grey = photograph.mean(axis=2).round().astype(np.uint8)
missing = rng.random(grey.shape) < 0.5
filled = denoiser.inpaint([grey], [missing])[0]

given = np.where(missing, 0, grey)
fig, ax = plt.subplots(figsize=(9, 2.8))
SamplesDisplay(
    np.stack([grey, given, filled]).reshape(3, -1),
    ["true", "half of the pixels", f"filled in, {psnr(grey, filled):.1f} dB"],
    image_shape=grey.shape,
).plot(ax, vmin=0, vmax=255)
ax.set_title("")

# %%
# What the mixture knows
# ----------------------
# Each row is one component: six leading eigenvectors of its covariance, then six
# patches drawn from it, each on a grey scale of its own. First come the components that
# hold the most contrast, by weight times variance: edges of several directions and
# textures. The eigenvectors of others look like the discrete cosine basis, which is the
# last row.
contrast = np.trace(denoiser.covariances_, axis1=1, axis2=2)
strongest = np.argsort(-denoiser.weights_ * contrast)[[0, 1, 2, 4, 8, 16, 32, 64]]
cosines = (1, 8, 9, 2, 16, 10, 3, 24, 17, 18, 11, 25)
dct = [idctn(np.eye(64)[k].reshape(8, 8), norm="ortho").ravel() for k in cosines]


def portrait(component):
    """Return six eigenvectors and six samples of a component."""
    vectors = np.linalg.eigh(denoiser.covariances_[component])[1][:, :-7:-1]
    samples, _ = denoiser.sample_patches(6, component=component)
    return [*vectors.T, *samples.reshape(6, -1)]


tiles = np.vstack([*(portrait(component) for component in strongest), dct])
tiles /= np.abs(tiles).max(axis=1, keepdims=True)
display = SamplesDisplay(tiles, image_shape=(8, 8)).plot(n_columns=12, vmin=-1, vmax=1)
display.ax_.set_title("eigenvectors, samples; last row: discrete cosines")
