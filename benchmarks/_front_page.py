"""The few measurements that README and the home page show, as a table.

A row whose figures no file of results has is left out: that of ``optimum.json``, for
one, is there as soon as ``benchmarks/optimum.py`` has written ``front_page`` into it,
with means over the mixtures.
"""

import re
import tomllib
from pathlib import Path

import _figures

CLAIMS = Path(__file__).parent / "papers" / "claims.toml"
PROJECT = tomllib.loads(
    (Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8")
)["project"]
GITHUB = f"{PROJECT['urls']['Source']}/blob/main/"
HEADER = ("Task", "skdeepgmm", "Beside it", "Data, cost")
MNIST = "gan_em_cpu/mnist/mnist/K=10"
IMPUTED = "missing_values/imputation/mean of sets"
#: Cells with {name|digits} or {name @unit|digits} where a figure goes.
ROWS = (
    (
        "Cluster MNIST without labels, accuracy",
        f"**{{{MNIST}/GANEMClusterer/accuracy|3}}**",
        f"k-means {{{MNIST}/KMeans/accuracy|3}}, ClustPy's VaDE "
        f"{{{MNIST}/ClustPy VaDE/accuracy|3}} and DEC "
        f"{{{MNIST}/ClustPy DEC/accuracy|3}} (one seed)",
        f"10,000 images, {{{MNIST}/GANEMClusterer/accuracy|seeds}} seeds, "
        f"{{{MNIST}/GANEMClusterer/cpu_seconds @min|mean 0}} minutes of one CPU core",
    ),
    (
        "Exact EM, full covariances",
        "**{em_speed/full-100k/best of skdeepgmm|1} s**, "
        "{em_speed/full-100k/times faster|1} times as fast",
        "the fastest of scikit-learn's variants "
        "{em_speed/full-100k/best of scikit-learn|1} s",
        "100,000 x 32, K = 16, 10 iterations, 2 CPU cores",
    ),
    (
        "Full covariances from files on two processes, start included, until as good "
        "as Spark's fit",
        "**{dask_scale/spark/seconds_to_theirs|0} s** on dask workers",
        "Spark's GaussianMixture {dask_scale/spark/theirs/seconds|0} s",
        "10 million x 32, K = 16, 2 CPU cores",
    ),
    (
        "One fit against the best of fifty from k-means: held-out log-likelihood, nats",
        "**{optimum/front_page/merged|3}**; by SGD {optimum/front_page/sgd|3}",
        "one fit from k-means {optimum/front_page/single|3}",
        "20 mixtures, full covariances; {optimum/front_page/CPU ratio|1} times the CPU "
        "time of one fit from k-means",
    ),
    (
        "Impute 30 % of the entries, error in standard deviations",
        f"**{{{IMPUTED}/GaussianMixture|3}}**",
        f"IterativeImputer {{{IMPUTED}/IterativeImputer|3}}, "
        f"KNNImputer {{{IMPUTED}/KNNImputer|3}}",
        "mean of six tables of ADBench",
    ),
    (
        "Denoise photographs, noise of 25 grey levels, PSNR",
        "**{epll/bsd68/25/PatchGMMDenoiser/psnr|mean 2} dB**",
        "BM3D {published/epll/Noise of 25, BM3D|2} dB, "
        "EPLL {published/epll/Noise of 25, EPLL|2} dB (published)",
        "68 images of BSD68, {epll/bsd68/25/PatchGMMDenoiser/cpu_s|mean 0} s of a CPU "
        "core each",
    ),
    (
        "Find outliers, mean area under the ROC curve",
        "**{outliers/mean/DensityOutlierDetector()|3}**",
        "IsolationForest {outliers/mean/IsolationForest()|3}, one Gaussian "
        "{outliers/mean/GaussianMixture(1)|3}",
        "ten tables of ADBench, in view of which the default was chosen",
    ),
)


def filled(template, found):
    """Return a cell with its figures, or None if one of them is missing."""
    names = [m.group(1) for m in re.finditer(r"\{([^}|]+)\|", template)]
    if any(name.partition(" @")[0] not in found for name in names):
        return None
    return re.sub(
        r"\{([^}|]+)\|([^}]+)\}", lambda m: _stated(*m.groups(), found), template
    )


def _stated(name, form, found):
    """Return one figure: with n digits, the mean alone, or the number of seeds."""
    name, _, unit = name.partition(" @")
    figure, (*mean, digits) = found[name], form.split()
    if digits == "seeds":
        return str(figure.number)
    if mean:
        figure = figure._replace(deviation=None)
    return figure.text(int(digits), f"@{unit}" if unit else "")


def published():
    """Return the papers' own figures by source and claim."""
    claims = tomllib.loads(CLAIMS.read_text(encoding="utf-8"))["claim"]
    return {
        f"published/{claim['source']}/{claim['claim']}": _figures.Figure(
            claim["published"]
        )
        for claim in claims
        if "published" in claim
    }


def rows(found=None):
    """Return the table's rows, as far as there are figures."""
    found = _figures.load() if found is None else found
    cells = [[filled(cell, found | published()) for cell in row] for row in ROWS]
    return [row for row in cells if None not in row]


def markdown(found=None):
    """Return the table for README."""
    lines = [HEADER, ("---",) * len(HEADER), *rows(found)]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    where = f"[all claims and verdicts]({GITHUB}doc/results.rst)"
    return f"{table}\n\nFrom the files in `benchmarks/results`; {where}."


def list_table(header, body, widths=None):
    """Return a reStructuredText table."""
    lines = [".. list-table::", "   :header-rows: 1"]
    if widths:
        lines.append(f"   :widths: {' '.join(map(str, widths))}")
    lines.append("")
    for row in (header, *body):
        lines += [f"   {'* -' if i == 0 else '  -'} {c}" for i, c in enumerate(row)]
    return "\n".join(line.rstrip() for line in lines)


def rst(found=None):
    """Return the table for the home page."""
    return list_table(HEADER, rows(found))
