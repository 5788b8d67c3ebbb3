"""What the benchmark scripts share: data, fresh processes, memory, machine.

Every measurement runs in a process of its own, so that neither the peak memory nor the
thread pools of one library reach another.
"""

import datetime
import json
import os
import platform
import resource
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import numpy as np

RESULTS = Path(__file__).parent / "results"
MIB = 2**20
COVARIANCE_SHAPES = {
    "full": lambda matrices: matrices,
    "tied": lambda matrices: matrices.mean(axis=0),
    "diag": lambda matrices: np.diagonal(matrices, axis1=1, axis2=2),
    "spherical": lambda matrices: np.diagonal(matrices, axis1=1, axis2=2).mean(axis=1),
}


# Data ----------------------------------------------------------------------------


def random_mixture(rng, n_components, n_features, spread=1.5):
    """Return weights, means and covariance matrices of a random mixture.

    ``spread`` is the standard deviation of the means in units of about one standard
    deviation of a component; at 1.5 the components overlap.
    """
    weights = rng.dirichlet(np.full(n_components, 10.0))
    means = spread * rng.normal(size=(n_components, n_features))
    noise = rng.normal(size=(n_components, n_features, n_features))
    matrices = noise @ np.swapaxes(noise, 1, 2) / n_features + 0.3 * np.eye(n_features)
    return weights, means, matrices


def draw(rng, mixture, n_samples):
    """Return float64 rows of shape (n_samples, n_features), in random order."""
    weights, means, matrices = mixture
    labels = rng.choice(len(weights), n_samples, p=weights)
    X = rng.normal(size=(n_samples, means.shape[1]))
    for k, factor in enumerate(np.linalg.cholesky(matrices)):
        mine = labels == k
        X[mine] = X[mine] @ factor.T + means[k]
    return X


def start_values(rng, mixture, covariance_type):
    """Return start values away from the truth, by name of the parameter."""
    weights, means, matrices = mixture
    values = COVARIANCE_SHAPES[covariance_type](2.0 * matrices)
    is_matrix = covariance_type in ("full", "tied")
    return {
        "weights_init": np.full(len(weights), 1.0 / len(weights)),
        "means_init": means + 0.5 * rng.normal(size=means.shape),
        "precisions_init": np.linalg.inv(values) if is_matrix else 1.0 / values,
    }


# Processes -----------------------------------------------------------------------


def n_cores():
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count()


def run_worker(script, spec):
    """Run ``script --worker`` on a dict in a fresh process; returns its dict.

    All libraries get the same number of threads; SciPy's array API switch, which
    scikit-learn needs for tensors, is read at import and hence set here.
    """
    threads = str(n_cores())
    env = {**os.environ, "SCIPY_ARRAY_API": "1", "PYTHONWARNINGS": "ignore"}
    for name in ("OMP", "MKL", "OPENBLAS"):
        env.setdefault(f"{name}_NUM_THREADS", threads)
    command = [sys.executable, str(script), "--worker", json.dumps(spec)]
    done = subprocess.run(command, env=env, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        return {"error": f"exit status {done.returncode}"}
    return json.loads(done.stdout.splitlines()[-1])


def wall_time(function):
    """Return the seconds that a call of ``function`` takes."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


# Memory --------------------------------------------------------------------------


def memory_status(field):
    """Return a field of /proc/self/status in bytes, 0 where there is none."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return 0
    values = [line.split()[1] for line in lines if line.startswith(f"{field}:")]
    return int(values[0]) * 1024 if values else 0


def anonymous_memory():
    """Return the resident memory without pages of files, in bytes, 0 if unknown."""
    try:
        _, resident, shared, *_ = Path("/proc/self/statm").read_text().split()
    except OSError:
        return 0
    return (int(resident) - int(shared)) * resource.getpagesize()


def peak_resident():
    """Return the largest resident memory of this process so far, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


class PeakMemory:
    """Peak of the resident and of the anonymous memory within a ``with`` block.

    Parameters
    ----------
    sampled : bool
        Whether a thread also watches the anonymous memory. It costs some time, so
        not for a block that is timed.

    Attributes
    ----------
    resident : int
        Bytes by which ``ru_maxrss`` rose above the resident memory at the start.
        Pages of a memory-mapped file count here.
    anonymous : int
        Bytes by which anonymous memory rose, sampled every 10 ms; 0 where the
        operating system does not report it.
    """

    interval = 0.01

    def __init__(self, sampled=False):
        self.sampled = sampled

    def __enter__(self):
        _reset_peak()
        self.resident_before = memory_status("VmRSS") or peak_resident()
        self.anonymous_before = self.highest = anonymous_memory()
        self.finished = threading.Event()
        self.thread = threading.Thread(target=self._watch, daemon=True)
        if self.sampled:
            self.thread.start()
        return self

    def _watch(self):
        while not self.finished.wait(self.interval):
            self.highest = max(self.highest, anonymous_memory())

    def __exit__(self, *_):
        self.finished.set()
        if self.sampled:
            self.thread.join()
        self.resident = max(0, peak_resident() - self.resident_before)
        self.anonymous = self.highest - self.anonymous_before


def _reset_peak():
    """Forget the peak of the start-up, where Linux allows it."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


# Description ---------------------------------------------------------------------


def processor_name():
    """Return the processor's model name."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":")[1].strip() for line in lines if "model name" in line]
    return names[0] if names else platform.machine()


def machine(device="cpu"):
    """Return a description of hardware and versions, free of host names."""
    packages = ("numpy", "scipy", "scikit-learn", "torch", "skdeepgmm")
    description = {
        "processor": processor_name(),
        "cores": n_cores(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        **{name: version(name) for name in packages},
    }
    if device.startswith("cuda"):
        import torch

        description["gpu"] = torch.cuda.get_device_name(device)
    return description


def machine_line(description):
    """Return the description as one sentence."""
    names = ("python", "numpy", "scipy", "scikit-learn", "torch", "skdeepgmm")
    versions = ", ".join(f"{name} {description[name]}" for name in names)
    gpu = f", {description['gpu']}" if "gpu" in description else ""
    hardware = f"{description['processor']}, {description['cores']} cores{gpu}"
    return f"{hardware}, {description['system']}; {versions}."


# Output --------------------------------------------------------------------------


def write_results(folder, name, markdown, data):
    """Write ``name.md`` and ``name.json``, with the day, and say where."""
    folder.mkdir(parents=True, exist_ok=True)
    data = {"date": datetime.datetime.now(datetime.UTC).date().isoformat(), **data}
    for suffix, text in (("md", markdown), ("json", json.dumps(data, indent=1) + "\n")):
        path = folder / f"{name}.{suffix}"
        path.write_text(text)
        print(f"wrote {path}", file=sys.stderr)


@contextmanager
def worker_output():
    """Keep stdout for the result: what libraries print goes to stderr."""
    stdout, sys.stdout = sys.stdout, sys.stderr
    try:
        yield stdout
    finally:
        sys.stdout = stdout
