"""Fit and apply every estimator to thousands of random inputs and count what happens.

Shapes, types, layouts, scales from 1e-300 to 1e300, missing and infinite values,
weights, and wrong or extreme values of every parameter. The results are lawful, or an
error names what is wrong: nothing else.

    python benchmarks/fuzz_inputs.py --inputs 2000

The exit code is 0 if there was nothing else. An input is told by seed and number:

    python benchmarks/fuzz_inputs.py --estimators GaussianMixture --only 1234
"""

import argparse
import collections
import json
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from _harness import RESULTS, machine

from tests.estimators import fuzzing, laws

FINE = ("lawful", "refused")


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--inputs", type=int, default=2000, help="of each estimator")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--estimators", nargs="+", default=list(fuzzing.SUBJECTS), metavar="NAME"
    )
    parser.add_argument("--only", type=int, nargs="+", help="numbers of inputs")
    parser.add_argument("--json", type=Path, default=RESULTS / "fuzz_inputs.json")
    return parser.parse_args()


def try_inputs(name, seed, numbers):
    """Return the counts of the outcomes; faults are printed when they are found."""
    counts = collections.Counter()
    for number in numbers:
        rng = np.random.default_rng([seed, number])
        outcome, note = laws.verdict(fuzzing.attack(name, rng))
        counts[outcome] += 1
        if outcome not in FINE:
            print(f"--- {number}: {outcome}\n{note}", flush=True)
    return counts


def main():
    arguments = parse_arguments()
    start, counts = time.perf_counter(), {}
    for name in arguments.estimators:
        numbers = arguments.only or range(arguments.inputs)
        counts[name] = try_inputs(name, arguments.seed, numbers)
        print(name, dict(counts[name]), flush=True)
    report = {
        "seed": arguments.seed,
        "seconds": round(time.perf_counter() - start),
        "machine": machine(),
        **counts,
    }
    if not arguments.only:
        arguments.json.write_text(json.dumps(report, indent=1) + "\n")
    return int(any(set(found) - set(FINE) for found in counts.values()))


if __name__ == "__main__":
    sys.exit(main())
