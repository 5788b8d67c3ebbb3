"""What a value of a model file may be: types, shapes and ranges.

A spec is an object with ``check(value, where, model)``, which raises ValueError naming
``where``, what is expected and what came. Shapes name their sizes, such as ("K", "D");
the first array that has a name sets its size and the others must agree.
"""

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from skdeepgmm.persistence._classes import LAYERS

#: Values of an array that are looked at together, so that no copy of it is made.
CHUNK = 2**18


@dataclass
class Model:
    """The estimator whose values are checked.

    Attributes
    ----------
    estimator : estimator
        With its parameters.
    sizes : dict of str to int
        Sizes by name, so far.
    """

    estimator: Any
    sizes: dict = field(default_factory=dict)

    def fits(self, names, shape):
        """Tell whether an array has the named shape; new names take its sizes."""
        return len(names) == len(shape) and all(
            size == (self.sizes.setdefault(name, size) if type(name) is str else name)
            for name, size in zip(names, shape, strict=True)
        )

    def describe(self, names):
        """Return the named shape for people, such as '(K=2, D=3)'."""
        known = [f"{n}={self.sizes[n]}" if n in self.sizes else str(n) for n in names]
        return f"({', '.join(known)}{',' if len(known) == 1 else ''})"


def fail(where, expected, found):
    """Raise ValueError: ``where`` is ``found``."""
    raise ValueError(f"does not hold a model: {where} is {found}; expected {expected}")


def kind_of(value):
    """Return the type of a value for people."""
    if isinstance(value, np.ndarray):
        return f"an array of {value.dtype} of shape {value.shape}"
    if isinstance(value, (bool, int, float)):
        return f"{type(value).__name__} {value!r}"
    return f"a {type(value).__name__}"


def needed(spec):
    """Return the spec of a value without which a fitted model cannot work."""
    return replace(spec, is_needed=True)


@dataclass(frozen=True, kw_only=True)
class Spec:
    """Base of the specs; by itself it takes any value, which ``_schema`` checks."""

    is_needed: bool = False

    def check(self, value, where, model):
        """Raise ValueError unless the value fits."""

    def resolve(self, estimator):
        """Return the spec for this estimator's parameters, None for no such value."""
        return self


@dataclass(frozen=True)
class Array(Spec):
    """Numbers of one kind and shape.

    Attributes
    ----------
    shape : tuple of str or int
    kinds : str
        Of the types of NumPy: "f", "i", "u", "b".
    low : float
        Smallest value.
    high : float
        Largest value.
    positive : bool
        Whether 0 is below the range.
    finite : bool
        False also takes infinity and NaN.
    """

    shape: tuple
    kinds: str = "f"
    low: float = -np.inf
    high: float = np.inf
    positive: bool = False
    finite: bool = True

    def check(self, value, where, model):
        """Raise ValueError unless the value is such an array."""
        fine = isinstance(value, np.ndarray) and value.dtype.kind in self.kinds
        if not fine or not model.fits(self.shape, value.shape):
            fail(
                where,
                f"{self._types()} of shape {model.describe(self.shape)}",
                kind_of(value),
            )
        self._check_values(value, where)

    def _check_values(self, value, where):
        if self.finite or self.low > -np.inf or self.high < np.inf:
            for part in chunks(value):
                self._check_part(part, where)

    def _check_part(self, part, where):
        if self.finite and part.dtype.kind == "f" and not np.isfinite(part).all():
            fail(where, "finite numbers", "an array with infinity or NaN")
        least = part.min()
        if least < self.low or (self.positive and least <= 0):
            bound = "above 0" if self.positive else f"of at least {self.low:g}"
            fail(where, f"numbers {bound}", f"an array with {least:g}")
        if part.max() > self.high:
            fail(where, f"numbers up to {self.high:g}", f"an array with {part.max():g}")

    def _types(self):
        names = {"f": "floats", "i": "integers", "u": "integers", "b": "truth values"}
        return " or ".join(dict.fromkeys(names[kind] for kind in self.kinds))


def chunks(value):
    """Yield the values of an array, some at a time."""
    # In the order of the memory: another would copy the array.
    flat = value.reshape(-1, order="A")
    for start in range(0, len(flat), CHUNK):
        yield flat[start : start + CHUNK]


@dataclass(frozen=True)
class Shares(Array):
    """Numbers from 0 that sum to one along the last axis."""

    low: float = 0.0
    tol: float = 1e-3

    def _check_values(self, value, where):
        super()._check_values(value, where)
        total = value.sum(axis=-1, dtype=np.float64)
        if not (np.abs(total - 1.0) <= self.tol).all():
            fail(where, "shares that sum to 1", f"an array of sum {total.flat[0]:.6g}")


@dataclass(frozen=True)
class Factors(Array):
    """Triangular matrices, (..., D, D), with a diagonal above zero."""

    def _check_values(self, value, where):
        super()._check_values(value, where)
        if not (value.diagonal(axis1=-2, axis2=-1) > 0).all():
            fail(where, "a diagonal above 0", "an array with others")


