"""Fit again and again in one process: memory stays flat, and nothing is left behind.

Every round fits each estimator with checkpoints, predicts, saves and loads, refuses one
bad input and interrupts one fit. After each of several parts of the run the anonymous
memory is noted; the number of threads, open files, threads of the process and entries
of the folder for temporary files are compared with those before.

    python benchmarks/soak.py --rounds 200

The exit code is 0 if memory has grown by no more than ``--limit`` MiB from the second
part to the last, and everything else is as it was.
"""

import argparse
import contextlib
import gc
import json
import os
import sys
import tempfile
import threading
import time
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from _harness import MIB, RESULTS, anonymous_memory, machine

from skdeepgmm import load, save
from tests.estimators.iterative import FAMILIES, At, ctrl_c

PARTS = 5


def one_round(folder):
    """Use every estimator in all ways once."""
    for name, (construct, data) in FAMILIES.items():
        X, path = data(), os.path.join(folder, name)
        model = construct(checkpoint_path=path, checkpoint_every=1).fit(X)
        model.predict(X)
        save(model.set_params(checkpoint_path=None), path)
        load(path).score_samples(X)
        with contextlib.suppress(ValueError):
            construct().fit(X * float("nan"))
        construct().set_callbacks(At(2, ctrl_c)).fit(X)
        os.unlink(path)


def surroundings(folder):
    """Return what a fit must leave as it was."""
    import torch

    descriptors = Path("/proc/self/fd")
    return {
        "torch threads": torch.get_num_threads(),
        "threads": threading.active_count(),
        "open files": len(list(descriptors.iterdir())) if descriptors.exists() else 0,
        "temporary files": len(os.listdir(folder)),
    }


def measure(n_rounds):
    """Return memory in MiB after each part, and what surrounds before and after."""
    with tempfile.TemporaryDirectory() as folder:
        tempfile.tempdir = folder
        one_round(folder)  # what is loaded once
        before, memory = surroundings(folder), []
        for part in range(PARTS):
            for _ in range(n_rounds // PARTS):
                one_round(folder)
            gc.collect()
            memory.append(round(anonymous_memory() / MIB, 1))
            print(f"part {part + 1}: {memory[-1]} MiB", flush=True)
        after = surroundings(folder)
        tempfile.tempdir = None
    return memory, before, after


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--limit", type=float, default=8.0, help="MiB")
    parser.add_argument("--json", type=Path, default=RESULTS / "soak.json")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    start = time.perf_counter()
    memory, before, after = measure(arguments.rounds)
    report = {
        "rounds": arguments.rounds,
        "fits": arguments.rounds * len(FAMILIES) * 3,
        "seconds": round(time.perf_counter() - start),
        "machine": machine(),
        "anonymous memory after each part (MiB)": memory,
        "before": before,
        "after": after,
    }
    arguments.json.write_text(json.dumps(report, indent=1) + "\n")
    print(f"before: {before}\nafter:  {after}")
    return int(after != before or memory[-1] - memory[1] > arguments.limit)


if __name__ == "__main__":
    sys.exit(main())
