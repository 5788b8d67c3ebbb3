"""Low-rank covariances on full images: likelihood, modes, speed, memory.

Three parts, each fit in a fresh process:

* ``faces``: 3,900 CelebA faces of 64 x 64 x 3 = 12,288 features, 20 components of
  rank 10 against diagonal covariances: seconds, peak memory, held-out log-likelihood.
  Pictures of means and samples go to the ignored folder ``bench_output/`` and nowhere
  else: the licence of CelebA forbids to pass images on.
* ``digits``: MNIST, 50 components of rank 6. Number of statistically different bins
  (NDB, 100 bins of k-means on the training rows) of samples and of the test set.
* ``speed``: seconds an EM iteration on 20,000 x 784 with 25 components, rank 6,
  against unrestricted covariances of ours and of scikit-learn.

    SKDEEPGMM_DATA=folder python benchmarks/low_rank.py [--parts faces digits speed]

The folder holds ``celeba64_subset.npz`` (X_train, X_test, uint8) and ``mnist.npz``;
without it MNIST is fetched and ``faces`` cannot run.
"""

import argparse
import json
import os
import sys
import time
import warnings
from pathlib import Path

import _harness
import _report
import numpy as np

PICTURES = Path(__file__).parent.parent / "bench_output"
FACE_SHAPE = (64, 64, 3)
SPEED_MODELS = (
    ("skdeepgmm, low_rank", "skdeepgmm", "low_rank"),
    ("skdeepgmm, full", "skdeepgmm", "full"),
    ("scikit-learn, full, float64", "scikit-learn", "full"),
)


# Data ----------------------------------------------------------------------------


def faces():
    """Return training and test faces as float32 rows in [0, 1]."""
    path = Path(os.environ["SKDEEPGMM_DATA"]) / "celeba64_subset.npz"
    with np.load(path) as file:
        parts = [file["X_train"], file["X_test"]]
    return [part.reshape(len(part), -1) / np.float32(255) for part in parts]


def digits():
    """Return training and test digits as float32 rows in [0, 1]."""
    from skdeepgmm.datasets import fetch_mnist

    return [fetch_mnist(subset=part).data for part in ("train", "test")]


def factor_rows(rng, n_samples=20_000, n_features=784, n_components=25, rank=6):
    """Return float32 rows of a random mixture of factor analysers."""
    labels = rng.integers(0, n_components, n_samples)
    X = 0.5 * rng.normal(size=(n_samples, n_features))
    for k in range(n_components):
        mine = labels == k
        hidden = rng.normal(size=(mine.sum(), rank))
        X[mine] += hidden @ rng.normal(size=(rank, n_features)) + rng.normal(
            size=n_features
        )
    return X.astype(np.float32)


# Measurements, in fresh processes ------------------------------------------------


def fit(X, spec):
    """Fit our mixture and return it with seconds and peak memory."""
    from skdeepgmm import GaussianMixture

    gm = GaussianMixture(
        spec["n_components"],
        covariance_type=spec["covariance_type"],
        rank=spec["rank"],
        max_iter=spec["max_iter"],
        tol=spec["tol"],
        reg_covar=spec["reg_covar"],
        random_state=0,
    )
    with _harness.PeakMemory(sampled=True) as peak:
        seconds = _harness.wall_time(lambda: gm.fit(X))
    return gm, {
        "seconds": seconds,
        "n_iter": gm.n_iter_,
        "fit_mib": peak.anonymous / _harness.MIB,
        "process_mib": _harness.peak_resident() / _harness.MIB,
    }


def measure_faces(spec):
    """Fit faces; a low-rank fit also draws its pictures."""
    X, X_test = faces()
    gm, measured = fit(X, spec)
    if spec["covariance_type"] == "low_rank":
        draw_faces(gm)
    scores = {"train_nats": gm.score(X), "test_nats": gm.score(X_test)}
    return {**measured, **scores}


def draw_faces(gm):
    """Write means and samples, with and without the pixels' noise."""
    from skdeepgmm.plotting import SamplesDisplay

    PICTURES.mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    labels = rng.choice(gm.n_components, 40, p=gm.weights_ / gm.weights_.sum())
    hidden = rng.normal(size=(40, gm.factors_.shape[2]))
    smooth = gm.means_[labels] + np.einsum("ndr,nr->nd", gm.factors_[labels], hidden)
    noise = np.sqrt(gm.noise_variance_[labels]) * rng.normal(size=smooth.shape)
    pictures = {"means": gm.means_, "samples": smooth + noise, "factors_only": smooth}
    for name, rows in pictures.items():
        display = SamplesDisplay(rows, image_shape=FACE_SHAPE).plot(vmin=0, vmax=1)
        display.figure_.savefig(PICTURES / f"low_rank_faces_{name}.png", dpi=150)


def measure_digits(spec):
    """Fit digits and compare samples and test digits with the training bins."""
    from skdeepgmm.metrics import ndb_score

    X, X_test = digits()
    gm, measured = fit(X, spec)
    samples = gm.sample(len(X_test))[0]
    compared = {
        "samples": samples,
        "clipped samples": samples.clip(0, 1),
        "test set": X_test,
    }
    found = {name: ndb_score(X, Z, random_state=0) for name, Z in compared.items()}
    return {
        **measured,
        "train_nats": gm.score(X),
        "test_nats": gm.score(X_test),
        "ndb": {name: score.n_different for name, score in found.items()},
        "js": {name: score.js_divergence for name, score in found.items()},
    }


