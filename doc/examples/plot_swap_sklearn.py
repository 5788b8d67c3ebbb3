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
import numpy as np
from sklearn import mixture
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import skdeepgmm
from skdeepgmm.metrics import clustering_accuracy
from skdeepgmm.plotting import (
    ComponentsDisplay,
    MatchedConfusionDisplay,
    SamplesDisplay,
)

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
# The means of the components, the heaviest first, with their weights:
drawn = {"image_shape": (8, 8), "n_columns": 10, "cmap": "gray_r"}
ComponentsDisplay.from_estimator(ours, **drawn)

# %%
# Random samples, with their components. Pixels vary independently of each other within
# a component, so that samples are noisier than images of digits.
SamplesDisplay.from_estimator(ours, n_samples=20, **drawn, vmin=0, vmax=16)

# %%
# Components are clusters
# -----------------------
# Each component is matched with one digit.
print(f"{clustering_accuracy(y_test, ours.predict(X_test)):.3f}")
MatchedConfusionDisplay.from_estimator(ours, X_test, y_test)
