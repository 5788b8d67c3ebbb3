"""What a user may rely on: names, imports, clones and plain fitted attributes."""

import ast
import importlib.metadata
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.base import BaseEstimator, clone

import skdeepgmm
from tests.test_common import construct, public_estimator_classes

CLASSES = public_estimator_classes()
ROOT = Path(__file__).parents[1]
SUBPACKAGES = ["metrics", "datasets", "plotting", "exceptions"]
each_class = pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)


def test_estimators_of_the_public_api():
    names = {cls.__name__ for cls in CLASSES}
    assert names == {
        "GaussianMixture",
        "GaussianMixtureIC",
        "SGDGaussianMixture",
        "DeepConvGMM",
        "GANEMClusterer",
        "MinMaxEMClusterer",
        "PatchGMMDenoiser",
        "DensityOutlierDetector",
        "MixtureImputer",
    }


def test_every_name_in_all_exists():
    missing = [name for name in skdeepgmm.__all__ if not hasattr(skdeepgmm, name)]
    assert missing == []
    assert len(set(skdeepgmm.__all__)) == len(skdeepgmm.__all__)


def test_public_names_are_listed_in_all():
    def is_ours(obj):
        return getattr(obj, "__module__", "").startswith("skdeepgmm")

    public = {
        name
        for name, obj in vars(skdeepgmm).items()
        if not name.startswith("_") and is_ours(obj)
    }
    assert public <= set(skdeepgmm.__all__)


@pytest.mark.parametrize("name", SUBPACKAGES)
def test_subpackages_list_their_names(name):
    module = importlib.import_module(f"skdeepgmm.{name}")
    assert module.__all__
    assert [n for n in module.__all__ if not hasattr(module, n)] == []


def test_subpackages_are_there_after_the_plain_import():
    for name in ("metrics", "datasets", "plotting"):
        assert getattr(skdeepgmm, name).__name__ == f"skdeepgmm.{name}"


def test_version_is_that_of_the_installed_package():
    assert importlib.metadata.version("skdeepgmm") == skdeepgmm.__version__


def _run(program):
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def test_import_loads_no_optional_package():
    program = (
        "import sys, skdeepgmm\n"
        "heavy = {'matplotlib', 'rich', 'pandas', 'torch'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    assert _run(program) == "[]"


def test_a_mixture_loads_its_own_family_alone():
    program = (
        "import sys\n"
        "from skdeepgmm import GaussianMixture\n"
        "ours = [m for m in sys.modules if m.startswith('skdeepgmm')]\n"
        "others = ('deep_conv', 'clusterers', 'denoising', 'outliers', 'imputation')\n"
        "others += ('persistence', 'plotting', 'metrics', 'datasets', 'layers')\n"
        "print([m for m in ours if any(name in m for name in others)])"
    )
    assert _run(program) == "[]"


def test_using_everything_loads_no_more_than_scikit_learn_does():
    """scikit-learn 1.9 itself imports rich and pandas where they are installed."""
    program = (
        "import sys, torch, sklearn.callback, sklearn.datasets, sklearn.mixture\n"
        "before = set(sys.modules)\n"
        "from skdeepgmm import *\n"
        "heavy = {'matplotlib', 'rich', 'pandas', 'torchvision', 'hypothesis'}\n"
        "print('matplotlib' in sys.modules, sorted(heavy & set(sys.modules) - before))"
    )
    assert _run(program) == "False []"


def test_a_fit_needs_no_optional_package():
    program = (
        "import sys\n"
        "sys.modules.update(dict.fromkeys(['matplotlib', 'rich']))\n"
        "import numpy as np\n"
        "from skdeepgmm import *\n"
        "X = np.random.default_rng(0).normal(size=(50, 2))\n"
        "print(GaussianMixture(verbose=0, random_state=0).fit(X).predict(X).sum())"
    )
    assert _run(program) == "0"


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no_such_name"):
        skdeepgmm.no_such_name


def test_dir_lists_the_public_names():
    for module in (skdeepgmm, skdeepgmm.estimators):
        assert set(module.__all__) <= set(dir(module))


def test_type_checkers_see_every_name():
    """Lazy names stand under TYPE_CHECKING too, each from its own home."""
    for module in (skdeepgmm, skdeepgmm.estimators):
        tree = ast.parse(Path(module.__file__).read_text(encoding="utf-8"))
        imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
        seen = {alias.name: node.module for node in imports for alias in node.names}
        for name, home in module._HOMES.items():
            assert seen[name].endswith(home)


@each_class
def test_clone_is_equal_and_unfitted(cls):
    estimator = construct(cls)
    copy = clone(estimator)
    assert copy is not estimator
    assert repr(copy) == repr(estimator)
    assert not [name for name in vars(copy) if name.endswith("_")]


@each_class
def test_repr_names_the_class_and_changed_parameters(cls):
    parameter = "contamination" if "Detector" in cls.__name__ else "n_components"
    parameter = "n_clusters" if "Clusterer" in cls.__name__ else parameter
    parameter = "random_state" if "Imputer" in cls.__name__ else parameter
    value = 0.25 if parameter == "contamination" else 7
    text = repr(construct(cls).set_params(**{parameter: value}))
    assert text.startswith(cls.__name__ + "(")
    assert f"{parameter}={value}" in text
    assert "<" in construct(cls)._repr_html_()


def _leaves(value):
    """Yield every object held by ``value`` through containers and estimators."""
    yield value
    if isinstance(value, dict):
        children = list(value.values())
    elif isinstance(value, (list, tuple, set)):
        children = list(value)
    elif isinstance(value, BaseEstimator):
        children = list(vars(value).values())
    else:
        children = []
    for child in children:
        yield from _leaves(child)


def _results(estimator, X):
    """Return what a fitted estimator says of X: scores, or X itself transformed."""
    scores = hasattr(estimator, "score_samples")
    return estimator.score_samples(X) if scores else estimator.transform(X)


def _is_torch(obj):
    return type(obj).__module__.split(".")[0] == "torch"


@pytest.mark.parametrize("kind", ["numpy", "torch"])
@each_class
def test_fitted_attributes_are_plain(cls, kind, blobs):
    """A fitted estimator unpickles where torch sees no accelerator."""
    X, _ = blobs
    data = torch.from_numpy(X) if kind == "torch" else X
    estimator = construct(cls).fit(data)
    held = [type(obj).__qualname__ for obj in _leaves(estimator) if _is_torch(obj)]
    assert held == []


@each_class
def test_pickle_keeps_the_scores(cls, blobs):
    X, _ = blobs
    estimator = construct(cls).fit(X)
    copy = pickle.loads(pickle.dumps(estimator))
    np.testing.assert_array_equal(_results(copy, X), _results(estimator, X))


@each_class
def test_fit_does_not_change_the_input_or_the_parameters(cls, blobs):
    X, _ = blobs
    before, estimator = X.copy(), construct(cls)
    parameters = repr(estimator.get_params())
    _results(estimator.fit(X), X)
    np.testing.assert_array_equal(X, before)
    assert repr(estimator.get_params()) == parameters
