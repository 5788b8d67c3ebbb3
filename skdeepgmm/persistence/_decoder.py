"""How JSON nodes and tensors become an estimator again; see ``_encoder``.

Nothing in a file is trusted: every node is checked before it is used, and nothing is
allocated whose size the file only claims.
"""

import re

import numpy as np

from skdeepgmm._files.random_state import is_random_state
from skdeepgmm.persistence._classes import LATER_FIELDS, LAYERS, registered_class
from skdeepgmm.persistence._older import modernized
from skdeepgmm.persistence._schema import check_estimator

#: Nodes within nodes. A model of models of this package has some twenty.
MAX_DEPTH = 64
#: Bytes of a table of strings: all of them take as much as the longest.
STRINGS_BYTES = 16 * 2**20
#: Floats that JSON has no numbers for.
_FLOATS = {"nan", "inf", "-inf"}
#: What keys of a dict may be.
_KEYS = (str, int, float, type(None))


class Decoder:
    """Turn nodes into values.

    Parameters
    ----------
    tensors : dict of str to ndarray
        Each may be named once.
    device : str
        New value of the parameter ``device`` of all estimators.
    version : int
        Of the file's format.
    """

    def __init__(self, tensors, device, version):
        self.tensors = dict(tensors)
        self.device = device
        self.version = version
        self.depth = 0

    def estimator(self, node, where):
        _check_fields(node, where, "class", "params", "state")
        cls = registered_class(node["class"])
        params = self._named(node, "params", where)
        state = self._named(node, "state", where)
        unknown = sorted(set(params) - set(cls._get_param_names()))
        if unknown:
            raise ValueError(
                f"has parameters that {cls.__name__} does not know: "
                f"{', '.join(unknown)[:200]}. A newer skdeepgmm may know them"
            )
        if "device" in params:
            params["device"] = self.device
        if "checkpoint_path" in params:  # a file must not say where to write
            params["checkpoint_path"] = None
        try:
            estimator = cls(**params)
        except TypeError as error:
            raise ValueError(f"lacks parameters of {where} ({error})") from error
        check_estimator(estimator, state, where)
        for name, value in state.items():
            setattr(estimator, name, value)
        return estimator

    def _named(self, node, part, where):
        """Return the decoded parameters or state, by today's names."""
        nodes = node[part]
        if not isinstance(nodes, dict):
            raise ValueError(f"has no {part} of {where}")
        values = {
            name: self.node(value, f"{where}.{name}"[:200])
            for name, value in nodes.items()
        }
        return modernized(node["class"], part, values, self.version)

    def node(self, node, where):
        """Return the value of a node; ``where`` names it in errors."""
        if not isinstance(node, (list, dict)):
            return node
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise ValueError(f"has more than {MAX_DEPTH} values within values")
        if isinstance(node, list):
            value = self._list(node, where)
        else:
            value = self._object(node, where)
        self.depth -= 1
        return value

    def _object(self, node, where):
        decoders = {
            "estimator": self.estimator,
            "float": self._float,
            "scalar": self._scalar,
            "array": self._array,
            "strings": self._strings,
            "tuple": self._tuple,
            "dict": self._dict,
            "dtype": self._dtype,
            "random_state": self._random_state,
            "layer": self._layer,
        }
        kind = node.get("type")
        if not isinstance(kind, str) or kind not in decoders:
            raise ValueError(f"is damaged: {where} is of the type {str(kind)[:40]!r}")
        return decoders[kind](node, where)

    def _list(self, nodes, where):
        _check(isinstance(nodes, list), where, "no list of values")
        return [self.node(item, where) for item in nodes]

    def _float(self, node, where):
        _check_fields(node, where, "value")
        value = node["value"]
        _check(isinstance(value, str) and value in _FLOATS, where, "no float")
        return float(value)

    def _scalar(self, node, where):
        _check_fields(node, where, "array")
        value = self.node(node["array"], where)
        _check(isinstance(value, np.ndarray) and value.ndim == 0, where, "no scalar")
        return value[()]

    def _array(self, node, where):
        _check_fields(node, where, "tensor", "fortran")
        name, fortran = node["tensor"], node["fortran"]
        known = isinstance(name, str) and isinstance(fortran, bool)
        # A tensor of two names would change under the one when the other does.
        _check(known and name in self.tensors, where, "a tensor of its own")
        array = self.tensors.pop(name)
        return array.T if fortran else array

    def _strings(self, node, where):
        _check_fields(node, where, "values", "shape", "object")
        values, shape = node["values"], node["shape"]
        fine = isinstance(values, list) and all(isinstance(v, str) for v in values)
        _check(fine, where, "no table of strings")
        sizes = isinstance(shape, list) and all(
            type(n) is int and n >= 0 for n in shape
        )
        _check(sizes and len(shape) <= 32, where, "no table of strings")
        if node["object"] is True:
            array = np.array(values, dtype=object)
        else:
            n_bytes = 4 * len(values) * max(map(len, values), default=0)
            _check(n_bytes <= STRINGS_BYTES, where, f"strings in {n_bytes} bytes")
            array = np.array(values, dtype=str)
        return array.reshape(shape)

    def _tuple(self, node, where):
        _check_fields(node, where, "items")
        return tuple(self._list(node["items"], where))

    def _dict(self, node, where):
        _check_fields(node, where, "items")
        items = node["items"]
        pairs = isinstance(items, list) and all(
            isinstance(item, list) and len(item) == 2 for item in items
        )
        _check(pairs, where, "no dict")
        keys = [self.node(key, where) for key, _ in items]
        _check(all(isinstance(key, _KEYS) for key in keys), where, "no key of a dict")
        values = [self.node(value, f"{where}[{key!r}]"[:200]) for key, value in items]
        found = dict(zip(keys, values, strict=True))
        _check(len(found) == len(items), where, "the same key twice")
        return found

    def _layer(self, node, where):
        _check_fields(node, where, "class", "fields")
        classes = {cls.__name__: cls for cls in LAYERS}
        name, fields = node["class"], node["fields"]
        known = isinstance(name, str) and name in classes and isinstance(fields, dict)
        _check(known, where, f"the unknown layer {str(name)[:40]!r}")
        fields = {k: self.node(v, f"{where}.{k}"[:200]) for k, v in fields.items()}
        expected = set(classes[name].__dataclass_fields__)
        # Files of older versions lack what came later, which has a default.
        old = expected - LATER_FIELDS
        _check(old <= set(fields) <= expected, where, f"no {name} layer")
        return classes[name](**fields)

    def _dtype(self, node, where):
        _check_fields(node, where, "name")
        name = node["name"]
        fine = isinstance(name, str) and re.fullmatch(r"[<>|][biuf][1248]", name)
        _check(fine, where, "no type of numbers")
        return np.dtype(name)

    def _random_state(self, node, where):
        _check_fields(node, where, "state")
        state = self.node(node["state"], where)
        _check(is_random_state(state), where, "no state of a RandomState")
        random_state = np.random.RandomState(0)
        random_state.set_state(state)
        return random_state


def _check(fine, where, found):
    if not fine:
        raise ValueError(f"is damaged: {where} is {found}")


def _check_fields(node, where, *names):
    fine = isinstance(node, dict) and set(node) == {"type", *names}
    _check(fine, where, "no node of a model")
