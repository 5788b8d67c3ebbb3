"""
Choose the number of components
===============================

:class:`skdeepgmm.GaussianMixtureIC` tries all sizes and forms of the covariances on one
path of merges, and chooses by an information criterion. The data come from three
correlated Gaussians.
"""

# %%
# Search
# ------
import matplotlib.pyplot as plt
import numpy as np
from sklearn.model_selection import GridSearchCV

from skdeepgmm import GaussianMixture, GaussianMixtureIC
from skdeepgmm.metrics import bic_scorer
from skdeepgmm.plotting import CriterionDisplay, DensityDisplay

rng = np.random.RandomState(0)
shapes = [[[1.0, 0.8], [0.0, 0.4]], [[0.5, 0.0], [0.0, 1.5]], [[1.0, -0.9], [0.0, 0.4]]]
centers = [[0.0, 0.0], [5.0, 2.0], [0.0, 5.0]]
X = np.concatenate(
    [
        rng.randn(200, 2) @ shape + center
        for shape, center in zip(shapes, centers, strict=True)
    ]
)

search = GaussianMixtureIC(range(1, 9), random_state=0).fit(X)
print(f"{search.n_components_} components, {search.covariance_type_} covariances")

# %%
# The criterion has its minimum at the model that made the data.
CriterionDisplay.from_estimator(search)

# %%
# Three criteria
# --------------
# AIC has a smaller penalty, for prediction; ICL also penalises components that overlap,
# for clusters. Where groups are as plain as here, all agree.
for criterion in ("bic", "aic", "icl"):
    chosen = GaussianMixtureIC(range(1, 9), criterion=criterion, random_state=0).fit(X)
    print(f"{criterion}: {chosen.n_components_} {chosen.covariance_type_}")

# %%
# The chosen mixture
# ------------------
fig, ax = plt.subplots(figsize=(5, 4), layout="constrained")
DensityDisplay.from_estimator(search.best_estimator_, X, ax=ax)

# %%
# The same by GridSearchCV
# ------------------------
# One split with all rows on both sides gives the usual criterion on the training data.
# Each size is a fit of its own here.
rows = np.arange(len(X))
grid = GridSearchCV(
    GaussianMixture(n_init=3, random_state=0),
    {"n_components": range(1, 7), "covariance_type": ["full", "diag"]},
    scoring=bic_scorer,
    cv=[(rows, rows)],
).fit(X)
print(grid.best_params_)
