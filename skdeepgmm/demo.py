"""Cluster, score and sample images of digits: ``python -m skdeepgmm.demo``.

Fits scikit-learn's KMeans and GaussianMixture and every mixture of this package to the
8 x 8 digits that ship with scikit-learn, prints one table and leaves pictures.
"""

import argparse
import importlib
import textwrap
import time
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import sklearn.mixture
from sklearn.base import clone
from sklearn.cluster import KMeans
from sklearn.metrics import (
    adjusted_rand_score,
    normalized_mutual_info_score,
    roc_auc_score,
)
from sklearn.model_selection import train_test_split

import skdeepgmm
from skdeepgmm.datasets import load_digits_images
from skdeepgmm.metrics import clustering_accuracy

N_CLUSTERS = 10

# Some pixels are blank in every image of a cluster, where a Gaussian would become
# infinitely narrow. A variance of 0.01 is a noise of a tenth of the grey scale, about
# 1.6 of the 16 grey levels. All mixtures get the same, for the log-likelihood depends
# on it.
NOISE_VARIANCE = 0.01

_FLAT = {"covariance_type": "diag", "reg_covar": NOISE_VARIANCE}
# Our estimators with their settings; a new one needs a line here and nothing else.
OURS = {
    "GaussianMixture": {"n_components": N_CLUSTERS, "n_init": 3, **_FLAT},
    # 100 epochs: the default of 30 is meant for data sets of many more batches.
    "SGDGaussianMixture": {
        "n_components": N_CLUSTERS,
        "max_iter": 100,
        **_FLAT,
    },
    "DeepConvGMM": {
        "n_components": N_CLUSTERS,
        "image_shape": (8, 8),
        "max_iter": 60,
    },
    # A part of the default length, to keep the demonstration short.
    "GANEMClusterer": {
        "n_clusters": N_CLUSTERS,
        "image_shape": (8, 8),
        "max_iter": 25,
    },
    "MinMaxEMClusterer": {
        "n_clusters": N_CLUSTERS,
        "image_shape": (8, 8),
        "max_iter": 12,
    },
}
# Their scores are log-likelihoods of latents or responsibilities, not of images.
LATENT_SCORES = {"DeepConvGMM", "MinMaxEMClusterer"}


@dataclass(frozen=True)
class Row:
    """One line of the table, with the fitted model it belongs to."""

    label: str
    model: object
    accuracy: float
    nmi: float
    ari: float
    log_likelihood: float | None
    seconds: float


def models(seed):
    """Return {label: unfitted estimator} in the order of the table."""
    peers = {
        "sklearn KMeans": KMeans(N_CLUSTERS, n_init=3, random_state=seed),
        "sklearn GaussianMixture": sklearn.mixture.GaussianMixture(
            N_CLUSTERS, n_init=3, random_state=seed, **_FLAT
        ),
    }
    ours = {
        name: getattr(skdeepgmm, name)(**settings, random_state=seed)
        for name, settings in OURS.items()
    }
    return peers | ours


def split(seed, quick):
    """Return training and held-out images and labels, a quarter held out."""
    X, y = load_digits_images(return_X_y=True)
    if quick:
        X, y = X[:600], y[:600]
    return train_test_split(X, y, test_size=0.25, stratify=y, random_state=seed)


def evaluate(label, model, data):
    """Fit one model and measure it on the held-out images."""
    X_train, X_test, _, y_test = data
    model, seconds = fit_with_progress(model, X_train)
    predicted = model.predict(X_test)
    has_density = hasattr(model, "score_samples") and label not in LATENT_SCORES
    return Row(
        label,
        model,
        clustering_accuracy(y_test, predicted),
        normalized_mutual_info_score(y_test, predicted),
        adjusted_rand_score(y_test, predicted),
        float(np.mean(model.score_samples(X_test))) if has_density else None,
        seconds,
    )


def _installed(name):
    try:
        importlib.import_module(name)
    except ImportError:
        return False
    return True


def fit_with_progress(model, X):
    """Fit; show scikit-learn's progress bar where rich and the model allow it."""
    bar = _installed("rich") and hasattr(model, "set_callbacks")
    if bar:
        from sklearn.callback import ProgressBar

        model.set_callbacks(ProgressBar())
    start = time.perf_counter()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.fit(X)
    seconds = time.perf_counter() - start
    print_warnings(caught)
    if bar:
        model.set_callbacks()
    return model, seconds


def print_warnings(caught):
    """Print what a fit warned of, once each, without the lines of source code."""
    for text in dict.fromkeys(f"{w.category.__name__}: {w.message}" for w in caught):
        print(textwrap.fill(text, 80, initial_indent="  ", subsequent_indent="    "))


