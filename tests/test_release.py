"""Version, changes, metadata and what goes into a release agree with each other."""

import re
import tomllib
from pathlib import Path

import pytest

import skdeepgmm

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))[
    "project"
]


def lowest(requirements):
    """Return the lower bound of each requirement, by name."""
    pairs = [re.fullmatch(r"([\w-]+)>=([\d.]+)", text) for text in requirements]
    return {pair.group(1): pair.group(2) for pair in pairs}


def pins(name):
    """Return the pinned versions of a constraints file."""
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    rows = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {package.lower(): version for package, version in rows}


def released(changes):
    """Return the versions with a section, newest first; None for the unreleased one."""
    heads = re.findall(r"^## \[(.+?)\](?: - (\d{4}-\d\d-\d\d))?$", changes, re.M)
    for version, day in heads:
        assert bool(day) == (version != "Unreleased"), version
    return [None if version == "Unreleased" else version for version, _ in heads]


def test_lowest_versions_are_those_that_are_tested():
    bounds = lowest(PROJECT["dependencies"])
    tested = pins("constraints-min.txt")
    assert bounds.keys() == tested.keys()
    for name, bound in bounds.items():
        assert f"{tested[name]}.".startswith(f"{bound}."), name


def test_support_page_states_the_lowest_versions():
    text = (ROOT / "doc" / "support.rst").read_text(encoding="utf-8")
    stated = dict(re.findall(r"\* - (\S+)\n     - (\S+)\n", text))
    stated["torch"] = stated.pop("PyTorch")
    found = {name.lower(): version for name, version in stated.items()}
    bounds = lowest(PROJECT["dependencies"])
    assert {name: found[name] for name in bounds} == bounds


def test_pythons_are_the_same_everywhere():
    named = re.findall(r"Python :: (3\.\d+)", "\n".join(PROJECT["classifiers"]))
    workflow = (ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")
    support = (ROOT / "doc" / "support.rst").read_text(encoding="utf-8")
    assert named[0] == PROJECT["requires-python"].removeprefix(">=")
    assert re.findall(r'"(3\.\d+)"', workflow) == named
    assert ", ".join(named) in support


def test_a_release_has_a_dated_section():
    versions = released((ROOT / "CHANGES.md").read_text(encoding="utf-8"))
    assert versions[0] is None
    if ".dev" not in skdeepgmm.__version__:
        assert versions[1] == skdeepgmm.__version__


@pytest.mark.parametrize("head", ["## [0.1.0]", "## [Unreleased] - 2026-01-01"])
def test_a_section_without_its_date_is_found(head):
    with pytest.raises(AssertionError):
        released(f"# Changes\n\n{head}\n")


def test_citation_has_the_version():
    text = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"version: {skdeepgmm.__version__}\n" in text
    if ".dev" not in skdeepgmm.__version__:
        changes = (ROOT / "CHANGES.md").read_text(encoding="utf-8")
        (day,) = re.findall(rf"\[{skdeepgmm.__version__}\] - (\S+)", changes)
        assert f"date-released: {day}\n" in text


def test_address_is_the_same_everywhere():
    source = PROJECT["urls"]["Source"]
    assert PROJECT["urls"]["Changes"] == f"{source}/blob/main/CHANGES.md"
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f'repository-code: "{source}"\n' in citation
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    owner_and_name = source.removeprefix("https://github.com")
    pages = rf"https://(?:github|raw\.githubusercontent)\.com{owner_and_name}/"
    own = re.findall(r"https://\S+/skdeepgmm/[^)\s]+", readme)
    assert len(own) > 10
    assert [link for link in own if not re.match(pages, link)] == []


def test_sdist_takes_tests_changes_and_constraints():
    manifest = (ROOT / "MANIFEST.in").read_text(encoding="utf-8")
    for name in ("CHANGES.md", "constraints.txt", "constraints-min.txt", "NOTICE"):
        assert re.search(rf"^include .*\b{re.escape(name)}", manifest, re.M), name
        assert (ROOT / name).exists()
    assert "graft tests\n" in manifest
