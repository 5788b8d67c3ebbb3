"""Load thousands of damaged model files and count what happens.

A file is refused with a ValueError, or gives a model that works: nothing else. Files
that were damaged without a new checksum must all be refused.

    python benchmarks/fuzz_files.py --files 10000

Each share of the files is loaded in a process of its own, so that a crash is counted
and not the end. The exit code is 0 if there was nothing else than it should.
"""

import argparse
import collections
import json
import multiprocessing
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from skdeepgmm import save
from tests.persistence import models, mutations

#: Files a process.
SHARE = 500
#: What is right, by kind of mutation.
FINE = {
    "blind": {"refused", "same"},
    "skilled": {"refused", "works", "refuses input", "same"},
}


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="file for the counts")
    return parser.parse_args()


def saved_models(folder):
    """Return the bytes of a file of every model."""
    path, found = folder / "model", {}
    for name in models.MAKERS:
        save(models.fitted(name), path)
        found[name] = path.read_bytes()
    return found


def mutate(raws, seed, number):
    """Return (kind of mutation, original, damaged file)."""
    names = list(raws)
    raw = raws[names[number % len(names)]]
    kind = "blind" if number // len(names) % 2 else "skilled"
    rng = np.random.default_rng([seed, number])
    return kind, raw, getattr(mutations, kind)(raw, rng)


def try_files(raws, seed, numbers, path, results):
    """Load the files of these numbers; what happened goes to a queue."""
    for number in numbers:
        kind, raw, damaged = mutate(raws, seed, number)
        results.put((kind, *mutations.verdict(path, raw, damaged)))


def run_share(context, raws, seed, numbers, path):
    """Return the outcomes of a share of the files; 'crash' where the process died."""
    results = context.Queue()
    arguments = (raws, seed, numbers, path, results)
    process = context.Process(target=try_files, args=arguments)
    process.start()
    found = []
    while len(found) < len(numbers):
        try:
            found.append(results.get(timeout=1.0))
        except Exception:  # the queue is empty
            if not process.is_alive() and results.empty():
                found.append(("skilled", "crash", f"file {numbers[len(found)]}"))
                numbers = numbers[len(found) :]
                return found + (
                    run_share(context, raws, seed, numbers, path) if numbers else []
                )
    process.join()
    return found


def main():
    arguments = parse_arguments()
    context = multiprocessing.get_context("fork")
    start, counts, notes = time.perf_counter(), collections.Counter(), []
    with tempfile.TemporaryDirectory() as folder:
        raws = saved_models(Path(folder))
        for first in range(0, arguments.files, SHARE):
            numbers = list(range(first, min(first + SHARE, arguments.files)))
            path = Path(folder) / "damaged"
            for kind, outcome, note in run_share(
                context, raws, arguments.seed, numbers, path
            ):
                counts[kind, outcome] += 1
                if outcome not in FINE[kind]:
                    notes.append(f"{kind}: {outcome}\n{note}")
    seconds = time.perf_counter() - start
    report = {f"{kind}, {outcome}": n for (kind, outcome), n in sorted(counts.items())}
    for name, count in report.items():
        print(f"{name:<30}{count:>8}")
    print(f"{len(raws)} models, {arguments.files} files in {seconds:.0f} s")
    print(*notes[:20], sep="\n")
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=1) + "\n")
    return 1 if notes else 0


if __name__ == "__main__":
    sys.exit(main())
