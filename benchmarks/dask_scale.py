"""Fits beyond one process: dask workers, torchrun ranks and Spark on one file.

A Parquet file of float32 rows of a random mixture, 10 million x 32 by default, is
fitted with K=16, from the same start values and for as many iterations by

* one process with two threads that reads the file chunk by chunk (``ChunkedArray``),
* a dask array of its row groups on two worker processes with a thread each,
* one and two processes started by torchrun, with a thread each,
* Spark's GaussianMixture on two cores, which chooses its own start values (with
  ``--spark-python``, an interpreter whose environment has pyspark, and a Java runtime).

    pip install '.[dask]'
    python benchmarks/dask_scale.py [--samples 1000000] [--spark-python PATH]

Results go to benchmarks/results/dask_scale.{json,md}.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import warnings
from functools import partial
from pathlib import Path

import _harness
import _report
import numpy as np

N_FEATURES, N_COMPONENTS, GROUP_ROWS = 32, 16, 100_000
TYPES = ("full", "diag")
#: Samples and components of the comparison of ranks.
RANKS = (2_000_000, 32)


# Data ----------------------------------------------------------------------------


def write_rows(path, n_samples):
    """Write the rows, a row group at a time, and start values beside them."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rng = np.random.default_rng(0)
    mixture = _harness.random_mixture(rng, N_COMPONENTS, N_FEATURES)
    kind = pa.list_(pa.float32(), N_FEATURES)
    schema = pa.schema([("features", kind)])
    with pq.ParquetWriter(path, schema, compression="none") as writer:
        for start in range(0, n_samples, GROUP_ROWS):
            rows = _harness.draw(rng, mixture, min(GROUP_ROWS, n_samples - start))
            values = pa.array(rows.astype(np.float32).ravel())
            column = pa.FixedSizeListArray.from_arrays(values, N_FEATURES)
            writer.write_table(pa.table([column], schema=schema))
    for name in TYPES:
        starts = _harness.start_values(np.random.default_rng(1), mixture, name)
        np.savez(f"{path}.{name}.npz", **starts)


