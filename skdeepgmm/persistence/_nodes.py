"""How an estimator becomes JSON nodes and tensors, and how it comes back."""

import importlib

import numpy as np
from sklearn.base import BaseEstimator

from skdeepgmm.layers import Folding, Mixture, Pooling

# Only these classes are ever imported or constructed, whatever a file says.
_REGISTRY = {
    "GaussianMixture": "skdeepgmm.estimators",
    "SGDGaussianMixture": "skdeepgmm.estimators",
    "GANEMClusterer": "skdeepgmm.estimators",
    "MinMaxEMClusterer": "skdeepgmm.estimators",
    "DeepConvGMM": "skdeepgmm.estimators",
    "PatchGMMDenoiser": "skdeepgmm.estimators",
    "DensityOutlierDetector": "skdeepgmm.estimators",
    "FrozenEstimator": "sklearn.frozen",
}

# Plain values that describe the stack of a deep mixture.
LAYERS = (Folding, Pooling, Mixture)

# Callbacks and metadata requests belong to a session, not to a model.
_NOT_SAVED = {"_skl_callbacks", "_metadata_request"}


def _is_registered(cls):
    # Identity, not the name: a class of the user's may be called the same.
    return cls.__name__ in _REGISTRY and cls is _registered_class(cls.__name__)


def _registered_class(name):
    if name not in _REGISTRY:
        raise ValueError(
            f"The file names the class {name!r}; expected one of "
            f"{', '.join(sorted(_REGISTRY))}. A newer skdeepgmm may know it."
        )
    return getattr(importlib.import_module(_REGISTRY[name]), name)


class Encoder:
    """Turn an estimator into JSON nodes, its arrays into numbered tensors.

    None, booleans, integers, strings and finite floats are their own nodes, lists are
    JSON arrays. Everything else is an object with the key "type".
    """

    def __init__(self):
        self.tensors = {}

    def estimator(self, estimator, where):
        cls = type(estimator)
        if not _is_registered(cls):
            raise TypeError(
                f"{where} is a {cls.__module__}.{cls.__name__}; skdeepgmm.save takes "
                f"{', '.join(sorted(_REGISTRY))}. Use pickle or skops for others."
            )
        params = estimator.get_params(deep=False)
        held = vars(estimator)
        state = {k: v for k, v in held.items() if k not in {*params, *_NOT_SAVED}}
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
        if value.dtype.kind not in "biuf":
            raise TypeError(f"{where} is an array of {value.dtype}; expected numbers.")
        # Matrix products may round differently in another memory order.
        fortran = value.flags.f_contiguous and not value.flags.c_contiguous
        name = str(len(self.tensors))
        native = value.dtype.newbyteorder("=")
        self.tensors[name] = np.array(value.T if fortran else value, native, order="C")
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
        return {"type": "random_state", "state": self._dict(state, where)}


class Decoder:
    """The way back; see :class:`Encoder`."""

    def __init__(self, tensors, device):
        self.tensors = tensors
        self.device = device

    def estimator(self, node):
        cls = _registered_class(node["class"])
        params = self._fields(node["params"])
        unknown = set(params) - set(cls._get_param_names())
        if unknown:
            raise ValueError(
                f"The file has parameters that {cls.__name__} does not know: "
                f"{', '.join(sorted(unknown))}. A newer skdeepgmm may know them."
            )
        if "device" in params:
            params["device"] = self.device
        estimator = cls(**params)
        for name, value in self._fields(node["state"]).items():
            _set_state(estimator, name, value)
        return estimator

    def _fields(self, nodes):
        return {name: self.node(node) for name, node in nodes.items()}

    def node(self, node):
        if isinstance(node, list):
            return [self.node(item) for item in node]
        if not isinstance(node, dict):
            return node
        if node["type"] == "estimator":
            return self.estimator(node)
        decoders = {
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
        return decoders[node["type"]](node)

    def _float(self, node):
        return float(node["value"])

    def _scalar(self, node):
        return self.node(node["array"])[()]

    def _array(self, node):
        array = self.tensors[node["tensor"]]
        return array.T if node["fortran"] else array

    def _strings(self, node):
        dtype = object if node["object"] else str
        return np.array(node["values"], dtype=dtype).reshape(node["shape"])

    def _tuple(self, node):
        return tuple(self.node(node["items"]))

    def _dict(self, node):
        return {self.node(key): self.node(value) for key, value in node["items"]}

    def _layer(self, node):
        classes = {cls.__name__: cls for cls in LAYERS}
        if node["class"] not in classes:
            raise ValueError(f"The file names the unknown layer {node['class']!r}.")
        return classes[node["class"]](**self._fields(node["fields"]))

    def _dtype(self, node):
        return np.dtype(node["name"])

    def _random_state(self, node):
        random_state = np.random.RandomState()
        random_state.set_state(self._dict(node["state"]))
        return random_state


def _set_state(estimator, name, value):
    # A file may set data, never replace a method or a special name.
    if not name.isidentifier() or name.startswith("__"):
        raise ValueError(f"The file has an attribute of the bad name {name!r}.")
    if callable(getattr(type(estimator), name, None)):
        raise ValueError(
            f"The file would replace the method {type(estimator).__name__}.{name}."
        )
    setattr(estimator, name, value)
