"""
Clusters against classes, matched
=================================

Clusters have no names. :class:`~skdeepgmm.plotting.MatchedConfusionDisplay` gives each
the class that it fits best, one to one, and shows what is left in the wrong place.
"""

# %%
# Two clusterings of digits
# -------------------------
# k-means takes clusters to be round. A mixture of factor analysers gives each cluster
# the directions in which its images vary.
import matplotlib.pyplot as plt
from sklearn.cluster import KMeans
from sklearn.datasets import load_digits

from skdeepgmm import GaussianMixture
from skdeepgmm.metrics import clustering_accuracy, purity
from skdeepgmm.plotting import MatchedConfusionDisplay

X, y = load_digits(return_X_y=True)
X = X / 16

clusterings = {
    "k-means": KMeans(10, n_init=10, random_state=0).fit_predict(X),
    "mixture, low rank": GaussianMixture(
        10,
        covariance_type="low_rank",
        rank=4,
        reg_covar=0.01,
        init_params="merge",
        tol=0.01,
        random_state=0,
    ).fit_predict(X),
}

fig, axes = plt.subplots(1, 2, figsize=(10, 4.4), layout="constrained")
for ax, (name, labels) in zip(axes, clusterings.items(), strict=True):
    MatchedConfusionDisplay.from_predictions(y, labels, ax=ax)
    ax.set_title(f"{name}: accuracy {clustering_accuracy(y, labels):.3f}")

# %%
# Accuracy and purity
# -------------------
# Purity lets several clusters share a class, so that it grows with their number; the
# one-to-one accuracy does not.
for name, labels in clusterings.items():
    print(
        f"{name}: accuracy {clustering_accuracy(y, labels):.3f}, "
        f"purity {purity(y, labels):.3f}"
    )
many = KMeans(60, n_init=3, random_state=0).fit_predict(X)
print(
    f"60 clusters: accuracy {clustering_accuracy(y, many):.3f}, "
    f"purity {purity(y, many):.3f}"
)
