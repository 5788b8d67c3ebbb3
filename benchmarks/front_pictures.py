"""The strip of pictures on top of README and of the home page, from fitted models.

    SKDEEPGMM_DATA=folder python benchmarks/front_pictures.py [--model clusters.skdg]

Clusters of MNIST that were found without labels, with images drawn from each; the lower
half of test digits filled in; a noisy photograph (NASA, public domain; from
scikit-image) denoised; the density of points in the plane. Needs ``pip install
scikit-image matplotlib`` and seven minutes of a CPU core, most of it for the clusters,
which ``--model`` keeps and takes again.
"""

import argparse
from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use("Agg")

from matplotlib import pyplot as plt
from sklearn.datasets import make_moons

import skdeepgmm
from skdeepgmm import GANEMClusterer, GaussianMixture, PatchGMMDenoiser
from skdeepgmm.datasets import fetch_mnist
from skdeepgmm.metrics import clustering_accuracy, psnr

TARGET = Path(__file__).parents[1] / "doc" / "_static" / "front.png"
N_TRAIN = 10_000
SIDE = 28
INK = "#222222"


def digits(subset, n_rows=N_TRAIN):
    """Return rows of pixels in [0, 1] and classes."""
    data = fetch_mnist(subset=subset)
    return data.data[:n_rows], data.target[:n_rows]


def clusterer(path):
    """Return the clusterer of MNIST, fitted or read."""
    if path is not None and path.exists():
        return skdeepgmm.load(path)
    model = GANEMClusterer(10, image_shape=(SIDE, SIDE), random_state=1, verbose=1)
    model.fit(digits("train")[0])
    if path is not None:
        skdeepgmm.save(model, path)
    return model


def mosaic(rows):
    """Return images of shape (rows, columns, side, side) as one, with white gaps."""
    padded = np.pad(rows, ((0, 0), (0, 0), (1, 1), (1, 1)), constant_values=0.0)
    n, m, height, width = padded.shape
    return padded.transpose(0, 2, 1, 3).reshape(n * height, m * width)


def draw_clusters(ax, path, n_real=3, n_drawn=3):
    """Draw test images of each cluster above images drawn from it."""
    model, (X, y) = clusterer(path), digits("test")
    labels, rng = model.predict(X), np.random.default_rng(0)
    print("test accuracy", clustering_accuracy(y, labels))
    order = np.argsort(
        [np.bincount(y[labels == k], minlength=10).argmax() for k in range(10)]
    )
    real = [X[rng.choice(np.flatnonzero(labels == k), n_real, False)] for k in order]
    drawn = [model.sample(n_drawn, cluster=int(k))[0] for k in order]
    both = np.concatenate([np.array(real), np.array(drawn)], axis=1)
    image = mosaic(both.reshape(10, -1, SIDE, SIDE).transpose(1, 0, 2, 3))
    ax.imshow(1 - image, cmap="gray", vmin=0, vmax=1)
    ax.axhline(n_real * (SIDE + 2) - 0.5, color="tab:orange", lw=1.5)
    ax.set_title("Clusters found without labels,\nand images drawn from each")


def draw_inpainting(ax):
    """Draw digits, what is known of them, and what a low-rank mixture fills in."""
    X, _ = digits("train", 20_000)
    mixture = GaussianMixture(
        50, covariance_type="low_rank", rank=10, reg_covar=1e-3, tol=1.0, random_state=0
    ).fit(X)
    true = digits("test", 6)[0]
    known = true.copy()
    known[:, 14 * SIDE :] = np.nan
    filled = np.clip(mixture.impute(known), 0, 1)
    rows = np.array([np.nan_to_num(known, nan=0.35), filled, true])
    image = mosaic(rows.reshape(3, -1, SIDE, SIDE))
    ax.imshow(1 - image, cmap="gray", vmin=0, vmax=1)
    ax.set_title("Missing halves, filled in,\nand the true digits")


def draw_denoising(ax):
    """Draw half of a photograph with noise, half denoised."""
    from skimage import data

    clean = data.astronaut()[0:220, 110:330] / 255
    noisy = clean + 25 / 255 * np.random.default_rng(0).normal(size=clean.shape)
    denoiser = PatchGMMDenoiser.pretrained(sigma=25 / 255, data_range=1)
    restored = denoiser.transform([noisy])[0]
    print("PSNR", *(psnr(clean, image, data_range=1) for image in (noisy, restored)))
    half = clean.shape[1] // 2
    image = np.concatenate([noisy[:, :half], restored[:, half:]], axis=1)
    ax.imshow(np.clip(image, 0, 1))
    ax.axvline(half - 0.5, color="white", lw=1.5)
    ax.set_title("A noisy photograph,\ndenoised (right)")


def draw_density(ax):
    """Draw points in the plane with contours of their density."""
    X, _ = make_moons(1000, noise=0.09, random_state=0)
    mixture = GaussianMixture(12, random_state=0).fit(X)
    x, y = np.meshgrid(np.linspace(-1.6, 2.6, 200), np.linspace(-1.2, 1.7, 200))
    grid = np.column_stack([x.ravel(), y.ravel()])
    log_density = mixture.score_samples(grid).reshape(x.shape)
    ax.contourf(x, y, log_density, np.linspace(-6, 0.5, 14), cmap="Blues", extend="min")
    ax.plot(*X[:300].T, ".", ms=2, color=INK)
    ax.set_title("A density in the plane,\nexact EM")
    ax.set_aspect("equal")


def main():
    """Fit and draw."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", type=Path, help="file of the fitted clusterer")
    parser.add_argument("--out", type=Path, default=TARGET)
    args = parser.parse_args()
    plt.rcParams.update({"font.size": 8, "axes.titlesize": 9})
    figure, axes = plt.subplots(
        1, 4, figsize=(11, 2.6), width_ratios=[1.67, 2, 1, 1.45], layout="constrained"
    )
    draw_clusters(axes[0], args.model)
    draw_inpainting(axes[1])
    draw_denoising(axes[2])
    draw_density(axes[3])
    for ax in axes:
        ax.set_axis_off()
    args.out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(args.out, dpi=130, facecolor="white", bbox_inches="tight")
    print(f"wrote {args.out}: {args.out.stat().st_size / 1024:.0f} KiB")


if __name__ == "__main__":
    main()
