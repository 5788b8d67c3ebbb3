"""All code of the guide runs as pasted, and every page keeps the one order."""

import doctest
import inspect
import re
import warnings
from pathlib import Path

import pytest

import skdeepgmm
from skdeepgmm import datasets

GUIDE = sorted((Path(__file__).parents[1] / "doc" / "user_guide").glob("*.rst"))
#: Pages without code.
PROSE = {"glossary"}
#: Pages with programs for a launcher, a cluster or Spark: other tests run these.
PROGRAMS = {"scaling_out"}
#: Pages that train networks or start processes: outputs are checked by slow tests.
LONG = {"gan_em", "minmax_em", "ten_tasks", "trust"}
#: Pages of an estimator or of a kind of mixture, with all sections in order.
ESTIMATORS = [
    "gaussian_mixture",
    "low_rank",
    "missing_values",
    "imputation",
    "sgd_gaussian_mixture",
    "streams",
    "mixtures_from_mixtures",
    "deep_conv_gmm",
    "gan_em",
    "minmax_em",
    "patch_denoiser",
    "outliers",
]
SECTIONS = [
    "Parameters that matter",
    "Cost",
    "What can go wrong",
    "Mathematics",
    "References",
]
OPTIONS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS


def name_of(path):
    return path.stem


def code_pages(names=None):
    pages = [path for path in GUIDE if path.stem not in PROSE]
    return pages if names is None else [p for p in pages if p.stem in names]


@pytest.fixture(autouse=True)
def an_empty_folder_and_no_pictures(tmp_path, monkeypatch):
    pyplot = pytest.importorskip("matplotlib.pyplot")
    monkeypatch.chdir(tmp_path)
    yield
    pyplot.close("all")


def run(text, name, **options):
    """Run a page's examples in one namespace; return the report of what failed."""
    test = doctest.DocTestParser().get_doctest(
        text, {"__name__": "__main__"}, name, f"{name}.rst", 0
    )
    assert test.examples, f"{name}: no code"
    report = []
    runner = doctest.DocTestRunner(verbose=False, optionflags=OPTIONS)
    runner.run(test, out=report.append, **options)
    return "".join(report)


def shortened(text):
    """Return a page whose networks take two iterations: its outputs differ."""
    return re.sub(r"max_iter=\d+", "max_iter=2", text).replace("n_jobs=2", "n_jobs=1")


def failures(report):
    """Return the exceptions of a report, without outputs that differ."""
    return re.findall(r"(?m)^ +\w*(?:Error|Exception)\b.*$", report)


@pytest.mark.parametrize(
    "path", [p for p in code_pages() if p.stem not in LONG], ids=name_of
)
def test_pages_run_as_pasted(path):
    assert run(path.read_text(encoding="utf-8"), path.stem) == ""


@pytest.mark.slow
@pytest.mark.parametrize("path", code_pages(LONG), ids=name_of)
def test_long_pages_run_as_pasted(path):
    assert run(path.read_text(encoding="utf-8"), path.stem) == ""


@pytest.mark.parametrize("path", code_pages(LONG), ids=name_of)
def test_long_pages_run_shortened(path, monkeypatch):
    few = [rows[:300] for rows in datasets.load_digits_images(return_X_y=True)]
    monkeypatch.setattr(datasets, "load_digits_images", lambda return_X_y: few)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        report = run(shortened(path.read_text(encoding="utf-8")), path.stem)
    assert failures(report) == []
    if path.stem == "ten_tasks":  # only the trained networks are worse than they say
        wrong = re.findall(r"Failed example:\n +(.*)", report)
        assert [line for line in wrong if "digits" not in line] == []


def test_failures_are_seen():
    assert failures(run(">>> 1 / 0\n", "page"))
    assert failures(run(">>> 1\n2\n", "page")) == []
    assert run(">>> 1\n2\n", "page") != ""


@pytest.mark.parametrize("path", GUIDE, ids=name_of)
def test_all_code_is_run(path):
    """Code is a doctest; other blocks would be pasted without having been run."""
    text = path.read_text(encoding="utf-8")
    blocks = re.findall(r"\.\. code-block::\s*(?:python|pycon|ipython)", text)
    assert bool(blocks) == (path.stem in PROGRAMS)
    assert re.findall(r"doctest: *\+SKIP", text) == []


@pytest.mark.parametrize("path", code_pages(), ids=name_of)
def test_every_page_has_a_figure(path):
    text = path.read_text(encoding="utf-8")
    assert path.stem == "index" or re.search(r"\.\. (?:plot|figure|image)::", text)


@pytest.mark.parametrize("name", ESTIMATORS)
def test_pages_of_estimators_keep_the_order(name):
    (path,) = code_pages({name})
    text = path.read_text(encoding="utf-8")
    titles = re.findall(r"(?m)^(.+)\n-{4,}$", text)
    assert [title for title in titles if title in SECTIONS] == SECTIONS
    first = text.index(".. plot::")
    assert first < text.index(SECTIONS[0])


@pytest.mark.parametrize(
    "name", ["deep_conv_gmm", "gan_em", "minmax_em", "patch_denoiser"]
)
def test_cost_and_tuning_stand_on_top(name):
    (path,) = code_pages({name})
    text = path.read_text(encoding="utf-8")
    cost = text.index(".. admonition:: Cost and tuning")
    assert cost < text.index(".. plot::")
    assert ":measured:" in text[cost : text.index(".. plot::")]


@pytest.mark.parametrize(
    ("name", "cls"),
    [
        ("deep_conv_gmm", skdeepgmm.DeepConvGMM),
        ("gan_em", skdeepgmm.GANEMClusterer),
        ("minmax_em", skdeepgmm.MinMaxEMClusterer),
        ("patch_denoiser", skdeepgmm.PatchGMMDenoiser),
    ],
)
def test_docstrings_state_the_cost_of_the_guide(name, cls):
    """The guide's figures are those of committed files (test_figures)."""
    (path,) = code_pages({name})
    seconds = r"([\d.]+) seconds"
    _, _, stated = inspect.getdoc(cls).partition("*Cost and tuning.*")
    page = path.read_text(encoding="utf-8").partition(".. plot::")[0]
    figures = re.findall(seconds, stated.partition("\n\n")[0])
    assert figures
    assert figures == re.findall(seconds, page.partition("Cost and tuning")[2])


def test_the_ten_tasks_are_ten():
    (path,) = code_pages({"ten_tasks"})
    text = path.read_text(encoding="utf-8")
    parts = re.split(r"(?m)^(\d+)\. .+\n-{4,}$", text)
    assert [int(number) for number in parts[1::2]] == list(range(1, 11))
    assert all(">>> " in part and "More: :ref:" in part for part in parts[2::2])
