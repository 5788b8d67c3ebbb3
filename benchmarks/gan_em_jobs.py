"""Time GAN-EM's starts side by side: ``n_jobs=2`` against ``n_jobs=1``.

10,000 images of MNIST, three starts, two cores, few EM iterations. Pairs of fits in
fresh processes, in another order each time; both give the same networks, bit by bit.
Twice: with the default share of a run for each start (30 %), after which the best is
trained alone, and with whole runs compared (``init_iter=max_iter``).

    python benchmarks/gan_em_jobs.py [--repeat 3] [--max-iter 10] [--n-samples 10000]
"""

import argparse
import hashlib
import json
import math
import statistics
import warnings

import _harness

#: Share of a run that each start gets before the best is chosen.
SHARES = {"default share": 0.3, "whole runs": 1.0}
#: Wall time with two jobs, as a share of that with one, that was aimed at.
TARGET = 0.65


def measure(spec):
    """Fit once; returns seconds and a digest of what was learned."""
    from skdeepgmm import GANEMClusterer
    from skdeepgmm.datasets import fetch_mnist

    X = fetch_mnist(subset="train", return_X_y=True)[0][: spec["n_samples"]]
    n_iter = spec["max_iter"]
    model = GANEMClusterer(
        10,
        image_shape=(28, 28),
        n_init=3,
        init_iter=round(SHARES[spec["share"]] * n_iter),
        max_iter=n_iter,
        random_state=0,
        n_jobs=spec["n_jobs"],
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        seconds = _harness.wall_time(lambda: model.fit(X))
    digest = hashlib.sha256()
    for network in model.networks_.values():
        for name in sorted(network):
            digest.update(network[name].tobytes())
    return {"seconds": seconds, "sha256": digest.hexdigest()}


def ideal(share, n_starts=3, n_jobs=2):
    """Return the wall time with jobs of whole starts, as a share of that of one."""
    rounds = math.ceil(n_starts / n_jobs)
    return (rounds * share + 1 - share) / (n_starts * share + 1 - share)


def pairs(share, arguments):
    """Return the fits of every repetition by number of jobs."""
    runs = {1: [], 2: []}
    for repetition in range(arguments.repeat):
        for n_jobs in (1, 2) if repetition % 2 == 0 else (2, 1):
            spec = {
                "share": share,
                "n_jobs": n_jobs,
                "n_samples": arguments.n_samples,
                "max_iter": arguments.max_iter,
            }
            runs[n_jobs].append(_harness.run_worker(__file__, spec))
            print(share, n_jobs, runs[n_jobs][-1], flush=True)
    return runs


def summary(share, runs):
    """Return medians, their ratio and whether all fits are the same."""
    median = {n: statistics.median(run["seconds"] for run in runs[n]) for n in runs}
    digests = {run["sha256"] for found in runs.values() for run in found}
    return {
        "seconds": {str(n): [run["seconds"] for run in runs[n]] for n in runs},
        "median_s": {str(n): median[n] for n in median},
        "share of the wall time": median[2] / median[1],
        "ideal": ideal(SHARES[share]),
        "target": TARGET,
        "same bits": len(digests) == 1,
    }


def markdown(results):
    """Return the page."""
    lines = [
        f"| {share} | {row['median_s']['1']:.1f} | {row['median_s']['2']:.1f} | "
        f"{row['share of the wall time']:.2f} | {row['ideal']:.2f} | "
        f"{'yes' if row['same bits'] else 'NO'} |"
        for share, row in results["cases"].items()
    ]
    return (
        "# GAN-EM's starts side by side\n\n"
        f"{_harness.machine_line(results['machine'])}\n\n"
        f"MNIST, {results['n_samples']} images, three starts, {results['max_iter']} EM "
        f"iterations; medians of {results['repeat']} pairs. Ideal: no "
        "start-up, a start is never divided. "
        f"Aim: {TARGET}.\n\n"
        "| starts | n_jobs=1, s | n_jobs=2, s | share of the wall time | ideal | "
        "same bits |\n| --- | ---: | ---: | ---: | ---: | --- |\n"
        + "\n".join(lines)
        + "\n"
    )


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeat", type=int, default=3, help="pairs of fits")
    parser.add_argument("--max-iter", type=int, default=10)
    parser.add_argument("--n-samples", type=int, default=10_000)
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
        "n_samples": arguments.n_samples,
        "max_iter": arguments.max_iter,
        "cases": {share: summary(share, pairs(share, arguments)) for share in SHARES},
    }
    page = markdown(results)
    print(page)
    _harness.write_results(_harness.RESULTS, "gan_em_jobs", page, results)


if __name__ == "__main__":
    main()
