"""How an estimator becomes JSON nodes and tensors."""

import numpy as np
from sklearn.base import BaseEstimator

from skdeepgmm._files.container import can_store
from skdeepgmm._files.random_state import BIT_GENERATOR
from skdeepgmm.persistence._classes import LAYERS, REGISTRY, is_registered
from skdeepgmm.persistence._tables import ATTRIBUTES


def _belongs_to_session(name):
    """Tell whether an attribute is scikit-learn's own: callbacks, output, routing."""
    return "callback" in name or name in (
        "_metadata_request",
        "_sklearn_output_config",
    )


class Encoder:
    """Turn an estimator into JSON nodes, its arrays into numbered tensors.

    None, booleans, integers, strings and finite floats are their own nodes, lists are
    JSON arrays. Everything else is an object with the key "type".
    """

    def __init__(self):
        self.tensors = {}

    def estimator(self, estimator, where):
        cls = type(estimator)
        if not is_registered(cls):
            raise TypeError(
                f"{where} is a {cls.__module__}.{cls.__name__}; skdeepgmm.save takes "
                f"{', '.join(sorted(REGISTRY))}. Use pickle or skops for others."
            )
        params = estimator.get_params(deep=False)
        if "checkpoint_path" in params:  # means nothing on another machine
            params["checkpoint_path"] = None
        state = {
            name: value
            for name, value in vars(estimator).items()
            if name not in params and not _belongs_to_session(name)
        }
        _check_known(state, cls.__name__, where)
        return {
            "type": "estimator",
            "class": cls.__name__,
            "params": self._fields(params, where),
            "state": self._fields(state, where),
        }

    def _fields(self, values, where):
        return {k: self.node(v, f"{where}.{k}") for k, v in values.items()}

    def node(self, value, where):
        if value is None or type(value) in (bool, int, str):
            return value
        for kind, encode in self._encoders():
            if isinstance(value, kind):
                return encode(value, where)
        raise TypeError(
            f"{where} is a {type(value).__name__}, which skdeepgmm.save cannot "
            "represent; expected plain values, arrays, lists, dicts, a RandomState or "
            "estimators of this package."
        )

    def _encoders(self):
        return (
            # np.float64 is a float too: NumPy scalars come first to keep their type.
            (np.generic, self._scalar),
            (float, self._float),
            (np.ndarray, self._array),
            (list, self._list),
            (range, lambda value, where: self._list(list(value), where)),
            (tuple, self._tuple),
            (dict, self._dict),
            (np.dtype, self._dtype),
            (np.random.RandomState, self._random_state),
            (BaseEstimator, self.estimator),
            (LAYERS, self._layer),
        )

    def _float(self, value, where):
        if np.isfinite(value):
            return value
        return {"type": "float", "value": repr(value)}  # JSON has no nan and inf

    def _scalar(self, value, where):
        return {"type": "scalar", "array": self._array(np.asarray(value), where)}

    def _array(self, value, where):
        if value.dtype.kind in "OU":
            return self._strings(value, where)
        if not can_store(value.dtype):
            raise TypeError(f"{where} is an array of {value.dtype}; expected numbers.")
        # Matrix products may round differently in another memory order.
        fortran = value.flags.f_contiguous and not value.flags.c_contiguous
        name = str(len(self.tensors))
        native = value.dtype.newbyteorder("=")
        self.tensors[name] = np.asarray(value.T if fortran else value, native, "C")
        return {"type": "array", "tensor": name, "fortran": bool(fortran)}

    def _strings(self, value, where):
        items = value.ravel().tolist()
        if not all(isinstance(item, str) for item in items):
            raise TypeError(f"{where} is an object array; only strings can be saved.")
        return {
            "type": "strings",
            "values": items,
            "shape": list(value.shape),
            "object": value.dtype.kind == "O",
        }

    def _list(self, value, where):
        return [self.node(v, f"{where}[{i}]") for i, v in enumerate(value)]

    def _tuple(self, value, where):
        return {"type": "tuple", "items": self._list(value, where)}

    def _dict(self, value, where):
        # Pairs, not a JSON object: keys may be integers, and order matters.
        return {
            "type": "dict",
            "items": [
                [self.node(k, f"{where} key"), self.node(v, f"{where}[{k!r}]")]
                for k, v in value.items()
            ],
        }

    def _layer(self, value, where):
        fields = self._fields(vars(value), where)
        return {"type": "layer", "class": type(value).__name__, "fields": fields}

    def _dtype(self, value, where):
        return {"type": "dtype", "name": value.str}

    def _random_state(self, value, where):
        state = value.get_state(legacy=False)
        if state["bit_generator"] != BIT_GENERATOR:
            raise TypeError(
                f"{where} is a RandomState of {state['bit_generator']}; only "
                f"{BIT_GENERATOR}, NumPy's default, can be saved."
            )
        return {"type": "random_state", "state": self._dict(state, where)}


def _check_known(state, name, where):
    unknown = sorted(set(state) - set(ATTRIBUTES[name]))
    if unknown:
        raise TypeError(
            f"{where} has the attribute {unknown[0]!r}, which is no fitted attribute "
            f"of {name} and would not be read again. Delete it before saving."
        )
