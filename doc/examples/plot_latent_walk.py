"""
A walk through a latent space
=============================

:class:`skdeepgmm.MinMaxEMClusterer` learns a latent space in which clusters are
Gaussians, an encoder that goes there and a generator that comes back. With two
dimensions the whole space can be looked at.
"""

# %%
# Three digits, two dimensions
# ----------------------------
# The digits 0 to 2 that ship with scikit-learn, a twentieth of them with a label.
import matplotlib.pyplot as plt
import numpy as np

from skdeepgmm import MinMaxEMClusterer
from skdeepgmm.datasets import load_digits_images
from skdeepgmm.plotting import InterpolationDisplay, LatentSpaceDisplay

X, y = load_digits_images(return_X_y=True)
X, y = X[y < 3], y[y < 3]
known = np.where(np.random.default_rng(0).random(len(y)) < 0.05, y, -1)

clusterer = MinMaxEMClusterer(
    n_clusters=3,
    image_shape=(8, 8),
    latent_dim=2,
    semi_supervised=True,
    max_iter=40,  # shorter than the default, to keep this page quick
    random_state=0,
).fit(X, known)
print(f"right class: {np.mean(clusterer.predict(X) == y):.3f}")

# %%
# The map
# -------
LatentSpaceDisplay.from_estimator(clusterer, X, y)

# %%
# Every point of it
# -----------------
# The generator draws the image of each point on a grid: within a cluster the digit
# changes its form, between two it turns into another.
Z = clusterer.transform(X)
low, high = Z.min(axis=0) - 0.5, Z.max(axis=0) + 0.5
columns, rows = np.linspace(low[0], high[0], 16), np.linspace(high[1], low[1], 12)
points = np.array([[column, row] for row in rows for column in columns])
tiles = clusterer.inverse_transform(points).reshape(12, 16, 8, 8)
fig, ax = plt.subplots(figsize=(6, 4.5), layout="constrained")
ax.imshow(tiles.transpose(0, 2, 1, 3).reshape(96, 128), cmap="gray_r")
ax.set_axis_off()

# %%
# From one image to another
# -------------------------
starts = np.array([np.flatnonzero(y == digit)[0] for digit in (0, 1, 2)])
InterpolationDisplay.from_estimator(clusterer, X[starts], X[np.roll(starts, -1)])
