"""Dask collections: one task for each group of chunks and pass, merged in a tree.

dask is imported by the functions that need it, when a collection has come.
"""

import pickle
import uuid
from collections import Counter
from functools import cached_property

import numpy as np
from sklearn.utils.validation import check_is_fitted

from skdeepgmm.chunked import masked_as_nan
from skdeepgmm.estimators._collection import Collection, RowsCheck, for_parts

#: Neighbouring chunks become one task up to this size, if their lengths are known.
GROUP_BYTES = 16 * 2**20
#: Results that one task merges.
MERGED_AT_ONCE = 8
#: A mixture of so many bytes goes with every task, which any worker can then take. A
#: larger one is a result of its own for every few tasks: what several tasks need draws
#: them all to the worker that has it.
SENT_WITH_TASK = 2**17


class DaskCollection(Collection):
    """The rows of a dask array or dask data frame.

    Parameters
    ----------
    X : dask array or dask data frame
    least : int
        The smallest number of rows.
    allow_nan : bool
        Whether NaN marks a missing entry.
    """

    def __init__(self, X, least, allow_nan):
        rows = as_rows(X)
        self.rows = rows.rechunk({0: _groups(rows)}) if _is_known(rows) else rows
        check = RowsCheck(rows.shape[1], _float_type(rows.dtype), allow_nan)
        super().__init__(X, self.rows.numblocks[0], check, least)

    def _aligned(self, sample_weight):
        import dask.array as da

        if not hasattr(type(sample_weight), "__dask_graph__"):
            weight = np.asarray(sample_weight, dtype=np.float64)
            self._learn_lengths()
            weight = da.from_array(weight, chunks=weight.shape)
        else:
            weight = _as_array(sample_weight)
        if weight.ndim != 1:
            raise ValueError(
                f"Sample weights must be 1D array or scalar, got {weight.ndim}D array."
            )
        known = [_is_known(part) for part in (self.rows, weight)]
        if all(known):
            if len(weight) != len(self.rows):
                raise ValueError(
                    f"sample_weight.shape == {weight.shape}, expected "
                    f"{(len(self.rows),)}!"
                )
            return weight.rechunk((self.rows.chunks[0],))
        if weight.numblocks[0] != self.n_parts:
            raise ValueError(
                f"sample_weight has {weight.numblocks[0]} chunks and X "
                f"{self.n_parts}, whose lengths are unknown. Give both the same "
                "chunks, or call compute_chunk_sizes() on both."
            )
        return weight

    def _learn_lengths(self):
        """Find the lengths of the chunks, if they are unknown, by a pass."""
        if not _is_known(self.rows):
            self.rows = self.rows.copy()
            self.rows.compute_chunk_sizes()

    # Passes ----------------------------------------------------------------------

    @cached_property
    def _plan(self):
        """The graph that reads the chunks, and what reads each of them."""
        import dask

        given = [part for part in (self.rows, self.weighted_by) if part is not None]
        found = dask.optimize(*given)
        graph = {k: v for part in found for k, v in dict(part.__dask_graph__()).items()}
        keys = [
            [(part.name, number) + (0,) * (part.ndim - 1) for part in found]
            for number in range(self.n_parts)
        ]
        return _inlined(graph, keys)

    def map_reduce(self, function, merge):
        import cloudpickle
        from dask._task_spec import DataNode, Task, TaskRef
        from dask.delayed import Delayed
        from toolz import partition_all

        kept, readers = self._plan
        graph = dict(kept)
        name = f"skdeepgmm-{uuid.uuid4().hex}"
        packed = cloudpickle.dumps(function)
        together = max(1, min(self.n_parts // MERGED_AT_ONCE, MERGED_AT_ONCE))

        def add(place, function, *arguments):
            key = (name, *place)
            graph[key] = Task(key, function, *arguments)
            return key

        def sent(number):
            """Return what stands for the function in the task of a chunk."""
            if len(packed) <= SENT_WITH_TASK:
                return packed
            key = (name, "function", number // together)
            graph.setdefault(key, DataNode(key, packed))
            return TaskRef(key)

        level = [
            add((0, number), _of_chunk, sent(number), self.check.dtype, number, *reader)
            for number, reader in enumerate(readers)
        ]
        depth = 0
        while len(level) > 1:
            depth += 1
            level = [
                add((depth, i), _merged, merge, *map(TaskRef, some))
                for i, some in enumerate(partition_all(MERGED_AT_ONCE, level))
            ]
        return Delayed(level[0], graph).compute()


def _of_chunk(packed, dtype, number, rows, weight=None):
    """Return the function of a chunk; None if it has no rows."""
    rows = np.asarray(masked_as_nan(rows))
    if not len(rows):
        return None
    if np.can_cast(rows.dtype, dtype):
        rows = rows.astype(dtype, copy=False)
    if weight is not None:
        weight = np.asarray(weight, dtype=np.float64)
    return pickle.loads(packed)(rows, weight, number)


def _merged(merge, *results):
    """Return results merged from left to right; None if there is none."""
    total = None
    for result in results:
        if result is not None:
            total = result if total is None else merge(total, result)
    return total


def _inlined(graph, keys):
    """Put what reads a chunk into the task that uses it.

    A worker then holds no chunk but those that it works on. What several tasks need,
    and what has been computed already, stays apart.

    Returns
    -------
    graph : dict
        What stays apart.
    readers : list of list of (GraphNode or TaskRef)
    """
    from dask._task_spec import Alias, DataNode, TaskRef

    uses = Counter(dep for node in graph.values() for dep in node.dependencies)
    kept = {}

    def reader(key):
        node = graph.get(key)
        if node is None:  # the scheduler has it: of a persisted collection
            return TaskRef(key)
        if isinstance(node, Alias) and node.target in graph:
            return reader(node.target)
        if isinstance(node, DataNode) or uses[key] > 1:
            keep(key)
            return TaskRef(key)
        inner = {dep: reader(dep) for dep in node.dependencies if dep in graph}
        return node.substitute(inner)

    def keep(key):
        if key in graph and key not in kept:
            kept[key] = graph[key]
            for dep in graph[key].dependencies:
                keep(dep)

    return kept, [[reader(key) for key in row] for row in keys]


# Lazy results --------------------------------------------------------------------


def lazily(estimator, name, X):
    """Return what a method gives for X as a dask array; nothing is computed.

    Parameters
    ----------
    estimator : estimator
        Fitted; what it has learned now is what counts.
    name : str
        A method whose result has a row, or a value, for every row of X.
    X : dask array or dask data frame
    """
    import dask

    check_is_fitted(estimator)
    estimator._check_columns(X)
    rows = as_rows(X)
    frozen = for_parts(estimator)
    dtype = _float_type(rows.dtype)
    example = getattr(frozen, name)(np.zeros((1, rows.shape[1]), dtype))
    settings = {"dtype": example.dtype, "meta": example[:0]}
    if example.ndim == 1:
        settings["drop_axis"] = [1]
    else:
        settings["chunks"] = (rows.chunks[0], example.shape[1:])
    return rows.map_blocks(
        _result,
        method=name,
        like=np.empty(0, dtype),
        empty=example[:0],
        estimator=dask.delayed(frozen, traverse=False),
        **settings,
    )


def _result(rows, method, like, empty, estimator):
    if not len(rows):
        return empty
    rows = np.asarray(masked_as_nan(rows)).astype(like.dtype, copy=False)
    return getattr(estimator, method)(rows)


# Forms of collections ------------------------------------------------------------


def as_rows(X):
    """Return a dask collection as a 2-D dask array with all columns in each chunk."""
    rows = _as_array(X)
    if rows.ndim != 2:
        raise ValueError(
            f"Expected 2D array, got {rows.ndim}D dask array of shape {rows.shape} "
            "instead. Reshape X to (n_samples, n_features)."
        )
    if np.isnan(rows.shape[1]):
        raise ValueError(
            "X has an unknown number of columns. Give it by the shape, "
            "(numpy.nan, n_features), when making the dask array."
        )
    if rows.dtype.kind not in "fiub":
        raise ValueError(
            f"X must hold real numbers, but the dask collection says {rows.dtype}. "
            "Select numeric columns, or convert them with astype."
        )
    return rows if rows.numblocks[1] == 1 else rows.rechunk({1: -1})


def _as_array(X):
    """Return a dask array or data frame as a dask array."""
    if hasattr(type(X), "to_dask_array"):
        types = {str(kind) for kind in np.atleast_1d(np.asarray(X.dtypes, object))}
        plain = {"float32", "float64"}
        if types <= plain:
            return X.to_dask_array()
        return X.map_partitions(_as_float64, meta=_as_float64(X._meta)).to_dask_array()
    if not hasattr(type(X), "map_blocks"):
        raise TypeError(
            f"Expected a dask array or a dask data frame, got {type(X).__name__}. Make "
            "one with dask.array.from_delayed, or call .data on an xarray object."
        )
    return X


def _as_float64(frame):
    return frame.astype(np.float64)


def _float_type(dtype):
    return np.dtype(np.float32 if dtype == np.float32 else np.float64)


def _is_known(array):
    return not np.isnan(array.shape[0])


def _groups(rows):
    """Return lengths of chunks, small neighbours together."""
    most = max(1, GROUP_BYTES // max(1, rows.dtype.itemsize * rows.shape[1]))
    groups = [0]
    for length in rows.chunks[0]:
        if groups[-1] and groups[-1] + length > most:
            groups.append(0)
        groups[-1] += length
    return tuple(groups)
