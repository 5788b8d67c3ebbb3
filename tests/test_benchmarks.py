"""The benchmark scripts import what there is; none of them is run."""

import ast
import importlib
import runpy
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "benchmarks"
SCRIPTS = sorted([*FOLDER.glob("*.py"), *FOLDER.glob("papers/*.py")])
# Peers that no extra of the package installs.
OPTIONAL = {"bm3d", "clustpy", "skimage"}

every_script = pytest.mark.parametrize(
    "path", SCRIPTS, ids=lambda path: path.relative_to(FOLDER).as_posix()
)


@pytest.fixture(autouse=True)
def scripts_find_each_other(monkeypatch):
    """Put the folders of the scripts on the path, and forget what was imported."""
    monkeypatch.syspath_prepend(FOLDER / "papers")
    monkeypatch.syspath_prepend(FOLDER)
    yield
    for path in SCRIPTS:
        sys.modules.pop(path.stem, None)


def package_imports(path):
    """Yield (module, names) of every import from this package, in functions too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found = [(alias.name, []) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found = [(node.module, [alias.name for alias in node.names])]
        else:
            continue
        yield from (item for item in found if item[0].split(".")[0] == "skdeepgmm")


def unresolved(module, names):
    """Return what of ``from module import names`` does not exist."""
    try:
        found = importlib.import_module(module)
        missing = [name for name in names if not hasattr(found, name)]
        for name in missing:
            importlib.import_module(f"{module}.{name}")
    except ModuleNotFoundError as error:
        return [error.name]
    return []


def test_there_are_scripts():
    assert {"em_speed.py", "gan_em.py"} <= {path.name for path in SCRIPTS}


@every_script
def test_script_can_be_imported(path):
    try:
        runpy.run_path(str(path), run_name="benchmark")
    except ModuleNotFoundError as error:
        name = error.name.split(".")[0]
        if name not in OPTIONAL:
            raise
        pytest.skip(f"needs the optional package {name}")


@every_script
def test_imports_from_the_package_exist(path):
    assert [
        missing
        for module, names in package_imports(path)
        for missing in unresolved(module, names)
    ] == []


def test_an_import_that_does_not_exist_is_found(tmp_path):
    script = tmp_path / "script.py"
    script.write_text("def f():\n    from skdeepgmm.plotting import NoSuchDisplay\n")
    ((module, names),) = package_imports(script)
    assert unresolved(module, names) == ["skdeepgmm.plotting.NoSuchDisplay"]
    assert unresolved("skdeepgmm.plotting", ["SamplesDisplay"]) == []
