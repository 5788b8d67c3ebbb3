"""Data in parts, of which a fit never has more than a few rows in memory.

A :class:`Collection` takes the place of the validated X where the rows are not here.
It looks like an array as far as the estimators need it: its shape, and rows by number.
All else are passes over the parts.
"""

import copy
import hashlib
import operator
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
from sklearn.utils import check_array

from skdeepgmm._torch_backend.convert import torch_dtype
from skdeepgmm._torch_backend.device import resolve_device
from skdeepgmm._torch_backend.moments import Moments
from skdeepgmm._torch_backend.parts import (
    CPU,
    PartedSource,
    Survey,
    joined_rows,
    offsets,
    picked,
    survey_rows,
)
from skdeepgmm.estimators._sklearn_compat import _check_sample_weight


@dataclass(frozen=True)
class RowsCheck:
    """What every part has to be.

    Attributes
    ----------
    n_features : int
    dtype : dtype
        float32 or float64.
    allow_nan : bool
    """

    n_features: int
    dtype: np.dtype
    allow_nan: bool

    def __call__(self, rows, weight, number):
        """Raise unless a part is as the collection says."""
        if rows.ndim != 2 or rows.shape[1] != self.n_features:
            raise ValueError(
                f"Chunk {number} of X has the shape {rows.shape}; expected "
                f"{self.n_features} columns, as the collection says."
            )
        if not np.can_cast(rows.dtype, self.dtype):
            raise ValueError(
                f"Chunk {number} of X is {rows.dtype}, where the collection says "
                f"{self.dtype}. Give it the dtype of its chunks, or convert them."
            )
        check_array(
            rows,
            dtype=[np.float64, np.float32],
            ensure_all_finite="allow-nan" if self.allow_nan else True,
            ensure_min_samples=0,
        )
        if weight is not None:
            self._check_weight(rows, weight, number)

    def _check_weight(self, rows, weight, number):
        if weight.shape != rows.shape[:1]:
            raise ValueError(
                f"Chunk {number} of sample_weight has the shape {weight.shape}, that "
                f"of X {len(rows)} rows. Give both the same chunks, or call "
                "compute_chunk_sizes() on both."
            )
        _check_sample_weight(
            weight,
            rows,
            dtype=np.float64,
            ensure_non_negative=True,
            allow_all_zero_weights=True,
        )


class Collection:
    """Rows in parts; a subclass says where these are by ``map_reduce``.

    Parameters
    ----------
    data : object
        What the user gave, for callbacks.
    n_parts : int
    check : RowsCheck
    least : int
        The smallest number of rows.

    Attributes
    ----------
    weighted_by : object or None
        Sample weights, in the subclass's own form.
    """

    ndim = 2

    def __init__(self, data, n_parts, check, least):
        self.data, self.n_parts, self.check, self.least = data, n_parts, check, least
        self.weighted_by = None

    def map_reduce(self, function, merge):
        """Return a function of all parts that have rows, merged (``Parts``)."""
        raise NotImplementedError

    def weighted(self, sample_weight):
        """Weight the rows, and look at all of them once.

        Parameters
        ----------
        sample_weight : object or None

        Returns
        -------
        weights : PartWeights or None
        """
        if sample_weight is not None:
            self.weighted_by = self._aligned(sample_weight)
        if len(self) < self.least:
            raise ValueError(
                f"Found array with {len(self)} sample(s) (shape={self.shape}) while a "
                f"minimum of {self.least} is required."
            )
        if not self.survey.weight > 0.0:
            raise ValueError("Sample weights must contain at least one non-zero number")
        return None if self.weighted_by is None else PartWeights(self)

    def _aligned(self, sample_weight):
        """Return sample weights in parts like those of the rows."""
        raise NotImplementedError

    def once(self, compute):
        """Return what ``compute`` gives, of one process if several fit together."""
        return compute()

    def device(self, name):
        """Return the device of the estimator's parameter of this name."""
        if name not in ("auto", "cpu"):
            raise ValueError(
                f"device={name!r}: dask collections are read by the CPUs of the "
                "workers. Set device='auto', or start the fit with torchrun on CUDA "
                "devices."
            )
        return resolve_device("cpu")

    def callback_data(self, y):
        """Return what callbacks get: the data as the user gave them."""
        weight = self.weighted_by
        return {
            "X": self.data,
            "y": (lambda: np.full(len(self), -1)) if y is None else y,
            "metadata": None if weight is None else {"sample_weight": weight},
        }

    @cached_property
    def survey(self):
        """What one pass over the checked parts tells."""
        function = partial(_checked_survey, self.check, self.n_parts)
        found = self.map_reduce(function, Survey.merged)
        if found is None:
            raise ValueError(
                f"Found array with 0 sample(s) (shape=(0, {self.check.n_features})) "
                f"while a minimum of {self.least} is required."
            )
        return found

    @property
    def shape(self):
        return self.survey.n_samples, self.check.n_features

    @property
    def dtype(self):
        return self.check.dtype

    def __len__(self):
        return self.shape[0]

    def __getitem__(self, index):
        """Return rows by a slice or by their numbers, in memory."""
        return self._picked(index)[1]

    def _picked(self, index):
        """Return the places, rows and weights of some rows, in order."""
        index = np.arange(len(self))[index]
        function = partial(picked, index, offsets(self.survey.rows))
        found = self.map_reduce(function, joined_rows)
        order = found[0].argsort()
        return [None if part is None else part[order] for part in found]

    def source(self, row_bytes, batch_size=None, sample_weight=None):
        """Return the rows as a source for a fit.

        Parameters
        ----------
        row_bytes : int
            Working memory of a pass for one row.
        batch_size : int or None
            Rows a batch; None for what fits the caches.
        sample_weight : PartWeights or None
        """
        factor = 1.0 if sample_weight is None else sample_weight.factor
        return PartedSource(
            self,
            self.survey,
            torch_dtype(self),
            self.check.n_features,
            row_bytes,
            batch_size,
            factor,
        )

    @cached_property
    def _digests(self):
        found = self.map_reduce(_digests_of_part, operator.or_)
        texts = (repr(sorted(part.items())) for part in zip_values(found))
        return [hashlib.sha256(text.encode()).hexdigest()[:16] for text in texts]

    def described(self):
        """Return the rows as a short text for fingerprints."""
        parts = f"in {len(self.survey.rows)} chunks"
        return f"{self.dtype} {self.shape} {parts} (SHA-256 {self._digests[0]})"


