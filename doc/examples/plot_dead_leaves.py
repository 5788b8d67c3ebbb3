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
# Components by falling weight: the standard deviation of their patches, their leading
# eigenvectors, and samples. The heaviest is nearly flat; the others have the edges of
# all directions and the outlines of leaves as their first eigenvectors.
denoiser = fitted[12]
order = np.argsort(-denoiser.weights_)[:8]
fig, axes = plt.subplots(len(order), 9, figsize=(8, 8))
for row, k in zip(axes, order, strict=True):
    vectors = np.linalg.eigh(denoiser.covariances_[k])[1][:, :-5:-1]
    samples, _ = denoiser.sample_patches(4, component=k)
    deviation = np.sqrt(np.trace(denoiser.covariances_[k]) / 64)
    label = f"{denoiser.weights_[k]:.0%}\nsd {deviation:.3f}"
    row[0].text(0, 0.3, label, transform=row[0].transAxes)
    for ax, tile in zip(row[1:], [*vectors.T.reshape(-1, 8, 8), *samples], strict=True):
        limit = np.abs(tile).max()
        ax.imshow(tile, cmap="gray", vmin=-limit, vmax=limit)
    for ax in row:
        ax.set_axis_off()
axes[0, 1].set_title("eigenvectors", loc="left")
axes[0, 5].set_title("samples", loc="left")

# %%
# The leaves, their noise and its removal
# ---------------------------------------
leaves = held_out[0]
noisy = leaves + rng.normal(scale=0.1, size=leaves.shape)
restored = [
    fitted[k].set_params(sigma=0.1).transform([noisy])[0].clip(0, 1) for k in (1, 12)
]
fig, axes = plt.subplots(1, 4, figsize=(11, 3), layout="constrained")
names = ["leaves", "noisy", "one Gaussian", "12 components"]
for ax, image, name in zip(axes, [leaves, noisy, *restored], names, strict=True):
    error = np.sqrt(np.square(image - leaves).mean())
    ax.imshow(image, cmap="gray", vmin=0, vmax=1)
    ax.set_title(f"{name}, error {error:.3f}", fontsize="medium")
    ax.set_axis_off()
plt.show()
