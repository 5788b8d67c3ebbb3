"""
Cluster images with few labels
==============================

:class:`skdeepgmm.MinMaxEMClusterer` learns a latent space in which clusters are
Gaussians, and a generator that shows every point of it. Here it sees 1,300 images of
digits, of which 30 have a label.
"""

# %%
# Three labels a digit
# --------------------
import matplotlib.pyplot as plt
import numpy as np
from sklearn.model_selection import train_test_split
from sklearn.semi_supervised import LabelSpreading

from skdeepgmm import MinMaxEMClusterer
from skdeepgmm.datasets import load_digits_images

X, y = load_digits_images(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X, y, random_state=0)

known = np.full(len(y_train), -1)  # -1: unknown
for digit in range(10):
    rows = np.flatnonzero(y_train == digit)[:3]
    known[rows] = digit

clusterer = MinMaxEMClusterer(
    n_clusters=10,
    image_shape=(8, 8),
    semi_supervised=True,
    max_iter=40,  # shorter than the default, to keep this page quick
    random_state=0,
)
clusterer.fit(X_train, known)
spreading = LabelSpreading(kernel="knn").fit(X_train, known)

for name, model in (("MinMax+EM", clusterer), ("LabelSpreading", spreading)):
    accuracy = np.mean(model.predict(X_test) == y_test)
    print(f"{name}: {accuracy:.3f} of held-out images in the right class")

# %%
# Generated images
# ----------------
# One row a cluster. With labels, cluster k is digit k.
fig, axes = plt.subplots(10, 12, figsize=(6, 5), layout="constrained")
for cluster, row in enumerate(axes):
    images, _ = clusterer.sample(12, cluster=cluster)
    for ax, image in zip(row, images, strict=True):
        ax.imshow(image.reshape(8, 8), cmap="gray_r", vmin=0, vmax=1)
        ax.set_axis_off()

# %%
# From one image to another
# -------------------------
# The latent line between two held-out images.
fig, axes = plt.subplots(4, 10, figsize=(7, 3), layout="constrained")
for i, row in enumerate(axes):
    line = clusterer.interpolate(X_test[2 * i], X_test[2 * i + 1], n_samples=10)
    for ax, image in zip(row, line, strict=True):
        ax.imshow(image.reshape(8, 8), cmap="gray_r", vmin=0, vmax=1)
        ax.set_axis_off()

# %%
# The course of training
# ----------------------
# ``consistency`` is the square of the distance between a latent and what the encoder
# finds in its picture; ``occupancies_`` shows that no cluster becomes empty.
fig, axes = plt.subplots(1, 3, figsize=(9, 2.5), layout="constrained")
for ax, name in zip(axes, ("energy", "consistency"), strict=False):
    ax.plot(np.arange(1, clusterer.n_iter_ + 1), clusterer.history_[name])
    ax.set(xlabel="EM iteration", title=name)
axes[2].plot(np.arange(1, clusterer.n_iter_ + 1), clusterer.occupancies_)
axes[2].set(xlabel="EM iteration", title="share of each cluster", ylim=(0, None))
