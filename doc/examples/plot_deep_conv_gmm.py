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
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.metrics import normalized_mutual_info_score, roc_auc_score
from sklearn.model_selection import train_test_split

from skdeepgmm import DeepConvGMM
from skdeepgmm.layers import Folding, Mixture

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


def show(rows, titles):
    """Draw rows of images."""
    size = (0.55 * len(rows[0]), 0.75 * len(rows))
    _, axes = plt.subplots(len(rows), 1, figsize=size, layout="constrained")
    for ax, row, title in zip(np.atleast_1d(axes), rows, titles, strict=True):
        tiles = np.pad(row.reshape(-1, 8, 8), ((0, 0), (0, 0), (0, 1)))
        ax.imshow(np.hstack(list(tiles)), cmap="gray_r", vmin=0, vmax=16)
        ax.set_title(title, fontsize=8, loc="left")
        ax.set_axis_off()


# %%
# What the components became
# --------------------------
# ``means_`` are the mean images of the top components, from the top down.
show(np.array_split(model.means_, 2), ["means", ""])

# %%
# New digits
# ----------
# A temperature for each mixture, from the image up: no noise of pixels, but the full
# variety of arrangements. Sharpening moves overlapping patches to where they agree.
settings = {"temperature": (0, 1)}
order = np.random.default_rng(0).permutation(100)[:16]
noisy = model.sample(100)[0][order]
plain = model.sample(100, **settings)[0][order]
sharp = model.sample(100, **settings, sharpening=True)[0][order]
show(
    [noisy, plain, sharp],
    ["samples", "without the noise of pixels", "sharpened"],
)

# %%
# Variants and missing parts
# --------------------------
originals = X_test[:16]
missing = np.zeros((8, 8), dtype=bool)
missing[4:] = True
show(
    [
        originals,
        model.sample_variants(originals, layer=0, temperature=0),
        model.sample_variants(originals, layer=-1, **settings),
        np.where(missing.ravel(), 0, originals),
        model.inpaint(originals, missing),
    ],
    ["originals", "patches kept", "component kept", "lower half missing", "filled"],
)

# %%
# Digits on request
# -----------------
# A hundred labels name the components; the mixtures do not learn from them.
labels = np.where(np.arange(len(y_train)) < 100, y_train, -1)
model.set_params(semi_supervised=True).fit(X_train, labels)
digits = [model.sample(16, y=digit, **settings)[0] for digit in (2, 5, 8)]
show(digits, ["2", "5", "8"])

# %%
# Outliers
# --------
# Trained without one digit, the score of the top layer finds it again.
inlier = y_train != 4
model.set_params(semi_supervised=False).fit(X_train[inlier])
auroc = roc_auc_score(y_test != 4, model.score_samples(X_test))
print(f"AUROC of the digit 4 among the others: {auroc:.2f}")
