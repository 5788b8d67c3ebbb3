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
from skdeepgmm.plotting import (
    InterpolationDisplay,
    SamplesDisplay,
    TrainingCurveDisplay,
)

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
    max_iter=12,  # much shorter than the default, to keep this page quick
    random_state=0,
)
clusterer.fit(X_train, known)
spreading = LabelSpreading(kernel="knn", n_neighbors=30).fit(X_train, known)

for name, model in (("MinMax+EM", clusterer), ("LabelSpreading", spreading)):
    accuracy = np.mean(model.predict(X_test) == y_test)
    print(f"{name}: {accuracy:.3f} of held-out images in the right class")

# %%
# Generated images
# ----------------
# One row a cluster. With labels, cluster k is digit k.
fig, axes = plt.subplots(10, 1, figsize=(6, 5), layout="constrained")
for cluster, ax in enumerate(axes):
    SamplesDisplay.from_estimator(
        clusterer,
        n_samples=12,
        sample_params={"cluster": cluster},
        ax=ax,
        n_columns=12,
        cmap="gray_r",
    )
    ax.set_title("")

# %%
# From one image to another
# -------------------------
# The latent line between two held-out images.
InterpolationDisplay.from_estimator(
    clusterer, X_test[:8:2], X_test[1:8:2], cmap="gray_r"
)

# %%
# The course of training
# ----------------------
# ``consistency`` is the square of the distance between a latent and what the encoder
# finds in its picture; ``occupancies_`` shows that no cluster becomes empty.
TrainingCurveDisplay.from_estimator(clusterer, names=["energy", "consistency"])
fig, ax = plt.subplots(figsize=(5, 2.5), layout="constrained")
ax.plot(np.arange(1, clusterer.n_iter_ + 1), clusterer.occupancies_)
ax.set(xlabel="EM iteration", title="share of each cluster", ylim=(0, None))
