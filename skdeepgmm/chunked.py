"""Arrays in several chunks, for data that do not fit in memory."""

import threading

import numpy as np

__all__ = ["ChunkedArray"]


class ChunkedArray:
    """Rows of several arrays, memory maps or loaders, read as one array.

    Estimators that stream (``GaussianMixture.fit`` and every scoring method) read
    it batch by batch, several times, each thread in order. At most one loaded chunk
    for each thread is held at a time; loaders are called one after the other. Rows
    are indexed as those of an array, so that scikit-learn's splitters work;
    ``numpy.asarray`` puts all of them into memory.

    Parameters
    ----------
    chunks : sequence
        2-D arrays or memory maps with the same number of columns, or functions
        without arguments that return one (called again on every pass). Masked
        entries of masked arrays are NaN. A chunk may have no rows.

    Attributes
    ----------
    shape : tuple of int
        (n_samples, n_features).

    dtype : dtype
        float32 if all chunks are, else float64.

    Raises
    ------
    ValueError
        If there is no chunk, one is not 2-D or the numbers of columns differ.

    Examples
    --------
    >>> import numpy as np
    >>> from skdeepgmm import ChunkedArray, GaussianMixture
    >>> rng = np.random.RandomState(0)
    >>> X = ChunkedArray([rng.randn(100, 2), rng.randn(50, 2)])
    >>> X.shape
    (150, 2)
    >>> GaussianMixture(random_state=0).fit(X).means_.shape
    (1, 2)
    """

    def __init__(self, chunks):
        self.chunks = list(chunks)
        if not self.chunks:
            raise ValueError("chunks must hold at least one array, got none.")
        self._loaded, self._loading = {}, threading.RLock()
        self._shapes, dtypes = [], []
        for number in range(len(self.chunks)):
            chunk = self._made(number)
            if chunk.ndim != 2:
                raise ValueError(
                    f"Expected 2D arrays, but chunk {number} has shape {chunk.shape}."
                )
            self._shapes.append(chunk.shape)
            dtypes.append(chunk.dtype)
        widths = {width for _, width in self._shapes}
        if len(widths) > 1:
            raise ValueError(
                "All chunks must have the same number of columns, got "
                f"{sorted(widths)}."
            )
        self._stops = np.cumsum([rows for rows, _ in self._shapes])
        self.shape = (int(self._stops[-1]), widths.pop())
        narrow = all(dtype == np.float32 for dtype in dtypes)
        self.dtype = np.dtype(np.float32 if narrow else np.float64)
        self.ndim = 2

    def __len__(self):
        return self.shape[0]

    def __repr__(self):
        return f"ChunkedArray({len(self.chunks)} chunks, shape={self.shape})"

    def __iter__(self):
        for number in range(len(self.chunks)):
            yield from self._load(number).astype(self.dtype)

    def __array__(self, dtype=None, copy=None):
        """Return all rows as one array in memory."""
        if copy is False:
            raise ValueError("A ChunkedArray becomes one array only by a copy.")
        rows = self._rows(np.arange(len(self)))
        return rows if dtype is None else rows.astype(dtype, copy=False)

    def __getitem__(self, index):
        """Return rows, and perhaps columns of them, as NumPy would: a new array.

        Rows by an integer, a slice, a list or array of integers (negative ones count
        from the end) or of booleans.
        """
        if isinstance(index, tuple):
            index, *columns = index
            return self[index][(..., *columns) if columns != [...] else ...]
        if index is Ellipsis:
            return self[:]
        if isinstance(index, slice):  # as fast in long data as in short ones
            return self._rows(np.arange(*index.indices(len(self))))
        # NumPy's own rules, errors included, applied to the numbers of the rows.
        where = np.arange(len(self))[index]
        if where.ndim > 1:
            raise IndexError(
                f"Rows are chosen by at most one axis, got an index of {where.ndim}."
            )
        return self._rows(where) if where.ndim else self._rows(where[None])[0]

    def __getstate__(self):
        return {k: v for k, v in vars(self).items() if not k.startswith("_load")}

    def __setstate__(self, state):
        vars(self).update(state, _loaded={}, _loading=threading.RLock())

    def _rows(self, where):
        """Return the rows with these numbers."""
        rows = np.empty((len(where), self.shape[1]), dtype=self.dtype)
        numbers = np.searchsorted(self._stops, where, side="right")
        for number in np.unique(numbers):
            mine = numbers == number
            start = self._stops[number - 1] if number else 0
            rows[mine] = self._load(number)[where[mine] - start]
        return rows

    def _load(self, number):
        """Return chunk ``number``, keeping the last one that a function made."""
        chunk = self._made(number)
        if chunk.shape != self._shapes[number]:
            raise ValueError(
                f"Chunk {number} had the shape {self._shapes[number]} at first, now "
                f"{chunk.shape}; expected the same rows on every pass."
            )
        return chunk

    def _made(self, number):
        chunk = self.chunks[number]
        if not callable(chunk):
            return masked_as_nan(chunk)
        with self._loading:
            return self._kept(number)

    def _kept(self, number):
        """Return a chunk that a function makes; every thread keeps its last one."""
        alive = {thread.ident for thread in threading.enumerate()}
        self._loaded = {k: v for k, v in self._loaded.items() if k in alive}
        mine = threading.get_ident()
        held = dict(self._loaded.values())
        if number not in held:
            self._loaded.pop(mine, None)  # before the next one comes
            held = {number: masked_as_nan(self.chunks[number]())}
        self._loaded[mine] = number, held[number]
        return held[number]


def masked_as_nan(X):
    """Return an array whose masked entries are NaN; other arrays as they are.

    Parameters
    ----------
    X : array-like
        A :class:`numpy.ma.MaskedArray` becomes a floating-point array; its hidden
        values are not used.
    """
    X = np.asanyarray(X)
    if not isinstance(X, np.ma.MaskedArray):
        return X
    dtype = X.dtype if X.dtype in (np.float32, np.float64) else np.float64
    return X.astype(dtype).filled(np.nan)
