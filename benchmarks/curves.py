"""Cost of EM, scoring and sampling by samples, features and components.

One of the three changes, the others keep to [50,000 x 32, K = 16]. Times are those of
an iteration (what iterations after the first add), of ``score_samples`` on the training
data and of ``sample`` for as many rows: ours and scikit-learn's default, and its
fastest form, tensors of float32 through the array API. Same data, same start values, no
k-means. Each library has a process of its own; repetitions are interleaved, and the
page has their medians.

    python benchmarks/curves.py [--repeat 3] [--types full diag]
"""

import argparse
import json
import statistics
import tempfile
import warnings
from dataclasses import asdict
from pathlib import Path

import _harness
import _report
import em_speed
import numpy as np

BASE = {"n_samples": 50_000, "n_features": 32, "n_components": 16}
AXES = {
    "n_samples": [1_000, 3_000, 10_000, 30_000, 100_000, 300_000],
    "n_features": [2, 4, 8, 16, 32, 64, 128],
    "n_components": [2, 4, 8, 16, 32, 64, 128],
}
TITLES = {"n_samples": "samples", "n_features": "features", "n_components": "K"}
VARIANTS = [
    em_speed.Variant("scikit-learn", "NumPy", "float64"),
    em_speed.Variant("scikit-learn", "torch", "float32"),
    em_speed.Variant("skdeepgmm", "NumPy", "float64"),
    em_speed.Variant("skdeepgmm", "NumPy", "float32"),
]
COLORS = ["C1", "C3", "C0", "C2"]
MEASURES = {
    "iteration_s": "an iteration",
    "score_s": "score_samples",
    "sample_s": "sample",
}
#: Iterations are timed until they take about so long.
SECONDS, MOST_ITERATIONS = 0.3, 100


def points(covariance_type):
    """Return the cases of a type; what two axes share is measured once."""
    sizes = {tuple({**BASE, axis: v}.values()) for axis in AXES for v in AXES[axis]}
    return [
        em_speed.Case("-".join(map(str, size)), covariance_type, *size, n_iter=2)
        for size in sorted(sizes)
    ]


# In the worker -------------------------------------------------------------------


def iterations_for(case, seconds):
    """Return how many iterations to time, for the seconds of one."""
    return int(np.clip(SECONDS / max(seconds, 1e-6), 2, MOST_ITERATIONS))


def measure_point(case, variant, folder):
    """Return the seconds of an iteration, of scoring and of sampling."""
    X, start = em_speed.load_inputs(folder, variant, "cpu")

    def seconds(n_iter):
        estimator = em_speed.make_estimator(variant, case, start, n_iter, "cpu")
        return _harness.wall_time(lambda: estimator.fit(X)), estimator

    seconds(1)  # warms up
    first, estimator = seconds(1)
    more = iterations_for(case, first)
    whole, estimator = seconds(1 + more)
    return {
        "iteration_s": max(whole - first, 0.0) / more,
        "score_s": _harness.wall_time(lambda: estimator.score_samples(X)),
        "sample_s": _harness.wall_time(lambda: estimator.sample(len(X))),
    }


def measure(spec):
    """Return the figures of all cases of a type, for one variant."""
    import sklearn

    variant, found = em_speed.Variant(**spec["variant"]), {}
    dispatch = variant.container == "torch"
    with warnings.catch_warnings(), sklearn.config_context(array_api_dispatch=dispatch):
        warnings.simplefilter("ignore")
        for case in points(spec["covariance_type"]):
            try:
                folder = Path(spec["folder"]) / case.name
                found[case.name] = measure_point(case, variant, folder)
            except Exception as error:  # a form that scikit-learn does not have
                found[case.name] = {"error": f"{type(error).__name__}: {error}"[:200]}
    return found


# In the parent -------------------------------------------------------------------


def run_type(covariance_type, repeat):
    """Return the repetitions of every variant, {variant: [{case: figures}]}."""
    runs = {variant.name: [] for variant in VARIANTS}
    with tempfile.TemporaryDirectory() as folder:
        for case in points(covariance_type):
            (Path(folder) / case.name).mkdir()
            em_speed.write_inputs(case, Path(folder) / case.name)
        for repetition in range(repeat):
            shift = repetition % len(VARIANTS)
            for variant in VARIANTS[shift:] + VARIANTS[:shift]:
                spec = {
                    "covariance_type": covariance_type,
                    "variant": asdict(variant),
                    "folder": folder,
                }
                found = _harness.run_worker(__file__, spec)
                print(covariance_type, variant.name, repetition, flush=True)
                runs[variant.name].append(found)
    return runs


