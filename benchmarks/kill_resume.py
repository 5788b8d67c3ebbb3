"""Kill fits at random times, go on from their checkpoints, compare bit for bit.

Every run is a process of its own that fits one of five estimators; SIGKILL ends it at a
random time, and another process fits again with the same ``checkpoint_path``. Its
fitted attributes must be those of the fit that nobody killed.

    python benchmarks/kill_resume.py --kills 100
"""

import argparse
import collections
import hashlib
import os
import signal
import subprocess
import sys
import tempfile
import time
import warnings

import numpy as np

import skdeepgmm

WIDTH = {"width": 0.1, "random_state": 0}


def rows():
    rng = np.random.RandomState(0)
    return np.r_[rng.randn(1000, 8) - 1, rng.randn(1000, 8) + 1]


def pictures():
    return np.random.RandomState(0).rand(400, 64)


#: Class, settings, data: fits of about a second.
FITS = {
    "em": (
        "GaussianMixture",
        {"n_components": 8, "tol": 0.0, "max_iter": 60, "n_init": 3, "random_state": 0},
        rows,
    ),
    "sgd": (
        "SGDGaussianMixture",
        {"n_components": 4, "max_iter": 30, "n_init": 2, "random_state": 0},
        rows,
    ),
    "deep": (
        "DeepConvGMM",
        {"n_components": 6, "image_shape": (8, 8), "max_iter": 40, "random_state": 0},
        pictures,
    ),
    "gan_em": (
        "GANEMClusterer",
        {"n_clusters": 2, "max_iter": 20, "n_init": 2, "init_iter": 5, **WIDTH}
        | {"recipe": {"gan_steps": 10}},
        rows,
    ),
    "minmax_em": (
        "MinMaxEMClusterer",
        {"n_clusters": 2, "max_iter": 15, "init_steps": 50, **WIDTH},
        rows,
    ),
}


def fit(name, path):
    """Fit with checkpoints and print a digest of what was learned; for a process."""
    warnings.simplefilter("ignore")
    cls, params, data = FITS[name]
    if path is not None:
        params = params | {"checkpoint_path": path, "checkpoint_every": 1}
    X, model = data(), getattr(skdeepgmm, cls)(**params)  # imports torch
    print("ready", flush=True)
    print(digest(model.fit(X)), flush=True)


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


def process(name, path):
    command = [sys.executable, __file__, "--fit", name]
    command += [] if path is None else ["--path", path]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def whole(name, path=None):
    """Fit to the end; returns the digest and the seconds of the fit."""
    running = process(name, path)
    running.stdout.readline()
    started = time.perf_counter()
    found = running.stdout.readline().strip()
    seconds = time.perf_counter() - started
    if running.wait():
        raise SystemExit(f"{name} failed")
    return found, seconds


def killed(name, path, after):
    """Fit until SIGKILL; tells whether it came before the end of the fit."""
    running = process(name, path)
    running.stdout.readline()
    time.sleep(after)
    running.send_signal(signal.SIGKILL)
    before_the_end = running.stdout.readline() == ""
    running.wait()
    return before_the_end


def main(n_kills, seed):
    rng, counts = np.random.RandomState(seed), collections.Counter()
    expected = {name: whole(name) for name in FITS}
    for number in range(n_kills):
        name = list(FITS)[number % len(FITS)]
        right, seconds = expected[name]
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "checkpoint")
            counts["killed"] += killed(name, path, rng.uniform(0.0, seconds))
            counts["with a checkpoint"] += bool(os.listdir(folder))
            found, _ = whole(name, path)
            counts["resumed"] += 1
            counts["bit-equal"] += found == right
            counts["files left"] += len(os.listdir(folder))
        if found != right:
            print(f"{name}: another result, kill {number}")
    print(", ".join(f"{key}: {value}" for key, value in counts.items()))
    return counts["bit-equal"] == n_kills and not counts["files left"]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--fit", choices=FITS, help="of the processes, not for users")
    parser.add_argument("--path")
    arguments = parser.parse_args()
    if arguments.fit:
        fit(arguments.fit, arguments.path)
    else:
        sys.exit(not main(arguments.kills, arguments.seed))
