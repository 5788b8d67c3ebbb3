"""Means over seeds of the measurements in the ``.csv`` files, as JSON.

A file of the paper scripts holds one measurement a row. What tables and texts quote are
means, and these are committed beside it, so that a test can compare them with the rows.
"""

import csv
import datetime
import hashlib
import json
from pathlib import Path

import numpy as np
from _records import RESULTS

GAN_EM = ("part", "data", "case", "model")
#: Columns that name a figure, by file; the other columns of names are averaged over.
KEYS = {
    "dcgmm": GAN_EM,
    "gan_em_cpu": GAN_EM,
    "gan_em_gpu": GAN_EM,
    "minmax_em": ("data", "alpha", "model"),
    "epll": ("set", "level", "method"),
    "epll_variants": ("set", "level", "method"),
    "epll_likelihood": ("model",),
}
EPLL_MEASURES = ("psnr", "ssim", "s", "cpu_s")
#: What one left-out class after the other is averaged to.
MEAN_CASE = "mean of classes"


def rows_of(path):
    """Return the rows of a file, one measurement a row."""
    with path.open(newline="", encoding="utf-8") as file:
        if path.stem == "epll_likelihood":
            return [
                {"model": m, "measure": "nats", "value": v} for m, v in csv.reader(file)
            ]
        rows = list(csv.DictReader(file))
    if "measure" in rows[0]:
        return rows
    return [
        row | {"set": row["image"].partition("_")[0], "measure": m, "value": row[m]}
        for row in rows
        for m in EPLL_MEASURES
    ]


def grouped(rows, keys):
    """Return the values of each figure by its name, in the order of the rows.

    A measure that a method does not have is NaN in the rows, and left out.
    """
    groups = {}
    for row in rows:
        parts = [row[key] for key in (*keys, "measure") if row[key]]
        if np.isfinite(value := float(row["value"])):
            groups.setdefault("/".join(parts), []).append(value)
    return groups


def described(values):
    """Return [mean, standard deviation or None, number of values]."""
    spread = _rounded(np.std(values, ddof=1)) if len(values) > 1 else None
    return [_rounded(np.mean(values)), spread, len(values)]


def _rounded(value):
    """Return a value with seven digits, which are the same on every machine."""
    return float(f"{value:.7g}")


def means_of_classes(rows):
    """Return the mean of the left-out classes' areas under the ROC curve."""
    found = {}
    for row in rows:
        if row.get("part") == "outliers" and row["measure"].startswith("auroc"):
            name = "/".join((row["data"], MEAN_CASE, row["model"], row["measure"]))
            cases = found.setdefault(f"outliers/{name}", {})
            cases.setdefault(row["case"], []).append(float(row["value"]))
    return {
        name: [_rounded(np.mean([np.mean(v) for v in cases.values()])), None, 1]
        for name, cases in found.items()
        if len(cases) == 10
    }


def on_same_images(rows, reference="PatchGMMDenoiser"):
    """Return the PSNR of the reference on the images that each method was run on."""
    psnr = {
        (row["method"], row["set"], row["level"], row["image"]): float(row["value"])
        for row in rows
        if row["measure"] == "psnr" and "image" in row
    }
    groups, complete = {}, {}
    for method, group, level, image in psnr:
        value = psnr.get((reference, group, level, image))
        if method == reference:
            complete.setdefault((group, level), []).append(value)
        elif value is not None:
            groups.setdefault((group, level, method), []).append(value)
    return {
        f"{group}/{level}/{reference} on the images of {method}/psnr": described(values)
        for (group, level, method), values in groups.items()
        if len(values) < len(complete[group, level])
    }


def figures(path):
    """Return every figure of a file of measurements by its name."""
    rows = rows_of(path)
    groups = grouped(rows, KEYS[path.stem])
    found = {name: described(values) for name, values in groups.items()}
    return found | means_of_classes(rows) | on_same_images(rows)


def write(path, machine=None):
    """Write the figures of a file of measurements beside it, where they changed.

    ``date`` is the day of the newest rows, and stays as it is without new ones.
    """
    target = path.with_suffix(".json")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    old = json.loads(target.read_text(encoding="utf-8")) if target.exists() else {}
    new = {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": machine or old.get("machine", ""),
        "rows_sha256": digest,
        "columns": ["mean", "standard deviation", "number"],
    }
    if old.get("rows_sha256") == digest:
        new |= {key: old[key] for key in ("date", "machine")}
    target.write_text(_text(new, figures(path)), encoding="utf-8")


def _text(head, found):
    """Return the file's text, one figure a line."""
    lines = [f" {json.dumps(key)}: {json.dumps(value)}," for key, value in head.items()]
    entries = [
        f"  {json.dumps(k)}: {json.dumps(v, allow_nan=False)}" for k, v in found.items()
    ]
    return "\n".join(["{", *lines, ' "figures": {', ",\n".join(entries), " }", "}", ""])


def write_all(folder=RESULTS):
    """Write the figures of every file of measurements in a folder."""
    for path in sources(folder):
        write(path)


def sources(folder=RESULTS):
    """Return the files of measurements that there are."""
    paths = [Path(folder) / f"{name}.csv" for name in KEYS]
    return [path for path in paths if path.exists()]
