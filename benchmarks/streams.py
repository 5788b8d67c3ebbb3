"""Streams: partial_fit against EM on all rows, and its memory.

* ``quality``: rows of random mixtures in 50 shuffled chunks through ``partial_fit``,
  once; held-out log-likelihood against EM on all rows at once (scikit-learn's and
  ours), in nats per sample. The aim is to lose at most 0.05.
* ``memory``: peak working memory of streams of 10, 100 and 1,000 chunks of 2,000 rows;
  it must not depend on the length.

    python benchmarks/streams.py [--seeds 5]
"""

import argparse
import json
import sys
import warnings

import _harness
import _report
import numpy as np

#: Samples, features and components of the speed benchmark.
MIXTURES = ((10_000, 8, 4), (100_000, 32, 16), (50_000, 50, 50))
N_CHUNKS = 50
LENGTHS = (10, 100, 1_000)
AIM = 0.05


def stream_fit(gm, chunks):
    """Feed the chunks one after another."""
    for chunk in chunks:
        gm.partial_fit(chunk)
    return gm


def measure_quality(spec):
    """Return the held-out scores of a stream and of two batch fits."""
    from sklearn.mixture import GaussianMixture as Reference

    from skdeepgmm import GaussianMixture

    rng = np.random.default_rng(spec["seed"])
    n_samples, n_features, n_components = spec["mixture"]
    truth = _harness.random_mixture(rng, n_components, n_features)
    X = _harness.draw(rng, truth, n_samples)
    test = _harness.draw(rng, truth, 20_000)
    settings = {"covariance_type": spec["covariance_type"], "random_state": 0}
    chunks = np.array_split(X, N_CHUNKS)
    fits = {
        "stream": stream_fit(GaussianMixture(n_components, **settings), chunks),
        "batch": GaussianMixture(n_components, **settings).fit(X),
        "scikit-learn": Reference(n_components, **settings).fit(X),
    }
    return {name: float(gm.score(test)) for name, gm in fits.items()}


def measure_memory(spec):
    """Return the peak working memory of one stream in MiB."""
    from skdeepgmm import GaussianMixture

    rng = np.random.default_rng(0)
    truth = _harness.random_mixture(rng, 16, 32)
    gm = GaussianMixture(16, covariance_type=spec["covariance_type"], random_state=0)
    gm.partial_fit(_harness.draw(rng, truth, 2_000))
    chunks = (_harness.draw(rng, truth, 2_000) for _ in range(spec["length"] - 1))
    with _harness.PeakMemory(sampled=True) as peak:
        seconds = _harness.wall_time(lambda: stream_fit(gm, chunks))
    return {"peak_mib": peak.resident / _harness.MIB, "seconds": seconds}


MEASURES = {"quality": measure_quality, "memory": measure_memory}


def run(seeds):
    """Return all rows."""
    specs = [
        {"part": "quality", "mixture": m, "covariance_type": c, "seed": seed}
        for m in MIXTURES
        for c in ("full", "diag")
        for seed in range(seeds)
    ]
    specs += [
        {"part": "memory", "covariance_type": c, "length": length}
        for c in ("full", "diag")
        for length in LENGTHS
    ]
    rows = []
    for spec in specs:
        rows.append(spec | _harness.run_worker(__file__, spec))
        print(rows[-1], file=sys.stderr, flush=True)
    return rows


def quality_lines(rows):
    """Return a line for every mixture and covariance type."""
    groups = {}
    for row in rows:
        if row["part"] == "quality":
            key = (*row["mixture"], row["covariance_type"])
            groups.setdefault(key, []).append(row)
    for (n_samples, n_features, n_components, kind), group in groups.items():
        ours = [row["stream"] - row["batch"] for row in group]
        theirs = [row["stream"] - row["scikit-learn"] for row in group]
        yield [
            f"{n_samples:,} x {n_features}, K = {n_components}, {kind}",
            f"{np.mean(ours):+.3f}",
            f"{np.min(ours):+.3f}",
            f"{np.mean(theirs):+.3f}",
            f"{np.min(theirs):+.3f}",
        ]


def markdown(results):
    """Return the page of the results."""
    quality = _report.table(
        ["mixture", "stream - EM, mean", "worst", "stream - scikit-learn", "worst"],
        list(quality_lines(results["rows"])),
    )
    memory = _report.table(
        ["covariance", "chunks", "peak, MiB", "seconds"],
        [
            [
                row["covariance_type"],
                f"{row['length']:,}",
                f"{row['peak_mib']:.1f}",
                f"{row['seconds']:.1f}",
            ]
            for row in results["rows"]
            if row["part"] == "memory"
        ],
    )
    return (
        "# Streams\n\n"
        f"{_harness.machine_line(results['machine'])}\n\n"
        f"{N_CHUNKS} shuffled chunks of rows of random mixtures, each chunk seen once, "
        "against EM on all rows from one k-means start (the stream's first chunk is "
        "fitted from the best of five, so a stream may end higher); held-out "
        "log-likelihood in nats per sample, mean and worst over "
        f"{results['seeds']} mixtures. The aim is at least -{AIM}.\n\n{quality}\n"
        "Peak resident memory above that after the first chunk, drawing of the chunks "
        f"included (2,000 x 32 float64, K = 16):\n\n{memory}"
    )


def main():
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--worker", type=json.loads, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        warnings.simplefilter("ignore")
        with _harness.worker_output() as stdout:
            result = MEASURES[arguments.worker["part"]](arguments.worker)
        print(json.dumps(result), file=stdout)
        return
    rows = run(arguments.seeds)
    results = {"machine": _harness.machine(), "seeds": arguments.seeds, "rows": rows}
    page = markdown(results)
    print(page)
    _harness.write_results(_harness.RESULTS, "streams", page, results)


if __name__ == "__main__":
    main()
