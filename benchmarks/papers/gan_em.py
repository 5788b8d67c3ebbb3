"""The tables of the GAN-EM paper, beside other clusterers in the same run.

    SKDEEPGMM_DATA=folder python benchmarks/papers/gan_em.py --preset cpu [--parts ...]

Parts:

* ``digits``: 8 x 8 digits, K = 10, a quarter held out; ``digits-all``: fitted to and
  measured on all 1,797 images.
* ``mnist``: 10,000 (cpu) or all images, K = 10; ``mnist-all``, ``fashion-all``: all
  images of MNIST and FashionMNIST on a CPU.
* ``clusters``: MNIST with K = 20 and 30.
* ``fashion``, ``svhn``, ``celeba`` (on a CPU at 32 x 32 pixels): other images.
* ``labels``: MNIST and SVHN with 100 and 1,000 labels, CelebA attributes with 100;
  ``labels-all``: MNIST with 100 labels among all images.
* ``embedding``: MNIST embedded in 1,000, 100 and 2 dimensions, with pictures.
* ``restarts``: whether ``quality_`` goes with the accuracy, over runs on digits.
* ``outliers``: the class left out of training is to be found in the test set.
* ``ablation``: the departures from the paper, one at a time, at a short budget.

"max_iter=1" are fits whose generative part was cut short: with consistency,
predictions do not depend on it. With labels, faces may be mirrored
(``consistency={"mirror": True}``). "Labels alone, same network and changes" is the
E-net of photographs on the labelled images alone, with the changes of the images that a
fit with consistency makes.

"init=uniform" are fits of small images from before they began with an embedding.

"Without patches" are measurements from before there was ``cutmix``: ``cutmix=None``.
"Ended early" are fits with it from when a run on images ended once it had converged,
after 80 % of its iterations at the earliest. The ablation with patches ran on one core
of an Intel Xeon. On the GPU six fits ran at a time, three of each part: as threads
(``--streams 6``, 500 iterations), before as processes (400 iterations that ended early,
360 without patches).

Accuracy is one-to-one on the test set unless it says purity. Labels only measure (but
in ``labels``): no run, epoch or setting is chosen by them here. Every measurement is
appended to ``gan_em_<preset>.csv`` when it is made, and a run skips what the file
holds. CPU seconds are over all threads: runs may share a machine. ``--report`` writes
the tables from the file.
"""

import argparse
import copy
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path

import numpy as np
import torch
from _gan_em_data import ATTRIBUTES, few_labels, load, subset
from _gan_em_peers import classifiers, clusterers, may_mirror
from _records import RESULTS, Records, cell, machine_line, table
from _summaries import write as write_summary
from scipy.stats import spearmanr
from sklearn.metrics import normalized_mutual_info_score, roc_auc_score

from skdeepgmm import GANEMClusterer, GaussianMixture
from skdeepgmm.metrics import clustering_accuracy, purity

KEYS = ("part", "data", "model", "case", "seed")
PRESETS = {
    "cpu": {"rows": 10_000, "params": {}, "seeds": 5, "faces": "celeba"},
    "gpu": {
        "rows": None,
        "params": {"width": 1.0, "max_iter": 500},
        "seeds": 3,
        "faces": "celeba64",
    },
}
ABLATION_ITERATIONS = 30
#: Our clusterer from equal responsibilities, where that is not the default.
UNIFORM = "GANEMClusterer init=uniform"
#: Departures from the default with one start; each line of the ablation changes one
#: thing, but for the last: the released settings, for as many adversarial steps.
ABLATION = {
    "default": {},
    "no affine changes": {"affine": None},
    "no patches of other images": {"cutmix": None},
    "smaller affine changes": {"affine": (2.0, 9.0, 0.1)},
    "E-net without normalisation": {"recipe": {"classifier_norm": "none"}},
    "optimisers started anew": {"recipe": {"persistent_optimizers": False}},
    "long EM iterations (500 steps)": {"recipe": {"gan_steps": 500}, "max_iter": 0.1},
    "constant rates": {"recipe": {"final_lr_fraction": 1.0}},
    "first weights N(0, 0.02^2)": {"recipe": {"init_std": 0.02}},
    "printed losses": {"recipe": {"losses": "paper"}},
    "released recipe": {"recipe": "released", "max_iter": 0.1},
}


