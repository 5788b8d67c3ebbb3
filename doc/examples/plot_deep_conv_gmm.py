"""
Draw, vary and fill images of digits
====================================

:class:`skdeepgmm.DeepConvGMM` describes patches of an image by one mixture and their
arrangement by another. Here it learns the 8 x 8 digits that ship with scikit-learn,
without labels, and goes up and down its layers.
"""

# %%
# A stack of layers
# -----------------
# Patches of 4 x 4 pixels, 25 kinds of them; 30 kinds of arrangements on top.
import numpy as np
from sklearn.datasets import load_digits
from sklearn.metrics import normalized_mutual_info_score, roc_auc_score
from sklearn.model_selection import train_test_split

from skdeepgmm import DeepConvGMM, GaussianMixture
from skdeepgmm.layers import Folding, Mixture
from skdeepgmm.plotting import LayersDisplay, SamplesDisplay

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X, y, random_state=0)

model = DeepConvGMM(
    layers=[Folding(4), Mixture(25), Folding(), Mixture(30)],
    image_shape=(8, 8),
    max_iter=30,
    random_state=0,
).fit(X_train)

nmi = normalized_mutual_info_score(y_test, model.predict(X_test))
print(f"components in use: {model.usage_}")
print(f"mutual information of components and digits: {nmi:.2f}")

# %%
# What the layers became
# ----------------------
# Patches of the first mixture, the alphabet, and the mean images of the top, which say
# which patches are where.
LayersDisplay.from_estimator(model, cmap="gray_r")

# %%
# New digits
# ----------
# First with the noise of all layers:
drawn = {"n_samples": 32, "n_columns": 16, "vmin": 0, "vmax": 16, "cmap": "gray_r"}
SamplesDisplay.from_estimator(model, **drawn)

# %%
# A temperature for each mixture, from the image up: no noise of pixels, but the full
# variety of arrangements. Sharpening moves overlapping patches to where they agree.
settings = {"temperature": (0, 1), "sharpening": True}
SamplesDisplay.from_estimator(model, sample_params=settings, **drawn)

# %%
# Flat, deep, and deep with factors
# ---------------------------------
# Two rows each: a flat diagonal mixture of 60 components, the stack from above, and one
# with low-rank layers. Its patches pass up how they are shaped, and a component of its
# top is a family of digits.
shaped = Mixture(
    25, covariance_type="low_rank", rank=4, output="responsibilities+factors"
)
families = Mixture(30, covariance_type="low_rank", rank=4)
factored = DeepConvGMM(
    layers=[Folding(4), shaped, Folding(), families],
    image_shape=(8, 8),
    max_iter=30,
    random_state=0,
).fit(X_train)
flat = GaussianMixture(60, covariance_type="diag", reg_covar=0.1, random_state=0).fit(
    X_train
)
rows = [
    flat.sample(32)[0],
    model.sample(32, temperature=(0, 1))[0],
    factored.sample(32, temperature=(0, 1))[0],
]
display = SamplesDisplay(np.vstack(rows), image_shape=(8, 8))
display.plot(n_columns=16, vmin=0, vmax=16, cmap="gray_r")
display.ax_.set_title("flat, deep, deep with factors")

# %%
# Variants and missing parts
# --------------------------
# Row by row: the originals, the same patches drawn anew, the same component of the top
# drawn anew, images whose lower half is missing, and these filled in.
originals = X_test[:16]
missing = np.zeros((8, 8), dtype=bool)
missing[4:] = True
rows = [
    originals,
    model.sample_variants(originals, layer=0, temperature=0),
    model.sample_variants(originals, layer=-1, temperature=(0, 1)),
    np.where(missing.ravel(), 0, originals),
    model.inpaint(originals, missing),
]
display = SamplesDisplay(np.vstack(rows), image_shape=(8, 8))
display.plot(n_columns=16, vmin=0, vmax=16, cmap="gray_r")
display.ax_.set_title("originals, patches kept, component kept, given, filled")

# %%
# Digits on request
# -----------------
# A hundred labels name the components; the mixtures do not learn from them.
labels = np.where(np.arange(len(y_train)) < 100, y_train, -1)
model.set_params(semi_supervised=True).fit(X_train, labels)
digits = [model.sample(16, y=digit, **settings)[0] for digit in (2, 5, 8)]
display = SamplesDisplay(np.vstack(digits), image_shape=(8, 8))
display.plot(n_columns=16, vmin=0, vmax=16, cmap="gray_r")
display.ax_.set_title("2, 5 and 8")

# %%
# Outliers
# --------
# Trained without one digit, the score of the top layer finds it again.
inlier = y_train != 4
model.set_params(semi_supervised=False).fit(X_train[inlier])
auroc = roc_auc_score(y_test != 4, model.score_samples(X_test))
print(f"AUROC of the digit 4 among the others: {auroc:.2f}")
