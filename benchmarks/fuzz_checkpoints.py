"""Let fits go on from thousands of damaged and forged checkpoints; count what happens.

A damaged file, whose checksum is wrong, is refused and left alone, and the generation
before it is used. A forged one, of the right fit and with its right checksum, is
refused with a ValueError or an OSError, or the fit goes on from what it says.

    python benchmarks/fuzz_checkpoints.py --files 2000

The exit code is 0 if there was nothing else. A file is told by seed, family and number.
"""

import argparse
import collections
import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from _harness import RESULTS, machine

from skdeepgmm.estimators._checkpoint import read_tree
from tests.estimators import damaged_checkpoints as checkpoints

FINE = ("refused", "refused later", "went on")


def try_family(family, n_files, seed):
    """Return the counts of the outcomes; faults are printed when they are found."""
    counts = collections.Counter()
    with tempfile.TemporaryDirectory() as folder:
        path = checkpoints.written(family, Path(folder))
        files = [path.read_bytes(), Path(f"{path}.previous").read_bytes()]
        tree = read_tree(path)
        for number in range(n_files):
            rng = np.random.default_rng([seed, number])
            kind = "forged" if number % 2 else "damaged"
            verdict = getattr(checkpoints, f"{kind}_verdict")
            content = tree if number % 2 else files
            outcome, note = verdict(family, path, content, rng)
            counts[f"{kind}, {outcome}"] += 1
            if outcome not in FINE:
                print(f"--- {family} {number}: {outcome}\n{note[-2000:]}", flush=True)
    return counts


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--files", type=int, default=2000, help="of each estimator")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, default=RESULTS / "fuzz_checkpoints.json")
    arguments = parser.parse_args()
    start, counts = time.perf_counter(), {}
    for family in checkpoints.FAMILIES:
        counts[family] = try_family(family, arguments.files, arguments.seed)
        print(family, dict(counts[family]), flush=True)
    report = {
        "seed": arguments.seed,
        "seconds": round(time.perf_counter() - start),
        "machine": machine(),
        **counts,
    }
    arguments.json.write_text(json.dumps(report, indent=1) + "\n")
    outcomes = {name.split(", ")[1] for found in counts.values() for name in found}
    return int(bool(outcomes - set(FINE)))


if __name__ == "__main__":
    sys.exit(main())
