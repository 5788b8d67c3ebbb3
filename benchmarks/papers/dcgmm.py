"""Deep convolutional mixtures against flat ones: the experiments of the DCGMM papers.

    SKDEEPGMM_DATA=folder python benchmarks/papers/dcgmm.py [--parts ...]

Parts, each on MNIST and FashionMNIST:

* ``cost``: preset B on all 60,000 training images, its full schedule: seconds, peak
  memory, images scored a second, usage of the components.
* ``clustering``: NMI and purity of the top layer on the test images, and NMI of
  k-means on ``transform``, against flat mixtures of the same number of components.
* ``sampling``: 10,000 drawn images against the training images: number of
  statistically different bins (NDB), Jensen-Shannon divergence, Frechet distance of
  the hidden features of a small classifier; against flat mixtures of the same number
  of top components and of about the same number of parameters. With and without
  sharpening: log-likelihood of the top layer and gradient energy.
* ``inpainting``: the lower half of test images, PSNR of the filled part against the
  flat mixture's conditional mean and the training mean.
* ``outliers``: nine classes are the training data, the tenth of the test set is to be
  found: area under the ROC curve for every class, against flat mixtures, PCA's
  reconstruction error, kernel density and isolation forest.

Labels choose nothing: they only measure. Every row is written when it is measured, and
a run skips what the file holds. ``--report`` writes the tables from the file.
"""

import argparse
import time
import warnings
from functools import partial

import numpy as np
from _dcgmm_measures import frechet_distance, gradient_energy, hidden_features
from _dcgmm_report import write_report
from _records import RESULTS, Records, harness

from skdeepgmm import DeepConvGMM, GaussianMixture, SGDGaussianMixture
from skdeepgmm.datasets import fetch_fashion_mnist, fetch_mnist
from skdeepgmm.metrics import ndb_score, psnr, purity

FETCH = {"mnist": fetch_mnist, "fashion": fetch_fashion_mnist}
SHAPE = (28, 28)
TOP = {"B": 36, "C": 36, "E": 25, "L": 100}
#: About as many numbers as preset B: 49 (2 x 64 + 1) + 36 (2 x 5,929 + 1), diagonal and
#: with 10 factors (12 x 784 + 1 numbers a component).
EQUAL_PARAMETERS, EQUAL_LOW_RANK = 276, 46
KEYS = ("part", "data", "model", "case", "seed")
N_SAMPLES = 10_000
#: Images whose codes k-means is fitted to.
N_CODES = 4_000
#: Options of ``sample`` by label. A model whose last row is there is done.
PLAIN_DRAWS = {
    ", temperature (0, 0.5)": {"temperature": (0, 0.5)},
    ", temperature 0.1": {"temperature": 0.1},
    ", temperature 0.1, top 2": {"temperature": 0.1, "top_s": 2},
    ", temperature 0.1, sharpened": {"temperature": 0.1, "sharpening": True},
    ", temperature 0.1, sharpened for the top": {
        "temperature": 0.1,
        "sharpening": {"layer": -1},
    },
    "": {},
}
FACTORED_DRAWS = {
    ", temperature (0, 1)": {"temperature": (0, 1)},
    ", temperature (0, 1), with noise": {"temperature": (0, 1), "noise": 1.0},
    "": {},
}


def images(name, n_rows=None):
    """Return training rows, training labels, test rows and test labels in [0, 1]."""
    parts = [FETCH[name](subset=subset) for subset in ("train", "test")]
    train, test = parts
    rows = slice(n_rows)
    return train.data[rows], train.target[rows], test.data, test.target


# Models --------------------------------------------------------------------------


def deep(preset, args, seed, **params):
    """Return an unfitted deep mixture."""
    epochs = {} if args.epochs is None else {"max_iter": args.epochs}
    return DeepConvGMM(preset, image_shape=SHAPE, random_state=seed, **epochs, **params)


def flat_sgd(n_components, seed):
    """Return the flat mixture trained the same way."""
    return SGDGaussianMixture(n_components, covariance_type="diag", random_state=seed)


