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
from sklearn.cluster import KMeans
from sklearn.model_selection import train_test_split

from skdeepgmm import GANEMClusterer
from skdeepgmm.datasets import load_digits_images
from skdeepgmm.metrics import clustering_accuracy
from skdeepgmm.plotting import (
    LatentSpaceDisplay,
    MatchedConfusionDisplay,
    SamplesDisplay,
    TrainingCurveDisplay,
)

X, y = load_digits_images(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X, y, random_state=0)

clusterer = GANEMClusterer(
    n_clusters=10,
    image_shape=(8, 8),
    max_iter=20,  # less than half of the default, to keep this page quick
    tol=0.05,
    random_state=0,
)
clusterer.fit(X_train)
kmeans = KMeans(10, n_init=10, random_state=0).fit(X_train)

for name, model in (("GAN-EM", clusterer), ("k-means", kmeans)):
    accuracy = clustering_accuracy(y_test, model.predict(X_test))
    print(f"{name}: {accuracy:.3f} of held-out images in the right cluster")

# %%
# Each cluster takes the class that it fits best, one to one:
MatchedConfusionDisplay.from_estimator(clusterer, X_test, y_test)

# %%
# Generated images
# ----------------
# One row a cluster. The generator never sees a label.
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
# The course of training
# ----------------------
# Among them how many clusters are in use and how many images still change theirs.
TrainingCurveDisplay.from_estimator(
    clusterer, names=["n_effective", "confidence", "changed"]
)

# %%
# A picture of the embedding
# --------------------------
# ``transform`` gives the last hidden layer of the E-net, of which the display takes two
# principal components.
LatentSpaceDisplay.from_estimator(clusterer, X_test, y_test)
