"""Generative mixture models with scikit-learn's API on a private PyTorch engine.

Names are imported when they are first used (PEP 562): ``import skdeepgmm`` itself
loads neither torch nor what scikit-learn loads of the optional packages.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from skdeepgmm import datasets, metrics
    from skdeepgmm.estimators import GaussianMixture

__version__ = "0.1.0.dev0"

__all__ = [
    "GaussianMixture",
    "datasets",
    "metrics",
    "__version__",
]

_HOMES = {
    "GaussianMixture": "skdeepgmm.estimators",
}
_MODULES = ("datasets", "exceptions", "metrics", "plotting")


def __getattr__(name):
    if name in _MODULES:
        return import_module(f"skdeepgmm.{name}")
    if name in _HOMES:
        globals()[name] = getattr(import_module(_HOMES[name]), name)
        return globals()[name]
    raise AttributeError(f"module 'skdeepgmm' has no attribute {name!r}")


def __dir__():
    return sorted({*globals(), *__all__})
