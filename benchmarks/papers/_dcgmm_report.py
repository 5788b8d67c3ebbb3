"""Markdown tables of the measurements of ``dcgmm.py``."""

from _records import cell, machine_line, table
from _summaries import write as write_summary

TITLES = {"mnist": "MNIST", "fashion": "FashionMNIST"}


def models(records, part, data):
    return records.distinct("model", part=part, data=data)


def simple_table(records, part, data, columns):
    """Return a table of one line a model; columns are (title, measure, digits)."""
    rows = []
    for model in models(records, part, data):
        names = {"part": part, "data": data, "model": model}
        cells = [cell(records.values(m, **names), n) for _, m, n in columns]
        rows.append([model, *cells])
    return table(["model", *(title for title, *_ in columns)], rows)


def outlier_table(records, data, measure="auroc"):
    """Return the area under the ROC curve by left-out class, with the mean."""
    names = {"part": "outliers", "data": data, "measure": measure}
    cases = sorted(records.distinct("case", **names), key=int)
    rows = []
    for model in records.distinct("model", **names):
        here = {"part": "outliers", "data": data, "model": model}
        values = [records.values(measure, case=case, **here) for case in cases]
        complete = all(len(v) for v in values)
        mean = f"{sum(v.mean() for v in values) / len(cases):.3f}" if complete else "-"
        rows.append([model, *(cell(v) for v in values), mean])
    return table(["model", *cases, "mean"], rows)


def layer_tables(records, data):
    """Return the outlier table of each Mixture layer's own score."""
    measures = records.distinct("measure", part="outliers", data=data)
    layers = sorted(m for m in measures if m.startswith("auroc_"))
    parts = []
    for name in layers:
        number = int(name.removeprefix("auroc_"))
        parts.append(f"Score of Mixture layer {number} alone:")
        parts.append(outlier_table(records, data, name))
    return parts


COLUMNS = {
    "cost": [
        ("seconds", "seconds", 0),
        ("epochs", "epochs", 0),
        ("images scored a second", "images_s", 0),
        ("peak memory above data, MiB", "peak_mib", 0),
        ("components in use, first layer", "in_use_0", 2),
        ("components in use, top layer", "in_use_1", 2),
    ],
    "clustering": [
        ("NMI", "nmi", 3),
        ("purity", "purity", 3),
        ("NMI of k-means, K = 10, on the top codes", "kmeans_nmi_top", 3),
        ("on the first codes", "kmeans_nmi_first", 3),
        ("seconds", "seconds", 0),
    ],
    "sampling": [
        ("NDB / 100", "ndb", 2),
        ("JS divergence", "js", 4),
        ("Frechet distance", "frechet", 2),
        ("gradient energy", "gradient_energy", 4),
        ("first layer's score", "first_score", 2),
        ("top layer's score", "top_score", 1),
        ("CPU seconds of the fit", "seconds", 0),
    ],
    "inpainting": [("PSNR of the filled half, dB", "psnr", 2)],
}


def training_rows(records, part, data):
    """Say how many training images were used, of all classes."""
    counts = set(records.values("n_train", part=part, data=data))
    return f"Training images: {', '.join(f'{n:,.0f}' for n in sorted(counts))}."


def section(records, part, data):
    """Return heading and tables of one part on one data set, or nothing."""
    if not models(records, part, data):
        return []
    heading = f"## {part.capitalize()}, {TITLES[data]}"
    heading += f"\n\n{training_rows(records, part, data)}"
    if part != "outliers":
        return [heading, simple_table(records, part, data, COLUMNS[part])]
    return [heading, outlier_table(records, data), *layer_tables(records, data)]


def write_report(path, records, description):
    """Write all tables."""
    parts = ["# Deep convolutional mixtures", description.split("\n\n", 2)[2].strip()]
    parts.append(machine_line())
    for part in [*COLUMNS, "outliers"]:
        for data in TITLES:
            parts += section(records, part, data)
    path.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    write_summary(records.path, machine_line())