def flat_em(n_components, seed):
    """Return the flat mixture by EM; the floor keeps constant pixels harmless."""
    return GaussianMixture(
        n_components, covariance_type="diag", reg_covar=1e-3, random_state=seed
    )


def flat_low_rank(n_components, seed):
    """Return the flat mixture of factor analysers by EM, with the factors of L."""
    return GaussianMixture(
        n_components,
        covariance_type="low_rank",
        rank=10,
        reg_covar=1e-3,
        random_state=seed,
    )


def sklearn_em(n_components, seed):
    """Return scikit-learn's mixture."""
    from sklearn.mixture import GaussianMixture as Reference

    return Reference(
        n_components, covariance_type="diag", reg_covar=1e-3, random_state=seed
    )


class PCAError:
    """Minus the reconstruction error of a principal component analysis."""

    def __init__(self, n_components, seed):
        from sklearn.decomposition import PCA

        self.pca = PCA(n_components, random_state=seed)

    def fit(self, X):
        self.pca.fit(X)
        return self

    def score_samples(self, X):
        rebuilt = self.pca.inverse_transform(self.pca.transform(X))
        return -np.square(X - rebuilt).sum(axis=1)


def kernel_density(seed):
    """Return Scott's rule on the standardised principal components."""
    from sklearn.decomposition import PCA
    from sklearn.neighbors import KernelDensity
    from sklearn.pipeline import make_pipeline

    return make_pipeline(
        PCA(30, random_state=seed), KernelDensity(bandwidth="scott", rtol=1e-3)
    )


def isolation_forest(seed):
    """Return scikit-learn's default forest."""
    from sklearn.ensemble import IsolationForest

    return IsolationForest(random_state=seed)


def fitted(model, X):
    """Return the fitted model and the seconds it took; warnings are no news here."""
    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(X)
    return model, time.perf_counter() - start


# Parts ---------------------------------------------------------------------------


def measure_cost(args, data, records, seed):
    """Time preset B with its own schedule on all training images."""
    names = {"part": "cost", "data": data, "model": "B", "case": "all", "seed": seed}
    if names in records:
        return
    X = images(data)[0]
    with harness.PeakMemory() as peak:
        model, seconds = fitted(deep("B", args, seed), X)
        start = time.perf_counter()
        model.score_samples(X)
        scoring = time.perf_counter() - start
    records.add(
        names,
        seconds=seconds,
        epochs=model.n_iter_,
        n_train=len(X),
        images_s=len(X) / scoring,
        peak_mib=peak.resident / harness.MIB,
        **{f"in_use_{i}": share for i, share in enumerate(model.usage_)},
    )


def clustering_models(args, seed):
    """Yield (name, unfitted model)."""
    for preset in args.presets:
        yield f"DeepConvGMM {preset}", deep(preset, args, seed)
    for k in sorted({TOP[preset] for preset in args.presets}):
        yield f"SGDGaussianMixture, K = {k}", flat_sgd(k, seed)
        yield f"GaussianMixture, K = {k}", flat_em(k, seed)
        yield f"scikit-learn, K = {k}", sklearn_em(k, seed)


def kmeans_labels(model, X, X_test, layer, seed):
    """Return as many k-means clusters as classes, of the codes of one layer."""
    from sklearn.cluster import KMeans

    kmeans = KMeans(10, n_init=3, random_state=seed).fit(model.transform(X, layer))
    return kmeans.predict(model.transform(X_test, layer))


def measure_clustering(args, data, records, seed):
    """Compare clusters of test images with their classes."""
    from sklearn.metrics import normalized_mutual_info_score as nmi

    X, _, X_test, y_test = images(data, args.rows)
    for name, model in clustering_models(args, seed):
        names = {
            "part": "clustering",
            "data": data,
            "model": name,
            "case": "",
            "seed": seed,
        }
        if names in records:
            continue
        model, seconds = fitted(model, X)
        labels = model.predict(X_test)
        found = {"nmi": nmi(y_test, labels), "purity": purity(y_test, labels)}
        if isinstance(model, DeepConvGMM):
            for layer, title in ((-1, "top"), (0, "first")):
                labels = kmeans_labels(model, X[:N_CODES], X_test, layer, seed)
                found[f"kmeans_nmi_{title}"] = nmi(y_test, labels)
        records.add(names, **found, seconds=seconds, n_train=len(X))


