"""Markdown tables of the speed benchmark."""

import _harness

#: Relative difference of the log-likelihoods that counts as the same fit.
SAME_FIT = 1e-5


def best_of(rows, library):
    """Return the fastest row of a library by its median, None if all failed."""
    rows = [row for row in rows if row["library"] == library and "error" not in row]
    return min(rows, key=lambda row: row["median_s"], default=None)


def ratio(row, reference):
    """Return how many times faster ``row`` is than ``reference``."""
    return reference["median_s"] / row["median_s"]


def difference(row, reference):
    """Return the relative difference of the log-likelihoods."""
    expected = reference["log_likelihood"]
    return abs(row["log_likelihood"] - expected) / abs(expected)


def reference_fit(rows):
    """Return the float64 row that the log-likelihoods are compared with."""
    rows = [row for row in rows if "error" not in row]
    return rows[0] if rows else None


def table(header, rows):
    """Return a Markdown table, numbers to the right."""
    lines = [header, ["---"] + ["---:"] * (len(header) - 1), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def variant_line(row, fastest, reference):
    """Return the cells of one variant."""
    if "error" in row:
        return [row["variant"], row["error"], *["-"] * 5]
    return [
        row["variant"],
        f"{row['median_s']:.3f}",
        f"{row['min_s']:.3f}",
        f"{ratio(row, fastest):.2f}",
        f"{row['peak_mib']:.0f}",
        f"{row['log_likelihood']:.6f}",
        f"{difference(row, reference):.1e}",
    ]


def case_section(case):
    """Return heading, table and verdict of a case."""
    rows = case["variants"]
    fastest, reference = best_of(rows, "scikit-learn"), reference_fit(rows)
    if fastest is None:
        return f"## {case['title']}\n\nscikit-learn failed in every variant.\n"
    header = [
        "variant",
        "median s",
        "min s",
        "times the best of scikit-learn",
        "peak memory, MiB",
        "log-likelihood, nats/sample",
        "relative difference",
    ]
    body = table(header, [variant_line(row, fastest, reference) for row in rows])
    return f"## {case['title']}\n\n{body}\n{verdict(case, fastest, reference)}\n"


def verdict(case, fastest, reference):
    """Return a sentence on the ratio reached and on the agreement of the fits."""
    ours = best_of(case["variants"], "skdeepgmm")
    if ours is None:
        return "skdeepgmm failed."
    agrees = "agree" if difference(ours, reference) <= SAME_FIT else "DO NOT agree"
    text = (
        f"Best of ours is {ratio(ours, fastest):.2f} times as fast as the best of "
        f"scikit-learn ({fastest['variant']}); log-likelihoods {agrees} to {SAME_FIT}."
    )
    if case["target"] is None:
        return text
    state = "reached" if ratio(ours, fastest) >= case["target"] else "MISSED"
    return f"{text} Target {case['target']} times: {state}."


def preamble(results):
    return (
        f"{_harness.machine_line(results['machine'])}\n\n"
        f"Device: {results['device']}. Medians of {results['repeat']} interleaved "
        "repetitions, each in a fresh process; equal data, start values and number "
        "of iterations. Peak memory: what the fit adds to the memory of libraries and "
        "data. Log-likelihoods: one float64 scorer for all; the "
        "difference is to the first row.\n"
    )


def full_report(results):
    """Return the whole page."""
    sections = "\n".join(case_section(case) for case in results["cases"])
    return f"# Speed of EM against scikit-learn\n\n{preamble(results)}\n{sections}"
