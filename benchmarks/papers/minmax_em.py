"""The protocol of the MinMax+EM paper, beside other methods in the same run.

    SKDEEPGMM_DATA=folder python benchmarks/papers/minmax_em.py [--data ...]

For each data set: 1,000 images a class, a share alpha of them with a label, drawn anew
with every seed. Accuracy, adjusted Rand index (ARI) and normalised mutual information
(NMI) are measured on the images without label; at alpha = 0 accuracy is one-to-one,
else cluster k is class k. Settings were chosen on MNIST 0-4 alone, but for the start
from a map, which was also looked at on the first seed of MNIST 5-9, 0-6, FashionMNIST
and CIFAR-10 without labels; how labels or neighbours name its parts, and when it leads,
on MNIST 5-9, 0-6 and FashionMNIST. Fits without seconds ran on a GPU. "GaussianMixture
on t-SNE" has one Gaussian a cluster on that map, and so had "MinMaxEMClusterer one
Gaussian", from before parts were put together without labels; "MinMaxEMClusterer
kmeans" and "... labels" start from k-means and from the labels. CelebA are faces in
four groups, male or not and smiling or not, at 32 x 32 pixels (``celeba64``, only on
request: 64 x 64). With labels, CIFAR-10 and faces may be mirrored
(``consistency={"mirror": True}``); "without consistency" are fits with
``consistency=None``, "max_iter=1" fits whose generative part was cut short: with
consistency, predictions do not depend on it. "Labels alone, same network and changes"
is the encoder of photographs on the labelled images alone, with the same changes.

Also measured for our clusterer: the smallest cluster's share, the Jensen-Shannon
divergence of samples and held-out images over 50 k-means bins, ||y - E(G(y))||^2 per
latent dimension, and seconds, of the clock and of the CPU. Every measurement is
appended to ``minmax_em.csv`` when it is made, and a run skips what the file holds.
``--report`` writes tables and curves from the file; ``--pictures`` writes samples,
interpolations and maps of the latent space.
"""

import argparse
import time
import warnings
from pathlib import Path

import numpy as np
from _gan_em_peers import CHANGED, ChangedLabels, may_mirror
from _minmax_em_data import LOADERS, draw, known_labels
from _minmax_em_peers import STEPS, peers
from _minmax_em_pictures import curves, pictures
from _records import RESULTS, Records, cell, machine_line, table
from _summaries import write as write_summary
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from skdeepgmm import MinMaxEMClusterer
from skdeepgmm.metrics import clustering_accuracy, ndb_score

KEYS = ("data", "alpha", "model", "seed")
DATA = [name for name in LOADERS if name != "celeba64"]
ALPHAS = (0.0, 0.01, 0.05, 0.1, 0.25, 0.5)
OURS = "MinMaxEMClusterer"
STARTS = ("auto", "kmeans", "labels", "tsne", "self-supervised")
PRESETS = {"cpu": {}, "gpu": {"networks": "large"}}
QUALITY = ("accuracy", "ari", "nmi")
DETAILS = ("smallest", "js", "latent_error", "seconds", "cpu_seconds")


