"""
Outliers in a Pipeline, beside IsolationForest
==============================================

:class:`skdeepgmm.DensityOutlierDetector` ranks samples by their density. Here it looks
for malignant samples among benign ones, in a Pipeline, and for outliers that a forest
of axis parallel cuts has trouble to see.
"""

# %%
# Rare samples of a table
# -----------------------
# 357 benign samples and 20 malignant ones. The detector sees all of them, unlabelled.
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import IsolationForest
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skdeepgmm import DensityOutlierDetector, GaussianMixture
from skdeepgmm.plotting import OutlierScoresDisplay

X, benign = load_breast_cancer(return_X_y=True)
rows = np.concatenate([np.flatnonzero(benign == 1), np.flatnonzero(benign == 0)[:20]])
X, truth = X[rows], np.where(benign[rows] == 1, 1, -1)

detectors = {
    "DensityOutlierDetector": make_pipeline(
        StandardScaler(), DensityOutlierDetector(contamination=0.05)
    ),
    "IsolationForest": make_pipeline(
        StandardScaler(), IsolationForest(contamination=0.05, random_state=0)
    ),
}
for name, detector in detectors.items():
    detector.fit(X)
    area = roc_auc_score(truth, detector.decision_function(X))
    print(f"{name}: area under the ROC curve {area:.3f}")

# %%
# Scores, threshold and ROC curve:
OutlierScoresDisplay.from_estimator(detectors["DensityOutlierDetector"], X, truth)

# %%
# Outliers between the features
# -----------------------------
# Two features that go together: each value of an outlier is ordinary by itself, the
# pair is not. A density with full covariances knows that; cuts along the axes hardly
# do.
rng = np.random.default_rng(0)
inliers = rng.normal(size=(500, 1)) @ [[1.0, 1.0]] + 0.1 * rng.normal(size=(500, 2))
outliers = rng.normal(size=(15, 1)) @ [[1.0, -1.0]] + [[0.0, 0.0]]
outliers = outliers[np.abs(outliers[:, 0]) > 0.4]
pairs = np.vstack([inliers, outliers])
truth = np.repeat([1, -1], [len(inliers), len(outliers)])

models = {
    "density": DensityOutlierDetector(GaussianMixture(1), contamination=0.03),
    "forest": IsolationForest(contamination=0.03, random_state=0),
}
fig, axes = plt.subplots(1, 2, figsize=(8, 3.4), layout="constrained", sharey=True)
for ax, (name, model) in zip(axes, models.items(), strict=True):
    found = model.fit_predict(pairs) == -1
    area = roc_auc_score(truth, model.decision_function(pairs))
    ax.scatter(*pairs.T, s=6, c=np.where(found, "C3", "0.6"))
    ax.set_title(f"{name}: area {area:.2f}")

# %%
# Neither is best everywhere; the guide has a table of ten public sets
# (:ref:`outliers`).