def parse():
    """Return the command line's arguments."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--preset", choices=list(PRESETS), default="cpu")
    parser.add_argument("--parts", nargs="*", default=list(PARTS), choices=list(PARTS))
    parser.add_argument("--seeds", type=int, help="number of seeds")
    parser.add_argument("--first-seed", type=int, default=1)
    parser.add_argument("--rows", type=int, help="training images at most")
    parser.add_argument("--max-iter", type=int, help="EM iterations of every fit")
    parser.add_argument("--models", nargs="*", help="names of models, all by default")
    parser.add_argument("--data", nargs="*", help="names of data sets, likewise")
    parser.add_argument("--cases", nargs="*", help="of a part, likewise")
    parser.add_argument(
        "--streams", type=int, help="fits at a time on a GPU, in threads"
    )
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--report", action="store_true", help="write the tables only")
    return parser.parse_args()


class Run:
    """One run of the script: settings and the file of measurements."""

    def __init__(self, args):
        self.args = args
        self.preset = PRESETS[args.preset]
        n_seeds = args.seeds or self.preset["seeds"]
        self.seeds = range(args.first_seed, args.first_seed + n_seeds)
        self.records = Records(args.out / f"gan_em_{args.preset}.csv", KEYS)
        # Of one thread, where there are several fits at a time.
        self.cpu_clock = time.thread_time if args.streams else time.process_time

    @property
    def name(self):
        """Name of our clusterer: with consistency, max_iter changes no prediction."""
        length = self.args.max_iter
        return f"GANEMClusterer max_iter={length}" if length else "GANEMClusterer"

    def of_seed(self, seed):
        """Return the part of the run with this seed."""
        part = copy.copy(self)
        part.seeds = [seed]
        return part

    def gan_em(self, n_clusters, shape, seed, **params):
        """Return our unfitted clusterer."""
        settings = dict(self.preset["params"])
        if self.args.max_iter:
            settings["max_iter"] = self.args.max_iter
        return GANEMClusterer(
            n_clusters, image_shape=shape, random_state=seed, **(settings | params)
        )

    def data(self, name, seed, rows="preset"):
        """Return the data with the preset's number of training rows."""
        X, y, *rest = load(name)
        rows = self.preset["rows"] if rows == "preset" else rows
        rows = self.args.rows or rows
        return (*subset(X, y, rows, seed), *rest)

    def wants(self, names):
        """Tell whether a measurement is asked for and not in the file."""
        asked = ("models", "model"), ("data", "data"), ("cases", "case")
        chosen = [(getattr(self.args, option), names[key]) for option, key in asked]
        return names not in self.records and all(
            not options or str(value) in options for options, value in chosen
        )

    def measure(self, names, model, data, y_fit=None, matched=False):
        """Fit and measure on the test set, unless the file has it; returns the model.

        ``matched`` says that cluster k is class k.
        """
        if not self.wants(names):
            return None
        X, _, X_test, y_test, _ = data
        seconds = self.timed_fit(model, X, y_fit)
        found = model.predict(X_test)
        exact = np.mean(found == y_test) if matched else None
        self.records.add(
            names,
            accuracy=exact if matched else clustering_accuracy(y_test, found),
            purity=purity(y_test, found),
            nmi=normalized_mutual_info_score(y_test, found),
            **seconds,
            n_train=len(X),
            **(getattr(model, "consistency_", None) or {}),
            quality=getattr(model, "quality_", np.nan),
        )
        print(names, f"{self.records.values('accuracy', **names)[-1]:.4f}", flush=True)
        return model

    def timed_fit(self, model, X, y=None):
        """Fit without warnings; returns wall and CPU seconds by name."""
        start, cpu = time.perf_counter(), self.cpu_clock()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model.fit(X) if y is None else model.fit(X, y)
        return {
            "seconds": time.perf_counter() - start,
            "cpu_seconds": self.cpu_clock() - cpu,
        }


def names_of(part, data, model, case, seed):
    """Return the entries that name a measurement."""
    return dict(zip(KEYS, (part, data, model, case, seed), strict=True))


# Parts ---------------------------------------------------------------------------


#: What else is measured than the default number and length of restarts.
CONSTANT = {"rates held for half": {"recipe": {"constant_fraction": 0.5}}}
VARIANTS = CONSTANT | {
    "one start, 143 iterations": {"n_init": 1, "max_iter": 143},
    "two starts, 120 iterations": {"n_init": 2, "max_iter": 120},
    "three starts, 143 iterations": {"max_iter": 143},
}
LONG = {
    "600 iterations": {"max_iter": 600},
    "900 iterations, rates held for half": {
        "max_iter": 900,
        "recipe": {"constant_fraction": 0.5},
    },
    "width 0.5, 400 iterations": {"max_iter": 400, "width": 0.5},
}


def with_variants(case, variants):
    """Return the parameters of a case and of its variants by name."""
    return {case: {}} | {f"{case}, {k}": v for k, v in (variants or {}).items()}


