"""Every measured figure by its name, and whether a text states it rightly.

A name is the file of ``results/`` without ``.json`` and the way to the figure in it,
``gan_em_cpu/mnist/mnist/K=10/GANEMClusterer/accuracy``; what a table computes from
several of them has a name as well. The documentation states a figure as
``:measured:`0.972 ± 0.003 <NAME>```, README between two marker lines.
"""

import json
import re
from pathlib import Path
from statistics import mean, stdev
from typing import NamedTuple

RESULTS = Path(__file__).parent / "results"
#: Keys that name an item of a list.
NAMES = ("name", "variant", "set", "covariance_type", "model")
#: ``NAME @min`` is the figure in minutes, ``@/60`` that for one of sixty parts.
UNITS = {
    "": lambda x: x,
    "@min": lambda x: x / 60,
    "@h": lambda x: x / 3600,
    "@%": lambda x: 100 * x,
    "@error": lambda x: 100 * (1 - x),
    "@/5": lambda x: x / 5,
    "@/10": lambda x: x / 10,
    "@/60": lambda x: x / 60,
}
STATEMENT = re.compile(r"([-+−]?[\d,]*\.?\d+)(?: ± ([\d.]+))?( \D*|\D*)")


class Figure(NamedTuple):
    """Mean, standard deviation (None without one) and number of runs."""

    mean: float
    deviation: float | None = None
    number: int = 1

    def text(self, digits, unit=""):
        """Return the figure as a text states it."""
        convert = UNITS[unit]
        text = f"{convert(self.mean):,.{digits}f}"
        if self.deviation is None:
            return text
        spread = abs(convert(self.mean + self.deviation) - convert(self.mean))
        return f"{text} ± {spread:,.{digits}f}"


def load(folder=RESULTS):
    """Return every figure of the committed files by its name."""
    found = {}
    for path in sorted(Path(folder).glob("*.json")):
        data = json.loads(path.read_text(encoding="utf-8"))
        found |= {f"{path.stem}/{key}": value for key, value in _flat(data)}
        found |= DERIVED.get(path.stem, lambda data: {})(data)
    return found


def dates(folder=RESULTS):
    """Return the day of the measurement by file, for the files that know it."""
    paths = sorted(Path(folder).glob("*.json"))
    read = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in paths}
    return {name: data["date"] for name, data in read.items() if "date" in data}


def _flat(data):
    """Yield (way, figure) of every number in nested objects and lists."""
    for key, value in _items(data):
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            yield key, Figure(value)
        elif _is_summary(value):
            yield key, Figure(*value)
        elif isinstance(value, (dict, list)):
            top = "" if key == "figures" else f"{key}/"
            yield from ((f"{top}{way}", figure) for way, figure in _flat(value))


def _items(data):
    """Yield (name, value) of an object, or of a list by what names its items."""
    if isinstance(data, dict):
        yield from data.items()
        return
    for index, value in enumerate(data):
        named = [value[k] for k in NAMES if k in value] if _is_dict(value) else []
        yield (str(named[0]) if named else str(index)), value


def _is_dict(value):
    return isinstance(value, dict)


def _is_summary(value):
    """Say whether a list is [mean, deviation or null, number]."""
    return (
        isinstance(value, list)
        and len(value) == 3
        and isinstance(value[0], float)
        and isinstance(value[2], int)
    )


# Figures that are computed from several ----------------------------------------------


def _outliers(data):
    """Mean area over the sets, and seconds over all of them, by detector."""
    models = next(iter(data.values()))
    return {
        f"outliers/{title}/{model}": Figure(
            reduce(found[model][key] for found in data.values())
        )
        for model in models
        for title, key, reduce in (("mean", "auroc", mean), ("sum", "seconds", sum))
    }


def _em_speed(data):
    """Fastest variant of either library by case, and how many times ours is faster."""
    found = {}
    for case in data["cases"]:
        name = f"em_speed/{case['name']}"
        fastest = {
            library: min(
                v["median_s"] for v in case["variants"] if v["library"] == library
            )
            for library in ("scikit-learn", "skdeepgmm")
        }
        times = fastest["scikit-learn"] / fastest["skdeepgmm"]
        found |= {f"{name}/best of {k}": Figure(v) for k, v in fastest.items()}
        found[f"{name}/times faster"] = Figure(times)
    return found


def _missing_values(data):
    """Root mean square error of imputation by set and imputer, and over the sets."""
    rows = data["parts"]["imputation"]
    sets = list(dict.fromkeys(row["set"] for row in rows))
    found = {}
    for model in rows[0]["rmse"]:
        of_sets = [[r["rmse"][model] for r in rows if r["set"] == s] for s in sets]
        name = "missing_values/imputation"
        for group, values in zip(sets, of_sets, strict=True):
            figure = Figure(mean(values), stdev(values), len(values))
            found[f"{name}/{group}/{model}"] = figure
        found[f"{name}/mean of sets/{model}"] = Figure(mean(map(mean, of_sets)))
    return found


def _deep_steps(data):
    """How many times faster recorded steps are than launched ones."""
    milliseconds = {
        (r["model"], r["width"], r["batch"], r["variant"]): r["milliseconds"]
        for r in data["results"]
    }
    times = [
        value / milliseconds[*key[:3], "recorded"]
        for key, value in milliseconds.items()
        if key[3] == "launched"
    ]
    name = "deep_steps_cuda/times faster"
    return {f"{name}, {f.__name__}": Figure(f(times)) for f in (min, max)}


DERIVED = {
    "outliers": _outliers,
    "em_speed": _em_speed,
    "missing_values": _missing_values,
    "deep_steps_cuda": _deep_steps,
}


# Statements --------------------------------------------------------------------------


def problem(statement, name, found):
    """Return what is wrong with a statement of a figure, or None.

    Parameters
    ----------
    statement : str
        One number, with a deviation or without, and a unit, as a reader sees it.
    name : str
        Name of the figure, with one of ``UNITS`` behind it or without.
    found : dict of str to Figure
    """
    name, _, unit = name.partition(" @")
    unit = f"@{unit}" if unit else ""
    if name not in found:
        return f"no file of results has {name!r}"
    if not (match := STATEMENT.fullmatch(statement)):
        return f"{statement!r} is not a number with a unit"
    value, spread, _ = match.groups()
    digits = len(value.partition(".")[2])
    figure = found[name] if spread else found[name]._replace(deviation=None)
    expected = figure.text(digits, unit)
    stated = value if spread is None else f"{value} ± {spread}"
    if stated.lstrip("+").replace("−", "-") == expected:
        return None
    return f"{statement!r} should be {expected!r}: {name}"
