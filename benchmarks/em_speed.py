"""Time EM against scikit-learn's GaussianMixture.

Equal data, equal start values (all given), equal number of iterations (tol=0). Every
fit runs in a fresh process, repetitions are interleaved, and all variants may use the
same number of threads. Beside the seconds stand one iteration by itself, the peak
memory of the fit above the data and the log-likelihood of the fitted parameters by one
float64 scorer for all. Under each table: the floor of an iteration, computed from the
machine's own peaks, and the share of it that ours reaches.

    python benchmarks/em_speed.py [--quick] [--repeat 3] [--device cuda]
                                  [--cases full-100k ...]
"""

import argparse
import json
import sys
import tempfile
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path

import _floor
import _harness
import _report
import numpy as np


@dataclass(frozen=True)
class Case:
    """One setting. ``target`` is the ratio to reach, None where none is set."""

    name: str
    covariance_type: str
    n_samples: int
    n_features: int
    n_components: int
    n_iter: int
    target: float | None = None

    @property
    def title(self):
        size = f"{self.n_samples // 1000}k x {self.n_features}"
        return (
            f"{self.covariance_type} [{size}, K={self.n_components}], "
            f"{self.n_iter} iterations"
        )


CASES = [
    Case("full-100k", "full", 100_000, 32, 16, 10, 3.0),
    Case("diag-100k", "diag", 100_000, 32, 16, 40, 3.0),
    Case("full-50k", "full", 50_000, 50, 50, 5, 3.0),
    Case("full-20k", "full", 20_000, 128, 32, 5, 3.0),
    Case("diag-60k", "diag", 60_000, 784, 50, 5, 3.0),
    Case("full-10k", "full", 10_000, 8, 4, 100, 1.0),
    Case("diag-10k", "diag", 10_000, 8, 4, 100, 1.0),
    Case("full-1k", "full", 1_000, 4, 3, 200, 1.0),
    Case("diag-1k", "diag", 1_000, 4, 3, 200, 1.0),
    Case("tied-100k", "tied", 100_000, 32, 16, 10),
    Case("spherical-100k", "spherical", 100_000, 32, 16, 40),
]


@dataclass(frozen=True)
class Variant:
    """One way of fitting; its names appear in the tables."""

    library: str
    container: str
    dtype: str

    @property
    def name(self):
        return f"{self.library}, {self.container} {self.dtype}"


SCIKIT_LEARN = [
    Variant("scikit-learn", container, dtype)
    for container in ("NumPy", "torch")
    for dtype in ("float64", "float32")
]
OURS = [Variant("skdeepgmm", "NumPy", dtype) for dtype in ("float64", "float32")]
VARIANTS = SCIKIT_LEARN + OURS


# In the worker -------------------------------------------------------------------


def load_inputs(folder, variant, device):
    """Return X and the start values in the container and dtype of the variant."""
    with np.load(Path(folder) / "data.npz") as data:
        arrays = {name: data[name].astype(variant.dtype) for name in data.files}
    if variant.container == "torch":
        import torch

        arrays = {k: torch.from_numpy(v).to(device) for k, v in arrays.items()}
    return arrays.pop("X"), arrays


def make_estimator(variant, case, start, n_iter, device):
    """Return the estimator, ready to fit."""
    settings = {
        "n_components": case.n_components,
        "covariance_type": case.covariance_type,
        "max_iter": n_iter,
        "tol": 0.0,
        **start,
    }
    if variant.library == "skdeepgmm":
        from skdeepgmm import GaussianMixture

        return GaussianMixture(**settings, device=device)
    from sklearn.mixture import GaussianMixture

    # The only kind of start that scikit-learn accepts with tensors; it is not run.
    return GaussianMixture(**settings, init_params="random_from_data")


def fitted_parameters(estimator):
    """Return weights, means and Cholesky factors as float64 arrays."""
    values = (estimator.weights_, estimator.means_, estimator.precisions_cholesky_)
    return [
        np.asarray(v.cpu() if hasattr(v, "cpu") else v, dtype=np.float64)
        for v in values
    ]


