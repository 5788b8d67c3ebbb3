"""
A fit on a dask cluster
=======================

:class:`skdeepgmm.GaussianMixture` takes dask arrays. Here two worker processes of this
machine read a data set chunk by chunk; on a real cluster only the first lines differ.
"""

# %%
# Data that nobody has in memory
# ------------------------------
# Each chunk is made by a function when it is needed, as it would be read from a file.
import dask
import dask.array as da
import matplotlib.pyplot as plt
import numpy as np

from skdeepgmm import GaussianMixture

CENTERS = np.array([[0, 0], [4, 1], [1, 5], [6, 6]])
ROWS = 20_000


@dask.delayed
def read(number):
    rng = np.random.default_rng(number)
    labels = rng.integers(len(CENTERS), size=ROWS)
    return CENTERS[labels] + rng.normal(size=(ROWS, 2)) * [1.0, 0.5]


chunks = [da.from_delayed(read(n), (ROWS, 2), float) for n in range(10)]
X = da.concatenate(chunks)
print(X)

# %%
# The fit
# -------
# A ``Client`` makes its cluster the one that dask uses. Without one the same call would
# read the chunks in threads of this process.
settings = {"n_components": 4, "random_state": 0, "tol": 1e-5}


def fit_on_cluster():
    from distributed import Client, LocalCluster

    with (
        LocalCluster(
            n_workers=2, threads_per_worker=1, processes=False, dashboard_address=None
        ) as cluster,
        Client(cluster),
    ):
        return GaussianMixture(**settings).fit(X)


gm = fit_on_cluster()
print("iterations:", gm.n_iter_, " log-likelihood:", round(gm.lower_bound_, 4))

# %%
# The same model
# --------------
# What a fit adds up does not depend on the workers: here are the same chunks in this
# process, and the array that they make.
here = GaussianMixture(**settings).fit(X)
array = GaussianMixture(**settings).fit(X.compute())
print("equal bits:", np.array_equal(gm.means_, here.means_))
print("largest gap to the array:", np.abs(gm.means_ - array.means_).max())

# %%
# Lazy results
# ------------
# ``predict`` returns a dask array and computes nothing before it is asked to.
labels = gm.predict(X)
print(labels)

part = X[: ROWS // 10].compute()
fig, ax = plt.subplots(figsize=(5, 4), layout="constrained")
ax.scatter(*part.T, c=labels[: ROWS // 10].compute(), s=4, cmap="tab10", alpha=0.6)
ax.scatter(*gm.means_.T, c="black", marker="x")
ax.set_title("Some of the rows, by component")
plt.show()
