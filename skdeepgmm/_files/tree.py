"""Values within values as JSON nodes and arrays, and back: plain data alone.

None, booleans, integers, strings and finite floats are their own nodes, and lists are
JSON arrays; everything else is an object with the key "type". Nothing but the types
below comes out of a file.
"""

import numpy as np

from skdeepgmm._files.container import can_store

#: Nodes within nodes.
MAX_DEPTH = 64
#: Lists of more floats are arrays in the file.
LONG = 16
_FLOATS = {"nan", "inf", "-inf"}


def flatten(tree):
    """Return the nodes of a tree, and its arrays by the names that they have there.

    Parameters
    ----------
    tree : object
        Of None, bool, int, float, str, ndarray, list, tuple and dict.

    Returns
    -------
    nodes : object
        What ``json.dumps`` takes.
    arrays : dict of str to ndarray
    """
    arrays = {}
    return _node(tree, arrays), arrays


def rebuild(nodes, arrays):
    """Return the tree of nodes and arrays.

    Raises
    ------
    ValueError
        If the nodes are not those of a tree, or an array is missing or left over.
    """
    arrays = dict(arrays)
    tree = _value(nodes, arrays, 0)
    if arrays:
        raise ValueError("is damaged: it has arrays that no value names")
    return tree


def _node(value, arrays):
    if value is None or type(value) in (bool, int, str):
        return value
    if type(value) is float:
        if np.isfinite(value):
            return value
        return {"type": "float", "value": repr(value)}  # JSON has no nan and inf
    if isinstance(value, np.ndarray) and can_store(value.dtype):
        return {"type": "array", "name": _named(value, arrays)}
    if isinstance(value, (list, tuple)):
        return _list_node(value, arrays)
    if isinstance(value, dict):
        # Pairs, not a JSON object: keys may be integers, and order matters.
        items = [[_node(k, arrays), _node(v, arrays)] for k, v in value.items()]
        return {"type": "dict", "items": items}
    raise TypeError(f"a {type(value).__name__} is no part of a tree")


def _list_node(value, arrays):
    if len(value) > LONG and all(type(item) is float for item in value):
        name = _named(np.array(value, dtype=np.float64), arrays)
        node = {"type": "floats", "name": name}
    else:
        node = [_node(item, arrays) for item in value]
    return {"type": "tuple", "items": node} if isinstance(value, tuple) else node


def _named(array, arrays):
    name = str(len(arrays))
    arrays[name] = np.asarray(array, array.dtype.newbyteorder("="), "C")
    return name


def _value(node, arrays, depth):
    if not isinstance(node, (list, dict)):
        return node
    _check(depth < MAX_DEPTH, "values nested too deeply")
    if isinstance(node, list):
        return [_value(item, arrays, depth + 1) for item in node]
    kinds = {"float": _float, "array": _array, "floats": _floats}
    kinds |= {"tuple": _tuple, "dict": _dict}
    kind = node.get("type")
    _check(isinstance(kind, str) and kind in kinds and len(node) == 2, "no value")
    (key,) = set(node) - {"type"}
    _check(
        key == {"float": "value", "tuple": "items", "dict": "items"}.get(kind, "name")
    )
    return kinds[kind](node[key], arrays, depth + 1)


def _float(value, arrays, depth):
    _check(isinstance(value, str) and value in _FLOATS, "no float")
    return float(value)


def _array(name, arrays, depth):
    _check(isinstance(name, str) and name in arrays, "an array of its own")
    return arrays.pop(name)


def _floats(name, arrays, depth):
    values = _array(name, arrays, depth)
    _check(values.dtype == np.float64 and values.ndim == 1, "no list of floats")
    return values.tolist()


def _tuple(items, arrays, depth):
    items = _value(items, arrays, depth)
    _check(isinstance(items, list), "no tuple")
    return tuple(items)


def _dict(items, arrays, depth):
    pairs = isinstance(items, list) and all(
        isinstance(item, list) and len(item) == 2 for item in items
    )
    _check(pairs, "no dict")
    keys = [_value(key, arrays, depth) for key, _ in items]
    _check(all(map(_is_key, keys)), "no key of a dict")
    found = dict(
        zip(keys, (_value(value, arrays, depth) for _, value in items), strict=True)
    )
    _check(len(found) == len(items), "the same key twice")
    return found


def _is_key(key):
    parts = key if isinstance(key, tuple) else (key,)
    return all(isinstance(part, (str, int)) for part in parts)


def _check(fine, found="no value"):
    if not fine:
        raise ValueError(f"is damaged: it has {found}")
