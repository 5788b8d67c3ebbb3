"""Missing values: imputation error, in-painting, cost of the missing-value path.

* ``imputation``: 30 % of the entries of ADBench sets are deleted at random; root mean
  square error of the deleted entries, in standard deviations of the features, against
  scikit-learn's imputers with their default settings. The number of components is
  chosen by BIC on the entries that are left.
* ``inpainting``: the lower half of MNIST test digits from the upper half, by a mixture
  of factor analysers fitted to complete training digits; PSNR of the hidden half.
* ``time``: seconds an EM iteration with 10 patterns of missing entries against the
  same rows without missing entries.

    SKDEEPGMM_DATA=folder python benchmarks/missing_values.py [--parts imputation ...]

The folder holds ``adbench/<set>.npz`` with an array X, and ``mnist.npz``.
"""

import argparse
import json
import os
import sys
import warnings
from pathlib import Path

import _harness
import _report
import numpy as np

SETS = ("breastw", "cardio", "mammography", "pima", "satellite", "wdbc")
SEEDS = (0, 1, 2)
SHARE = 0.3
MAX_ROWS = 1000
N_COMPONENTS = (1, 2, 3, 5, 8)
HALF = slice(14 * 28, None)


# Imputation ----------------------------------------------------------------------


def imputation_rows(name, rng):
    """Return complete rows and the rows with deleted entries, standardised.

    Units are the mean and deviation of the entries that are left.
    """
    path = Path(os.environ["SKDEEPGMM_DATA"]) / "adbench" / f"{name}.npz"
    with np.load(path) as file:
        X = file["X"].astype(np.float64)
    X = X[rng.permutation(len(X))[:MAX_ROWS]]
    X = X[:, X.std(axis=0) > 0]
    holed = np.where(rng.random(X.shape) < SHARE, np.nan, X)
    scale = np.nanstd(holed, axis=0)
    scale[scale < 1e-9 * np.ptp(X, axis=0)] = 1.0
    shift = np.nanmean(holed, axis=0)
    return (X - shift) / scale, (holed - shift) / scale


def mixture_imputation(holed):
    """Return the imputation of the mixture with the lowest BIC, and its size."""
    from skdeepgmm import GaussianMixture

    fits = [
        GaussianMixture(size, reg_covar=1e-3, random_state=0).fit(holed)
        for size in N_COMPONENTS
    ]
    best = min(fits, key=lambda gm: gm.bic(holed))
    return best.impute(holed), best.n_components


def imputers(seed):
    """Return scikit-learn's imputers by name, default settings."""
    from sklearn.experimental import enable_iterative_imputer  # noqa: F401
    from sklearn.impute import IterativeImputer, KNNImputer, SimpleImputer

    return {
        "IterativeImputer": IterativeImputer(random_state=seed),
        "KNNImputer": KNNImputer(),
        "SimpleImputer": SimpleImputer(),
    }


def measure_imputation(spec):
    """Return the errors of all imputers on one set and seed."""
    X, holed = imputation_rows(spec["set"], np.random.default_rng(spec["seed"]))
    deleted = np.isnan(holed)

    def error(filled):
        return float(np.sqrt(np.mean((filled - X)[deleted] ** 2)))

    filled, size = mixture_imputation(holed)
    errors = {"GaussianMixture": error(filled)}
    for name, imputer in imputers(spec["seed"]).items():
        errors[name] = error(imputer.fit_transform(holed))
    return {"rmse": errors, "n_components": size, "shape": X.shape}


# In-painting ---------------------------------------------------------------------


def psnr(truth, filled):
    """Return the peak signal-to-noise ratio of values in [0, 1], in dB."""
    return float(-10 * np.log10(np.mean((truth - filled.clip(0, 1)) ** 2)))