def evaluate_all(data, seed):
    """Fit every model, announcing each."""
    candidates = models(seed)
    rows = []
    for number, (label, model) in enumerate(candidates.items(), start=1):
        print(f"[{number}/{len(candidates)}] {label} ...", flush=True)
        rows.append(evaluate(label, model, data))
    return rows


def format_table(rows):
    """Return the table as text of at most 80 columns."""
    head = f"{'estimator':<25}{'ACC':>8}{'NMI':>8}{'ARI':>8}{'log-lik.':>10}{'sec.':>8}"
    lines = [head, "-" * len(head)]
    for row in rows:
        density = "-" if row.log_likelihood is None else f"{row.log_likelihood:.2f}"
        lines.append(
            f"{row.label:<25}{row.accuracy:>8.3f}{row.nmi:>8.3f}{row.ari:>8.3f}"
            f"{density:>10}{row.seconds:>8.2f}"
        )
    return "\n".join(lines)


def outlier_aurocs(model, data):
    """Leave each digit out of the training set in turn; AUROC of finding it again."""
    X_train, X_test, y_train, y_test = data
    aurocs = []
    for digit in range(N_CLUSTERS):
        detector = skdeepgmm.DensityOutlierDetector(clone(model))
        detector.fit(X_train[y_train != digit])
        inlier = y_test != digit
        aurocs.append(roc_auc_score(inlier, detector.score_samples(X_test)))
    return np.array(aurocs)


def print_outliers(data, seed):
    """Print one line about outlier detection."""
    settings = OURS["GaussianMixture"] | {"n_init": 1, "random_state": seed}
    aurocs = outlier_aurocs(skdeepgmm.GaussianMixture(**settings), data)
    hardest = int(aurocs.argmin())
    print(
        "Outliers: fitted to nine digits, DensityOutlierDetector finds the tenth with\n"
        f"AUROC {aurocs.mean():.3f} (mean of ten; lowest {aurocs[hardest]:.3f}, digit "
        f"{hardest})."
    )


def draw_pictures(rows, out):
    """Write the pictures of our estimators; returns their paths."""
    import matplotlib.pyplot as plt

    from skdeepgmm import plotting

    shape = {"image_shape": (8, 8), "vmin": 0, "vmax": 1}
    paths = []
    for row in rows:
        if row.label not in OURS:
            continue
        displays = {
            "means": plotting.ComponentsDisplay.from_estimator(row.model, **shape),
            "samples": plotting.SamplesDisplay.from_estimator(row.model, **shape),
            "training": plotting.TrainingCurveDisplay.from_estimator(row.model),
        }
        for kind, display in displays.items():
            paths.append(out / f"{row.label}_{kind}.png")
            display.figure_.savefig(paths[-1], dpi=150)
            plt.close(display.figure_)
    return paths


def write_pictures(rows, out):
    """Draw, or say what is missing."""
    if not _installed("matplotlib"):
        print("Pictures need matplotlib: pip install 'skdeepgmm[plot]'.")
        return
    import matplotlib

    matplotlib.use("Agg")  # files only: works without a display
    out.mkdir(parents=True, exist_ok=True)
    paths = draw_pictures(rows, out)
    print(f"Pictures in {out.resolve()}:")
    for path in paths:
        print(f"  {path.name}")


def parse_arguments(arguments=None):
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m skdeepgmm.demo", description=__doc__
    )
    parser.add_argument(
        "--out", type=Path, default=Path("demo_output"), help="folder of the pictures"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of split and fits")
    parser.add_argument("--quick", action="store_true", help="use 600 images only")
    return parser.parse_args(arguments)


def main(arguments=None):
    """Run the demonstration.

    Parameters
    ----------
    arguments : list of str, default=None
        Options; None takes those of the command line.
    """
    options = parse_arguments(arguments)
    data = split(options.seed, options.quick)
    print(
        f"Digits of 8 x 8 pixels in [0, 1]: {len(data[0])} training images, "
        f"{len(data[1])} held out,\n{N_CLUSTERS} clusters, seed {options.seed}\n"
    )
    rows = evaluate_all(data, options.seed)
    print(f"\n{format_table(rows)}\n")
    print(
        "ACC: one-to-one accuracy; NMI, ARI: agreement with the classes; log-lik.:\n"
        "nats per image; all on the held-out images. sec.: time of the fit. No fit\n"
        "sees a label.\n"
    )
    print_outliers(data, options.seed)
    write_pictures(rows, options.out)


if __name__ == "__main__":
    main()
