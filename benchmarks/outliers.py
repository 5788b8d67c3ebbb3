"""Ranking of outliers on ten ADBench sets: the default detector beside others.

Every model is fitted to all samples of a set, outliers included, as they are, and
ranks them: area under the ROC curve, mean over seeds. One rule for all sets; the sizes
of the default's mixtures, its trimming and its regularisation were chosen in view of
these ten sets.

Run: SKDEEPGMM_DATA=... python benchmarks/outliers.py [--seeds 5]
Writes results/outliers.json and results/outliers.md.
"""

import argparse
import json
import os
import time
import warnings
from pathlib import Path

import numpy as np
from sklearn.ensemble import IsolationForest
from sklearn.metrics import roc_auc_score

from skdeepgmm import DensityOutlierDetector, GaussianMixture

RESULTS = Path(__file__).with_name("results")
MODELS = {
    "DensityOutlierDetector()": lambda seed: DensityOutlierDetector(
        DensityOutlierDetector()._model().set_params(random_state=seed)
    ),
    "GaussianMixture(5)": lambda seed: DensityOutlierDetector(
        GaussianMixture(5, random_state=seed)
    ),
    "GaussianMixture(1)": lambda seed: DensityOutlierDetector(GaussianMixture(1)),
    "IsolationForest()": lambda seed: IsolationForest(random_state=seed),
}


def sets():
    folder = Path(os.environ.get("SKDEEPGMM_DATA", "../shared/data")) / "adbench"
    for path in sorted(folder.glob("*.npz")):
        with np.load(path) as file:
            yield path.stem, file["X"].astype(np.float64), file["y"]


def measure(make, X, y, seeds):
    areas, seconds = [], []
    for seed in range(seeds):
        begun = time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            scores = make(seed).fit(X).score_samples(X)
        seconds.append(time.perf_counter() - begun)
        areas.append(float(roc_auc_score(y, -scores)))
    return {
        "auroc": float(np.mean(areas)),
        "deviation": float(np.std(areas)),
        "seconds": float(np.median(seconds)),
        "seeds": seeds,
    }


def table(results):
    names = list(MODELS)
    lines = [
        "# Outliers: area under the ROC curve",
        "",
        *__doc__.split("\n\n")[1].splitlines(),
        "",
        "| set | " + " | ".join(names) + " |",
        "|---|" + "---:|" * len(names),
    ]
    for data, found in results.items():
        cells = [f"{found[name]['auroc']:.3f}" for name in names]
        lines.append(f"| {data} | " + " | ".join(cells) + " |")
    means = [
        np.mean([found[name]["auroc"] for found in results.values()]) for name in names
    ]
    lines.append("| **mean** | " + " | ".join(f"**{m:.3f}**" for m in means) + " |")
    total = [
        sum(found[name]["seconds"] for found in results.values()) for name in names
    ]
    lines.append("| seconds in all | " + " | ".join(f"{s:.1f}" for s in total) + " |")
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    seeds = parser.parse_args().seeds
    results = {}
    for name, X, y in sets():
        results[name] = {
            model: measure(make, X, y, seeds) for model, make in MODELS.items()
        }
        print(
            name,
            {k: round(v["auroc"], 3) for k, v in results[name].items()},
            flush=True,
        )
    (RESULTS / "outliers.json").write_text(json.dumps(results, indent=1) + "\n")
    (RESULTS / "outliers.md").write_text(table(results))


if __name__ == "__main__":
    main()
