"""Docstrings of the public API: numpydoc's rules, complete and in order.

Which of numpydoc's checks are off, and why, is written in pyproject.toml under
``tool.numpydoc_validation``.
"""

import importlib
import inspect
import pydoc
import re
import tomllib
from pathlib import Path

import numpy as np
import pytest
from numpydoc.docscrape import ClassDoc
from numpydoc.validate import validate

import skdeepgmm
from tests.test_common import construct, public_estimator_classes

ROOT = Path(__file__).parents[1]
MODULES = ["layers", "metrics", "datasets", "plotting", "exceptions"]


def _ignored_checks():
    with open(ROOT / "pyproject.toml", "rb") as file:
        checks = tomllib.load(file)["tool"]["numpydoc_validation"]["checks"]
    assert checks[0] == "all"
    return set(checks[1:])


def _is_ours(obj):
    return getattr(obj, "__module__", "").startswith("skdeepgmm")


def public_objects():
    """Return the dotted names of our public classes and functions."""
    modules = [skdeepgmm]
    modules += [importlib.import_module(f"skdeepgmm.{name}") for name in MODULES]
    names = {}
    for module in modules:
        for name in module.__all__:
            obj = getattr(module, name)
            if _is_ours(obj) and not inspect.ismodule(obj):
                names.setdefault(obj, f"{module.__name__}.{name}")
    return {name: obj for obj, name in names.items()}


def _public_members(cls):
    for name, member in inspect.getmembers(cls):
        if name.startswith("_") or isinstance(member, type):
            continue
        target = member.fget if isinstance(member, property) else member
        # Methods inherited from scikit-learn are documented there.
        if callable(target) and _is_ours(inspect.unwrap(target)):
            yield name


def documented_names():
    for name, obj in public_objects().items():
        yield name
        if inspect.isclass(obj) and not issubclass(obj, BaseException):
            yield from (f"{name}.{member}" for member in _public_members(obj))


@pytest.mark.parametrize("name", sorted(documented_names()))
def test_docstring_is_valid_numpydoc(name):
    ignored = _ignored_checks()
    result = validate(name)
    errors = [
        f"{code}: {text}" for code, text in result["errors"] if code not in ignored
    ]
    where = f"{result['file']}:{result['file_line']}"
    assert not errors, f"{name} ({where})\n" + "\n".join(errors)


@pytest.mark.parametrize("name", sorted(documented_names()))
def test_fitted_attributes_are_quoted(name):
    """Bare names that end in an underscore are links to nowhere for Sphinx."""
    prose = re.sub(r"``.*?``|`.*?`", "", inspect.getdoc(pydoc.locate(name)), flags=re.S)
    lines = prose.splitlines()
    lines = [re.sub(r"^\w+_(, \w+_)* :", "", line) for line in lines]
    lines = [line for line in lines if not line.lstrip().startswith((">>>", "..."))]
    assert re.findall(r"(?<![\w.])[a-z]\w*_(?![\w<])", "\n".join(lines)) == []


@pytest.mark.parametrize("name", sorted(public_objects()))
def test_public_object_has_an_example(name):
    """Examples run as doctests with the suite."""
    doc = inspect.getdoc(public_objects()[name])
    if name.rsplit(".", 1)[1].startswith("fetch_"):
        assert "SKDEEPGMM_DATA" in doc  # an example would download
    else:
        assert ">>> " in doc


#: Methods that no user calls: scikit-learn's machinery does.
MACHINERY = {"get_metadata_routing", "get_feature_names_out"}
#: Drawing is what the constructors of a display do.
DRAWN_BY = {"plot": {"from_estimator", "from_predictions"}}


def doctests(doc):
    """Return the code of a docstring that runs."""
    lines = (line.strip() for line in doc.splitlines())
    return [x for x in lines if x.startswith((">>>", "...")) and "+SKIP" not in x]


def unused_methods(cls):
    """Return the methods that no example of the class, nor one of their own, calls."""
    code = "\n".join(doctests(inspect.getdoc(cls)))
    called = set(re.findall(r"\.(\w+)\b", code))
    called |= {name for name, by in DRAWN_BY.items() if by & called}
    names = set(_public_members(cls)) - MACHINERY - called
    return {n for n in names if not doctests(inspect.getdoc(getattr(cls, n)))}


@pytest.mark.parametrize(
    "cls",
    [obj for obj in public_objects().values() if inspect.isclass(obj)],
    ids=lambda cls: cls.__name__,
)
def test_every_method_is_used_in_an_example(cls):
    if not issubclass(cls, BaseException):
        assert unused_methods(cls) == set()


def test_a_method_without_example_is_found():
    class Model:
        """Model.

        >>> Model().fit()
        """

        __module__ = "skdeepgmm"

        def fit(self):
            """Fit."""

        def predict(self):
            """Predict: ``.predict`` in prose is no example.

            >>> model.predict()  # doctest: +SKIP
            """

    for method in (Model.fit, Model.predict):
        method.__module__ = "skdeepgmm"
    assert unused_methods(Model) == {"predict"}


# Unseeded, a fit may end a little before or after it has converged.
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize(
    "cls", public_estimator_classes(), ids=lambda cls: cls.__name__
)
def test_attributes_section_lists_what_fit_sets(cls, blobs):
    X, _ = blobs
    documented = {entry.name for entry in ClassDoc(cls)["Attributes"]}
    fitted = construct(cls).fit(np.asarray(X))
    present = {n for n in vars(fitted) if n.endswith("_") and not n.startswith("_")}
    assert present <= documented
    # feature_names_in_ exists only after a fit on named columns.
    # The factors are there for low-rank covariances alone.
    conditional = {
        "feature_names_in_",
        "factors_",
        "noise_variance_",
        "truncation_gap_",
    }
    # Classes are known only after a semi-supervised fit.
    conditional |= {"classes_", "class_counts_", "class_proba_"}
    absent = documented - conditional
    assert {name for name in absent if not hasattr(fitted, name)} == set()
