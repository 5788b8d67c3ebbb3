"""Every figure that README and the guide state is that of a committed file."""

import doctest
import json
import re
import shutil
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BENCHMARKS = ROOT / "benchmarks"
RESULTS = BENCHMARKS / "results"
GUIDE = sorted((ROOT / "doc" / "user_guide").glob("*.rst"))
PAGES = [ROOT / "doc" / "index.rst", ROOT / "doc" / "install.rst", *GUIDE]
ROLE = re.compile(r":measured:`([^<`]+?)\s+<([^`]+)>`")
#: A decimal, a spread, or a number or number word of something that is measured.
WORDS = "two|three|four|five|six|seven|eight|nine|ten|eleven|twenty|thirty|forty"
MEASURED = re.compile(
    r"(?<![\w.])\d*\.\d+(?![\w.]*\d)|±|"
    rf"\b(?:\d[\d,]*|{WORDS})\s+(?:seconds?|minutes?|hours?|dB|nats|ms|"
    r"times (?:as fast|faster|slower|as slow))\b"
)
# What is not measured although it looks so: numbers of versions and of papers.
NAMED = re.compile(
    r"(?:Python|scikit-learn|NumPy|SciPy|PyTorch|torch|[Vv]ersions?|before)"
    r"(?:'s)? (?:before )?\d+(?:\.\d+)+|arXiv:[\d.]+|arxiv.org/\S+"
)
#: The settings that a guide speaks of are literals (``0.05``), formulas or examples.
QUIET_RST = (
    r"(?ms)^\.\. (?:code-block|math)::.*?(?=^\S|\Z)",
    r"(?ms)^( +)\.\. (?:code-block|math)::.*?(?=^\1\S|^\S|\Z)",
    # What doctests print is proved by running them.
    r"(?ms)^ *>>>.*?(?=^\s*$|\Z)",
    r"(?ms)^\.\. results:start.*?^\.\. results:end",
    r"(?ms)^\.\. (?:rubric:: References|\[\d\]).*?(?=^\S|\Z)",
    r"(?ms)^References\n-+\n.*\Z",
    r"(?s)``.+?``",
    r"(?s):math:`.+?`",
    r"(?s):measured:`.+?`",
)
QUIET_MD = (
    r"(?ms)^```.*?^```",
    r"(?s)<!-- results:start.*?results:end -->",
    r"`[^`]+`",
    r"\]\([^)]*\)",
)


@pytest.fixture(autouse=True)
def scripts_are_found(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS / "papers")
    monkeypatch.syspath_prepend(BENCHMARKS)
    yield
    for path in [*BENCHMARKS.glob("*.py"), *BENCHMARKS.glob("papers/*.py")]:
        sys.modules.pop(path.stem, None)


def without(patterns, text):
    """Return a text without what the patterns match."""
    for pattern in (*patterns, NAMED.pattern):
        text = re.sub(pattern, " ", text)
    return text


def unproved(path):
    """Return what looks like a measured figure and has no file behind it."""
    text = path.read_text(encoding="utf-8")
    quiet = QUIET_MD if path.suffix == ".md" else QUIET_RST
    return [m.group() for m in MEASURED.finditer(without(quiet, text))]


@pytest.mark.parametrize("path", [ROOT / "README.md", *PAGES], ids=lambda p: p.stem)
def test_no_figure_is_stated_without_a_file(path):
    assert unproved(path) == []


def test_figures_without_a_file_are_found(tmp_path):
    page = tmp_path / "page.rst"
    page.write_text(
        "It has 0.97 on :math:`0.5` and ``0.3``, in six minutes, ten\ntimes faster "
        "(1 ± 0.2).\n\n.. code-block:: python\n\n   x = 0.7\n\nSince torch 2.4, it is "
        "28.7 dB: :measured:`0.1 <a/b>`.\n"
    )
    found = unproved(page)
    assert found == ["0.97", "six minutes", "ten\ntimes faster", "±", "0.2", "28.7"]


@pytest.mark.parametrize("path", PAGES, ids=lambda p: p.stem)
def test_stated_figures_are_those_of_the_files(path):
    import _figures

    stated = ROLE.findall(re.sub(r"\s+", " ", path.read_text(encoding="utf-8")))
    found = _figures.load() if stated else {}
    problems = [_figures.problem(text, name, found) for text, name in stated]
    assert [problem for problem in problems if problem] == []


@pytest.mark.parametrize(
    ("text", "name", "right"),
    [
        ("0.972 ± 0.003", "a", True),
        ("0.97", "a", True),
        ("0.973", "a", False),
        ("0.972 ± 0.004", "a", False),
        ("97.2 %", "a @%", True),
        ("2.8", "a @error", True),
        ("2 minutes", "b @min", True),
        ("3 minutes", "b @min", False),
        ("some", "b", False),
        ("1", "c", False),
    ],
)
def test_a_wrong_statement_is_told(text, name, right):
    from _figures import Figure, problem

    found = {"a": Figure(0.97218, 0.00263, 5), "b": Figure(120.0)}
    assert (problem(text, name, found) is None) == right


def test_summaries_are_those_of_the_rows():
    import _summaries

    for path in _summaries.sources():
        data = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        expected = _summaries.figures(path)
        assert data["figures"].keys() == expected.keys()
        for name, (*figure, number) in expected.items():
            *stated, stated_number = data["figures"][name]
            assert (stated[1] is None) == (figure[1] is None), name
            filled = [[v or 0.0 for v in values] for values in (stated, figure)]
            assert filled[0] == pytest.approx(filled[1], rel=1e-6), name
            assert stated_number == number, name