def read_group(path, number):
    """Return the rows of one row group."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        column = file.read_row_group(number)["features"].combine_chunks()
    return column.flatten().to_numpy().reshape(-1, N_FEATURES)


def group_sizes(n_samples):
    whole, rest = divmod(n_samples, GROUP_ROWS)
    return [GROUP_ROWS] * whole + [rest] * (rest > 0)


def chunks(path, n_samples, share=slice(None)):
    """Return loaders of row groups."""
    numbers = range(len(group_sizes(n_samples)))[share]
    return [partial(read_group, path, number) for number in numbers]


class Clock:
    """Seconds since the beginning of the fit at the end of every iteration."""

    def __init__(self):
        self.ends = []

    def setup(self, estimator, context):
        pass

    def teardown(self, estimator, context):
        pass

    def on_fit_task_begin(self, estimator, context):
        pass

    def on_fit_task_end(self, estimator, context):
        self.ends.append(_harness.time.perf_counter())


def fit(X, spec):
    """Fit to X and return seconds, bounds and when each was reached."""
    from skdeepgmm import GaussianMixture

    warnings.simplefilter("ignore")
    settings = {"max_iter": spec["n_iter"], "tol": 0.0, "random_state": 0}
    if not spec.get("own_start"):
        settings |= dict(np.load(f"{spec['path']}.{spec['type']}.npz"))
    n_components = spec.get("n_components", N_COMPONENTS)
    model = GaussianMixture(n_components, covariance_type=spec["type"], **settings)
    clock = Clock()
    model.set_callbacks(clock)
    start = _harness.time.perf_counter()
    model.fit(X)
    return {
        "seconds": _harness.time.perf_counter() - start,
        "lower_bounds": model.lower_bounds_,
        "reached_s": [end - start for end in clock.ends[: model.n_iter_]],
        "means_sum": float(np.abs(model.means_).sum()),
    }


# Ways to fit ---------------------------------------------------------------------


def one_process(spec):
    """Return the result of one process with two threads."""
    import torch

    from skdeepgmm import ChunkedArray

    torch.set_num_threads(2)
    X = ChunkedArray(chunks(spec["path"], spec["samples"]))
    warm_up(spec)
    with _harness.PeakMemory() as peak:
        result = fit(X, spec)
    return result | {"client_mb": peak.resident / 1e6}


def dask_workers(spec):
    """Return the result of two dask workers."""
    import dask
    import dask.array as da
    from distributed import Client, LocalCluster

    read = dask.delayed(read_group)
    parts = [
        da.from_delayed(read(spec["path"], number), (rows, N_FEATURES), np.float32)
        for number, rows in enumerate(group_sizes(spec["samples"]))
    ]
    X = da.concatenate(parts)
    with (
        LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
        ) as cluster,
        Client(cluster) as client,
    ):
        client.run(warm_up, spec)
        warm_up(spec)
        before = client.run(_harness.peak_resident)
        with _harness.PeakMemory() as peak:
            result = fit(X, spec)
        after = client.run(_harness.peak_resident)
    rise = max(after[name] - before[name] for name in after)
    return result | {"client_mb": peak.resident / 1e6, "worker_mb": rise / 1e6}


def warm_up(spec):
    """Import what a fit needs, read and fit once, before memory is measured."""
    from skdeepgmm import GaussianMixture

    warnings.simplefilter("ignore")
    if not spec.get("mapped"):
        read_group(spec["path"], 0)
    X = np.random.default_rng(0).normal(size=(1000, N_FEATURES)).astype(np.float32)
    GaussianMixture(N_COMPONENTS, max_iter=1, random_state=0).fit(X)


def rank(spec):
    """Return the result of one rank, which torchrun has started."""
    from skdeepgmm import ChunkedArray

    size, number = int(os.environ["WORLD_SIZE"]), int(os.environ["RANK"])
    mine = slice(number, None, size)
    if spec.get("mapped"):
        X = np.load(spec["path"], mmap_mode="r")
        X = X[len(X) * number // size : len(X) * (number + 1) // size]
    else:
        X = ChunkedArray(chunks(spec["path"], spec["samples"], mine))
    warm_up(spec)
    with _harness.PeakMemory() as peak:
        result = fit(X, spec)
    result |= {"client_mb": peak.resident / 1e6}
    if number == 0:
        Path(spec["result"]).write_text(json.dumps(result))
    return result


def ranks(spec, n_ranks):
    """Return the result of the first of so many ranks."""
    result = Path(f"{spec['path']}.result")
    spec = spec | {"way": "rank", "result": str(result)}
    command = [sys.executable, "-m", "torch.distributed.run"]
    command += ["--standalone", f"--nproc-per-node={n_ranks}", __file__]
    command += ["--worker", json.dumps(spec)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
    return json.loads(result.read_text())


SPARK = """
import json, sys, time
import numpy as np
from pyspark.ml.clustering import GaussianMixture
from pyspark.ml.functions import array_to_vector
from pyspark.sql import SparkSession
path, n_components, n_iter, out = sys.argv[1], *map(int, sys.argv[2:4]), sys.argv[4]
session = (
    SparkSession.builder.master("local[2]")
    .config("spark.driver.memory", "6g")
    .config("spark.ui.enabled", "false")
    .getOrCreate()
)
rows = session.read.parquet(path).select(array_to_vector("features").alias("features"))
start = time.perf_counter()
model = GaussianMixture(k=n_components, maxIter=n_iter, tol=0.0, seed=0).fit(rows)
seconds = time.perf_counter() - start
gaussians = model.gaussians
np.savez(
    out,
    weights=model.weights,
    means=[g.mean.toArray() for g in gaussians],
    covariances=[g.cov.toArray() for g in gaussians],
)
n = rows.count()
print(json.dumps({
    "seconds": seconds,
    "n_iter": model.summary.numIter,
    "own_log_likelihood": model.summary.logLikelihood / n,
    "pyspark": session.version,
}))
"""


def spark(spec, python, n_iter):
    """Return the result of Spark, with its log-likelihood on the first row group."""
    from skdeepgmm import GaussianMixture

    out = f"{spec['path']}.spark.npz"
    arguments = [spec["path"], str(N_COMPONENTS), str(n_iter), out]
    environment = os.environ | {"PYSPARK_PYTHON": python}
    for name in ("PYTHONPATH", "OMP_NUM_THREADS"):
        environment.pop(name, None)
    done = subprocess.run(
        [python, "-c", SPARK, *arguments],
        env=environment,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    result = json.loads(done.stdout.splitlines()[-1])
    found = np.load(out)
    weights = found["weights"] / found["weights"].sum()
    mixture = GaussianMixture.from_parameters(
        weights, found["means"], found["covariances"]
    )
    scores = [mixture.score(part()) for part in chunks(spec["path"], spec["samples"])]
    sizes = group_sizes(spec["samples"])
    return result | {"log_likelihood": float(np.average(scores, weights=sizes))}


WAYS = {"one process": one_process, "dask": dask_workers, "rank": rank}


# Runs ----------------------------------------------------------------------------


def run(arguments):
    """Return the results of all ways."""
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        path = str(Path(folder) / "rows.parquet")
        write_rows(path, arguments.samples)
        base = {"path": path, "samples": arguments.samples}
        base |= {"n_iter": arguments.iterations}
        fits = [
            found
            for name in arguments.types
            for found in run_type(base | {"type": name}, arguments)
        ]
        return {
            "machine": _harness.machine(),
            "shape": [arguments.samples, N_FEATURES],
            "file_mb": Path(path).stat().st_size / 1e6,
            "chunk_mb": 4 * GROUP_ROWS * N_FEATURES / 1e6,
            "n_components": N_COMPONENTS,
            "n_iter": arguments.iterations,
            "repeats": arguments.repeats,
            "load": os.getloadavg(),
            "fits": fits,
            "ranks": run_ranks(folder, arguments),
            "spark": run_spark(base, arguments),
        }


def run_type(spec, arguments):
    """Return the fastest of some runs of each way, taken in turns."""
    ways = {
        "one process, 2 threads": lambda: _harness.run_worker(
            __file__, spec | {"way": "one process"}
        ),
        "dask, 2 workers": lambda: _harness.run_worker(
            __file__, spec | {"way": "dask"}
        ),
        "torchrun, 1 rank": lambda: ranks(spec, 1),
        "torchrun, 2 ranks": lambda: ranks(spec, 2),
    }
    if arguments.without_threads:
        del ways["one process, 2 threads"]
    found = {name: [] for name in ways}
    for _ in range(arguments.repeats):
        for name, way in ways.items():
            found[name].append(way())
            seconds = found[name][-1].get("seconds")
            print(spec["type"], name, seconds, file=sys.stderr, flush=True)
    return [
        {"name": f"{spec['type']}, {name}", "way": name, "type": spec["type"]}
        | min(results, key=lambda result: result["seconds"])
        | {"all_seconds": [result["seconds"] for result in results]}
        for name, results in found.items()
    ]


def run_ranks(folder, arguments):
    """Return seconds of one rank and of two, each with a part of a memory map."""
    n_samples, n_components = RANKS
    path = str(Path(folder) / "rows.npy")
    rng = np.random.default_rng(0)
    mixture = _harness.random_mixture(rng, n_components, N_FEATURES)
    shape = (n_samples, N_FEATURES)
    rows = np.lib.format.open_memmap(path, "w+", np.float32, shape)
    for start in range(0, n_samples, GROUP_ROWS):
        rows[start : start + GROUP_ROWS] = _harness.draw(rng, mixture, GROUP_ROWS)
    rows.flush()
    spec = {"path": path, "mapped": True, "n_components": n_components}
    # As many iterations as a fit may take: what comes before them is not all.
    n_iter = 10
    found = []
    for name in arguments.types:
        starts = _harness.start_values(np.random.default_rng(1), mixture, name)
        np.savez(f"{path}.{name}.npz", **starts)
        spec |= {"type": name, "n_iter": n_iter}
        seconds = {1: [], 2: []}
        for _ in range(3):
            for n_ranks, times in seconds.items():
                times.append(ranks(spec, n_ranks)["seconds"])
        one, two = (float(np.median(times)) for times in seconds.values())
        found.append(
            {"name": name, "one_s": one, "two_s": two, "times": one / two}
            | {"all_seconds": list(seconds.values())}
        )
        print(found[-1], file=sys.stderr, flush=True)
    return {
        "shape": shape,
        "n_components": n_components,
        "n_iter": n_iter,
        "fits": found,
    }


def run_spark(base, arguments):
    """Return Spark's fit, and ours from our own start on two dask workers."""
    if arguments.spark_python is None:
        return None
    spec = base | {"type": "full", "own_start": True, "way": "dask"}
    theirs = spark(spec, arguments.spark_python, arguments.spark_iterations)
    print("spark", theirs, file=sys.stderr, flush=True)
    ours = _harness.run_worker(__file__, spec | {"n_iter": arguments.spark_iterations})
    goal = theirs["log_likelihood"]
    reached = [
        seconds
        for seconds, bound in zip(ours["reached_s"], ours["lower_bounds"], strict=True)
        if bound >= goal
    ]
    return {
        "theirs": theirs,
        "ours": ours,
        "seconds_to_theirs": min(reached, default=None),
    }