def medians(runs):
    """Return the rows of a type: sizes, variant and medians of the seconds."""
    rows = []
    for variant, found in runs.items():
        for name in found[0]:
            figures = [run.get(name, {}) for run in found]
            sizes = dict(zip(BASE, map(int, name.split("-")), strict=True))
            row = {"variant": variant, **sizes}
            for key in MEASURES:
                known = [f[key] for f in figures if key in f]
                row[key] = statistics.median(known) if known else None
            rows.append(row)
    return rows


def on_axis(rows, axis):
    """Return the rows in which only one size differs from the base, in its order."""
    others = [name for name in BASE if name != axis]
    found = [row for row in rows if all(row[name] == BASE[name] for name in others)]
    return sorted(found, key=lambda row: row[axis])


def of_variant(rows, name):
    """Return the rows of a variant."""
    return [row for row in rows if row["variant"] == name]


def line_of(rows, axis, value, key):
    """Return the cells of a size: milliseconds by variant, and the ratio."""
    here = {row["variant"]: row[key] for row in rows if row[axis] == value}
    cells = ["-" if s is None else f"{1e3 * s:.2f}" for s in here.values()]
    best = {
        library: min(
            (s for name, s in here.items() if s is not None and library in name),
            default=None,
        )
        for library in ("scikit-learn", "skdeepgmm")
    }
    ratio = "-" if None in best.values() else f"{_times(*best.values()):.1f}"
    return [f"{value:,}", *cells, ratio]


def _times(other, ours):
    """Return how many times less ours is."""
    return other / max(ours, 1e-9)


def markdown(results):
    """Return the page."""
    text = [
        "# Cost by samples, features and components\n",
        f"{_harness.machine_line(results['machine'])}\n",
        f"{__doc__.split('    python')[0].split(chr(10) * 2, 1)[1].strip()}\n",
        "![Seconds of an iteration](curves.png)\n",
        *([f"{results['note']}\n"] if "note" in results else []),
        f"Milliseconds, medians of {results['repeat']}. The last column: how many "
        "times less than scikit-learn's better form the better of ours takes.\n",
    ]
    names = [variant.name for variant in VARIANTS]
    for covariance_type, rows in results["types"].items():
        for key, title in MEASURES.items():
            text.append(f"## '{covariance_type}', {title}\n")
            for axis, values in AXES.items():
                header = [TITLES[axis], *names, "ratio"]
                chosen = on_axis(rows, axis)
                lines = [line_of(chosen, axis, value, key) for value in values]
                text.append(_report.table(header, lines))
    return "\n".join(text)


def draw(results, path):
    """Draw the seconds of an iteration, logarithmic axes."""
    import matplotlib.pyplot as plt

    types = results["types"]
    figure, grid = plt.subplots(
        len(types), len(AXES), figsize=(10, 3.1 * len(types)), squeeze=False
    )
    for line, (covariance_type, rows) in zip(grid, types.items(), strict=True):
        for ax, axis in zip(line, AXES, strict=True):
            for variant, color in zip(VARIANTS, COLORS, strict=True):
                chosen = of_variant(on_axis(rows, axis), variant.name)
                x, y = ([row[key] for row in chosen] for key in (axis, "iteration_s"))
                y = [np.nan if s is None else s for s in y]
                ax.loglog(x, y, "o-", ms=3, color=color, label=variant.name)
            ax.set(xlabel=TITLES[axis], title=f"{covariance_type}, by {TITLES[axis]}")
        line[0].set_ylabel("seconds an iteration")
    grid[0, 0].legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(path, dpi=100)


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--types", nargs="+", default=["full", "diag"])
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--out", type=Path, default=_harness.RESULTS)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    return parser.parse_args()


def main():
    arguments = parse_arguments()
    if arguments.worker:
        with _harness.worker_output() as stdout:
            result = measure(json.loads(arguments.worker))
        print(json.dumps(result), file=stdout)
        return
    results = {
        "machine": _harness.machine(),
        "repeat": arguments.repeat,
        "types": {
            name: medians(run_type(name, arguments.repeat)) for name in arguments.types
        },
    }
    _harness.write_results(arguments.out, "curves", markdown(results), results)
    draw(results, arguments.out / "curves.png")


if __name__ == "__main__":
    main()