def test_generated_pages_are_up_to_date():
    import reproduce

    for path, text in reproduce.pages().items():
        assert (ROOT / path).read_text(encoding="utf-8") == text, (
            f"{path}: python benchmarks/papers/reproduce.py --pages"
        )


def test_only_what_is_current_is_skipped(tmp_path):
    import _summaries
    import reproduce

    for suffix in ("csv", "json"):
        shutil.copy(RESULTS / f"epll.{suffix}", tmp_path)
    assert reproduce.is_current("epll", tmp_path)
    lines = (tmp_path / "epll.csv").read_bytes().splitlines(keepends=True)
    (tmp_path / "epll.csv").write_bytes(b"".join([*lines, lines[-1]]))
    assert not reproduce.is_current("epll", tmp_path)
    fewer = [line for line in lines if b"PatchGMMDenoiser" not in line]
    (tmp_path / "epll.csv").write_bytes(b"".join(fewer))
    _summaries.write(tmp_path / "epll.csv")
    assert not reproduce.is_current("epll", tmp_path)


def test_a_row_without_figures_is_left_out():
    import _figures
    import _front_page

    found = _figures.load()
    all_rows = _front_page.rows(found)
    found.pop("outliers/mean/IsolationForest()")
    assert len(_front_page.rows(found)) == len(all_rows) - 1


@pytest.mark.parametrize(
    ("ours", "goal", "better", "expected"),
    [
        (0.9, 0.8, "higher", (True, "**reached**")),
        (0.8, 0.9, "higher", (False, "missed by 0.10")),
        (1.2, 1.09, "lower", (False, "missed by 0.11")),
        (1.0, 1.09, "lower", (True, "**reached**")),
    ],
)
def test_verdicts(ours, goal, better, expected):
    import _results_page

    claim = {"better": better, "digits": 2}
    assert _results_page.verdict(claim, ours, goal) == expected


def test_a_claim_without_a_figure_is_not_measured():
    import _results_page

    _, claims = _results_page.claims()
    rows = [_results_page.row(claim, {}) for claim in claims]
    assert {row.reached for row in rows} == {None}
    assert {row.cells[-1] for row in rows} == {"not measured"}


def test_peers_of_the_gallery_were_measured():
    import _figures
    import _front_page

    data = tomllib.loads(_front_page.CLAIMS.read_text(encoding="utf-8"))
    found, (claimed,) = _figures.load(), _claims_of(data, "MNIST, K = 10")
    names = [
        f"gan_em_cpu/mnist/mnist/K=10/{peer['model']}/{field}"
        for peer in data["peer"]
        for field in ("accuracy", "cpu_seconds")
    ]
    assert [name for name in names if name not in found] == []
    (ours,) = (p for p in data["peer"] if p["model"] == "GANEMClusterer")
    assert ours["published"] == pytest.approx(1 - claimed / 100)


def _claims_of(data, name):
    """Return what one claim's paper states, once."""
    return {c["published"] for c in data["claim"] if c["claim"] == name}


def test_tables_of_single_scripts_are_those_of_their_files():
    import _report
    import outliers

    data = json.loads((RESULTS / "outliers.json").read_text())
    assert (RESULTS / "outliers.md").read_text() == outliers.table(data)
    data = json.loads((RESULTS / "em_speed.json").read_text())
    assert (RESULTS / "em_speed.md").read_text() == _report.full_report(data)


def named_files(text):
    """Yield the paths that a page names, but for what it says is not kept."""
    for line in text.splitlines():
        if r"\*" not in line:
            yield from re.findall(r"`([\w/*.]+\.(?:py|md|csv|json|png))`", line)


def exists(name):
    folders = (BENCHMARKS, BENCHMARKS / "results", BENCHMARKS / "papers", ROOT)
    return any(list(folder.glob(name)) for folder in folders)


def test_readme_of_benchmarks_names_what_exists():
    text = (BENCHMARKS / "README.md").read_text(encoding="utf-8")
    names = list(named_files(text))
    assert len(names) > 15
    assert [name for name in names if not exists(name)] == []


def test_readme_of_benchmarks_names_every_script():
    text = (BENCHMARKS / "README.md").read_text(encoding="utf-8")
    scripts = [*BENCHMARKS.glob("*.py"), *BENCHMARKS.glob("papers/*.py")]
    public = [p.name for p in scripts if not p.name.startswith("_")]
    assert [name for name in public if name not in text] == []


def test_results_named_as_missing_are_missing():
    """A star says that no results are kept: it goes when they are."""
    text = (BENCHMARKS / "README.md").read_text(encoding="utf-8")
    starred = re.findall(r"`results/(\w+)\.md`[^|]*\\\*", text)
    assert [name for name in starred if (RESULTS / f"{name}.json").exists()] == []


# README ------------------------------------------------------------------------------


def readme_links():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    return re.findall(r"\]\(([^)]+)\)", text)


def test_links_of_readme_are_absolute_and_lead_to_files():
    import _front_page

    address = _front_page.GITHUB
    assert [link for link in readme_links() if not link.startswith("https://")] == []
    own = [link.removeprefix(address) for link in readme_links() if address in link]
    assert len(own) > 10
    assert [path for path in own if not (ROOT / path).exists()] == []


def test_examples_print_what_they_say():
    for path in (ROOT / "README.md", ROOT / "doc" / "index.rst"):
        text = path.read_text(encoding="utf-8").replace("```", "")
        test = doctest.DocTestParser().get_doctest(text, {}, path.name, str(path), 0)
        runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
        assert test.examples
        runner.run(test)
        assert runner.summarize(verbose=False).failed == 0
