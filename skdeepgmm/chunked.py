"""Arrays in several chunks, for data that do not fit in memory."""

import numpy as np

__all__ = ["ChunkedArray"]


class ChunkedArray:
    """Rows of several arrays, memory maps or loaders, read as one array.

    Estimators that stream (``GaussianMixture.fit`` and every scoring method) read
    it batch by batch, several times, always in order. At most one loaded chunk is
    held at a time.

    Parameters
    ----------
    chunks : sequence
        2-D arrays or memory maps with the same number of columns, or functions
        without arguments that return one (called again on every pass).

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
        self._loaded = (None, None)
        shapes, dtypes = [], []
        for number in range(len(self.chunks)):
            chunk = self._load(number)
            if chunk.ndim != 2:
                raise ValueError(
                    f"Expected 2D arrays, but chunk {number} has shape {chunk.shape}."
                )
            shapes.append(chunk.shape)
            dtypes.append(chunk.dtype)
        widths = {width for _, width in shapes}
        if len(widths) > 1:
            raise ValueError(
                "All chunks must have the same number of columns, got "
                f"{sorted(widths)}."
            )
        self._stops = np.cumsum([rows for rows, _ in shapes])
        self.shape = (int(self._stops[-1]), widths.pop())
        narrow = all(dtype == np.float32 for dtype in dtypes)
        self.dtype = np.dtype(np.float32 if narrow else np.float64)
        self.ndim = 2

    def __len__(self):
        return self.shape[0]

    def __repr__(self):
        return f"ChunkedArray({len(self.chunks)} chunks, shape={self.shape})"

    def __getitem__(self, index):
        """Return rows by a slice or an array of indices, as a new array."""
        if isinstance(index, slice):
            index = np.arange(*index.indices(len(self)))
        index = np.asarray(index)
        if index.dtype == bool:
            index = np.flatnonzero(index)
        rows = np.empty((len(index), self.shape[1]), dtype=self.dtype)
        numbers = np.searchsorted(self._stops, index, side="right")
        for number in np.unique(numbers):
            mine = numbers == number
            start = self._stops[number - 1] if number else 0
            rows[mine] = self._load(number)[index[mine] - start]
        return rows

    def __getstate__(self):
        return {**vars(self), "_loaded": (None, None)}

    def _load(self, number):
        """Return chunk ``number``, keeping the last one that a function made."""
        chunk = self.chunks[number]
        if not callable(chunk):
            return np.asanyarray(chunk)
        if self._loaded[0] != number:
            self._loaded = (None, None)
            self._loaded = (number, np.asanyarray(chunk()))
        return self._loaded[1]
