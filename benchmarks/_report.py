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


def iteration_cell(row):
    """Return the milliseconds of an iteration, where they were measured."""
    return [f"{1e3 * row['iteration_s']:.2f}"] if "iteration_s" in row else []


def variant_line(row, fastest, reference):
    """Return the cells of one variant."""
    if "error" in row:
        return [
            row["variant"],
            row["error"],
            *["-"] * (5 + bool(iteration_cell(reference))),
        ]
    return [
        row["variant"],
        f"{row['median_s']:.3f}",
        f"{row['min_s']:.3f}",
        *iteration_cell(row),
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
        *["an iteration, ms"] * len(iteration_cell(reference)),
        "times the best of scikit-learn",
        "peak memory, MiB",
        "log-likelihood, nats/sample",
        "relative difference",
    ]
    body = table(header, [variant_line(row, fastest, reference) for row in rows])
    closing = [verdict(case, fastest, reference), iterations(case), floors(case)]
    text = "\n\n".join(part for part in closing if part)
    return f"## {case['title']}\n\n{body}\n{text}\n"


def rows_of(case, library, dtype=None):
    """Return the rows of a library, of one dtype or of all, that did not fail."""
    return [
        row
        for row in case["variants"]
        if row["library"] == library
        and "iteration_s" in row
        and (dtype is None or row["variant"].endswith(dtype))
    ]


def iteration_ratio(case, dtype=None):
    """Return how many times faster our iteration is; None where one library failed.

    Parameters
    ----------
    dtype : str, default=None
        Compares float32 and float64 fits by themselves; None the fastest of each.
    """
    fastest = [
        min((row["iteration_s"] for row in rows_of(case, library, dtype)), default=None)
        for library in ("scikit-learn", "skdeepgmm")
    ]
    return None if None in fastest else fastest[0] / fastest[1]


def iterations(case):
    """Return a sentence on single iterations."""
    ratios = [iteration_ratio(case, dtype) for dtype in (None, "float64")]
    if None in ratios:
        return ""
    return (
        f"An iteration by itself: {ratios[0]:.2f} times as fast as scikit-learn's "
        f"fastest variant; in float64 {ratios[1]:.2f} times its fastest in float64."
    )


def floors(case):
    """Return a sentence on the floor of an iteration and the share that is reached."""
    found = []
    for dtype, parts in case.get("floor_s", {}).items():
        rows = rows_of(case, "skdeepgmm", dtype)
        if rows and "error" not in parts:
            floor = sum(parts.values())
            named = ", ".join(f"{name} {1e3 * s:.2f}" for name, s in parts.items())
            found.append(
                f"{dtype} {1e3 * floor:.2f} ms ({named}), of which ours reaches "
                f"{floor / rows[0]['iteration_s']:.0%}"
            )
    return f"Floor of an iteration: {'; '.join(found)}." if found else ""


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


def floor_line(results):
    """Return what an iteration and its floor are, where they were measured."""
    if "peaks" not in results:
        return ""
    return (
        "An iteration: what each one after the first adds. Floor: both products, the "
        "features written once and an exp for each sample and component, at this "
        f"machine's peaks: {peak_line(results['peaks'])}. "
    )


def peak_line(peaks):
    """Return the speeds by which floors are computed."""
    return "; ".join(
        f"{dtype} {peak['flops'] / 1e9:.0f} GFLOP/s, {peak['bytes'] / 1e9:.1f} GB/s, "
        f"{peak['exps'] / 1e9:.2f} Gexp/s"
        for dtype, peak in peaks.items()
        if "error" not in peak
    )


def preamble(results):
    return (
        f"{_harness.machine_line(results['machine'])}\n\n"
        f"Device: {results['device']}. Medians of {results['repeat']} interleaved "
        "repetitions, each in a fresh process; equal data, start values and number "
        "of iterations. Peak memory: what the fit adds to the memory of libraries and "
        f"data. {floor_line(results)}Log-likelihoods: one float64 scorer for all; the "
        "difference is to the first row.\n"
    )


def full_report(results):
    """Return the whole page."""
    sections = "\n".join(case_section(case) for case in results["cases"])
    return f"# Speed of EM against scikit-learn\n\n{preamble(results)}\n{sections}"
