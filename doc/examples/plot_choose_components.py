"""
Choose the number of components
===============================

BIC, the Bayesian information criterion, as the score of a grid search. The data come
from three correlated Gaussians; the search tries one to six components and two
covariance types.
"""

# %%
# Data
# ----
import matplotlib.pyplot as plt
import numpy as np
from sklearn.model_selection import GridSearchCV

from skdeepgmm import GaussianMixture

rng = np.random.RandomState(0)
shapes = [[[1.0, 0.8], [0.0, 0.4]], [[0.5, 0.0], [0.0, 1.5]], [[1.0, -0.9], [0.0, 0.4]]]
centers = [[0.0, 0.0], [5.0, 2.0], [0.0, 5.0]]
X = np.concatenate(
    [
        rng.randn(200, 2) @ shape + center
        for shape, center in zip(shapes, centers, strict=True)
    ]
)


# %%
# Search
# ------
# A scorer is maximised, so it returns minus BIC. One split with all rows on both sides
# gives the usual criterion on the training data.
def negative_bic(estimator, X, y=None):
    return -estimator.bic(X)


rows = np.arange(len(X))
search = GridSearchCV(
    GaussianMixture(n_init=3, random_state=0),
    {"n_components": range(1, 7), "covariance_type": ["full", "diag"]},
    scoring=negative_bic,
    cv=[(rows, rows)],
).fit(X)
print(search.best_params_)

# %%
# The criterion has its minimum at the model that made the data.
fig, ax = plt.subplots()
results = search.cv_results_
for kind in ("full", "diag"):
    mine = results["param_covariance_type"] == kind
    ax.plot(
        results["param_n_components"][mine].astype(int),
        -results["mean_test_score"][mine],
        marker="o",
        label=kind,
    )
ax.set(xlabel="n_components", ylabel="BIC (nats, lower is better)")
ax.legend()
plt.show()