def markdown(results):
    """Return the page of the results."""
    n_samples, n_features = results["shape"]
    lines = [
        [
            row["type"],
            row["way"],
            f"{row['seconds']:.1f}",
            f"{row['lower_bounds'][-1]:.6f}",
            f"{row['client_mb']:.0f}" if "client_mb" in row else "",
            f"{row['worker_mb']:.0f}" if "worker_mb" in row else "",
        ]
        for row in results["fits"]
    ]
    header = ["covariance", "way", "seconds", "lower bound, nats"]
    header += ["process, MB", "worker, MB"]
    page = (
        "# Fits by several processes\n\n"
        f"{_harness.machine_line(results['machine'])}\n\n"
        f"float32 [{n_samples:,} x {n_features}] = {results['file_mb']:.0f} MB in a "
        "Parquet file, read again in every pass in chunks of "
        f"{results['chunk_mb']:.1f} MB; K={results['n_components']}, "
        f"{results['n_iter']} iterations from given "
        f"start values. Wall time of the fit, the fastest of {results['repeats']} runs "
        "taken in turns; memory is the rise of the peak resident memory in the fit. "
        f"Load average of the machine at the end: {results['load'][0]:.1f}.\n\n"
        f"{_report.table(header, lines)}"
    )
    return page + ranks_text(results) + spark_text(results["spark"])


