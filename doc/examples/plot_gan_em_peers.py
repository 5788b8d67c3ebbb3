"""
GAN-EM beside ClustPy: published and re-run figures
===================================================

Papers on deep clustering state accuracies of their authors' own programs, on all
images of MNIST. Re-run with the defaults of a library, on fewer images and within
minutes, the same methods may give something else. This page shows both, from files of
the repository, and then fits a small model that you can run yourself.
"""

# %%
# Figures of MNIST
# ----------------
# *Re-run* is what a user gets: the library's defaults, 10,000 training images, one CPU
# core, accuracy on the test images, one seed of ClustPy's VaDE and DEC and five of
# k-means and ours. ``benchmarks/papers/gan_em.py`` measured it. *Published* is what the
# authors of a method reached: VaDE and DEC on all 70,000 images, GAN-EM on 60,000. The
# two bars of a method are therefore no contradiction, and only blue bars were measured
# on the same images.
import json
import tomllib
from pathlib import Path

import matplotlib.pyplot as plt
from sklearn.cluster import KMeans
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from skdeepgmm import GANEMClusterer
from skdeepgmm.metrics import clustering_accuracy
from skdeepgmm.plotting import MatchedConfusionDisplay

# Both files are in the repository: run this page in a copy of it.
folders = [path / "benchmarks" for path in (Path.cwd(), *Path.cwd().parents)]
folder = next(path for path in folders if path.is_dir())
measured = json.loads((folder / "results" / "gan_em_cpu.json").read_text())["figures"]
stated = tomllib.loads((folder / "papers" / "claims.toml").read_text())["peer"]

for peer in stated:
    mean, deviation, n_seeds = measured[f"mnist/mnist/K=10/{peer['model']}/accuracy"]
    minutes = measured[f"mnist/mnist/K=10/{peer['model']}/cpu_seconds"][0] / 60
    spread = "" if deviation is None else f" ± {deviation:.3f}"
    published = peer.get("published", "-")
    print(
        f"{peer['name']:8} re-run {mean:.3f}{spread:8} seeds {n_seeds} "
        f"{minutes:5.1f} min, published {published}"
    )

fig, ax = plt.subplots(figsize=(7, 2.8), layout="constrained")
for row, peer in enumerate(stated):
    again = measured[f"mnist/mnist/K=10/{peer['model']}/accuracy"][0]
    bars = ax.barh(row + 0.18, again, 0.34, color="C0", label="re-run")
    ax.bar_label(bars, fmt=" %.3f")
    if "published" in peer:
        bars = ax.barh(row - 0.18, peer["published"], 0.34, color="0.75")
        bars.set_label("published")
        ax.bar_label(bars, fmt=" %.3f")
ax.set_yticks(range(len(stated)), [peer["name"] for peer in stated])
ax.set(xlim=(0, 1.12), xlabel="accuracy, clusters matched to classes")
ax.legend(handles=ax.containers[-2:], loc="lower right", bbox_to_anchor=(1, 1), ncols=2)

# %%
# A quick fit of your own
# -----------------------
# Digits of 8 x 8 pixels, and a third of the default number of iterations.
X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X, y, random_state=0)
clusterer = GANEMClusterer(
    10, image_shape=(8, 8), max_iter=18, tol=0.05, random_state=0
).fit(X_train)
kmeans = KMeans(10, n_init=10, random_state=0).fit(X_train)

fig, axes = plt.subplots(1, 2, figsize=(10, 4.4), layout="constrained")
for ax, (name, model) in zip(
    axes, {"k-means": kmeans, "GAN-EM": clusterer}.items(), strict=True
):
    MatchedConfusionDisplay.from_estimator(model, X_test, y_test, ax=ax)
    accuracy = clustering_accuracy(y_test, model.predict(X_test))
    ax.set_title(f"{name}: accuracy {accuracy:.3f}")

# %%
# With all iterations, from equal weights, from the same file:
for model in ("KMeans", "GANEMClusterer init=uniform"):
    mean, deviation, n_seeds = measured[f"digits/digits/K=10/{model}/accuracy"]
    seconds = measured[f"digits/digits/K=10/{model}/cpu_seconds"][0]
    print(f"{model:27} {mean:.3f} ± {deviation:.3f}, {n_seeds} seeds, {seconds:4.1f} s")