def parse():
    """Return the command line's arguments."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", nargs="*", default=DATA, choices=LOADERS)
    parser.add_argument("--alpha", nargs="*", type=float, default=ALPHAS)
    parser.add_argument("--seeds", type=int, nargs="*", default=range(5))
    parser.add_argument("--preset", choices=list(PRESETS), default="cpu")
    parser.add_argument("--max-iter", type=int, help="EM iterations of our fits")
    parser.add_argument("--steps", type=int, default=STEPS, help="steps of deep peers")
    parser.add_argument("--per-class", type=int, default=1000)
    parser.add_argument("--init", default="auto", choices=STARTS)
    parser.add_argument("--affine", action="store_true", help="the opt-in augmentation")
    parser.add_argument("--no-consistency", action="store_true")
    parser.add_argument("--models", nargs="*", help="names of models, all by default")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--report", action="store_true", help="write the tables only")
    parser.add_argument("--pictures", action="store_true", help="of the first seed")
    return parser.parse_args()


def ours(args, name, shape, n_clusters, seed, labelled):
    """Return our unfitted clusterer."""
    consistency = {"mirror": True} if labelled and may_mirror(name) else "auto"
    return MinMaxEMClusterer(
        n_clusters,
        image_shape=shape,
        semi_supervised=labelled,
        affine="auto" if args.affine else None,
        consistency=None if args.no_consistency else consistency,
        init=args.init,
        max_iter=args.max_iter,
        random_state=seed,
        **PRESETS[args.preset],
    )


def ours_name(args):
    """Return the name of our clusterer in the tables."""
    parts = [OURS, *(["affine"] if args.affine else [])]
    parts += ["without consistency"] if args.no_consistency else []
    parts += [f"max_iter={args.max_iter}"] if args.max_iter else []
    parts += [args.init] if args.init != "auto" else []
    return " ".join(parts + ([args.preset] if args.preset != "cpu" else []))


def measure(records, names, model, data, known):
    """Fit and measure one model, unless the file has it; returns the fitted model."""
    X, y, X_test, _, _ = data
    start, busy = time.perf_counter(), time.process_time()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = fit(model, X, known)
    seconds, busy = time.perf_counter() - start, time.process_time() - busy
    unknown = known < 0
    found, true = model.predict(X[unknown]), y[unknown]
    matched = (known >= 0).any()
    values = {
        "accuracy": np.mean(found == true)
        if matched
        else clustering_accuracy(true, found),
        "ari": adjusted_rand_score(true, found),
        "nmi": normalized_mutual_info_score(true, found),
        "seconds": seconds,
        "cpu_seconds": busy,
        "warnings": sum("Degenerate" in str(w.category) for w in caught),
    }
    if report := getattr(model, "consistency_", None):
        values |= report
    if names["model"].startswith(OURS):
        values |= generation(model, X, X_test)
    records.add(names, **values)
    print(names, {k: round(float(v), 4) for k, v in values.items()}, flush=True)
    return model


def fit(model, X, known):
    """Fit to X, and to the labels where there are any or the model wants them."""
    deep = hasattr(model, "n_steps")
    return model.fit(X, known) if deep or (known >= 0).any() else model.fit(X)


def generation(model, X, X_test):
    """Measure clusters in use, samples and the generator as inverse of the encoder."""
    sizes = np.bincount(model.labels_, minlength=model.n_clusters)
    samples, _ = model.sample(len(X_test))
    bins = ndb_score(X_test, samples, n_bins=50, random_state=0)
    dim = model.means_.shape[1]
    rng = np.random.default_rng(0)
    clusters = rng.choice(len(model.weights_), 500, p=model.weights_)
    latents = model.means_[clusters] + rng.standard_normal((500, dim))
    found = model.transform(model.inverse_transform(latents).astype(X.dtype))
    return {
        "smallest": sizes.min() / sizes.sum(),
        "js": bins.js_divergence,
        "latent_error": np.square(found - latents).sum(axis=1).mean() / dim,
    }


def run(args, records):
    """Measure everything asked for."""
    for seed in args.seeds:
        for name in args.data:
            data = draw(name, seed, args.per_class)
            for alpha in args.alpha:
                one_case(args, records, name, alpha, seed, data)


def one_case(args, records, name, alpha, seed, data):
    """Measure all models on one data set with one share of labels."""
    y, shape = data[1], data[4]
    known = known_labels(y, alpha, seed)
    labelled, n_clusters = alpha > 0.0, len(np.unique(y))
    models = {ours_name(args): ours(args, name, shape, n_clusters, seed, labelled)}
    models |= peers(shape, n_clusters, seed, labelled, args.steps)
    if labelled:
        models[CHANGED] = ChangedLabels(shape, n_clusters, seed, may_mirror(name))
    for label, model in models.items():
        if args.models and label not in args.models:
            continue
        names = dict(zip(KEYS, (name, alpha, label, seed), strict=True))
        draws = args.pictures and label.startswith(OURS) and seed == args.seeds[0]
        if names in records:
            continue
        fitted = measure(records, names, model, data, known)
        if draws:
            pictures(args.out / f"minmax_em_{name}_{alpha:g}", fitted, data)


# Report --------------------------------------------------------------------------


def report(args, records):
    """Write tables and curves."""
    parts = ["# MinMax+EM", __doc__.split("\n\n")[2], machine_line()]
    for name in records.distinct("data"):
        parts.append(f"## {name}")
        parts += [quality_table(records, name, measure) for measure in QUALITY]
        parts += [comparison(records, name), details_table(records, name)]
        curves(args.out / f"minmax_em_{name}.png", records, name)
    path = args.out / "minmax_em.md"
    path.write_text("\n\n".join(text.strip() for text in parts) + "\n")
    write_summary(records.path, machine_line())
    print(f"wrote {path}")


def sorted_alphas(records, **names):
    """Return the measured shares of labels in order."""
    return sorted(records.distinct("alpha", **names), key=float)


def quality_table(records, name, measure):
    """Return one line a model, one column a share of labels."""
    alphas = sorted_alphas(records, data=name)
    rows = [
        [model]
        + [
            cell(records.values(measure, data=name, alpha=a, model=model), 4)
            for a in alphas
        ]
        for model in records.distinct("model", data=name)
    ]
    return table([f"{measure}, alpha =", *alphas], rows)


def comparison(records, name):
    """Say which baselines are above ours, by mean accuracy over the seeds of both."""
    lines = []
    for alpha in sorted_alphas(records, data=name, model=OURS):
        where = {"data": name, "alpha": alpha}
        above = []
        for model in records.distinct("model", **where):
            lead = leads(records, model, **where)
            if not model.startswith(OURS) and len(lead) and lead.mean() > 0.0:
                above.append(f"{model} by {lead_cell(lead)}")
        if above:
            lines.append(f"* alpha = {alpha}: {', '.join(above)}.")
    if not lines:
        return f"{OURS} is above every baseline that was measured on the same seeds."
    return "\n".join([f"Above {OURS} in accuracy, seed by seed:\n", *lines])


def leads(records, model, **where):
    """Return how much the model is above ours in accuracy, for each seed of both."""
    found = [
        [records.values("accuracy", model=m, seed=seed, **where) for m in (model, OURS)]
        for seed in records.distinct("seed", model=model, **where)
    ]
    return np.array(
        [theirs[0] - own[0] for theirs, own in found if len(theirs) and len(own)]
    )


def lead_cell(lead):
    """Return the mean and its standard error, where several seeds give one."""
    if len(lead) == 1:
        return f"{lead[0]:.4f} (one seed)"
    error = lead.std(ddof=1) / np.sqrt(len(lead))
    return f"{lead.mean():.4f} (standard error {error:.4f})"


def details_table(records, name):
    """Return what else was measured of our clusterer."""
    models = [m for m in records.distinct("model", data=name) if m.startswith(OURS)]
    rows = []
    for model in models:
        for alpha in sorted_alphas(records, data=name, model=model):
            where = {"data": name, "alpha": alpha, "model": model}
            seeds = len(records.distinct("seed", **where))
            found = [cell(records.values(m, **where), 3) for m in DETAILS]
            rows.append([model, alpha, seeds, *found])
    return table(["model", "alpha", "seeds", *DETAILS], rows)


def main():
    """Measure and report."""
    args = parse()
    args.out.mkdir(parents=True, exist_ok=True)
    records = Records(args.out / "minmax_em.csv", KEYS)
    if not args.report:
        run(args, records)
    report(args, records)


if __name__ == "__main__":
    main()