def ranks_text(results):
    """Return the comparison of one rank with two."""
    found = results["ranks"]
    n_samples, n_features = found["shape"]
    times = ", ".join(
        f"{row['name']} {row['one_s']:.1f} s and {row['two_s']:.1f} s "
        f"({row['times']:.2f} times as fast)"
        for row in found["fits"]
    )
    return (
        f"\nOne rank and two ranks of torchrun, a thread each, on a memory map of "
        f"float32 [{n_samples:,} x {n_features}], K={found['n_components']}, "
        f"{found['n_iter']} iterations, medians of three: {times}.\n"
    )


def spark_text(found):
    """Return the comparison with Spark."""
    if not found:
        return ""
    theirs, ours = found["theirs"], found["ours"]
    seconds = found["seconds_to_theirs"]
    reached = (
        f"did not reach that in {len(ours['lower_bounds'])} iterations"
        if seconds is None
        else f"reached that after {seconds:.1f} s, start values by k-means included "
        f"({theirs['seconds'] / seconds:.1f} times faster)"
    )
    return (
        f"\nSpark {theirs['pyspark']} (local[2]), full covariances: "
        f"{theirs['n_iter']} iterations in {theirs['seconds']:.1f} s to a mean "
        f"log-likelihood of {theirs['log_likelihood']:.4f} nats. skdeepgmm on two dask "
        f"workers {reached}, and {ours['lower_bounds'][-1]:.4f} nats after "
        f"{len(ours['lower_bounds'])} iterations ({ours['seconds']:.1f} s).\n"
    )


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=10_000_000)
    parser.add_argument("--iterations", type=int, default=10)
    parser.add_argument("--types", nargs="+", choices=TYPES, default=TYPES)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument(
        "--without-threads",
        action="store_true",
        help="leave out the process with two threads, which starve on busy cores",
    )
    parser.add_argument("--spark-python", help="interpreter with pyspark")
    parser.add_argument("--spark-iterations", type=int, default=50)
    parser.add_argument("--folder", help="where the file is written")
    parser.add_argument("--out", type=Path, default=_harness.RESULTS)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    return parser.parse_args()


def main():
    arguments = parse_arguments()
    if arguments.worker:
        spec = json.loads(arguments.worker)
        with _harness.worker_output() as stdout:
            result = WAYS[spec["way"]](spec)
        print(json.dumps(result), file=stdout)
        return 0
    results = run(arguments)
    page = markdown(results)
    print(page)
    _harness.write_results(arguments.out, "dask_scale", page, results)
    return 0


if __name__ == "__main__":
    sys.exit(main())