def log_likelihood(case, estimator, X):
    """Return the mean log-likelihood in float64, by scikit-learn for every variant."""
    from sklearn.mixture import GaussianMixture

    scorer = GaussianMixture(case.n_components, covariance_type=case.covariance_type)
    scorer.weights_, scorer.means_, scorer.precisions_cholesky_ = fitted_parameters(
        estimator
    )
    X = np.asarray(X.cpu() if hasattr(X, "cpu") else X, dtype=np.float64)
    blocks = np.array_split(X, max(1, len(X) // 20_000))
    return sum(scorer.score_samples(block).sum() for block in blocks) / len(X)


def measure(spec):
    """Fit once, as the spec says, and return the figures; or the machine's peaks."""
    import sklearn

    if "peaks" in spec:
        return _floor.peaks(spec["peaks"])

    case, variant = Case(**spec["case"]), Variant(**spec["variant"])
    device = spec["device"]
    X, start = load_inputs(spec["folder"], variant, device)
    dispatch = variant.container == "torch"
    with warnings.catch_warnings(), sklearn.config_context(array_api_dispatch=dispatch):
        warnings.simplefilter("ignore")
        # Start thread pools and load kernels before the clock runs.
        make_estimator(variant, case, start, 2, device).fit(X[:2000])
        first = make_estimator(variant, case, start, 1, device)
        first_seconds = _harness.wall_time(lambda: first.fit(X))
        estimator = make_estimator(variant, case, start, case.n_iter, device)
        with _harness.PeakMemory() as peak:
            seconds = _harness.wall_time(lambda: estimator.fit(X))
    return {
        "seconds": seconds,
        "iteration_s": (seconds - first_seconds) / (case.n_iter - 1),
        "peak_mib": peak.resident / _harness.MIB,
        "n_iter": int(estimator.n_iter_),
        "log_likelihood": log_likelihood(case, estimator, X),
    }


# In the parent -------------------------------------------------------------------


def write_inputs(case, folder):
    """Draw data and start values of a case from its own seed."""
    rng = np.random.default_rng([0, *case.name.encode()])
    mixture = _harness.random_mixture(rng, case.n_components, case.n_features)
    X = _harness.draw(rng, mixture, case.n_samples)
    start = _harness.start_values(rng, mixture, case.covariance_type)
    # Values that float32 holds exactly, so that all variants see the same data.
    np.savez(Path(folder) / "data.npz", X=X.astype(np.float32), **start)


def run_case(case, repeat, device):
    """Return the results of all variants: a list of dicts with lists of figures."""
    runs = {variant: [] for variant in VARIANTS}
    with tempfile.TemporaryDirectory() as folder:
        write_inputs(case, folder)
        for repetition in range(repeat):
            # Another order each time: a slow minute does not hit one variant only.
            shift = repetition * 2 % len(VARIANTS)
            for variant in VARIANTS[shift:] + VARIANTS[:shift]:
                spec = {
                    "case": asdict(case),
                    "variant": asdict(variant),
                    "folder": folder,
                    "device": device,
                }
                runs[variant].append(_harness.run_worker(__file__, spec))
                progress(case, variant, runs[variant][-1])
    return [summary(variant, figures) for variant, figures in runs.items()]


def progress(case, variant, figures):
    seconds = figures.get("seconds")
    shown = figures["error"] if seconds is None else f"{seconds:8.3f} s"
    print(f"{case.name:>15}  {variant.name:<28} {shown}", file=sys.stderr, flush=True)


def summary(variant, figures):
    """Return median and minimum of the seconds, the worst memory, the likelihood."""
    failed = [run["error"] for run in figures if "error" in run]
    row = {"variant": variant.name, "library": variant.library, "runs": figures}
    if failed:
        return {**row, "error": failed[0]}
    seconds = [run["seconds"] for run in figures]
    return {
        **row,
        "median_s": float(np.median(seconds)),
        "min_s": min(seconds),
        "iteration_s": float(np.median([run["iteration_s"] for run in figures])),
        "peak_mib": max(run["peak_mib"] for run in figures),
        "n_iter": figures[0]["n_iter"],
        "log_likelihood": figures[0]["log_likelihood"],
    }


def quick(case):
    """Return the case with a tenth of the rows and a fifth of the iterations."""
    return Case(
        **{
            **asdict(case),
            "n_samples": case.n_samples // 10,
            "n_iter": max(2, case.n_iter // 5),
            "target": None,
        }
    )


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    names = [case.name for case in CASES]
    parser.add_argument("--cases", nargs="+", choices=names, default=names)
    parser.add_argument("--repeat", type=int, default=3, help="fits a variant")
    parser.add_argument("--device", default="cpu", help="cpu (default) or cuda")
    parser.add_argument(
        "--quick", action="store_true", help="small data, one repetition, bench_output/"
    )
    parser.add_argument("--out", type=Path, help="folder of the tables")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    return parser.parse_args()


def main():
    arguments = parse_arguments()
    if arguments.worker:
        with _harness.worker_output() as stdout:
            result = measure(json.loads(arguments.worker))
        print(json.dumps(result), file=stdout)
        return
    cases = [case for case in CASES if case.name in arguments.cases]
    if arguments.quick:
        cases, arguments.repeat = [quick(case) for case in cases], 1
    peaks = {
        dtype: _harness.run_worker(__file__, {"peaks": dtype})
        for dtype in ("float32", "float64")
    }
    results = {
        "machine": _harness.machine(arguments.device),
        "device": arguments.device,
        "repeat": arguments.repeat,
        "peaks": peaks,
        "cases": [
            {
                **asdict(case),
                "title": case.title,
                "floor_s": {d: _floor.seconds(case, peaks[d]) for d in peaks},
                "variants": run_case(case, arguments.repeat, arguments.device),
            }
            for case in cases
        ],
    }
    report(results, arguments)


def report(results, arguments):
    """Print and write the tables."""
    markdown = _report.full_report(results)
    print(markdown)
    default = Path("bench_output") if arguments.quick else _harness.RESULTS
    suffix = "" if arguments.device == "cpu" else "_cuda"
    folder = arguments.out or default
    _harness.write_results(folder, f"em_speed{suffix}", markdown, results)


if __name__ == "__main__":
    main()