def measure_speed(spec):
    """Return seconds an iteration: what two more iterations of a fit cost."""
    import sklearn.mixture

    import skdeepgmm

    X = factor_rows(np.random.default_rng(0))
    if spec["library"] == "scikit-learn":
        X = X.astype(np.float64)  # its covariances of these float32 rows are singular
    library = {"skdeepgmm": skdeepgmm, "scikit-learn": sklearn.mixture}[spec["library"]]
    settings = {"init_params": "random", "tol": 0.0, "random_state": 0}
    settings["covariance_type"] = spec["covariance_type"]
    if spec["covariance_type"] == "low_rank":
        settings["rank"] = 6
    seconds = []
    for n_iter in (1, 3):
        gm = library.GaussianMixture(25, max_iter=n_iter, **settings)
        seconds.append(_harness.wall_time(lambda gm=gm: gm.fit(X)))
    return {"seconds_an_iteration": (seconds[1] - seconds[0]) / 2}


MEASURES = {"faces": measure_faces, "digits": measure_digits, "speed": measure_speed}


# Parts ---------------------------------------------------------------------------


def run(part, spec):
    """Measure one model in a fresh process."""
    start = time.perf_counter()
    result = _harness.run_worker(__file__, {"part": part, **spec})
    print(part, spec["name"], f"{time.perf_counter() - start:.0f} s", file=sys.stderr)
    return {**spec, **result}


def run_images(part, n_components, rank, settings):
    """Fit low-rank and diagonal covariances to one image set."""
    common = {"n_components": n_components, "rank": rank, **settings}
    return [
        run(part, {"name": kind, "covariance_type": kind, **common})
        for kind in ("low_rank", "diag")
    ]


def run_part(part):
    if part == "faces":
        settings = {"max_iter": 20, "tol": 5.0, "reg_covar": 1e-4}
        return run_images(part, 20, 10, settings)
    if part == "digits":
        settings = {"max_iter": 30, "tol": 1.0, "reg_covar": 1e-3}
        return run_images(part, 50, 6, settings)
    return [
        run(part, {"name": name, "library": library, "covariance_type": kind})
        for name, library, kind in SPEED_MODELS
    ]


# Report --------------------------------------------------------------------------


def image_table(rows):
    header = [
        "covariances",
        "seconds",
        "iterations",
        "fit, MiB",
        "whole process, MiB",
        "training, nats/image",
        "held out, nats/image",
    ]
    keys = ("seconds", "n_iter", "fit_mib", "process_mib", "train_nats", "test_nats")
    lines = [[row["name"], *(f"{row[key]:.0f}" for key in keys)] for row in rows]
    return _report.table(header, lines)


def bins_table(rows):
    header = ["compared with the training set", "different bins of 100", "JS, nats"]
    lines = [
        [f"{row['name']}, {what}", str(row["ndb"][what]), f"{row['js'][what]:.4f}"]
        for row in rows
        for what in ("samples", "clipped samples")
    ]
    first = rows[0]
    real = [str(first["ndb"]["test set"]), f"{first['js']['test set']:.4f}"]
    return _report.table(header, [["held-out test set", *real], *lines])


def speed_table(rows):
    ours = rows[0]["seconds_an_iteration"]
    header = ["model", "seconds an iteration", "times low_rank"]
    lines = [
        [row["name"], f"{value:.2f}", f"{value / ours:.1f}"]
        if (value := row.get("seconds_an_iteration"))
        else [row["name"], row["error"], "-"]
        for row in rows
    ]
    return _report.table(header, lines)


TITLES = {
    "faces": "CelebA subset, 3,900 x 12,288, 20 components of rank 10",
    "digits": "MNIST, 60,000 x 784, 50 components of rank 6",
    "speed": "One EM iteration, 20,000 x 784, 25 components of rank 6, float32",
}


def section(part, rows):
    text = f"## {TITLES[part]}\n\n"
    if part == "speed":
        return text + speed_table(rows)
    text += image_table(rows)
    return text + ("\n" + bins_table(rows) if part == "digits" else "")


def report(results):
    parts = "\n".join(section(part, rows) for part, rows in results["parts"].items())
    return (
        "# Low-rank covariances on full images\n\n"
        f"{_harness.machine_line(results['machine'])} Seed 0; pixels in [0, 1]; "
        "one fit, k-means start.\n\n"
        f"{parts}"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--parts", nargs="+", choices=MEASURES, default=list(MEASURES))
    parser.add_argument("--worker", type=json.loads, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        with _harness.worker_output() as stdout:
            warnings.simplefilter("ignore")
            spec = arguments.worker
            print(json.dumps(MEASURES[spec["part"]](spec)), file=stdout)
        return
    path = _harness.RESULTS / "low_rank.json"
    found = json.loads(path.read_text())["parts"] if path.exists() else {}
    for part in arguments.parts:
        found[part] = run_part(part)
        parts = {part: found[part] for part in MEASURES if part in found}
        results = {"machine": _harness.machine(), "parts": parts}
        _harness.write_results(_harness.RESULTS, "low_rank", report(results), results)


if __name__ == "__main__":
    main()