def measure_inpainting(spec):
    """Return PSNR of the hidden half, and write the picture."""
    from skdeepgmm import GaussianMixture
    from skdeepgmm.datasets import fetch_mnist

    X = fetch_mnist(subset="train").data[: spec["n_train"]]
    X_test = fetch_mnist(subset="test").data[: spec["n_test"]]
    gm = GaussianMixture(
        50,
        covariance_type="low_rank",
        rank=10,
        reg_covar=1e-3,
        max_iter=20,
        tol=1.0,
        random_state=0,
    )
    seconds = _harness.wall_time(lambda: gm.fit(X))
    holed = X_test.copy()
    holed[:, HALF] = np.nan
    filled = gm.impute(holed)
    mean = np.broadcast_to(X.mean(axis=0), X_test.shape)
    draws = gm.sample_conditional(holed[:20], n_samples=1)[0]
    draw_digits(X_test[:20], holed[:20], filled[:20], draws)
    truth = X_test[:, HALF]
    return {
        "fit_seconds": seconds,
        "impute_seconds": _harness.wall_time(lambda: gm.impute(holed)),
        "psnr_mixture": psnr(truth, filled[:, HALF]),
        "psnr_mean": psnr(truth, mean[:, HALF]),
    }


def draw_digits(*rows):
    """Write a picture: true, given, conditional mean, conditional draw."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(
        len(rows), 20, figsize=(10, 0.52 * len(rows)), layout="constrained"
    )
    for line, images in zip(axes, rows, strict=True):
        for ax, image in zip(line, images, strict=True):
            shown = np.nan_to_num(image, nan=0.35).reshape(28, 28)
            ax.imshow(shown, cmap="gray", vmin=0, vmax=1)
            ax.set_axis_off()
    figure.savefig(_harness.RESULTS / "missing_values_inpainting.png", dpi=80)


# Time ----------------------------------------------------------------------------


def ten_patterns(X, rng):
    """Return rows of which each misses one of 10 sets of features, 30 % in the mean."""
    masks = rng.random((10, X.shape[1])) < SHARE
    return np.where(masks[rng.integers(0, 10, len(X))], np.nan, X)


def seconds_an_iteration(X, covariance_type):
    """Return what each of five more iterations adds to a fit, best of two."""
    from skdeepgmm import GaussianMixture

    def seconds(n_iter):
        gm = GaussianMixture(
            16,
            covariance_type=covariance_type,
            rank=5,
            init_params="random_from_data",
            reg_covar=1e-2,
            max_iter=n_iter,
            tol=0.0,
            random_state=0,
        )
        return min(_harness.wall_time(lambda: gm.fit(X)) for _ in range(2))

    return (seconds(6) - seconds(1)) / 5


def measure_time(spec):
    """Return seconds an iteration for complete rows and for rows with NaN."""
    rng = np.random.default_rng(0)
    X = _harness.draw(rng, _harness.random_mixture(rng, 16, 32), 50_000)
    data = {"complete": X, "missing": ten_patterns(X, rng)}
    kind = spec["covariance_type"]
    return {name: seconds_an_iteration(rows, kind) for name, rows in data.items()}


MEASURES = {
    "imputation": measure_imputation,
    "inpainting": measure_inpainting,
    "time": measure_time,
}


# Parts ---------------------------------------------------------------------------


def specs(part, quick):
    """Return what to measure, one dict a process."""
    if part == "imputation":
        seeds = SEEDS[:1] if quick else SEEDS
        return [{"set": name, "seed": seed} for name in SETS for seed in seeds]
    if part == "inpainting":
        return [{"n_train": 3000 if quick else 20_000, "n_test": 1000}]
    kinds = ("full", "tied", "diag", "spherical", "low_rank")
    return [{"covariance_type": kind} for kind in kinds]


def run_part(part, quick, found):
    """Yield the rows so far, after every measurement; skips what was found before."""
    rows = list(found)
    yield rows
    for spec in specs(part, quick):
        if not any(spec.items() <= row.items() for row in found):
            result = _harness.run_worker(__file__, {"part": part, **spec})
            print(part, spec, result, file=sys.stderr, flush=True)
            rows.append({**spec, **result})
            yield rows


# Report --------------------------------------------------------------------------


def imputation_table(rows):
    """Return mean errors by set, the best one bold."""
    methods = list(rows[0]["rmse"])
    lines = []
    for name in SETS:
        mine = [row for row in rows if row["set"] == name]
        if not mine:
            continue
        values = np.array([[row["rmse"][m] for m in methods] for row in mine])
        mean, error = values.mean(axis=0), values.std(axis=0) / np.sqrt(len(mine))
        cells = [f"{m:.3f} ± {e:.3f}" for m, e in zip(mean, error, strict=True)]
        cells[mean.argmin()] = f"**{cells[mean.argmin()]}**"
        sizes = sorted({row["n_components"] for row in mine})
        shape = " x ".join(map(str, mine[0]["shape"]))
        lines.append([f"{name}, {shape}", *cells, ", ".join(map(str, sizes))])
    header = ["set", *methods, "components chosen"]
    return _report.table(header, lines)


def inpainting_table(rows):
    row = rows[0]
    header = ["filling of the lower half", "PSNR of that half, dB"]
    lines = [
        ["conditional mean of the mixture", f"{row['psnr_mixture']:.2f}"],
        ["mean training image", f"{row['psnr_mean']:.2f}"],
    ]
    text = (
        f"{row['n_train']} training digits, {row['n_test']} test digits, 50 components "
        f"of rank 10; fit {row['fit_seconds']:.0f} s, imputation "
        f"{row['impute_seconds']:.2f} s.\n\n![True digits, what is given, the "
        "conditional mean, one conditional draw](missing_values_inpainting.png)\n"
    )
    return f"{_report.table(header, lines)}\n{text}"


def time_table(rows):
    header = ["covariances", "complete, s", "10 patterns, s", "ratio"]
    lines = [
        [
            row["covariance_type"],
            f"{row['complete']:.3f}",
            f"{row['missing']:.3f}",
            f"{row['missing'] / row['complete']:.1f}",
        ]
        for row in rows
    ]
    return _report.table(header, lines)


SECTIONS = {
    "imputation": (
        "Imputation of 30 % deleted entries",
        "Root mean square error in standard deviations, mean and standard error over "
        f"random deletions, at most {MAX_ROWS} rows a set. Full covariances, "
        "`reg_covar=1e-3`, components by BIC; scikit-learn's imputers as they come.",
        imputation_table,
    ),
    "inpainting": ("In-painting of MNIST", "", inpainting_table),
    "time": (
        "Seconds an EM iteration, 50,000 x 32, 16 components",
        "Complete rows against the same rows with 10 patterns of missing entries.",
        time_table,
    ),
}


def report(results):
    text = f"# Missing values\n\n{_harness.machine_line(results['machine'])}\n"
    for part, rows in results["parts"].items():
        title, note, table = SECTIONS[part]
        text += f"\n## {title}\n\n{note + chr(10) * 2 if note else ''}{table(rows)}"
    return text


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--parts", nargs="+", choices=MEASURES, default=list(MEASURES))
    parser.add_argument("--quick", action="store_true", help="fewer seeds and rows")
    parser.add_argument("--resume", action="store_true", help="skip what was measured")
    parser.add_argument("--worker", type=json.loads, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        with _harness.worker_output() as stdout:
            warnings.simplefilter("ignore")
            spec = arguments.worker
            print(json.dumps(MEASURES[spec["part"]](spec)), file=stdout)
        return
    path = _harness.RESULTS / "missing_values.json"
    parts = json.loads(path.read_text())["parts"] if path.exists() else {}
    for part in arguments.parts:
        found = parts.get(part, []) if arguments.resume else []
        for rows in run_part(part, arguments.quick, found):
            parts = {name: (parts | {part: rows}).get(name) for name in MEASURES}
            parts = {name: rows for name, rows in parts.items() if rows}
            write(parts)


def write(parts):
    """Write the tables of all parts."""
    results = {"machine": _harness.machine(), "parts": parts}
    _harness.write_results(_harness.RESULTS, "missing_values", report(results), results)


if __name__ == "__main__":
    main()
