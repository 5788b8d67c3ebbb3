"""The page of results: what papers claim, and what was measured here."""

import sys
import tomllib
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1]))

import _figures
import _front_page
from _records import RESULTS

HEADER = (
    "claim",
    "to reach",
    "ours",
    "data",
    "seeds",
    "device, seconds a fit",
    "verdict",
)
INTRODUCTION = """\
.. Written by "make papers" from benchmarks/results and benchmarks/papers/claims.toml.
   Do not edit.

.. _results:

Results
=======

In short
--------

{front}

What the papers claim
---------------------

Every figure is from a file in ``benchmarks/results``, which a script wrote. "To reach"
is the paper's figure, or that of a method that was measured in the same run. A claim is
*reached* if our mean is at least as good. Figures are means, with the standard
deviation over seeds where there are several; seconds are of the processor (CPU) or of
the clock (GPU).
"""


class Row(NamedTuple):
    """One line of the table and whether its claim is reached (None: not measured)."""

    cells: tuple
    reached: bool | None


def claims():
    """Return the list of sources and that of claims."""
    data = tomllib.loads(_front_page.CLAIMS.read_text(encoding="utf-8"))
    return data["source"], data["claim"]


def figure(names, found):
    """Return a figure, or the mean of several; None if one is missing."""
    names = [names] if isinstance(names, str) else names
    if not all(name in found for name in names):
        return None
    figures = [found[name] for name in names]
    if len(figures) == 1:
        return figures[0]
    mean = sum(f.mean for f in figures) / len(figures)
    return _figures.Figure(mean, None, figures[0].number)


def target(claim, found):
    """Return (number to reach, how it is shown), or None if it was not measured."""
    if "published" in claim:
        return claim["published"], f"{claim['printed']} (paper)"
    beside = figure(claim["beside"], found)
    if beside is None:
        return None
    shown = beside.text(claim["digits"], claim.get("unit", ""))
    value = _figures.UNITS[claim.get("unit", "")](beside.mean)
    return value, f"{shown} ({claim['beside_name']})"


def verdict(claim, value, goal):
    """Return whether the claim is reached, and the words for it."""
    short = goal - value if claim["better"] == "higher" else value - goal
    if short <= 0:
        return True, "**reached**"
    return False, f"missed by {short:.{claim['digits']}f}"


def row(claim, found):
    """Return the line of one claim."""
    ours, goal = figure(claim["ours"], found), target(claim, found)
    shown = goal[1] if goal else f"({claim['beside_name']})"
    if ours is None or goal is None:
        state, words = None, "not measured"
    else:
        value = _figures.UNITS[claim.get("unit", "")](ours.mean)
        state, words = verdict(claim, value, goal[0])
    text = ours.text(claim["digits"], claim.get("unit", "")) if ours else ""
    time = figure(claim.get("time", ""), found)
    cost = f"{claim['device']}, {time.text(0)}" if time and ours else ""
    note = f". {claim['note']}" if "note" in claim else ""
    seeds = str(ours.number) if ours else ""
    if claim["source"] == "epll":
        seeds = "1" if ours else ""
        cost = f"{claim['device']}, {time.mean:.0f}" if time else ""
        text = ours._replace(deviation=None).text(claim["digits"]) if ours else ""
    cells = (claim["claim"], shown, text, claim["data"] + note, seeds, cost, words)
    return Row(cells, state)


def section(source, found, days):
    """Return heading, note and table of one source, with its count of verdicts."""
    rows = [row(c, found) for c in claims()[1] if c["source"] == source["id"]]
    states = [r.reached for r in rows]
    names = {
        name.partition("/")[0]
        for claim in claims()[1]
        if claim["source"] == source["id"]
        for name in (
            [claim["ours"]] if isinstance(claim["ours"], str) else claim["ours"]
        )
    }
    dated = [
        f"``{name}.json`` ({days[name]})" for name in sorted(names) if name in days
    ]
    count = (
        f"{states.count(True)} reached, {states.count(False)} missed, "
        f"{states.count(None)} not measured."
    )
    return "\n\n".join(
        (
            f"{source['title']}\n{'~' * len(source['title'])}",
            f"{source['citation']}; ``{source['script']}``. {source['note']}",
            f"Measured: {', '.join(dated)}. **{count}**",
            _front_page.list_table(HEADER, [r.cells for r in rows]),
        )
    )


def page(folder=RESULTS):
    """Return the whole page."""
    found, days = _figures.load(folder), _figures.dates(folder)
    parts = [INTRODUCTION.format(front=_front_page.rst(found)).strip()]
    parts += [section(source, found, days) for source in claims()[0]]
    return "\n\n".join(parts) + "\n"
