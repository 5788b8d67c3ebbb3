"""Working memory of fits from a memory-mapped file.

Fits GaussianMixture to float32 rows that lie in a file and measures what it holds
beyond them: the rise of anonymous memory (sampled) and of the resident memory less the
size of the file, whose pages the system may keep. Two cases have a limit, 2 million
x 32 with K=64 and 5 million x 32 with K=128; others vary samples, features and
components, one at a time.

    python benchmarks/memory.py [--quick] [--covariance-types full diag] [--init kmeans]

Exit status 1 if a fit needs more than its limit.
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

CHUNK = 100_000
#: Samples, features, components and the limit in MB.
LIMITED = [(2_000_000, 32, 64, 300), (5_000_000, 32, 128, 500)]
CURVES = [
    *((n_samples, 32, 64, None) for n_samples in (250_000, 500_000, 1_000_000)),
    *((500_000, n_features, 64, None) for n_features in (8, 128)),
    *((500_000, 32, n_components, None) for n_components in (16, 256)),
]


def write_rows(path, shape, n_components):
    """Write rows of a random mixture chunk by chunk."""
    rng = np.random.default_rng(0)
    mixture = _harness.random_mixture(rng, n_components, shape[1])
    rows = np.memmap(path, dtype=np.float32, mode="w+", shape=shape)
    for start in range(0, len(rows), CHUNK):
        block = rows[start : start + CHUNK]
        block[:] = _harness.draw(rng, mixture, len(block))
    rows.flush()


def measure(spec):
    """Fit once from the file and return memory in MB and seconds."""
    from skdeepgmm import GaussianMixture

    warnings.simplefilter("ignore")
    X = np.memmap(spec["path"], dtype=np.float32, mode="r", shape=tuple(spec["shape"]))
    mixture = GaussianMixture(
        spec["n_components"],
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
    """Return the results of all cases and covariance types."""
    scale = 10 if arguments.quick else 1
    cases = [(n // scale, *case) for n, *case in LIMITED + CURVES]
    fits = [fit for case in cases for fit in run_case(arguments, *case)]
    return {
        "machine": _harness.machine(arguments.device),
        "init": arguments.init,
        "n_iter": arguments.iterations,
        "fits": fits,
    }


def run_case(arguments, n_samples, n_features, n_components, limit_mb):
    """Return the results of one shape."""
    case = {"shape": (n_samples, n_features), "n_components": n_components}
    settings = {
        "init": arguments.init,
        "n_iter": arguments.iterations,
        "device": arguments.device,
    }
    found = []
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        path = str(Path(folder) / "rows.dat")
        write_rows(path, case["shape"], n_components)
        for name in arguments.covariance_types:
            spec = {**case, **settings, "path": path, "covariance_type": name}
            result = _harness.run_worker(__file__, spec)
            title = f"{n_samples:,} x {n_features}, K={n_components}, {name}"
            found.append(
                {
                    "name": title,
                    "covariance_type": name,
                    **case,
                    "limit_mb": limit_mb,
                    **result,
                }
            )
            print(found[-1], file=sys.stderr, flush=True)
    return found


def used_mb(row):
    """Return the larger of the two measures; infinite if the fit failed."""
    if "error" in row:
        return float("inf")
    return max(row["anonymous_mb"], row["resident_less_data_mb"])


def is_within(row):
    """Tell whether a fit stayed within its limit, if it has one."""
    return row["limit_mb"] is None or used_mb(row) <= row["limit_mb"]


def markdown(results):
    """Return the page of the results."""
    header = ["samples", "features", "K", "covariance", "file, MB", "anonymous, MB"]
    header += ["resident less data, MB", "limit, MB", "seconds"]
    lines = [
        [
            f"{row['shape'][0]:,}",
            str(row["shape"][1]),
            str(row["n_components"]),
            row["covariance_type"],
            f"{4 * row['shape'][0] * row['shape'][1] / 1e6:.0f}",
            f"{row['anonymous_mb']:.0f}",
            f"{row['resident_less_data_mb']:.0f}",
            str(row["limit_mb"] or ""),
            f"{row['seconds']:.1f}",
        ]
        for row in results["fits"]
        if "error" not in row
    ]
    return (
        "# Working memory of a fit from a memory map\n\n"
        f"{_harness.machine_line(results['machine'])}\n\n"
        f"float32 rows in a file, {results['n_iter']} iterations, "
        f"init_params={results['init']!r}. Peak above the memory before the fit. "
        "Times are of one run, on a machine that may be busy.\n\n"
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
    parser.add_argument("--folder", help="where the rows are written")
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
    return int(not all(map(is_within, results["fits"])))


if __name__ == "__main__":
    sys.exit(main())