def clustering(run, part, name, n_clusters, rows="preset", variants=None, peers=True):
    """Cluster with ours, with variants of it by name, and with the peers."""
    for seed in run.seeds if peers else run.seeds[:3]:
        data = run.data(name, seed, rows)
        case = f"K={n_clusters}"
        for label, params in with_variants(case, variants).items():
            ours = run.gan_em(n_clusters, data[4], seed, **params)
            names = names_of(part, name, "GANEMClusterer", label, seed)
            run.measure(names, ours, data)
        for label, make in clusterers().items() if peers else ():
            names = names_of(part, name, label, case, seed)
            run.measure(names, make(n_clusters, seed), data)


def simple(name, n_clusters, **options):
    """Return a part that clusters one data set."""

    def part(run):
        clustering(run, name, name, n_clusters, **options)

    return part


def all_images(name, variants=None):
    """Return a part that clusters all training images, three seeds at most."""

    def part(run):
        clustering(run, f"{name}-all", name, 10, None, variants, peers=False)

    return part


def more_clusters(run):
    for n_clusters in (20, 30):
        clustering(run, "clusters", "mnist", n_clusters)


def celeba(run):
    for attribute in ATTRIBUTES:
        clustering(run, "celeba", f"{run.preset['faces']}-{attribute}", 2)


def with_labels(run):
    """Few labels; the peers see the same ones."""
    cases = [("mnist", 100), ("mnist", 1000), ("svhn", 1000)]
    cases += [(f"{run.preset['faces']}-{name}", 100) for name in ATTRIBUTES]
    for name, n_labels in cases:
        for seed in run.seeds:
            some_labels(run, "labels", name, n_labels, seed)


def labels_all(run):
    """A hundred labels among all training images, three seeds."""
    for seed in run.seeds[:3]:
        some_labels(run, "labels-all", "mnist", 100, seed, None, LONG)


def some_labels(run, part, name, n_labels, seed, rows="preset", variants=None):
    """Classify with ours, with variants of it by name, and with the peers."""
    data = run.data(name, seed, rows)
    known = few_labels(data[1], n_labels, seed)
    n_classes = len(np.unique(data[1]))
    case, mirror = str(n_labels), may_mirror(name)
    for label, params in with_variants(case, variants).items():
        if mirror:
            params = {"consistency": {"mirror": True}} | params
        ours = run.gan_em(n_classes, data[4], seed, semi_supervised=True, **params)
        names = names_of(part, name, run.name, label, seed)
        run.measure(names, ours, data, known, matched=True)
    for label, model in classifiers(data[4], n_classes, seed, mirror).items():
        names = names_of(part, name, label, case, seed)
        run.measure(names, model, data, known, matched=True)


def embedding(run):
    """Embeddings of several dimensions, and a picture of 2,000 test images of each."""
    for size in (1000, 100, 2):
        for seed in run.seeds:
            data = run.data("mnist", seed)
            model = run.gan_em(10, data[4], seed, embedding_dim=size)
            names = names_of("embedding", "mnist", "GANEMClusterer", size, seed)
            fitted = run.measure(names, model, data)
            if fitted is not None and seed == run.seeds[0]:
                draw_embedding(run, fitted, data, size)