def sampling_models(args, seed):
    """Yield (name, unfitted model)."""
    yield "DeepConvGMM B", deep("B", args, seed)
    yield "DeepConvGMM L", deep("L", args, seed)
    yield "SGDGaussianMixture, K = 36", flat_sgd(36, seed)
    for k in (36, EQUAL_PARAMETERS):
        yield f"GaussianMixture, K = {k}", flat_em(k, seed)
    for k in (EQUAL_LOW_RANK, TOP["L"]):
        yield f"GaussianMixture, low rank, K = {k}", flat_low_rank(k, seed)


def sample_figures(X, drawn, features, seed):
    """Return what tells drawn images from real ones."""
    drawn = np.clip(drawn, 0, 1)
    bins = ndb_score(X, drawn, n_bins=100, random_state=seed)
    return {
        "ndb": bins.ndb,
        "js": bins.js_divergence,
        "frechet": frechet_distance(features(X), features(drawn)),
        "gradient_energy": gradient_energy(drawn, SHAPE),
    }


def measure_sampling(args, data, records, seed):
    """Compare drawn images with training images."""
    X, y, X_test, _ = images(data, args.rows)
    features = hidden_features(X, y)
    names = {"part": "sampling", "data": data, "case": "", "seed": seed}
    if names | {"model": "test images"} not in records:
        figures = sample_figures(X, X_test, features, seed)
        records.add(names | {"model": "test images"}, **figures)
    for name, model in sampling_models(args, seed):
        if names | {"model": name} in records:
            continue
        start = time.process_time()
        model, _ = fitted(model, X)
        seconds = time.process_time() - start
        for label, draw in draws(name, model, X).items():
            if names | {"model": label} in records:
                continue
            drawn = draw()
            figures = sample_figures(X, drawn, features, seed)
            if isinstance(model, DeepConvGMM):
                scores = model.score_samples_per_layer(drawn).mean(axis=0)
                figures["first_score"], figures["top_score"] = scores
            figures |= {"seconds": seconds, "n_train": len(X)}
            records.add(names | {"model": label}, **figures)
            save_pictures(args, f"{data}_{label}", drawn)


def draws(name, model, X):
    """Return all ways to draw images from a model, by label; the plainest comes last.

    The way down from the patches of training images is what their layer allows.
    """
    if not isinstance(model, DeepConvGMM):
        return {name: lambda: model.sample(N_SAMPLES)[0]}
    factored = model.layers_[-1].has_factors
    found = {
        name + label: lambda keywords=keywords: model.sample(N_SAMPLES, **keywords)[0]
        for label, keywords in (FACTORED_DRAWS if factored else PLAIN_DRAWS).items()
    }
    if not factored:
        return found
    codes = partial(model.sample_variants, X[:N_SAMPLES], 0, temperature=0)
    return {f"{name}, codes of training images": codes, **found}


