"""
Cluster images with GAN-EM
==========================

:class:`skdeepgmm.GANEMClusterer` clusters images of digits without labels, and
generates new ones of each cluster.
"""

# %%
# Clusters
# --------
import matplotlib.pyplot as plt
import numpy as np
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.model_selection import train_test_split

from skdeepgmm import GANEMClusterer
from skdeepgmm.datasets import load_digits_images
from skdeepgmm.metrics import clustering_accuracy

X, y = load_digits_images(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X, y, random_state=0)

clusterer = GANEMClusterer(n_clusters=10, image_shape=(8, 8), tol=0.05, random_state=0)
clusterer.fit(X_train)
kmeans = KMeans(10, n_init=10, random_state=0).fit(X_train)

for name, model in (("GAN-EM", clusterer), ("k-means", kmeans)):
    accuracy = clustering_accuracy(y_test, model.predict(X_test))
    print(f"{name}: {accuracy:.3f} of held-out images in the right cluster")

# %%
# Generated images
# ----------------
# One row a cluster. The generator never sees a label.
fig, axes = plt.subplots(10, 12, figsize=(6, 5), layout="constrained")
for cluster, row in enumerate(axes):
    images, _ = clusterer.sample(12, cluster=cluster)
    for ax, image in zip(row, images, strict=True):
        ax.imshow(image.reshape(8, 8), cmap="gray_r", vmin=0, vmax=1)
        ax.set_axis_off()

# %%
# The course of training
# ----------------------
# ``history_`` says how many clusters are in use and how many images still change
# theirs.
fig, axes = plt.subplots(1, 3, figsize=(9, 2.5), layout="constrained")
for ax, name in zip(axes, ("n_effective", "confidence", "changed"), strict=True):
    ax.plot(np.arange(1, clusterer.n_iter_ + 1), clusterer.history_[name])
    ax.set(xlabel="EM iteration", title=name)

# %%
# A picture of the embedding
# --------------------------
# ``transform`` gives the last hidden layer of the E-net, and two principal components
# of it make a map of the images. With ``embedding_dim=2`` the E-net itself would end in
# a layer of two units.
Z = PCA(2).fit_transform(clusterer.transform(X_test))
fig, ax = plt.subplots(figsize=(5, 4), layout="constrained")
points = ax.scatter(*Z.T, c=y_test, cmap="tab10", s=8)
fig.colorbar(points, label="digit")