class PartWeights:
    """The sample weights of a collection, as far as they look like an array.

    Parameters
    ----------
    collection : Collection
        With ``weighted_by``.
    factor : float
    """

    def __init__(self, collection, factor=1.0):
        self.collection, self.factor = collection, factor

    def __len__(self):
        return len(self.collection)

    def __mul__(self, factor):
        return PartWeights(self.collection, self.factor * factor)

    def __array__(self, dtype=None, copy=None):
        return self[:] if dtype is None else self[:].astype(dtype, copy=False)

    def __getitem__(self, index):
        return self.collection._picked(index)[2] * self.factor

    def sum(self):
        return self.collection.survey.weight * self.factor

    def max(self):
        return self.collection.survey.heaviest * self.factor

    def described(self):
        """Return the weights as a short text for fingerprints."""
        return f"({len(self)},) (SHA-256 {self.collection._digests[1]})"


def agreed_random_state(X, estimator):
    """Return the RandomState of an estimator, the same on all ranks."""
    make = estimator._random_state
    return X.once(make) if isinstance(X, Collection) else make()


def once(X, compute, random_state):
    """Return what ``compute`` gives, which may draw from ``random_state``.

    Of one process, where several fit X together.
    """
    if not isinstance(X, Collection):
        return compute()
    result, state = X.once(lambda: (compute(), random_state.get_state()))
    random_state.set_state(state)
    return result


def is_collection(X):
    """Tell whether X is lazy: a dask collection, without importing dask."""
    return hasattr(type(X), "__dask_graph__")


def moments_of(X, sample_weight, device, earlier=None, ranks=None):
    """Return the moments of X, of all ranks, and of earlier rows (``Moments.of``)."""
    if isinstance(X, Collection):
        found = X.survey.moments
    elif ranks is not None:
        found = ranks.merged(lambda: Moments.of(X, sample_weight, CPU), Moments.plus)
    else:
        return Moments.of(X, sample_weight, device, earlier)
    return found if earlier is None else Moments.from_arrays(*earlier, CPU).plus(found)


def for_parts(estimator):
    """Return what an estimator has learned so far, to be applied to parts.

    Callbacks are not for workers; names have been checked, and parts are arrays.
    """
    found = copy.copy(estimator)
    found.__dict__ = {
        key: value
        for key, value in vars(estimator).items()
        if "callback" not in key and key != "feature_names_in_"
    }
    return found


def n_counted(sample_weight):
    """Return how many samples have weight."""
    if isinstance(sample_weight, PartWeights):
        return sample_weight.collection.survey.n_counted
    return np.count_nonzero(sample_weight)


def zip_values(mapping):
    """Return a dict of pairs as a pair of dicts."""
    return [{k: pair[i] for k, pair in mapping.items()} for i in range(2)]


def _checked_survey(check, n_parts, rows, weight, number):
    check(rows, weight, number)
    rows = rows.astype(check.dtype, copy=False)
    return survey_rows(n_parts, rows, weight, number)


def _digests_of_part(rows, weight, number):
    digests = (
        None if array is None else hashlib.sha256(np.ascontiguousarray(array))
        for array in (rows, weight)
    )
    return {number: [digest and digest.hexdigest() for digest in digests]}
