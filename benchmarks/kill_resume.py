"""Kill fits at random times, go on from their checkpoints, compare bit for bit.

Every run is a process of its own that fits one of five estimators; SIGKILL ends it at a
random time, and another process fits again with the same ``checkpoint_path``. Its
fitted attributes must be those of the fit that nobody killed.

    python benchmarks/kill_resume.py --kills 100
"""

import argparse
import collections
import hashlib
import json
import multiprocessing
import os
import signal
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
from _harness import RESULTS, machine

from skdeepgmm import (
    DeepConvGMM,
    GANEMClusterer,
    GaussianMixture,
    MinMaxEMClusterer,
    SGDGaussianMixture,
)

WIDTH = {"width": 0.1, "random_state": 0}


def rows():
    rng = np.random.RandomState(0)
    return np.r_[rng.randn(1000, 8) - 1, rng.randn(1000, 8) + 1]


def pictures():
    return np.random.RandomState(0).rand(400, 64)


#: Class, settings, data: fits of about a second.
FITS = {
    "em": (
        GaussianMixture,
        {"n_components": 8, "tol": 0.0, "max_iter": 60, "n_init": 3, "random_state": 0},
        rows,
    ),
    "sgd": (
        SGDGaussianMixture,
        {"n_components": 4, "max_iter": 30, "n_init": 2, "random_state": 0},
        rows,
    ),
    "deep": (
        DeepConvGMM,
        {"n_components": 6, "image_shape": (8, 8), "max_iter": 40, "random_state": 0},
        pictures,
    ),
    "gan_em": (
        GANEMClusterer,
        {"n_clusters": 2, "max_iter": 20, "n_init": 2, "init_iter": 5, **WIDTH}
        | {"recipe": {"gan_steps": 10}},
        rows,
    ),
    "minmax_em": (
        MinMaxEMClusterer,
        {"n_clusters": 2, "max_iter": 15, "init_steps": 50, **WIDTH},
        rows,
    ),
}


def fit(name, path, sender):
    """Fit, and send a digest of what was learned; for a process."""
    warnings.simplefilter("ignore")
    cls, params, data = FITS[name]
    if path is not None:
        params = params | {"checkpoint_path": path, "checkpoint_every": 1}
    sender.send(digest(cls(**params).fit(data())))


def digest(model):
    """Return the SHA-256 of all fitted attributes."""
    found = hashlib.sha256()

    def add(value):
        if isinstance(value, dict):
            for key in sorted(value, key=repr):
                found.update(repr(key).encode())
                add(value[key])
        elif isinstance(value, (list, tuple)):
            for item in value:
                add(item)
        elif isinstance(value, np.ndarray):
            found.update(repr((value.dtype, value.shape)).encode())
            found.update(np.ascontiguousarray(value).tobytes())
        else:
            found.update(repr(value).encode())

    add({k: v for k, v in vars(model).items() if k.endswith("_")})
    return found.hexdigest()


def process(name, path=None):
    """Start a fit in a process of its own; returns it and where its digest comes out.

    It is forked before anything has computed, so that all pay once for the imports.
    """
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    running = context.Process(target=fit, args=(name, path, sender))
    running.start()
    sender.close()
    return running, receiver


def whole(name, path=None):
    """Fit to the end; returns the digest and the seconds of the fit."""
    started = time.perf_counter()
    running, receiver = process(name, path)
    found = receiver.recv()
    running.join()
    return found, time.perf_counter() - started


def killed(name, path, seconds, share, is_late):
    """Fit until SIGKILL; tells whether it came before the end of the fit.

    Parameters
    ----------
    seconds : float
        Duration of the whole fit.
    share : float
        When to kill, as a share of the time that is left.
    is_late : bool
        Whether the time counts from the first checkpoint.
    """
    started = time.perf_counter()
    running, receiver = process(name, path)
    while is_late and running.is_alive() and not os.path.exists(path):
        time.sleep(0.001)
    time.sleep(share * max(0.0, seconds - (time.perf_counter() - started)))
    running.kill()
    running.join()
    receiver.close()
    return running.exitcode == -signal.SIGKILL


def one_kill(name, right, seconds, rng, is_late):
    """Kill a fit, go on from what it left; returns what was seen, by name."""
    while True:  # until the kill comes before the end
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "checkpoint")
            if not killed(name, path, seconds, rng.uniform(), is_late):
                continue
            left = os.listdir(folder)
            found, _ = whole(name, path)
            return {
                "killed": 1,
                "with a checkpoint": "checkpoint" in left,
                "with two generations": "checkpoint.previous" in left,
                "while one was written": any(file.endswith(".part") for file in left),
                "resumed bit-equal": found == right,
                "files left": len(os.listdir(folder)),
            }


def measure(n_kills, seed):
    """Return the counts of each kind of fit; one kill in ten comes at any time.

    The others come after the first checkpoint.
    """
    rng, counts = np.random.RandomState(seed), collections.defaultdict(dict)
    right = {name: whole(name)[0] for name in FITS}
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "checkpoint")
        seconds = {name: whole(name, path)[1] for name in FITS}
    for number in range(n_kills):
        name, is_late = list(FITS)[number % len(FITS)], number // len(FITS) % 10 > 0
        seen = one_kill(name, right[name], seconds[name], rng, is_late)
        for key, value in seen.items():
            counts[name][key] = counts[name].get(key, 0) + int(value)
        if not seen["resumed bit-equal"]:
            print(f"{name}: another result, kill {number}", flush=True)
    return dict(counts)


def total(counts):
    """Return the sums over the kinds of fits."""
    found = collections.defaultdict(int)
    for name, count in ((n, c) for kind in counts.values() for n, c in kind.items()):
        found[name] += count
    return dict(found)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, default=RESULTS / "kill_resume.json")
    arguments = parser.parse_args()
    start = time.perf_counter()
    counts = measure(arguments.kills, arguments.seed)
    found = total(counts)
    report = {
        "seed": arguments.seed,
        "seconds": round(time.perf_counter() - start),
        "machine": machine(),
        "all": found,
        **counts,
    }
    arguments.json.write_text(json.dumps(report, indent=1) + "\n")
    print(", ".join(f"{key}: {value}" for key, value in found.items()))
    return 0 if found["resumed bit-equal"] == arguments.kills else 1


if __name__ == "__main__":
    sys.exit(main())