@dataclass(frozen=True)
class Number(Spec):
    """One real number."""

    low: float = -np.inf
    high: float = np.inf
    finite: bool = True

    def check(self, value, where, model):
        """Raise ValueError unless the value is such a number."""
        if isinstance(value, bool) or not isinstance(value, (int, float, np.floating)):
            fail(where, "a number", kind_of(value))
        if self.finite and not np.isfinite(float(value)):
            fail(where, "a finite number", repr(value))
        if not np.isnan(value) and not self.low <= value <= self.high:
            fail(where, f"a number from {self.low:g} to {self.high:g}", repr(value))


@dataclass(frozen=True)
class Integer(Spec):
    """One integer from ``low`` to ``high``, or of the size of that name."""

    low: int = 0
    high: int = 2**62
    size: str = ""

    def check(self, value, where, model):
        """Raise ValueError unless the value is such an integer."""
        is_integer = isinstance(value, (int, np.integer)) and not isinstance(
            value, bool
        )
        if not is_integer or not self.low <= value <= self.high:
            fail(where, f"an integer from {self.low} to {self.high}", kind_of(value))
        if self.size and not model.fits((self.size,), (int(value),)):
            fail(where, model.describe((self.size,)), repr(value))


@dataclass(frozen=True)
class Flag(Spec):
    """True or False."""

    def check(self, value, where, model):
        """Raise ValueError unless the value is a truth value."""
        if not isinstance(value, (bool, np.bool_)):
            fail(where, "True or False", kind_of(value))


@dataclass(frozen=True)
class Text(Spec):
    """A string."""

    def check(self, value, where, model):
        """Raise ValueError unless the value is a string."""
        if not isinstance(value, str):
            fail(where, "a string", kind_of(value))


@dataclass(frozen=True)
class Strings(Spec):
    """An array of strings; with ``numbers`` it may hold numbers as well."""

    shape: tuple
    numbers: bool = False

    def check(self, value, where, model):
        """Raise ValueError unless the value is such an array."""
        kinds = "OUbiuf" if self.numbers else "OU"
        fine = isinstance(value, np.ndarray) and value.dtype.kind in kinds
        if not fine or not model.fits(self.shape, value.shape):
            expected = f"an array of strings of shape {model.describe(self.shape)}"
            fail(where, expected, kind_of(value))


@dataclass(frozen=True)
class Maybe(Spec):
    """None, or what another spec says."""

    inner: Spec

    def check(self, value, where, model):
        """Raise ValueError unless the value is None or fits the other spec."""
        if value is not None:
            self.inner.check(value, where, model)


@dataclass(frozen=True)
class ListOf(Spec):
    """A list of values of one spec, of a named length."""

    inner: Spec
    size: str = ""
    kind: type = list

    def check(self, value, where, model):
        """Raise ValueError unless the value is such a list."""
        if not isinstance(value, self.kind):
            fail(where, f"a {self.kind.__name__}", kind_of(value))
        if self.size and not model.fits((self.size,), (len(value),)):
            fail(where, f"of length {model.describe((self.size,))}", f"of {len(value)}")
        for number, item in enumerate(value):
            self.inner.check(item, f"{where}[{number}]", model)


@dataclass(frozen=True)
class Tuple(Spec):
    """A tuple of so many values of one spec."""

    inner: Spec
    lengths: tuple

    def check(self, value, where, model):
        """Raise ValueError unless the value is such a tuple."""
        if not isinstance(value, tuple) or len(value) not in self.lengths:
            lengths = " or ".join(map(str, self.lengths))
            fail(where, f"a tuple of {lengths} values", kind_of(value))
        for number, item in enumerate(value):
            self.inner.check(item, f"{where}[{number}]", model)


@dataclass(frozen=True)
class Fields(Spec):
    """A dict with these keys; those of ``more`` may be missing."""

    fields: dict
    more: dict = field(default_factory=dict)

    def check(self, value, where, model):
        """Raise ValueError unless the value is such a dict."""
        specs = {**self.fields, **self.more}
        names = set(value) if isinstance(value, dict) else None
        if names is None or not set(self.fields) <= names <= set(specs):
            found = kind_of(value) if names is None else f"a dict of {list(value)}"
            fail(where, f"a dict of {list(specs)}", found[:300])
        for name, item in value.items():
            spec = specs[name].resolve(model.estimator)
            spec.check(item, f"{where}[{name!r}]", model)


@dataclass(frozen=True)
class Mapping(Spec):
    """A dict of strings to values of one spec."""

    inner: Spec

    def check(self, value, where, model):
        """Raise ValueError unless the value is such a dict."""
        if not isinstance(value, dict) or not all(isinstance(k, str) for k in value):
            fail(where, "a dict with strings as keys", kind_of(value))
        for name, item in value.items():
            self.inner.check(item, f"{where}[{name!r}]"[:200], model)


@dataclass(frozen=True)
class Layers(Spec):
    """A list of layers of a deep mixture."""

    def check(self, value, where, model):
        """Raise ValueError unless the value is a list of layers."""
        fine = isinstance(value, list) and all(isinstance(v, LAYERS) for v in value)
        if not fine or not value:
            fail(where, "a list of layers", kind_of(value))


@dataclass(frozen=True)
class ByParameter(Spec):
    """The spec that a parameter of the estimator chooses, None for no such value."""

    name: str
    specs: dict

    def resolve(self, estimator):
        """Return the chosen spec, as needed as this one."""
        spec = self.specs.get(getattr(estimator, self.name))
        return spec if spec is None else replace(spec, is_needed=self.is_needed)
