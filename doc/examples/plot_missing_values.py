"""
Fit and fill data with missing values
=====================================

``NaN`` marks a missing entry. :class:`skdeepgmm.GaussianMixture` is fitted to the
observed entries alone; nothing is filled in first. The fitted density then tells what
the missing entries may have been.
"""

# %%
# Two curved groups with holes
# ----------------------------
# 40 % of all entries are deleted at random.
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import make_moons
from sklearn.impute import SimpleImputer

from skdeepgmm import GaussianMixture
from skdeepgmm.plotting import DensityDisplay, SamplesDisplay

rng = np.random.default_rng(0)
X, _ = make_moons(1000, noise=0.08, random_state=0)
holed = np.where(rng.random(X.shape) < 0.4, np.nan, X)
holed = holed[~np.isnan(holed).all(axis=1)]

gm = GaussianMixture(n_components=8, random_state=0).fit(holed)
print(f"rows without a hole:   {np.sum(~np.isnan(holed).any(axis=1))} of {len(holed)}")
print(f"log-density of all rows of X: {gm.score(X):.3f} nats")

# %%
# One value, or draws
# -------------------
# Where the second coordinate of a point is missing, several values may be possible.
# :meth:`~skdeepgmm.GaussianMixture.impute` returns their mean, the value of least
# squared error, which may lie between the groups;
# :meth:`~skdeepgmm.GaussianMixture.sample_conditional` draws from all of them. Filled
# points are orange, over the density that the mixture learned from the others' holes.
mean = gm.impute(holed)
draws = gm.sample_conditional(holed, n_samples=1)[0]
filled_by_mean = SimpleImputer().fit_transform(holed)

fig, axes = plt.subplots(1, 3, figsize=(9, 2.8), layout="constrained")
titles = ("mean of each column", "impute", "sample_conditional")
was_filled = np.isnan(holed).any(axis=1)
for ax, rows, title in zip(axes, (filled_by_mean, mean, draws), titles, strict=True):
    DensityDisplay.from_estimator(gm, rows[~was_filled], ax=ax, ellipses=False)
    ax.scatter(*rows[was_filled].T, s=4, color="C1", label="filled")
    ax.set_title(title)

# %%
# In-painting of digits
# ---------------------
# Missing pixels are missing entries: the lower half of images of 8 x 8 pixels from the
# upper half, by a mixture of factor analysers.
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

digits = load_digits().data / 16
train, test = train_test_split(digits, test_size=300, random_state=0)
images = GaussianMixture(
    n_components=15,
    covariance_type="low_rank",
    rank=6,
    reg_covar=1e-2,
    tol=0.01,
    random_state=0,
).fit(train)

half = test.copy()
half[:, 32:] = np.nan
filled = images.impute(half)


def error(rows):
    """Root mean square error of the hidden half."""
    return np.sqrt(np.mean((rows - test)[:, 32:] ** 2))


mean_image = np.broadcast_to(train.mean(axis=0), test.shape)
print(f"mean image: {error(mean_image):.3f}")
print(f"mixture:    {error(filled):.3f}")

# %%
# Above the true digits, then what is given, the conditional mean and one draw.
rows = (test, np.nan_to_num(half), filled, images.sample_conditional(half[:12])[0])
display = SamplesDisplay(np.vstack([row[:12] for row in rows]), image_shape=(8, 8))
display.plot(n_columns=12, vmin=0, vmax=1, cmap="gray_r")
display.ax_.set_title("true, given, conditional mean, one draw")
