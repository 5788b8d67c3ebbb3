"""What the scripts of this folder share: a file of measurements that a run resumes."""

import csv
import os
import sys
import threading
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))
import _harness as harness

RESULTS = harness.RESULTS


class Records:
    """Measurements in a CSV file, one a row, written as soon as they are made.

    Parameters
    ----------
    path : Path
    keys : sequence of str
        Columns that name a measurement; a run skips those that the file holds.
    """

    def __init__(self, path, keys):
        self.path, self.keys, self.lock = path, tuple(keys), threading.Lock()
        self.rows = []
        if path.exists():
            with path.open(newline="") as file:
                self.rows = list(csv.DictReader(file))

    def __contains__(self, names):
        return any(all(r[k] == str(names[k]) for k in self.keys) for r in self.rows)

    def add(self, names, **values):
        """Append the values measured under these names, a row for each."""
        with self.lock:
            for measure, value in values.items():
                row = {k: str(names[k]) for k in self.keys}
                row |= {"measure": measure, "value": f"{value:.6g}"}
                self._append(row)

    def _append(self, row):
        self.path.parent.mkdir(parents=True, exist_ok=True)
        new = not self.path.exists()
        with self.path.open("a", newline="") as file:
            writer = csv.DictWriter(file, [*self.keys, "measure", "value"])
            if new:
                writer.writeheader()
            writer.writerow(row)
        self.rows.append(row)

    def values(self, measure, **names):
        """Return the values of one measure as an array, in the order of the file."""
        wanted = {k: str(v) for k, v in names.items()} | {"measure": measure}
        return np.array(
            [
                float(row["value"])
                for row in self.rows
                if all(row[k] == v for k, v in wanted.items())
            ]
        )

    def distinct(self, key, **names):
        """Return the different entries of one column, in the order of the file."""
        wanted = {k: str(v) for k, v in names.items()}
        rows = [r for r in self.rows if all(r[k] == v for k, v in wanted.items())]
        return list(dict.fromkeys(row[key] for row in rows))


def cell(values, digits=3):
    """Return mean and deviation over seeds, or a dash."""
    if not len(values):
        return "-"
    mean = f"{np.mean(values):.{digits}f}"
    if len(values) == 1:
        return mean
    return f"{mean} ± {np.std(values, ddof=1):.{digits}f}"


def table(header, rows):
    """Return a Markdown table, numbers to the right."""
    lines = [header, ["---"] + ["---:"] * (len(header) - 1), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def machine_line(device="cpu"):
    """Return one line on the machine and the threads used."""
    threads = os.environ.get("OMP_NUM_THREADS", "all")
    return f"{harness.machine_line(harness.machine(device))} Threads: {threads}."
