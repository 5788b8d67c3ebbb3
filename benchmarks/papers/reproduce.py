"""Measure what the papers claim, as far as it is not measured yet, and write the pages.

    SKDEEPGMM_DATA=folder python benchmarks/papers/reproduce.py     # or: make papers
    python benchmarks/papers/reproduce.py --pages                   # measure nothing

Runs the scripts of this folder with their settings for a CPU. A script with a current
``.json`` (of the rows of its ``.csv``, with a figure for every claim) is skipped, and
each script skips the rows that its file holds: after an interruption, run it again. All
of it takes days of a CPU core; ``--only`` chooses scripts. Then ``doc/results.rst`` and
the tables of README and the home page are written from the files of ``results``.
"""

import argparse
import hashlib
import json
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import _front_page
import _results_page
import _summaries
from _records import RESULTS

ROOT = Path(__file__).parents[2]
FOLDER = Path(__file__).parent
#: Command lines by the file of results that they write.
SCRIPTS = {
    "dcgmm": [["dcgmm.py"]],
    "gan_em_cpu": [["gan_em.py", "--preset", "cpu"]],
    "minmax_em": [["minmax_em.py", "--preset", "cpu"]],
    "epll": [["epll.py", "--out", str(RESULTS)]],
}
MARKERS = {
    "README.md": ("<!-- results:start -->", "<!-- results:end -->", "markdown"),
    "doc/index.rst": (".. results:start", ".. results:end", "rst"),
}


def is_current(name, folder=RESULTS):
    """Say whether a file's figures are those of its rows, and all claims have one."""
    rows, summary = (folder / f"{name}.{suffix}" for suffix in ("csv", "json"))
    if not (rows.exists() and summary.exists()):
        return False
    data = json.loads(summary.read_text(encoding="utf-8"))
    same = data["rows_sha256"] == hashlib.sha256(rows.read_bytes()).hexdigest()
    return same and not missing(name, data["figures"])


def missing(name, figures):
    """Return the figures of a file that a claim needs and that it does not have."""
    _, claims = _results_page.claims()
    wanted = [claim[k] for claim in claims for k in ("ours", "beside") if k in claim]
    flat = [
        n for names in wanted for n in ([names] if isinstance(names, str) else names)
    ]
    here = [n.removeprefix(f"{name}/") for n in flat if n.startswith(f"{name}/")]
    return [n for n in here if n not in figures]


def measure(names):
    """Run the scripts whose results are not current."""
    for name in names:
        if is_current(name):
            print(f"{name}: current", flush=True)
            continue
        for script, *options in SCRIPTS[name]:
            command = [sys.executable, str(FOLDER / script), *options]
            print(f"{name}: {' '.join(command[1:])}", flush=True)
            subprocess.run(command, check=True)


def with_table(text, begin, end, table):
    """Return a text with a table between its two marker lines."""
    before, rest = text.split(begin, 1)
    return f"{before}{begin}\n\n{table.strip()}\n\n{end}{rest.split(end, 1)[1]}"


def pages(root=ROOT):
    """Return what is generated: the text of each file by its path."""
    found = {"doc/results.rst": _results_page.page()}
    for path, (begin, end, form) in MARKERS.items():
        text = (root / path).read_text(encoding="utf-8")
        table = getattr(_front_page, form)()
        found[path] = with_table(text, begin, end, table)
    return found


def write_pages(root=ROOT):
    """Write the pages."""
    for path, text in pages(root).items():
        (root / path).write_text(text, encoding="utf-8")
        print(f"wrote {path}")


def main():
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--pages", action="store_true", help="measure nothing")
    parser.add_argument("--only", nargs="*", choices=SCRIPTS, default=list(SCRIPTS))
    args = parser.parse_args()
    if not args.pages:
        measure(args.only)
    _summaries.write_all()
    write_pages()


if __name__ == "__main__":
    main()
