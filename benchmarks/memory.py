"""Working memory of a fit from a memory-mapped file.

Fits GaussianMixture to float32 rows that lie in a file, 2 million x 32 with K=64, and
measures what it holds beyond them: the rise of anonymous memory (sampled) and of the
whole resident memory less the size of the file, whose pages the system may keep.

    python benchmarks/memory.py [--quick] [--covariance-types full diag] [--init kmeans]

Exit status 1 if a fit needs more than the limit of 300 MB.
"""

import argparse
import json
import sys
import tempfile
import warnings
from pathlib import Path

import _harness
import _report
import numpy as np

LIMIT_MB = 300
N_FEATURES, N_COMPONENTS = 32, 64
CHUNK = 100_000


def write_rows(path, n_samples):
    """Write rows of a random mixture chunk by chunk and return their shape."""
    rng = np.random.default_rng(0)
    mixture = _harness.random_mixture(rng, N_COMPONENTS, N_FEATURES)
    shape = (n_samples, N_FEATURES)
    rows = np.memmap(path, dtype=np.float32, mode="w+", shape=shape)
    for start in range(0, n_samples, CHUNK):
        block = rows[start : start + CHUNK]
        block[:] = _harness.draw(rng, mixture, len(block))
    rows.flush()
    return shape


def measure(spec):
    """Fit once from the file and return memory in MB and seconds."""
    from skdeepgmm import GaussianMixture

    warnings.simplefilter("ignore")
    X = np.memmap(spec["path"], dtype=np.float32, mode="r", shape=tuple(spec["shape"]))
    mixture = GaussianMixture(
        N_COMPONENTS,
        covariance_type=spec["covariance_type"],
        init_params=spec["init"],
        max_iter=spec["n_iter"],
        tol=0.0,
        random_state=0,
        device=spec["device"],
    )
    with _harness.PeakMemory(sampled=True) as peak:
        seconds = _harness.wall_time(lambda: mixture.fit(X))
    return {
        "seconds": seconds,
        "anonymous_mb": peak.anonymous / 1e6,
        "resident_less_data_mb": max(0, peak.resident - X.nbytes) / 1e6,
        "log_likelihood": float(mixture.lower_bound_),
    }


def run(arguments):
    """Return the results of all covariance types."""
    n_samples = 200_000 if arguments.quick else 2_000_000
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.dat"
        shape = write_rows(path, n_samples)
        for covariance_type in arguments.covariance_types:
            spec = {
                "path": str(path),
                "shape": shape,
                "covariance_type": covariance_type,
                "init": arguments.init,
                "n_iter": arguments.iterations,
                "device": arguments.device,
            }
            result = _harness.run_worker(__file__, spec)
            rows.append({"covariance_type": covariance_type, **result})
            print(rows[-1], file=sys.stderr, flush=True)
    return {
        "machine": _harness.machine(arguments.device),
        "shape": shape,
        "init": arguments.init,
        "n_iter": arguments.iterations,
        "fits": rows,
    }


def used_mb(row):
    """Return the larger of the two measures; infinite if the fit failed."""
    if "error" in row:
        return float("inf")
    return max(row["anonymous_mb"], row["resident_less_data_mb"])


def markdown(results):
    """Return the page of the results."""
    n_samples, n_features = results["shape"]
    header = ["covariance", "anonymous, MB", "resident less data, MB", "seconds"]
    lines = [
        [
            row["covariance_type"],
            f"{row['anonymous_mb']:.0f}",
            f"{row['resident_less_data_mb']:.0f}",
            f"{row['seconds']:.1f}",
        ]
        for row in results["fits"]
        if "error" not in row
    ]
    return (
        "# Working memory of a fit from a memory map\n\n"
        f"{_harness.machine_line(results['machine'])}\n\n"
        f"float32 [{n_samples:,} x {n_features}] = "
        f"{4 * n_samples * n_features / 1e6:.0f} MB, K={N_COMPONENTS}, "
        f"{results['n_iter']} iterations, init_params={results['init']!r}. Peak above "
        f"the memory before the fit; the limit is {LIMIT_MB} MB.\n\n"
        f"{_report.table(header, lines)}"
    )


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    kinds = ["full", "tied", "diag", "spherical"]
    parser.add_argument(
        "--covariance-types", nargs="+", choices=kinds, default=["full", "diag"]
    )
    parser.add_argument("--init", default="kmeans", help="init_params of the fit")
    parser.add_argument("--iterations", type=int, default=3, help="EM iterations")
    parser.add_argument("--device", default="cpu", help="cpu (default) or cuda")
    parser.add_argument(
        "--quick", action="store_true", help="a tenth of the rows, bench_output/"
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
        return 0
    results = run(arguments)
    page = markdown(results)
    print(page)
    default = Path("bench_output") if arguments.quick else _harness.RESULTS
    _harness.write_results(arguments.out or default, "memory", page, results)
    return int(any(used_mb(row) > LIMIT_MB for row in results["fits"]))


if __name__ == "__main__":
    sys.exit(main())
