"""Pictures of the MinMax+EM experiments: curves, samples, walks, maps."""

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from cycler import cycler
from sklearn.manifold import TSNE

#: Images of the map of the latent space.
MAPPED = 1500


def curves(path, records, name):
    """Draw accuracy against the share of labels, mean and deviation over seeds."""
    fig, ax = plt.subplots(figsize=(5, 5), layout="constrained")
    ax.set_prop_cycle(cycler(marker=["o", "^"]) * plt.rcParams["axes.prop_cycle"])
    for model in records.distinct("model", data=name):
        shares = sorted(map(float, records.distinct("alpha", data=name, model=model)))
        found = [
            records.values("accuracy", data=name, model=model, alpha=share)
            for share in shares
        ]
        means, errors = [v.mean() for v in found], [v.std() for v in found]
        ax.errorbar(shares, means, errors, capsize=2, label=model)
    ax.set_xscale("symlog", linthresh=0.01)
    ax.set(xlabel="share of labelled images", ylabel="accuracy on the others")
    ax.set_title(name)
    fig.legend(fontsize="small", loc="outside lower center", ncols=2)
    fig.savefig(path, dpi=120)
    plt.close(fig)


def pictures(stem, model, data):
    """Write samples, interpolations and a map of the latent space."""
    X_test, y_test, shape = data[2:]
    samples = [model.sample(12, cluster=k)[0] for k in range(model.n_clusters)]
    _grid(f"{stem}_samples.png", samples, shape)
    pairs = [(X_test[2 * i], X_test[2 * i + 1]) for i in range(8)]
    walks = [model.interpolate(a, b, n_samples=12) for a, b in pairs]
    _grid(f"{stem}_interpolations.png", walks, shape)
    _map(f"{stem}_latents.png", model.transform(X_test[:MAPPED]), y_test[:MAPPED])


def _grid(path, rows, shape):
    fig, axes = plt.subplots(
        len(rows), len(rows[0]), figsize=(6, 0.5 * len(rows)), layout="constrained"
    )
    for line, images in zip(axes, rows, strict=True):
        for ax, image in zip(line, images, strict=True):
            ax.imshow(np.clip(image, 0, 1).reshape(shape), cmap="gray", vmin=0, vmax=1)
            ax.set_axis_off()
    fig.savefig(path, dpi=120)
    plt.close(fig)


def _map(path, Z, y):
    Z = TSNE(random_state=0).fit_transform(Z)
    fig, ax = plt.subplots(figsize=(5, 5), layout="constrained")
    ax.scatter(*Z.T, c=y, cmap="tab10", s=4)
    ax.set_title("latents, t-SNE")
    fig.savefig(path, dpi=120)
    plt.close(fig)
