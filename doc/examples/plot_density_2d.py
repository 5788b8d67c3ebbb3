"""
A density in the plane
======================

Contours of the density that a :class:`~skdeepgmm.GaussianMixture` learns, the ellipses
of its components, and what is to be seen where there are more than two features.
"""

# %%
# Two half moons
# --------------
# Curved groups take several Gaussians each. Contours hold the shares of the mass that
# are written in the display's page; ellipses are two standard deviations wide.
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_iris, make_moons

from skdeepgmm import GaussianMixture
from skdeepgmm.plotting import DensityDisplay

X, _ = make_moons(800, noise=0.08, random_state=0)
fig, axes = plt.subplots(1, 3, figsize=(10, 3), layout="constrained", sharey=True)
for ax, n_components in zip(axes, (1, 3, 8), strict=True):
    gm = GaussianMixture(n_components, init_params="merge", random_state=0).fit(X)
    DensityDisplay.from_estimator(gm, X, ax=ax)
    ax.set_title(f"{n_components} components, {gm.score(X):.2f} nats")

# %%
# Several features: pairs of them
# -------------------------------
# A marginal of a mixture is a mixture again, so that each pair has its own exact
# density.
flowers = load_iris(as_frame=True).data
gm = GaussianMixture(n_components=3, random_state=0).fit(flowers)
DensityDisplay.from_estimator(gm, flowers, features=[(0, 1), (2, 3)])

# %%
# A condition
# -----------
# Petals of 4.5 cm: what is left of the density of the sepals.
sepals = ["sepal length (cm)", "sepal width (cm)"]
near = gm.condition({"petal length (cm)": 4.5})
fig, axes = plt.subplots(1, 2, figsize=(8, 3), layout="constrained", sharey=True)
for ax, model, title in (
    (axes[0], gm.marginal(sepals), "all flowers"),
    (axes[1], near.marginal(sepals), "petal 4.5 cm"),
):
    DensityDisplay.from_estimator(model, flowers[sepals], ax=ax)
    ax.set_title(title)

# %%
# Its mean, in words:
expected = near.weights_ @ near.means_
for name, value in zip(near.feature_names_in_, expected, strict=True):
    print(f"{name}: {np.round(value, 1)}")
