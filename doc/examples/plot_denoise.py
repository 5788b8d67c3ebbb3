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

rng = np.random.default_rng(0)
photograph = load_sample_image("china.jpg")[100:292, 190:446]
noise = rng.normal(scale=25, size=photograph.shape)
noisy = np.clip(photograph + noise, 0, 255).astype(np.uint8)

denoiser = PatchGMMDenoiser.pretrained()
restored = denoiser.transform([noisy])[0]


def show(images, titles):
    """Draw images in a row."""
    _, axes = plt.subplots(
        1, len(images), figsize=(3.2 * len(images), 2.8), layout="constrained"
    )
    for ax, image, title in zip(axes, images, titles, strict=True):
        ax.imshow(image, cmap="gray", vmin=0, vmax=255)
        ax.set_title(title)
        ax.set_axis_off()


show(
    [photograph, noisy, restored],
    [
        "true",
        f"noisy, {psnr(photograph, noisy):.1f} dB",
        f"denoised, {psnr(photograph, restored):.1f} dB",
    ],
)

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

show(
    [grey, np.where(missing, 0, grey), filled],
    ["true", "half of the pixels", f"filled in, {psnr(grey, filled):.1f} dB"],
)

# %%
# What the mixture knows
# ----------------------
# Each row is one component: the leading eigenvectors of its covariance, then patches
# drawn from it. First come the components that hold the most contrast, by weight times
# variance: edges of several directions and textures. The eigenvectors of others look
# like the discrete cosine basis (last row).
contrast = np.trace(denoiser.covariances_, axis1=1, axis2=2)
strongest = np.argsort(-denoiser.weights_ * contrast)[[0, 1, 2, 4, 8, 16, 32, 64]]
dct = [idctn(np.eye(64)[k].reshape(8, 8), norm="ortho") for k in (1, 8, 9, 2, 16, 10)]


def tiles(component):
    """Return six eigenvectors and six samples of a component."""
    vectors = np.linalg.eigh(denoiser.covariances_[component])[1][:, :-7:-1]
    samples, _ = denoiser.sample_patches(6, component=component)
    return [*vectors.T.reshape(-1, 8, 8), *samples]


rows = [*(tiles(component) for component in strongest), dct]
fig, axes = plt.subplots(len(rows), 12, figsize=(9, 7.5), gridspec_kw={"hspace": 0.3})
for row, row_tiles in zip(axes, rows, strict=True):
    for ax in row:
        ax.set_axis_off()
    for ax, tile in zip(row, row_tiles, strict=False):
        limit = np.abs(tile).max()
        ax.imshow(tile, cmap="gray", vmin=-limit, vmax=limit)
axes[0, 0].set_title("eigenvectors", loc="left")
axes[0, 6].set_title("samples", loc="left")
axes[-1, 0].set_title("discrete cosine basis", loc="left", fontsize="small")
plt.show()
