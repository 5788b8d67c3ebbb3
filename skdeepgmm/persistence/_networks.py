"""The weights that the networks of a deep clusterer must have."""

import importlib
import warnings
from dataclasses import fields
from types import UnionType
from typing import get_args, get_origin, get_type_hints

import numpy as np

#: Where the class is that makes the networks of an estimator from plain settings, and
#: the names of its methods: those of the networks. Modules import torch: only if asked.
_BACKEND = "skdeepgmm._torch_backend.clusterers"
ARCHITECTURES = {
    "GANEMClusterer": (
        f"{_BACKEND}.gan_em.networks",
        ("generator", "discriminator", "classifier"),
    ),
    "MinMaxEMClusterer": (
        f"{_BACKEND}.minmax_em.networks",
        ("encoder", "generator", "discriminator"),
    ),
}
#: Largest number in the settings of networks, and largest of their products.
LARGEST = 2**31
#: Factor of all widths; the default is one.
LARGEST_WIDTH = 1e4


def architecture(name, settings):
    """Return the architecture with these settings.

    Parameters
    ----------
    name : str
        Of the estimator's class.
    settings : dict of str to object
        As the fitted attribute holds them.

    Raises
    ------
    ValueError
        If the settings are not those of an architecture.
    """
    made_by = importlib.import_module(ARCHITECTURES[name][0]).Architecture
    types = get_type_hints(made_by)
    names = {field.name for field in fields(made_by)}
    if not isinstance(settings, dict) or set(settings) != names:
        raise ValueError(f"it does not have the settings {', '.join(sorted(names))}")
    for key, value in settings.items():
        if not _has_type(value, types[key]):
            raise ValueError(f"its {key} is {value!r}"[:200])
        _check_setting(key, value)
    return made_by(**settings)


def _has_type(value, kind):
    """Tell whether a value is of an annotated type, such as ``int | None``."""
    if isinstance(kind, UnionType):
        return any(_has_type(value, one) for one in get_args(kind))
    kind = get_origin(kind) or kind
    return type(value) is kind or (kind is float and type(value) is int)


def _check_setting(name, value):
    """Raise unless a setting is a plain value of a reasonable size."""
    plain = value is None or isinstance(value, (bool, str))
    sizes = value if isinstance(value, tuple) else (value,)
    whole = all(type(size) is int and 0 < size <= LARGEST for size in sizes)
    real = isinstance(value, float) and 0 < value <= LARGEST
    if not plain and not (sizes and len(sizes) <= 3 and whole) and not real:
        raise ValueError(f"its {name} is {value!r}"[:200])
    if name == "width" and not value <= LARGEST_WIDTH:
        raise ValueError(f"its width is {value!r}")


def expected_weights(name, made):
    """Return shape and type of every weight of all networks, without making any.

    Parameters
    ----------
    name : str
        Of the estimator's class.
    made : Architecture

    Returns
    -------
    weights : dict of str to dict of str to tuple
        (shape, dtype) by network and torch's name of the weight.

    Raises
    ------
    ValueError
        If there are no such networks.
    """
    import torch

    types = {torch.float32: np.float32, torch.int64: np.int64}
    found = {}
    for network in ARCHITECTURES[name][1]:
        try:
            with torch.device("meta"), warnings.catch_warnings():
                warnings.simplefilter("error")  # torch's, of layers without units
                module = getattr(made, network)()
        except (
            ArithmeticError,
            LookupError,
            RuntimeError,
            TypeError,
            Warning,
        ) as error:
            raise ValueError(f"there is no such {network} ({error})"[:300]) from error
        found[network] = {
            key: (tuple(value.shape), np.dtype(types.get(value.dtype, np.float32)))
            for key, value in module.state_dict().items()
        }
    return found
