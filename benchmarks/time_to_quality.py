"""Seconds from cold until a mixture is as good as scikit-learn's converged default.

The quality is the mean log-density of 50,000 held-out samples; the mark is what
scikit-learn's default fit (k-means start, float64, tol=1e-3) ends with, less 0.01 nats.
Every fit runs in a fresh process, initialization included; what it has reached is noted
after every iteration and scored when the clock has stopped, in float64, by one scorer
for all. CPU time stands beside wall time, and the time until fit has returned beside
the time until the mark. pomegranate stops by the change of the summed log-likelihood:
its tolerance is given as that of scikit-learn times the number of samples.

    python benchmarks/time_to_quality.py [--cases 200k-16 ...] [--variants default ...]
                                         [--seeds 3]

Results of earlier runs are kept: a variant that is run again replaces its own.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path

import _harness
import numpy as np

#: Nats below the reference that count as the same quality.
MARGIN = 0.01
N_HELD_OUT = 50_000


@dataclass(frozen=True)
class Case:
    """One data set; all covariances are 'full'. ``target`` against the default."""

    name: str
    n_samples: int
    n_features: int
    n_components: int
    target: float

    @property
    def title(self):
        size = f"{self.n_samples // 1000}k x {self.n_features}"
        return f"[{size}, K={self.n_components}]"


CASES = {
    case.name: case
    for case in (
        Case("1m-32", 1_000_000, 32, 64, 10.0),
        Case("200k-16", 200_000, 16, 20, 5.0),
        Case("50k-50", 50_000, 50, 50, 5.0),
        Case("trial", 60_000, 16, 16, 5.0),
    )
}


@dataclass(frozen=True)
class Variant:
    """One way of fitting."""

    library: str
    dtype: str = "float64"
    settings: tuple = ()

    @property
    def title(self):
        settings = "".join(f", {name}={value!r}" for name, value in self.settings)
        return f"{self.library}, {self.dtype}{settings}"


REFERENCE = "default"
VARIANTS = {
    REFERENCE: Variant("scikit-learn"),
    "float32": Variant("scikit-learn", "float32"),
    "pomegranate": Variant("pomegranate", "float32"),
    "ours": Variant("skdeepgmm"),
    "ours-float32": Variant("skdeepgmm", "float32"),
    "merge": Variant("skdeepgmm", "float64", (("init_params", "merge"),)),
    "merge-float32": Variant("skdeepgmm", "float32", (("init_params", "merge"),)),
}


# In the worker -------------------------------------------------------------------


class Clock:
    """Notes parameters and times since the start; its own time does not count."""

    def __init__(self):
        self.away_wall = self.away_cpu = 0.0
        self.notes = []
        self.wall, self.cpu = time.perf_counter(), time.process_time()

    def now(self):
        return (
            time.perf_counter() - self.wall - self.away_wall,
            time.process_time() - self.cpu - self.away_cpu,
        )

    def note(self, parameters):
        """Keep copies of weights, means and covariances, given by a function."""
        now = wall, cpu = self.now()
        copies = [np.array(value, dtype=np.float64) for value in parameters()]
        self.notes.append((now, copies))
        after = self.now()
        self.away_wall += after[0] - wall
        self.away_cpu += after[1] - cpu


def fit_scikit_learn(variant, case, X, seed):
    from sklearn.mixture import GaussianMixture

    class Noted(GaussianMixture):
        def _m_step(self, X, log_resp, **kwargs):
            super()._m_step(X, log_resp, **kwargs)
            clock.note(lambda: (self.weights_, self.means_, self.covariances_))

    estimator = Noted(case.n_components, random_state=seed, **dict(variant.settings))
    clock = Clock()
    estimator.fit(X)
    return clock, clock.now(), bool(estimator.converged_)


class Note:
    """A callback of scikit-learn's protocol that notes every iteration."""

    def __init__(self, clock):
        self.clock = clock

    def setup(self, estimator, context):
        pass

    def teardown(self, estimator, context):
        pass

    def on_fit_task_begin(self, estimator, context):
        pass

    def on_fit_task_end(self, estimator, context, *, fitted_estimator=None):
        if context.task_name != "fit":
            found = fitted_estimator
            self.clock.note(lambda: (found.weights_, found.means_, found.covariances_))


def fit_ours(variant, case, X, seed):
    from skdeepgmm import GaussianMixture

    estimator = GaussianMixture(
        case.n_components, random_state=seed, device="cpu", **dict(variant.settings)
    )
    clock = Clock()
    estimator.set_callbacks(Note(clock)).fit(X)
    return clock, clock.now(), bool(estimator.converged_)


def fit_pomegranate(variant, case, X, seed):
    import torch
    from pomegranate.distributions import Normal
    from pomegranate.gmm import GeneralMixtureModel

    class Noted(GeneralMixtureModel):
        def from_summaries(self):
            super().from_summaries()
            clock.note(
                lambda: (
                    self.priors,
                    torch.stack([d.means for d in self.distributions]),
                    torch.stack([d.covs for d in self.distributions]),
                )
            )

    torch.manual_seed(seed)
    model = Noted(
        [Normal() for _ in range(case.n_components)],
        tol=1e-3 * len(X),
        max_iter=100,
        random_state=seed,
    )
    clock = Clock()
    model.fit(torch.from_numpy(X))
    return clock, clock.now(), len(clock.notes) < 100


FITS = {
    "scikit-learn": fit_scikit_learn,
    "skdeepgmm": fit_ours,
    "pomegranate": fit_pomegranate,
}


