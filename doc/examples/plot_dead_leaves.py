"""
Dead leaves: what a mixture of patches learns
=============================================

In the dead-leaves model an image is a pile of opaque discs of random sizes and grey
values. Occlusion makes edges, and it makes patches that no single Gaussian describes:
most are nearly flat, some are crossed by an edge. Zoran and Weiss (2012) showed that a
Gaussian mixture of the patches of natural photographs learns the same two things.
"""

# %%
# A pile of leaves
# ----------------
# Radii follow a power law, as the sizes of things in photographs do; a leaf has its own
# grey value and a faint texture.
import matplotlib.pyplot as plt
import numpy as np

from skdeepgmm import PatchGMMDenoiser
from skdeepgmm.plotting import DenoisingDisplay, SamplesDisplay


def dead_leaves(size, rng, n_leaves=3000, smallest=2.0, largest=80.0):
    """Return an image of overlapping discs, values in [0, 1]."""
    y, x = np.mgrid[:size, :size]
    image = np.zeros((size, size))
    shares = rng.uniform(size=n_leaves)
    # Inverse of the distribution function of the density r^-3 on the interval.
    least, most = smallest**-2, largest**-2
    radii = (least - shares * (least - most)) ** -0.5
    for radius in radii:
        row, col = rng.uniform(-largest / 2, size + largest / 2, size=2)
        inside = (y - row) ** 2 + (x - col) ** 2 < radius**2
        grey, texture = rng.uniform(0.1, 0.9), rng.uniform(0, 0.03)
        image[inside] = grey + texture * rng.normal(size=inside.sum())
    return image


rng = np.random.default_rng(0)
images = [dead_leaves(160, rng) for _ in range(5)]
training, held_out = images[:4], images[4:]

# %%
# Mixtures of their patches
# -------------------------
# ``score`` is the mean log-likelihood of a mean-removed patch. A single Gaussian knows
# the correlations of pixels; a mixture knows that patches are flat or have edges.
settings = {"reg_covar": 1e-5, "n_patches": 30_000, "tol": 0.02, "random_state": 0}
fitted = {k: PatchGMMDenoiser(k, **settings).fit(training) for k in (1, 4, 12)}
for n_components, denoiser in fitted.items():
    score = denoiser.score(held_out)
    print(f"{n_components:2} components: {score:6.1f} nats a patch on unseen leaves")

# %%
# Flat patches and edges
# ----------------------
# Components by falling weight, one a row: four leading eigenvectors, then four samples,
# each picture on a grey scale of its own. The heaviest is nearly flat; the others have
# the edges of all directions and the outlines of leaves as their first eigenvectors.
denoiser = fitted[12]
heaviest = np.argsort(-denoiser.weights_)[:8]


def portrait(component):
    """Return eigenvectors and samples of a component, each within -1 and 1."""
    vectors = np.linalg.eigh(denoiser.covariances_[component])[1][:, :-5:-1]
    samples, _ = denoiser.sample_patches(4, component=component)
    tiles = np.vstack([vectors.T, samples.reshape(4, -1)])
    return tiles / np.abs(tiles).max(axis=1, keepdims=True)


for k in heaviest:
    deviation = np.sqrt(np.trace(denoiser.covariances_[k]) / 64)
    print(f"weight {denoiser.weights_[k]:4.0%}, standard deviation {deviation:.3f}")

display = SamplesDisplay(np.vstack([portrait(k) for k in heaviest]), image_shape=(8, 8))
display.plot(n_columns=8, vmin=-1, vmax=1)
display.ax_.set_title("eigenvectors (left) and samples (right)")

# %%
# The leaves, their noise and its removal
# ---------------------------------------
# One Gaussian above, twelve below.
leaves = held_out[0]
noisy = leaves + rng.normal(scale=0.1, size=leaves.shape)
fig, axes = plt.subplots(2, 1, figsize=(10, 6.4), layout="constrained")
for ax, k in zip(axes, (1, 12), strict=True):
    denoiser = fitted[k].set_params(sigma=0.1)
    DenoisingDisplay.from_estimator(
        denoiser, noisy, leaves, data_range=1.0, ax=ax, vmin=0, vmax=1
    )
