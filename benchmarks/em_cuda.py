"""Time flat mixtures on a GPU: E-steps with statistics, whole fits, and peers.

One script for all that needs the device, in under eight minutes: seconds of one
E-step with its statistics for every covariance type, and of whole fits from given
start values (tol=0), the largest relative difference of float32 means to float64 ones,
10 million rows, and the same fits by scikit-learn's array API on the same GPU, in a
process of its own. Times are medians of three, the device synchronised around them;
what was measured is kept after every case. Without a GPU it says so and ends, unless
another device is asked for; results of a CPU are shown, not kept.

    python benchmarks/em_cuda.py [--device cuda] [--quick] [--repeat 3]
"""

import argparse
import json
import statistics
import sys
import time
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path

import _harness
import numpy as np
import torch

from skdeepgmm import GaussianMixture

#: Seconds after which no further case is begun.
MOST_SECONDS = 420
TYPES = ("full", "tied", "diag", "spherical", "low_rank")


@dataclass(frozen=True)
class Case:
    """A whole fit from random start values; ``target`` seconds, None without one."""

    covariance_type: str
    n_samples: int
    n_features: int
    n_components: int
    n_iter: int
    target: float | None = None

    @property
    def title(self):
        size = f"{self.n_samples:,} x {self.n_features}, K={self.n_components}"
        return f"{self.covariance_type} [{size}], {self.n_iter} iterations"


E_STEPS = [Case(name, 2**18, 64, 64, 1) for name in TYPES]
E_STEPS.append(Case("full", 1_000_000, 128, 1024, 1, 0.622))
FITS = [
    Case("diag", 2**20, 32, 64, 3, 0.028),
    Case("diag", 1_000_000, 64, 64, 100, 1.0),
    *(Case(name, 100_000, 32, 16, 20) for name in TYPES),
    Case("diag", 10_000_000, 32, 16, 5),
]


def quick(case):
    """Return a case that any machine does in a moment."""
    sizes = min(case.n_samples, 4_000), min(case.n_features, 16)
    return Case(case.covariance_type, *sizes, min(case.n_components, 8), 2)


def data(case, device, dtype=torch.float32):
    """Return samples, and means to begin with, made on the device."""
    generator = torch.Generator(device=device).manual_seed(0)
    shape = case.n_components, case.n_features
    means = 1.5 * torch.randn(shape, generator=generator, device=device)
    which = torch.randint(
        case.n_components, (case.n_samples,), generator=generator, device=device
    )
    X = torch.randn(case.n_samples, case.n_features, generator=generator, device=device)
    X += means[which]
    start = means + 0.5 * torch.randn(shape, generator=generator, device=device)
    return X.to(dtype), start.double().cpu().numpy()


def start_values(case, means):
    """Return parameters to begin with, by name: variances of one about these means.

    Single samples have no spread: E-steps would begin in the exact form. For low rank,
    which has no precisions, they are of random responsibilities.
    """
    size, n_features = means.shape
    precisions = {
        "full": lambda: np.tile(np.eye(n_features), (size, 1, 1)),
        "tied": lambda: np.eye(n_features),
        "diag": lambda: np.ones((size, n_features)),
        "spherical": lambda: np.ones(size),
    }
    found = {"weights_init": np.full(size, 1.0 / size), "means_init": means}
    if case.covariance_type in precisions:
        found["precisions_init"] = precisions[case.covariance_type]()
    return found


def estimator(case, means, device, **settings):
    """Return our estimator with given parameters to begin with."""
    return GaussianMixture(
        case.n_components,
        covariance_type=case.covariance_type,
        init_params="random",
        **start_values(case, means),
        **{"max_iter": case.n_iter, "tol": 0.0, "random_state": 0} | settings,
        device=device,
    )


def seconds_of(function, device, repeat):
    """Return the median seconds of a call, and whether it ran."""

    def synchronize():
        if device.startswith("cuda"):
            torch.cuda.synchronize(device)

    times = []
    for _ in range(repeat + 1):  # the first one starts the device
        synchronize()
        start = time.perf_counter()
        function()
        synchronize()
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


def e_step_seconds(case, device, repeat):
    """Return the seconds of one E-step with its statistics."""
    from skdeepgmm._torch_backend.data import ArraySource, default_batch_size
    from skdeepgmm._torch_backend.mixture.e_step import e_step, row_bytes

    X, start = data(case, device)
    gm = estimator(case, start, device, max_iter=0).fit(X[:20_000])
    n_bytes = row_bytes(gm._covariance_class, *start.shape, X.dtype)
    size = default_batch_size(n_bytes, torch.device(device))
    source = ArraySource(X, torch.device(device), size)
    units = source.standardize(gm._covariance_class.isotropic)
    mixture = gm._mixture(X).standardized(units)
    return seconds_of(lambda: e_step(mixture, source), device, repeat)