def draw_embedding(run, model, data, size):
    """Write a map of the embedding, by t-SNE where it has more than two dimensions."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from sklearn.manifold import TSNE

    Z = model.transform(data[2][:2000])
    if size > 2:
        Z = TSNE(random_state=0).fit_transform(Z)
    fig, ax = plt.subplots(figsize=(5, 5), layout="constrained")
    ax.scatter(*Z.T, c=data[3][:2000], cmap="tab10", s=4)
    ax.set_title(f"{size} dimensions" + (", t-SNE" if size > 2 else ""))
    fig.savefig(run.args.out / f"gan_em_embedding_{size}.png", dpi=120)
    plt.close(fig)


def restarts(run):
    """Many runs: their quality and their accuracy."""
    for seed in range(10):
        data = run.data("digits", 0)
        model = run.gan_em(10, data[4], seed, n_init=1, init="uniform")
        names = names_of("restarts", "digits", UNIFORM, "K=10", seed)
        run.measure(names, model, data)


def outliers(run):
    """Leave one class out; AUROC of finding it, beside flat mixtures."""
    for name, rows in (("digits", None), ("mnist", 5000)):
        for seed in run.seeds[:3]:
            X, y, X_test, y_test, shape = run.data(name, seed, rows)
            for digit in range(10):
                flat = {"reg_covar": 0.01, "random_state": seed}
                models = {
                    "GANEMClusterer": run.gan_em(9, shape, seed),
                    "GaussianMixture": GaussianMixture(
                        9, covariance_type="diag", **flat
                    ),
                    "GaussianMixture, low rank": GaussianMixture(
                        9, covariance_type="low_rank", rank=10, **flat
                    ),
                }
                for label, model in models.items():
                    names = names_of("outliers", name, label, digit, seed)
                    if not run.wants(names):
                        continue
                    seconds = run.timed_fit(model, X[y != digit])
                    auroc = roc_auc_score(y_test != digit, model.score_samples(X_test))
                    run.records.add(names, auroc=auroc, **seconds)
                    print(names, run.records.values("auroc", **names)[-1], flush=True)


def ablation(run):
    """One departure from the default at a time, three seeds, a short run."""
    for seed in run.seeds[:3]:
        data = run.data("mnist", seed, 7000)
        for case, changes in ABLATION.items():
            share = changes.get("max_iter", 1)
            length = {"max_iter": round(share * ABLATION_ITERATIONS)}
            params = {"n_init": 1} | changes | length
            names = names_of("ablation", "mnist", "GANEMClusterer", case, seed)
            run.measure(names, run.gan_em(10, data[4], seed, **params), data)


PARTS = {
    "digits": simple("digits", 10, rows=None),
    "digits-all": simple("digits-all", 10, rows=None),
    "mnist": simple("mnist", 10, variants=VARIANTS),
    "labels": with_labels,
    "labels-all": labels_all,
    "fashion": simple("fashion", 10),
    "clusters": more_clusters,
    "svhn": simple("svhn", 10),
    "celeba": celeba,
    "embedding": embedding,
    "restarts": restarts,
    "outliers": outliers,
    "ablation": ablation,
    "mnist-all": all_images("mnist", LONG),
    "fashion-all": all_images("fashion"),
}


# Report --------------------------------------------------------------------------


def machine_file(args):
    """Return the file with a line on the machine of the last measurements."""
    return args.out / f"gan_em_{args.preset}_machine.txt"


def report(args):
    """Write a table for each part."""
    source = args.out / f"gan_em_{args.preset}.csv"
    records = Records(source, KEYS)
    write_summary(source, machine_file(args).read_text().strip())
    parts = ["# GAN-EM", *__doc__.split("\n\n")[3:7], machine_file(args).read_text()]
    for part in records.distinct("part"):
        seconds = "seconds" if args.preset == "gpu" else "cpu_seconds"
        parts += [f"## {part}", part_table(records, part, seconds)]
        if part == "restarts":
            parts.append(rank_correlation(records))
    path = args.out / f"gan_em_{args.preset}.md"
    path.write_text("\n\n".join(text.strip() for text in parts) + "\n")
    print(f"wrote {path}")


def part_table(records, part, seconds):
    """Return one line for each data set, case and model: means over the seeds."""
    measures = ("accuracy", "purity", "nmi", "auroc", "quality", seconds)
    shown = [m for m in measures if len(records.values(m, part=part))]
    rows = []
    for data in records.distinct("data", part=part):
        for case in records.distinct("case", part=part, data=data):
            where = {"part": part, "data": data, "case": case}
            for model in records.distinct("model", **where):
                found = [records.values(m, model=model, **where) for m in shown]
                seeds = len(records.distinct("seed", model=model, **where))
                digits = [0 if m == seconds else 4 for m in shown]
                cells = [cell(v, d) for v, d in zip(found, digits, strict=True)]
                rows.append([data, case, model, seeds, *cells])
    return table(["data", "case", "model", "seeds", *shown], rows)


def rank_correlation(records):
    """Return how the quality of runs goes with their accuracy."""
    quality, accuracy = (
        records.values(measure, part="restarts") for measure in ("quality", "accuracy")
    )
    found = spearmanr(quality, accuracy)
    best = accuracy[quality.argmax()]
    return (
        f"Rank correlation of quality and accuracy over {len(quality)} runs: "
        f"{found.statistic:.2f} (p = {found.pvalue:.2g}). The run of the highest "
        f"quality has an accuracy of {best:.3f}; the mean is {accuracy.mean():.3f}."
    )


def main():
    """Measure and report."""
    args = parse()
    if not args.report:
        run = Run(args)
        args.out.mkdir(parents=True, exist_ok=True)
        device = "cuda" if args.preset == "gpu" else "cpu"
        machine_file(args).write_text(machine_line(device) + "\n")
        if args.streams:
            in_streams(run)
        else:
            for part in args.parts:
                PARTS[part](run)
    report(args)


def in_streams(run):
    """Measure parts and seeds at a time, in threads with a stream of the GPU each."""

    def measure(job):
        part, seed = job
        with torch.cuda.stream(torch.cuda.Stream()):
            PARTS[part](run.of_seed(seed))

    with ThreadPoolExecutor(run.args.streams) as pool:
        list(pool.map(measure, product(run.args.parts, run.seeds)))


if __name__ == "__main__":
    main()
