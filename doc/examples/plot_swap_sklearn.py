"""
Swap scikit-learn's GaussianMixture
===================================

:class:`skdeepgmm.GaussianMixture` has the parameters and attributes of
``sklearn.mixture.GaussianMixture``. Here both fit images of handwritten digits from the
same seed, and the only difference in the program is the class.
"""

# %%
# One fit, two classes
# --------------------
# The images have 8 x 8 pixels. A diagonal covariance with a floor under the variances
# suits pixels that are almost always dark.
import matplotlib.pyplot as plt
import numpy as np
from sklearn import mixture
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import skdeepgmm

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X, y, random_state=0)

settings = {
    "n_components": 10,
    "covariance_type": "diag",
    "reg_covar": 0.1,
    "random_state": 0,
}
theirs = mixture.GaussianMixture(**settings).fit(X_train)
ours = skdeepgmm.GaussianMixture(**settings).fit(X_train)

# %%
# Same iterations, same parameters, same scores
# ---------------------------------------------
# Both start from the same k-means and take the same steps.
print("iterations:            ", theirs.n_iter_, ours.n_iter_)
print("largest gap of means:  ", np.abs(theirs.means_ - ours.means_).max())
print("held-out log-density:  ", theirs.score(X_test), ours.score(X_test))
print("bic:                   ", theirs.bic(X_test), ours.bic(X_test))
print("equal labels:          ", np.mean(theirs.predict(X) == ours.predict(X)))

# %%
# What the mixture learned
# ------------------------
# Above the means of the components, below random samples, one from each row of
# :meth:`~skdeepgmm.GaussianMixture.sample`.
samples, _ = ours.sample(10)

fig, axes = plt.subplots(2, 10, figsize=(8, 2), layout="constrained")
for ax, image in zip(axes.flat, np.vstack([ours.means_, samples]), strict=True):
    ax.imshow(image.reshape(8, 8), cmap="gray_r", vmin=0, vmax=16)
    ax.set_axis_off()
fig.suptitle("Means (above) and samples (below)")

# %%
# Components are clusters
# -----------------------
# Each component is matched with one digit.
from skdeepgmm.metrics import clustering_accuracy

print(f"{clustering_accuracy(y_test, ours.predict(X_test)):.3f}")
