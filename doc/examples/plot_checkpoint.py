"""
A fit that goes on after a kill
===============================

With ``checkpoint_path`` a fit writes down how far it has come. Whatever ends the
program, the same call goes on from there, and ends where it would have ended.
"""

# %%
# A power cut
# -----------
# An exception out of a callback stands for it, in the fifteenth of thirty epochs.
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

from skdeepgmm import SGDGaussianMixture
from skdeepgmm.plotting import TrainingCurveDisplay

X, _ = load_digits(return_X_y=True)


class PowerCut:
    """A callback of scikit-learn's protocol that raises in one epoch."""

    def __init__(self, epoch):
        self.epoch = epoch

    def setup(self, estimator, context):
        self.epochs = 0

    def on_fit_task_begin(self, estimator, context, **kwargs):
        pass

    def on_fit_task_end(self, estimator, context, **kwargs):
        self.epochs += 1
        if self.epochs == self.epoch:
            raise RuntimeError(f"power cut in epoch {self.epoch}")

    def teardown(self, estimator, context):
        pass


folder = tempfile.TemporaryDirectory()
checkpoint = Path(folder.name) / "digits.checkpoint"
settings = {"covariance_type": "diag", "reg_covar": 0.1, "tol": 1.0, "random_state": 0}

model = SGDGaussianMixture(10, checkpoint_path=checkpoint, **settings)
try:
    model.set_callbacks(PowerCut(15)).fit(X)
except RuntimeError as error:
    print(error)
print(f"left behind: {checkpoint.name}, {checkpoint.stat().st_size // 1024} KiB")

# %%
# The same call again
# -------------------
# It reads the checkpoint, does the rest, and removes it.
model.set_callbacks().fit(X)
print("epochs in all:", model.n_iter_)
print("checkpoint left:", checkpoint.exists())

# %%
# As if nothing had happened
# --------------------------
# The step in the curve is where surplus components are merged.
whole = SGDGaussianMixture(10, **settings).fit(X)
print("equal to the last bit:", np.array_equal(model.means_, whole.means_))

TrainingCurveDisplay.from_estimators({"resumed": model, "in one go": whole})
plt.show()
folder.cleanup()