def held_out_score(parameters, X):
    """Return the mean log-density in float64, by scikit-learn for every variant."""
    from sklearn.mixture import GaussianMixture

    weights, means, covariances = parameters
    scorer = GaussianMixture(len(weights))
    scorer.weights_, scorer.means_ = weights, means
    factors = np.linalg.inv(np.linalg.cholesky(covariances))
    scorer.precisions_cholesky_ = np.swapaxes(factors, 1, 2)
    return scorer.score(X)


def measure(spec):
    """Fit once, as the spec says, and return times and held-out log-densities."""
    case, variant = CASES[spec["case"]], Variant(**spec["variant"])
    folder = Path(spec["folder"])
    X = np.load(folder / "X.npy").astype(variant.dtype)
    test = np.load(folder / "test.npy").astype(np.float64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        clock, (wall, cpu), converged = FITS[variant.library](
            variant, case, X, spec["seed"]
        )
    return {
        "seconds": wall,
        "cpu": cpu,
        "converged": converged,
        "path": [
            [*now, held_out_score(parameters, test)] for now, parameters in clock.notes
        ],
    }


# In the parent -------------------------------------------------------------------


def write_inputs(case, folder):
    """Draw training and held-out samples of a case from its own seed."""
    rng = np.random.default_rng([1, *case.name.encode()])
    mixture = _harness.random_mixture(rng, case.n_components, case.n_features)
    for name, size in (("X", case.n_samples), ("test", N_HELD_OUT)):
        rows = _harness.draw(rng, mixture, size).astype(np.float32)
        np.save(Path(folder) / f"{name}.npy", rows)


def reached(run, mark):
    """Return wall and CPU seconds until the mark, None where it is never reached."""
    for wall, cpu, score in run["path"]:
        if score >= mark:
            return wall, cpu
    return None


def summary(runs, references):
    """Return the medians over the seeds of one variant."""
    pairs = [
        (run, runs_reference["path"][-1][2])
        for seed, run in runs.items()
        if (runs_reference := references.get(seed)) and "error" not in run
    ]
    times = [reached(run, best - MARGIN) for run, best in pairs]
    known = [t for t in times if t is not None]
    if not pairs:
        return None
    return {
        "seeds": len(pairs),
        "reached": len(known),
        "seconds": statistics.median(t[0] for t in known) if known else None,
        "cpu": statistics.median(t[1] for t in known) if known else None,
        "fit_seconds": statistics.median(run["seconds"] for run, _ in pairs),
        "fit_cpu": statistics.median(run["cpu"] for run, _ in pairs),
        "iterations": statistics.median(len(run["path"]) for run, _ in pairs),
        "end": statistics.median(run["path"][-1][2] - best for run, best in pairs),
    }


def summaries(found):
    """Return the summaries of all cases and variants."""
    out = {}
    for name, variants in found.items():
        references = variants.get(REFERENCE, {})
        rows = {v: summary(runs, references) for v, runs in variants.items()}
        out[name] = {v: row for v, row in rows.items() if row}
    return out


def number(value, digits=1):
    """Return a number as text."""
    return "never" if value is None else f"{value:.{digits}f}"


def report(data):
    """Return the Markdown text."""
    text = ["# Time to quality\n", __doc__.split("\n\n", 1)[1].split("    python")[0]]
    for name, rows in data["summary"].items():
        if not rows or name not in CASES:
            continue
        case, base = CASES[name], rows.get(REFERENCE)
        text.append(f"## 'full' {case.title}; wanted: {case.target:.0f} times\n")
        text.append(
            "| fit | to the mark, s | ratio | CPU s | ratio | until fit returns, s | "
            "iterations | end minus reference, nats | seeds |\n" + "| ---: " * 9 + "|"
        )
        for variant, row in rows.items():
            ratios = [
                "" if row[key] is None else f"{base[key] / row[key]:.1f}"
                for key in ("seconds", "cpu")
            ]
            cells = [
                VARIANTS[variant].title,
                number(row["seconds"]),
                ratios[0],
                number(row["cpu"]),
                ratios[1],
                number(row["fit_seconds"]),
                f"{row['iterations']:.0f}",
                f"{row['end']:+.4f}",
                f"{row['reached']} of {row['seeds']}",
            ]
            text.append(f"| {' | '.join(cells)} |")
        text.append("")
    if "machine" in data:
        text.append(_harness.machine_line(data["machine"]))
    return "\n".join(text) + "\n"


def run_case(case, names, seeds, save):
    """Run variants of a case; ``save`` takes each result."""
    with tempfile.TemporaryDirectory() as folder:
        write_inputs(case, folder)
        for seed in range(seeds):
            for name in names:
                spec = {
                    "case": case.name,
                    "variant": asdict(VARIANTS[name]),
                    "folder": folder,
                    "seed": seed,
                }
                run = _harness.run_worker(__file__, spec)
                print(case.name, name, seed, run.get("seconds"), run.get("cpu"))
                save(case.name, name, seed, run)


def main():
    """Run cases and write benchmarks/results/time_to_quality.json and .md."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES)[:3])
    parser.add_argument(
        "--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS)
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=_harness.RESULTS)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        with _harness.worker_output() as stdout:
            print(json.dumps(measure(json.loads(args.worker))), file=stdout)
        return

    path = args.out / "time_to_quality.json"

    def save(case, variant, seed, run):
        found = json.loads(path.read_text())["runs"] if path.exists() else {}
        found.setdefault(case, {}).setdefault(variant, {})[str(seed)] = run
        found = {
            c: {v: found[c][v] for v in VARIANTS if v in found[c]}
            for c in CASES
            if c in found
        }
        data = {
            "machine": _harness.machine(),
            "margin": MARGIN,
            "summary": summaries(found),
            "runs": found,
        }
        _harness.write_results(args.out, "time_to_quality", report(data), data)

    for name in args.cases:
        run_case(CASES[name], args.variants, args.seeds, save)


if __name__ == "__main__":
    sys.exit(main())