def fit_seconds(case, device, repeat):
    """Return the seconds of a fit, and float32's difference to float64."""
    X, start = data(case, device)
    gm = estimator(case, start, device)
    seconds = seconds_of(lambda: gm.fit(X), device, repeat)
    if case.n_samples > 10**6:
        return seconds, None
    wide = estimator(case, start, device).fit(X.double())
    difference = np.abs(gm.means_ - wide.means_).max() / np.abs(wide.means_).max()
    return seconds, float(difference)


def peer_seconds(case, device, repeat):
    """Return the seconds of scikit-learn on the device, None without.

    In a fresh process: SciPy reads at import whether it is to take tensors.
    """
    if case.covariance_type == "low_rank":
        return None
    if device.startswith("cuda"):
        torch.cuda.empty_cache()
    spec = {"case": asdict(case), "device": device, "repeat": repeat}
    found = _harness.run_worker(__file__, spec)
    return found.get("seconds", found.get("error"))


def seconds_of_theirs(case, device, repeat):
    """Return the seconds of a fit by scikit-learn's array API."""
    import sklearn
    from sklearn.mixture import GaussianMixture as Theirs

    X, means = data(case, device)
    theirs = Theirs(
        case.n_components,
        covariance_type=case.covariance_type,
        **{
            name: torch.as_tensor(value, dtype=X.dtype, device=device)
            for name, value in start_values(case, means).items()
        },
        init_params="random",  # not used, but the default is refused
        max_iter=case.n_iter,
        tol=0.0,
        random_state=0,
    )
    with sklearn.config_context(array_api_dispatch=True):
        return seconds_of(lambda: theirs.fit(X), device, repeat)


def work(spec):
    """Return what a process measures of the peer."""
    case = Case(**spec["case"])
    arguments = case, spec["device"], spec["repeat"]
    return {"seconds": attempt(seconds_of_theirs, *arguments)}


def attempt(function, *arguments):
    """Return the result of a measurement, or what it failed with."""
    try:
        return function(*arguments)
    except Exception as error:
        return f"{type(error).__name__}: {str(error)[:200]!r}"


def rows(device, repeat, is_quick):
    """Yield a row a measurement until the time is over."""
    begin = time.perf_counter()
    parts = [("E-step", case) for case in E_STEPS] + [("fit", case) for case in FITS]
    for part, case in parts:
        if time.perf_counter() - begin > MOST_SECONDS:
            print(f"no time left for {part} {case.title}", file=sys.stderr)
            continue
        case = quick(case) if is_quick else case
        row = {"part": part, "case": case.title, "target": case.target}
        if part == "E-step":
            row["seconds"] = attempt(e_step_seconds, case, device, repeat)
        else:
            found = attempt(fit_seconds, case, device, repeat)
            row["seconds"], row["difference"] = (
                found if isinstance(found, tuple) else (found, None)
            )
            row["scikit-learn"] = attempt(peer_seconds, case, device, 1)
        print(row, file=sys.stderr, flush=True)
        yield row


def cell(value):
    """Return a value of a table as text."""
    return f"{value:.4g}" if isinstance(value, float) else str(value or "")


def report(found, description):
    """Return the Markdown text."""
    names = ("part", "case", "seconds", "target", "scikit-learn", "difference")
    lines = [names, ["---"] * len(names)]
    lines += [[cell(row.get(name)) for name in names] for row in found]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    text = __doc__.split("\n\n", 1)[1]
    return f"# EM on a GPU\n\n{text}\n{table}\n\n{_harness.machine_line(description)}\n"


def main():
    """Run everything, and keep what a GPU gave."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--out", type=Path, default=_harness.RESULTS)
    parser.add_argument("--worker", type=json.loads, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        with _harness.worker_output() as stdout:
            print(json.dumps(work(args.worker)), file=stdout)
        return
    is_cuda = args.device.startswith("cuda")
    if is_cuda and not torch.cuda.is_available():
        sys.exit("No GPU here: nothing is measured. --device cpu --quick tries it.")
    warnings.simplefilter("ignore")
    found, description = [], _harness.machine(args.device)
    for row in rows(args.device, args.repeat, args.quick):
        found.append(row)
        text = report(found, description)
        if is_cuda and not args.quick:
            kept = {"machine": description, "results": found}
            _harness.write_results(args.out, "em_cuda", text, kept)
    print(text)


if __name__ == "__main__":
    main()
