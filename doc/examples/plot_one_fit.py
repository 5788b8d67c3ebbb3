"""
One fit against ten restarts
============================

EM ends in the optimum next to where it began. The usual way out is to begin ten times.
A fit with ``init_params="merge"`` begins once, with twice as many components, and
merges pairs of them where that costs the least likelihood.
"""

# %%
# Twenty groups
# -------------
# Twenty Gaussians of unequal weights and shapes in six dimensions. k-means puts two
# means into one group and one between two others, and EM does not part them.
import time

import matplotlib.pyplot as plt
import numpy as np

from skdeepgmm import GaussianMixture
from skdeepgmm.plotting import DensityDisplay

N_COMPONENTS, N_FEATURES = 20, 6
rng = np.random.default_rng(4)
weights = rng.dirichlet(np.full(N_COMPONENTS, 2.0))
means = 4 * rng.normal(size=(N_COMPONENTS, N_FEATURES))
factors = [
    np.diag(np.exp(0.5 * rng.normal(size=N_FEATURES)))
    @ np.linalg.qr(rng.normal(size=(N_FEATURES, N_FEATURES)))[0]
    for _ in range(N_COMPONENTS)
]
truth = GaussianMixture.from_parameters(weights, means, [A.T @ A for A in factors])
X_train, X_test = (truth.sample(3000, random_state=seed)[0] for seed in (0, 1))


def fitted(**settings):
    """Return a mixture of twenty, its score on unseen samples and seconds of work."""
    start = time.process_time()
    gm = GaussianMixture(N_COMPONENTS, max_iter=300, **settings).fit(X_train)
    return gm, gm.score(X_test), time.process_time() - start


single = [fitted(random_state=seed) for seed in range(10)]
ten = fitted(n_init=10, random_state=0)
one = fitted(init_params="merge", random_state=0)

scores = np.array([score for _, score, _ in single])
print(f"ten single fits:    {scores.min():.2f} to {scores.max():.2f} nats")
print(f"the best of ten:    {ten[1]:.2f} nats, {ten[2] / one[2]:.1f} times the work")
print(f"one fit, merging:   {one[1]:.2f} nats")
print(f"the true mixture:   {truth.score(X_test):.2f} nats")

# %%
# Every restart, and the one
# --------------------------
fig, ax = plt.subplots(figsize=(6, 2.6), layout="constrained")
ax.plot(np.arange(10), scores, "o", label="single fits from k-means")
ax.axhline(ten[1], ls=":", color="C0", label="the best of ten")
ax.axhline(one[1], color="C1", label="one fit, merging")
ax.axhline(truth.score(X_test), ls="--", color="0.6", label="the true mixture")
ax.set(xlabel="random_state", ylabel="nats per unseen sample")
ax.legend(fontsize="small")

# %%
# The worst single fit, and the merged one
# ----------------------------------------
# Two of the six features. On easy data, of few groups far apart, all of these fits are
# the same, and the plain one is enough.
fig, axes = plt.subplots(1, 2, figsize=(9, 4), layout="constrained", sharey=True)
worst = single[int(scores.argmin())]
for ax, (gm, score, _), name in (
    (axes[0], worst, "worst single fit"),
    (axes[1], one, "merging"),
):
    DensityDisplay.from_estimator(gm, X_test, ax=ax)
    ax.set_title(f"{name}, {score:.2f} nats")
