"""
Train a mixture by stochastic gradients
=======================================

:class:`skdeepgmm.SGDGaussianMixture` starts from random values, without k-means, and
learns from mini-batches. Its annealed objective moves all components together at first
and lets them part later. Here it learns images of digits, beside EM.
"""

# %%
# Two ways to the same model
# --------------------------
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from skdeepgmm import GaussianMixture, SGDGaussianMixture
from skdeepgmm.plotting import TrainingCurveDisplay

X, _ = load_digits(return_X_y=True)
X_train, X_test = train_test_split(X, random_state=0)

settings = {
    "n_components": 10,
    "covariance_type": "diag",
    "reg_covar": 0.1,
    "random_state": 0,
}
em = GaussianMixture(**settings).fit(X_train)
sgd = SGDGaussianMixture(tol=1.0, **settings).fit(X_train)

print(f"EM : {em.score(X_test):8.2f} nats per held-out image")
print(f"SGD: {sgd.score(X_test):8.2f} nats per held-out image")

# %%
# The course of training
# ----------------------
# One value for every epoch. While components are annealed the objective is another one;
# the step at two thirds is where surplus components are merged.
TrainingCurveDisplay.from_estimator(sgd)

# %%
# What the components became
# --------------------------
fig, axes = plt.subplots(2, 10, figsize=(8, 2), layout="constrained")
for ax, image in zip(axes.flat, np.vstack([em.means_, sgd.means_]), strict=True):
    ax.imshow(image.reshape(8, 8), cmap="gray_r", vmin=0, vmax=16)
    ax.set_axis_off()
fig.suptitle("Means by EM (above) and by SGD (below)")

# %%
# A stream
# --------
# ``partial_fit`` learns from one chunk after another and keeps none of them.
stream = SGDGaussianMixture(**settings)
for chunk in np.array_split(X_train, 10):
    stream.partial_fit(chunk)
print(f"after one pass: {stream.score(X_test):8.2f} nats per held-out image")