def measure_inpainting(args, data, records, seed):
    """Fill the lower half of test images."""
    X, _, X_test, _ = images(data, args.rows)
    X_test = X_test[:1000]
    mask = np.zeros(SHAPE, dtype=bool)
    mask[SHAPE[0] // 2 :] = True
    hidden = mask.ravel()
    fill = {
        "training mean": partial(_fill_mean, X),
        "DeepConvGMM B": partial(_fill_deep, deep("B", args, seed), X),
        "GaussianMixture, K = 36": partial(_fill_flat, flat_em(36, seed), X),
    }
    for name, method in fill.items():
        names = {
            "part": "inpainting",
            "data": data,
            "model": name,
            "case": "",
            "seed": seed,
        }
        if names in records:
            continue
        filled = np.clip(method(X_test, mask), 0, 1)
        quality = psnr(X_test[:, hidden], filled[:, hidden], data_range=1)
        records.add(names, psnr=quality, n_train=len(X))
        save_pictures(args, f"{data}_filled_{name}", filled)


def _fill_mean(X, X_test, mask):
    return np.where(mask.ravel(), X.mean(axis=0), X_test)


def _fill_deep(model, X, X_test, mask):
    return fitted(model, X)[0].inpaint(X_test, mask)


def _fill_flat(model, X, X_test, mask):
    holed = np.where(mask.ravel(), np.nan, X_test)
    return fitted(model, X)[0].impute(holed)


def outlier_models(args, seed):
    """Yield (name, unfitted model)."""
    for preset in args.presets:
        yield f"DeepConvGMM {preset}", deep(preset, args, seed)
    yield "SGDGaussianMixture, K = 36", flat_sgd(36, seed)
    yield "GaussianMixture, K = 36", flat_em(36, seed)
    yield "scikit-learn, K = 36", sklearn_em(36, seed)
    yield "PCA error, 36 components", PCAError(36, seed)
    yield "isolation forest", isolation_forest(seed)
    yield "kernel density, 30 principal components", kernel_density(seed)


def measure_outliers(args, data, records, seed):
    """Leave one class out and look for it among the test images."""
    from sklearn.metrics import roc_auc_score

    X, y, X_test, y_test = images(data, args.rows)
    for digit in args.digits:
        for name, model in outlier_models(args, seed):
            names = {
                "part": "outliers",
                "data": data,
                "model": name,
                "case": digit,
                "seed": seed,
            }
            if names in records:
                continue
            model, seconds = fitted(model, X[y != digit])
            inlier = y_test != digit
            found = {"auroc": roc_auc_score(inlier, model.score_samples(X_test))}
            if isinstance(model, DeepConvGMM):
                scores = model.score_samples_per_layer(X_test)
                for layer, score in enumerate(scores.T):
                    found[f"auroc_{layer}"] = roc_auc_score(inlier, score)
            records.add(names, **found, seconds=seconds, n_train=len(X))


def save_pictures(args, name, rows):
    """Write 40 images from all over the rows as one picture, if asked."""
    if args.pictures is None:
        return
    import matplotlib.pyplot as plt

    args.pictures.mkdir(parents=True, exist_ok=True)
    shown = rows[np.linspace(0, len(rows) - 1, 40).astype(int)]
    grid = np.clip(shown, 0, 1).reshape(4, 10, *SHAPE)
    picture = grid.transpose(0, 2, 1, 3).reshape(4 * SHAPE[0], 10 * SHAPE[1])
    file = name.replace(" ", "_").replace(",", "").replace("=", "")
    plt.imsave(args.pictures / f"dcgmm_{file}.png", 1 - picture, cmap="gray")


PARTS = {
    "cost": measure_cost,
    "clustering": measure_clustering,
    "sampling": measure_sampling,
    "inpainting": measure_inpainting,
    "outliers": measure_outliers,
}


def parse():
    """Return the command line's arguments."""
    from pathlib import Path

    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--data", nargs="+", choices=FETCH, default=list(FETCH))
    parser.add_argument("--presets", nargs="+", choices=TOP, default=["B", "C", "E"])
    parser.add_argument("--digits", nargs="+", type=int, default=list(range(10)))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--rows", type=int, help="training images; default all")
    parser.add_argument("--epochs", type=int, help="default the preset's own")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--pictures", type=Path, help="folder for pictures")
    parser.add_argument("--report", action="store_true", help="write the tables only")
    return parser.parse_args()


def main():
    """Measure and report."""
    args = parse()
    records = Records(args.out / "dcgmm.csv", KEYS)
    if not args.report:
        for seed in args.seeds:
            for part in args.parts:
                for data in args.data:
                    PARTS[part](args, data, records, seed)
    write_report(args.out / "dcgmm.md", records, __doc__)


if __name__ == "__main__":
    main()
