"""Time an iteration with truncation against exact EM, and compare what both reach.

Both begin with the same parameters, those of the truncated fit's own start, and run the
same number of iterations (tol=0). The seconds are those between the ends of two
iterations, their median; the first one is left out. Held-out samples are scored
exactly, by the same code for both. The largest mixture is fitted with truncation only,
and its peak memory above the data is noted: responsibilities of all samples and
components alone would be 4 GB there in float32.

    python benchmarks/truncation.py [--cases separate ...] [--iterations 4]
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
import warnings
from dataclasses import dataclass
from pathlib import Path

import _harness
import numpy as np

N_HELD_OUT = 5_000
N_CANDIDATES = 32


@dataclass(frozen=True)
class Case:
    """One data set. ``spread`` of the means, in about the components' deviations."""

    covariance_type: str
    n_samples: int
    n_features: int
    n_components: int
    spread: float
    exact: bool = True

    @property
    def title(self):
        size = f"{self.n_samples // 1000}k x {self.n_features}"
        return f"{self.covariance_type} [{size}, K={self.n_components}]"


CASES = {
    "separate": Case("full", 500_000, 32, 2_000, 1.5),
    "overlapping": Case("full", 500_000, 32, 2_000, 0.6),
    "diag": Case("diag", 500_000, 32, 2_000, 0.6),
    "largest": Case("diag", 100_000, 32, 10_000, 1.5, exact=False),
    "trial": Case("full", 20_000, 8, 200, 1.0),
}


class Ends:
    """A callback of scikit-learn's protocol that notes the ends of iterations."""

    def __init__(self):
        self.wall, self.cpu = [], []

    def setup(self, estimator, context):
        pass

    def teardown(self, estimator, context):
        pass

    def on_fit_task_begin(self, estimator, context):
        pass

    def on_fit_task_end(self, estimator, context):
        if context.task_name != "fit":
            self.wall.append(time.perf_counter())
            self.cpu.append(time.process_time())


def measure(spec):
    """Run a start or some iterations, as the spec says, and return the figures."""
    from skdeepgmm import GaussianMixture

    case, folder = CASES[spec["case"]], Path(spec["folder"])
    X, test = (np.load(folder / f"{name}.npy") for name in ("X", "test"))
    truncation = N_CANDIDATES if spec["truncated"] else None
    start = {}
    if spec["max_iter"]:
        with np.load(folder / "start.npz") as data:
            start = {name: data[name] for name in data.files}
    ends = Ends()
    gm = GaussianMixture(
        case.n_components,
        covariance_type=case.covariance_type,
        truncation=truncation,
        max_iter=spec["max_iter"],
        tol=0.0,
        random_state=0,
        device="cpu",
        **start,
    ).set_callbacks(ends)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with _harness.PeakMemory() as peak:
            seconds = _harness.wall_time(lambda: gm.fit(X))
    if not spec["max_iter"]:
        np.savez(
            folder / "start.npz",
            weights_init=gm.weights_,
            means_init=gm.means_,
            precisions_init=gm.precisions_,
        )
    return {
        "seconds": seconds,
        "iterations": np.diff(ends.wall).tolist(),
        "iterations_cpu": np.diff(ends.cpu).tolist(),
        "lower_bounds": list(gm.lower_bounds_),
        "gap": getattr(gm, "truncation_gap_", None),
        "held_out": float(gm.score(test)),
        "peak_mib": peak.resident / _harness.MIB,
    }


def run_case(name, n_iter):
    """Return the results of a case."""
    case, found = CASES[name], {}
    rng = np.random.default_rng([2, *name.encode()])
    mixture = _harness.random_mixture(
        rng, case.n_components, case.n_features, case.spread
    )
    with tempfile.TemporaryDirectory() as folder:
        for part, size in (("X", case.n_samples), ("test", N_HELD_OUT)):
            rows = _harness.draw(rng, mixture, size).astype(np.float32)
            np.save(Path(folder) / f"{part}.npy", rows)
        runs = [("start", True, 0), ("truncated", True, n_iter)]
        if case.exact:
            runs.append(("exact", False, n_iter))
        for run, truncated, max_iter in runs:
            spec = {
                "case": name,
                "folder": folder,
                "truncated": truncated,
                "max_iter": max_iter,
            }
            found[run] = _harness.run_worker(__file__, spec)
            print(name, run, found[run], file=sys.stderr)
    return found


def summary(found):
    """Return the figures that the tables and the guide show."""
    ours = found["truncated"]
    row = {
        "start_seconds": found["start"]["seconds"],
        "seconds": statistics.median(ours["iterations"]),
        "cpu": statistics.median(ours["iterations_cpu"]),
        "held_out": ours["held_out"],
        "gap": ours["gap"],
        "peak_mib": ours["peak_mib"],
    }
    if "exact" in found:
        exact = found["exact"]
        seconds = statistics.median(exact["iterations"])
        cpu = statistics.median(exact["iterations_cpu"])
        row |= {
            "exact_seconds": seconds,
            "exact_held_out": exact["held_out"],
            "exact_peak_mib": exact["peak_mib"],
            "ratio": seconds / row["seconds"],
            "cpu_ratio": cpu / row["cpu"],
            "held_out_share": (row["held_out"] - exact["held_out"])
            / abs(exact["held_out"]),
        }
    return row


def report(data):
    """Return the Markdown text."""
    head = "case, spread|exact, s|truncated, s|ratio|CPU ratio|held-out, exact|"
    head += "truncated|difference|gap, nats|start, s|peak, MiB"
    text = ["# Thousands of components\n", __doc__.split("\n\n", 1)[1]]
    text.append(f"| {head.replace('|', ' | ')} |\n" + "| ---: " * 11 + "|")
    for name, row in data["summary"].items():
        case = CASES[name]
        exact = ["", "", "", ""]
        difference = ""
        if "ratio" in row:
            exact = [
                f"{row['exact_seconds']:.2f}",
                f"{row['ratio']:.1f}",
                f"{row['cpu_ratio']:.1f}",
                f"{row['exact_held_out']:.3f}",
            ]
            difference = f"{100 * row['held_out_share']:+.2f} %"
        cells = [f"{case.title}, {case.spread}", exact[0], f"{row['seconds']:.2f}"]
        cells += [*exact[1:], f"{row['held_out']:.3f}", difference]
        cells += [f"{row['gap']:.4f}", f"{row['start_seconds']:.1f}"]
        cells.append(f"{row['peak_mib']:.0f}")
        text.append(f"| {' | '.join(cells)} |")
    text.append("\n" + _harness.machine_line(data["machine"]))
    return "\n".join(text) + "\n"


def main():
    """Run cases and write benchmarks/results/truncation.json and .md."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES)[:-1])
    parser.add_argument("--iterations", type=int, default=4)
    parser.add_argument("--out", type=Path, default=_harness.RESULTS)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        with _harness.worker_output() as stdout:
            print(json.dumps(measure(json.loads(args.worker))), file=stdout)
        return
    path = args.out / "truncation.json"
    for name in args.cases:
        runs = json.loads(path.read_text())["runs"] if path.exists() else {}
        runs[name] = run_case(name, args.iterations)
        runs = {case: runs[case] for case in CASES if case in runs}
        data = {
            "machine": _harness.machine(),
            "candidates": N_CANDIDATES,
            "summary": {case: summary(found) for case, found in runs.items()},
            "runs": runs,
        }
        _harness.write_results(args.out, "truncation", report(data), data)


if __name__ == "__main__":
    main()
